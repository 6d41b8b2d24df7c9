/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One launch: everything that launcher, anchor and child keep in common, in one mapping with both
 * stacks, and the steps of the launcher that fill it. The caller's thread only.
 */
#pragma once

#include <termios.h>

#include "launch/internal.h"

#define CPU_WORDS (1024 / (8 * sizeof(unsigned long)))

struct launch_block {
    struct launch_shared shared;
    struct child_setup child;
    struct anchor_setup anchor;
    struct launch_maps maps;
    unsigned long cpus[CPU_WORDS];
    struct strv candidates;
    char **shell_argv;
    int32_t *pids;
    const char *file;
    const struct policy *policy;
    const struct root *root;
    void *map;
    size_t map_size;
    struct termios modes;
    bool have_modes;
};

/* One mapping: guard, anchor stack, guard, child stack, block. NULL: out of memory. */
struct launch_block *launch_block_new(void);
void *launch_block_anchor_stack(struct launch_block *b); /* its lower end */
void launch_block_free(struct launch_block *b);

/* Everything the child does but its streams. 0 or -errno. */
int launch_setup_child(struct launch_block *b, const struct launch_spec *spec);
/* In a tree of the command's own --cwd is a path inside; without it another root begins at its top. */
int launch_setup_cwd(struct launch_block *b, const struct plan *plan, struct error *err);
/* Pipes and /dev/null as asked for: the child's ends, -1 as inherited, -2 closed. 0 or -errno. */
int launch_setup_stdio(const struct launch_spec *spec, struct launch *l, int child_fd[3]);
/* Finds the terminal to hand over. */
void launch_setup_terminal(const struct launch_spec *spec, struct launch *l);
/* A descriptor of ours must not sit on 0, 1 or 2: the child would lose it to its own streams. Takes
 * fd over; descriptor or -errno. */
int launch_fd_above_stdio(int fd);
