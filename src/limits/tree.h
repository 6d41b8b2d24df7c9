/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is in the sandbox: the descendants of its anchor. Any thread that may read /proc.
 *
 * Two walks. tree_walk() follows the kernel's lists of children: it costs what the sandbox is large,
 * and may miss a process that changes its parent meanwhile (proc_tid_children(5)): good for samples.
 * tree_scan() looks at every process of the machine and misses none that lived all the time.
 */
#pragma once

#include <sys/types.h>

#include "base/util.h"

#define TREE_MAX 65536 /* members a walk looks at */

struct tree {
    pid_t *v; /* the anchor is not among them */
    size_t n, cap;
};

int tree_walk(struct tree *t, pid_t anchor);
int tree_scan(struct tree *t, pid_t anchor);
int tree_add(struct tree *t, pid_t pid);
bool tree_has(const struct tree *t, pid_t pid);
void tree_fini(struct tree *t);

/* The numbers that a directory such as /proc or /proc/PID/task lists: calls fn until it is negative. */
int tree_each_number(const char *dir, int (*fn)(void *arg, int number), void *arg);
