/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What launcher, anchor and raw child share. The memory is one address space (CLONE_VM): everything
 * the two processes read is prepared by the launcher and not changed while they run, except the
 * words of struct launch_shared, which are futexes or written before a futex is woken.
 */
#pragma once

#include <linux/filter.h>
#include <sys/resource.h>

#include "launch/launch.h"

enum launch_step {
    STEP_NONE = 0,
    STEP_ANCHOR,
    STEP_ANCHOR_LANDLOCK,
    STEP_CLONE,
    STEP_PROCESS_GROUP,
    STEP_PERSONALITY,
    STEP_AFFINITY,
    STEP_HUGE_PAGES,
    STEP_CORE_LIMIT,
    STEP_USER_NAMESPACE,
    STEP_SETGROUPS,
    STEP_UID_MAP,
    STEP_GID_MAP,
    STEP_CWD,
    STEP_CAPABILITIES,
    STEP_NO_NEW_PRIVS,
    STEP_LANDLOCK,
    STEP_SECCOMP,
    STEP_DESCRIPTORS,
    STEP_STDIO,
    STEP_RLIMIT,
    STEP_EXEC,
    LAUNCH_STEP_COUNT,
};
const char *launch_step_name(enum launch_step s);
/* Fills err with the step, the errno and a hint for the usual causes; returns code. */
int launch_step_error(enum launch_step step, int code, struct error *err);

enum launch_state { LAUNCH_STARTING = 0, LAUNCH_PARKED, LAUNCH_FAILED };
enum launch_go { LAUNCH_WAIT = 0, LAUNCH_GO, LAUNCH_ABORT };

struct launch_shared {
    uint32_t state;     /* futex: enum launch_state */
    uint32_t go;        /* futex: enum launch_go */
    uint32_t child_tid; /* set by clone, cleared and woken by the kernel at exec or exit */
    uint32_t step;      /* where it failed, valid with LAUNCH_FAILED */
    int32_t error;      /* negative errno of that step */
    int32_t listener_fd;
    int32_t anchor_pid;
    int32_t child_pid;  /* outlives child_tid */
    int32_t exec_tried; /* index of the candidate that gave `error` */
    uint32_t detached;  /* futex: the anchor no longer shares the caller's descriptor table */
    uint32_t in_cgroup; /* the child entered it */
};

/* Only ever lowers (RF-01, RF-02). */
struct child_rlimit {
    int resource;
    bool soft; /* leaves the hard limit as it is */
    uint64_t max;
};

/* Everything the raw child does, in order; prepared by the parent. */
struct child_setup {
    struct launch_shared *shared;
    bool parked;        /* false: --no-supervisor, the calling process itself */
    int tty_fd;         /* stream that is the terminal to take, or -1 */
    uint64_t caught[1]; /* signals with handlers in the caller: back to SIG_DFL */
    bool sigchld_ignored;
    uint64_t sigmask; /* mask of the caller, restored last */
    int cgroup_fd;    /* see struct launch_spec */

    bool no_aslr, no_thp, no_core;
    const unsigned long *cpus; /* affinity mask or NULL */
    size_t cpus_size;

    bool user_namespace;
    bool maps_outside;        /* somebody else writes them */
    struct launch_maps *maps; /* the text, and the hand-over */

    const char *cwd;
    int cwd_fd; /* instead of cwd: in a tree of the command's own; or -1 */
    bool drop_caps;
    int ruleset_fd; /* -1: none */
    struct sock_fprog filter;
    unsigned filter_flags;

    int stdio[3]; /* source descriptor, -1: as it is, -2: close it */
    struct child_rlimit rlimits[2 + POLICY_RLIMITS];
    unsigned nrlimits;

    char *const *candidates; /* absolute or relative paths to try, NULL-terminated */
    char *const *argv;
    char **shell_argv; /* {"sh", <slot for the path>, args...} for files without a header */
    char *const *envp;
};

/* Runs the whole sequence; returns only on failure, with shared->step and ->error set. */
void child_run(const struct child_setup *c);

struct anchor_setup {
    struct launch_shared *shared;
    const struct child_setup *child;
    void *child_stack_top;
    int channel_fd; /* our end */
    int ruleset_fd; /* scope-only ruleset, or -1: no atomic kill */
    int32_t parent; /* the supervisor's process */
    int32_t *pids;  /* scratch for the tree walk when there is no scope */
    size_t npids;
};
int anchor_main(void *setup);

/* Tree walk of the fallback: signals every descendant of this process found in /proc. */
void anchor_signal_tree(int32_t *pids, size_t npids, int sig);
