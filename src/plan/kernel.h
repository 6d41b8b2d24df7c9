/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this kernel can do, probed by trying, once per process, never by version (U8). Read-only
 * afterwards. `sandlock check` prints it.
 */
#pragma once

#include <stdbool.h>

struct kernel {
    int landlock_abi;   /* 0: none (not built, not in lsm=, or blocked) */
    int landlock_errno; /* why, when landlock_abi is 0 */
    bool seccomp_filter;
    bool notify;        /* SECCOMP_FILTER_FLAG_NEW_LISTENER */
    bool wait_killable; /* 5.19 */
    bool sync_wake_up;  /* 6.6, probed on a real listener only: set at launch */
    bool addfd_send;    /* 5.14 */
    bool pidfd_open;
    bool pidfd_getfd; /* refused by Docker's default profile */
    bool process_vm;  /* process_vm_readv on an own child */
    bool ptrace;      /* PTRACE_SEIZE of an own descendant */
    bool user_namespaces;
    bool net_namespaces; /* inside a user namespace */
    bool close_range;
    bool openat2;
    bool fchmodat2;  /* 6.6 */
    bool setxattrat; /* 6.13 */
    bool proc;       /* /proc is mounted */
    bool ia32;       /* i386 entry answers (informational) */
};

/* The cheap part: what a run needs, about ten calls that cannot succeed. Cached. Leaves false what
 * needs a child or a look at /proc: process_vm, ptrace, namespaces, sync_wake_up, proc, ia32. */
const struct kernel *kernel_probe(void);
/* Single expensive answers, for the features that need them: PTRACE_SEIZE of an own child (cached),
 * pidfd_getfd of an own descriptor. */
bool kernel_can_ptrace(void);
bool kernel_can_getfd(void);
/* Everything, including probes that fork: milliseconds, for `sandlock check`. Cached. */
const struct kernel *kernel_probe_all(void);
