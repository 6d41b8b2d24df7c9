/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cgroup (v2) of the run's own, where somebody lets us make one: then the kernel holds memory and
 * processor time. The caller's thread makes, restricts and removes it; the threads of the limits read.
 * Nothing here fails a run: without a cgroup the limits are held as everywhere.
 */
#pragma once

#include <limits.h>

#include "base/util.h"
#include "policy/policy.h"

/* Below this the kernel may have to kill before exec has replaced the memory that we share. */
#define CGROUP_MEMORY_MIN (16u << 20)

struct limits_cgroup {
    char path[PATH_MAX]; /* of the directory, absolute */
    int lock_fd;         /* the directory, locked while the run lives */
    int procs_fd;        /* who writes "0" enters */
    bool memory, cpu;    /* what it holds */
};

/* NULL: no limit that it could hold, or nobody lets us. */
struct limits_cgroup *limits_cgroup_new(const struct policy *p);
/* When every member is dead. Accepts NULL. */
void limits_cgroup_free(struct limits_cgroup *g);

/* The number behind a word of one of its files, or with NULL the number that the file is; -1: there is
 * none, or "max". */
int64_t limits_cgroup_read(const struct limits_cgroup *g, const char *file, const char *word);
/* 0 or -errno; read back, for a file may be taken away. */
int limits_cgroup_set_memory(const struct limits_cgroup *g, uint64_t bytes);
int limits_cgroup_set_cpu(const struct limits_cgroup *g, unsigned percent);
/* Are the limits still there? */
bool limits_cgroup_holds_memory(const struct limits_cgroup *g, uint64_t bytes);
bool limits_cgroup_holds_cpu(const struct limits_cgroup *g, unsigned percent);
