/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs for exec in a tree of the command's own. The kernel looks up a dynamic program's loader by
 * the path in the program (PT_INTERP), in the real root: there it is another one, or none. So such a
 * program is executed as a sealed copy in memory, whose PT_INTERP names a descriptor that the loader of
 * the command's root is given under. One copy serves all that execute the program. Receiver threads;
 * files are hostile.
 */
#pragma once

#include <pthread.h>

#include "sys/fs.h"

#define PROGRAM_LOADER_MAX 4096 /* PATH_MAX: the kernel's bound on PT_INTERP */

/* What an ELF file says about itself. */
struct program {
    uint64_t loader_at; /* file offset of the loader's path */
    uint64_t loader_size;
    uint64_t header_at;              /* file offset of its program header */
    uint64_t size;                   /* of the file */
    char loader[PROGRAM_LOADER_MAX]; /* "" for a static program */
};
/* 0; -ENOEXEC for a file that this machine does not run. */
int program_read(int fd, struct program *ret);

struct programs; /* the copies */
struct programs *programs_new(void);
void programs_free(struct programs *p);

/* A copy whose loader is the descriptor `loader_fd` of whoever executes it: descriptor to execute, or
 * -errno. `object_fd` is the program, open for reading. */
int programs_copy(struct programs *p, int object_fd, const struct program *program,
                  unsigned loader_fd, const char *name);
/* The program that this copy was made of: O_PATH descriptor, or -ENODATA. */
int programs_original(struct programs *p, const struct sys_ident *id);
