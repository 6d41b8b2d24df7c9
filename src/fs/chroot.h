/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the feature "fs-chroot". The handlers run in receivers.
 */
#pragma once

#include "fs/program.h"
#include "fs/view.h"
#include "supervisor/trace.h"

struct chroot {
    struct programs *programs;
};

/* chroot_stack.c: the first page of a new program. */
struct image {
    uint64_t vdso;   /* AT_SYSINFO_EHDR */
    uint64_t execfn; /* where the path ended up */
};
/* What the program shall find on its stack: argv[0] replaced by `words` (none: as it is), AT_EXECFN by
 * `execfn`. The task is stopped in its new image; t->regs gets the new stack pointer. 0 or -errno. */
struct strv;
int chroot_stack(struct trace *t, const struct strv *words, const char *execfn, struct image *ret);
