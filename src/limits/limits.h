/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resource limits of the whole sandbox: memory, processes, processor time, and the view of the
 * machine that goes with them. README.md says how each is enforced and where that ends.
 */
#pragma once

#include "fs/virtual.h"
#include "limits/cgroup.h"
#include "supervisor/supervisor.h"

/* Features: creation of processes, what sysinfo says, affinity. */
extern const struct feature limits_processes_feature;
extern const struct feature limits_memory_feature;
extern const struct feature limits_cpus_feature;
/* What grows the files of --workdir: --max-disk. */
extern const struct feature limits_disk_feature;

/* Files that agree with the limits. */
extern const struct virtual_file limits_meminfo_file;
extern const struct virtual_file limits_cpuinfo_file;
extern const struct virtual_file limits_stat_file;
extern const struct virtual_file limits_cpu_online_file;
extern const struct virtual_file limits_cpu_possible_file;
extern const struct virtual_file limits_cpu_present_file;

enum limit_kind { LIMIT_MEMORY, LIMIT_PROCESSES, LIMIT_CPU, LIMIT_KIND_COUNT };
const char *limits_name(enum limit_kind kind);

struct limits_report {
    uint64_t memory_peak;  /* bytes, as the sampler saw it; 0: no limit set */
    uint64_t memory_kills; /* processes killed for it */
    int memory_victim;     /* the first of them, and its name */
    char memory_name[16];
    uint64_t memory_at_kill; /* what the sandbox held */
    uint32_t processes_peak; /* never less than there were; 0: no limit set */
    uint64_t processes_refused;
    uint64_t cpu_stopped_ns; /* time the sandbox was held */
    uint64_t disk_peak;      /* bytes staged, as counted; 0: no limit set */
    uint64_t disk_refused;   /* calls that got ENOSPC */
    uint64_t disk_at_kill;   /* what lay there when everything was killed for it; 0: it was not */
    bool memory_cgroup;      /* the kernel held it, from the first to the last */
    bool cpu_cgroup;
};

/* What enforced a limit of this run, for people. */
const char *limits_backend(enum limit_kind kind, const struct policy *p,
                           const struct limits_report *r);
/* What would on this machine: tries it, with a child. For `check`. */
const char *limits_would_be(enum limit_kind kind);

/* The threads of one run: started when it has an anchor, stopped before the anchor is reaped. */
struct limits;
/* Nothing to do (*ret NULL) without a limit that needs a thread. `sup` may be NULL. */
int limits_start(const struct policy *p, pid_t anchor, struct supervisor *sup,
                 const struct limits_cgroup *cgroup, struct limits **ret, struct error *err);
/* May a SIGSTOP that the command got be ours? Then it is nobody's wish to suspend the job. */
bool limits_hold_by_signal(const struct limits *l);
void limits_stop(struct limits *l);
/*
 * Lowers limits of a running sandbox, from the next allocation, fork or look on; 0 leaves one as it is.
 * From any thread until limits_stop(). All or nothing: -EINVAL when one would be raised, -EOPNOTSUPP
 * when the sandbox was started without it: nobody watches then.
 */
struct limits_restriction {
    uint64_t memory; /* bytes */
    uint32_t processes;
    uint32_t cpu; /* percent of one core */
};
int limits_restrict(struct limits *l, const struct supervisor *sup,
                    const struct limits_restriction *to);
/* Of threads and features; `l` and `sup` may be NULL. */
void limits_report(const struct limits *l, const struct supervisor *sup, struct limits_report *ret);
void limits_free(struct limits *l);
