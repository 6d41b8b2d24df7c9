/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Register sets of a ptrace-stopped task, private to src/arch. Runs in the thread that traces; what
 * the sets contain is the tracee's and hostile.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Which word of NT_PRSTATUS is what: each machine's regs.c. */
struct generic_regs {
    uint8_t count, pc, sp, result, arg[6];
};
extern const struct generic_regs generic_regs;

/* Reads regset `type` into buf. 0, or -errno: -ENODATA when the kernel lacks the set, -EPROTO when
 * it has another size (a task of a 32-bit ABI), which is never usable. */
int generic_regset_get(pid_t tid, int type, void *buf, size_t size);
int generic_regset_set(pid_t tid, int type, const void *buf, size_t size);
