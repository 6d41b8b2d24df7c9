/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside src/limits: the threads of a run. Each owns its part of struct limits; what others read is
 * atomic. Threads of the supervising process, outside of the sandbox's domain.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "limits/limits.h"
#include "limits/tree.h"

struct limits_clock {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
    unsigned pokes; /* each ends everybody's sleep */
};
/* Sleeps, or until something has changed; false when it is over. */
bool limits_sleep(struct limits_clock *c, uint64_t ns);
#define LIMITS_SLICE_NS 100000 /* threads that run shortly, and should when they are due */
/* What all threads of a process have used, in ns; 0 when it is gone. */
int64_t limits_cpu_time(pid_t pid);
#define LIMITS_LOOK_NS \
    50000000 /* how long nobody may notice that a cgroup's limit was taken away */
/* While the kernel holds the limit the thread only looks whether it still does. False: it is over;
 * true: the caller has to hold it from now on. */
bool limits_wait_memory(struct limits *l);
bool limits_wait_cpu(struct limits *l);
/* For threads of the limits: descriptors apart from those that the command can exhaust. */
void limits_own_descriptors(void);

struct limits_view {
    atomic_uint_fast64_t memory_used; /* bytes, the last sample */
    atomic_uint_fast64_t memory_max;  /* bytes, as it is now */
};

struct limits {
    const struct policy *policy;
    pid_t anchor;
    struct limits_clock clock;
    struct limits_view *view; /* what sysinfo and meminfo say, or NULL */
    struct supervisor *sup;   /* or NULL */
    pthread_t thread[3];
    size_t nthreads;
    bool cpu_signals;                   /* hold with stop signals: ptrace is not ours to use */
    const struct limits_cgroup *cgroup; /* which the command is in, or NULL */
    /* Held by it: false when not, or not any more. */
    atomic_bool memory_cgroup, cpu_cgroup;
    /* As they are now: restricted by any thread at any time. */
    atomic_uint_fast64_t max_memory;
    atomic_uint max_cpu;

    pthread_mutex_t report_lock;
    struct limits_report report;
};

void *memory_main(void *limits);
void *cpu_main(void *limits);
void *disk_main(void *limits);
void limits_disk_report(const struct supervisor *sup, struct limits_report *ret);
void limits_processes_report(const struct supervisor *sup, struct limits_report *ret);
int limits_processes_restrict(const struct supervisor *sup, uint32_t max);
/* Do its parents lead to the anchor? */
bool limits_is_member(pid_t pid, pid_t anchor);
/* Signals one member: never a stranger that got its number. 0, or -ESRCH. */
int limits_signal(pid_t pid, pid_t anchor, int sig);
/* Kills one member for good and sees to it that its memory is freed now. 0, or -ESRCH when the number
 * is no member's. */
int limits_kill(pid_t pid, pid_t anchor);

/* ---- memory.c's helpers ---- */

/* Files in memory (memfd, tmpfs) that members hold open for writing: pages that no mapping shows. */
struct memory_file {
    dev_t dev;
    ino_t ino;
    uint64_t bytes;
};
struct memory_files {
    dev_t dev[64]; /* file systems in memory */
    size_t ndev;
    struct memory_file ignored[3]; /* the streams that the caller handed over are the caller's */
    size_t nignored;
    struct memory_file *v;
    size_t n, cap;
};
void memory_files_init(struct memory_files *f);
void memory_files_fini(struct memory_files *f);
void memory_files_clear(struct memory_files *f);
/* Adds those of one process. Returns what they add, in bytes. */
uint64_t memory_files_add(struct memory_files *f, pid_t pid);
/* How much of the process' shared mappings is counted among the files already. */
uint64_t memory_files_mapped(const struct memory_files *f, pid_t pid);

/* ---- cpu.c's helper: holding processes without their noticing ---- */

struct cpu_hold {
    pid_t anchor;
    bool signals;        /* by stop signals, as far as they go */
    struct tree traced;  /* threads */
    struct tree stopped; /* processes that got a stop signal of ours */
};
/* Stops a thread, or with signals its process; again does no harm. */
void cpu_hold_thread(struct cpu_hold *h, pid_t pid, pid_t tid);
/* Takes reports: nobody else is told about the end of a thread that we trace. */
void cpu_hold_collect(void);
/* Lets go of all that have stopped; true when nobody is left. `members` says who still is one: no
 * stranger gets a signal. */
bool cpu_hold_release(struct cpu_hold *h, const struct tree *members);
void cpu_hold_fini(struct cpu_hold *h);
