/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the user asked for. Built by the CLI (or the C API) field by field, validated as a whole by
 * policy_validate(), immutable afterwards; may then be shared by threads and outlives its runs.
 * Input: our own user's command line or program, trusted to be theirs but not to be correct.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "arch/ops.h"
#include "base/error.h"
#include "base/strv.h"

/* Order and numbers are the C ABI's `protection` argument. */
enum protection {
    PROT_FS_REFER = 0,
    PROT_FS_TRUNCATE,
    PROT_NET_TCP,
    PROT_FS_IOCTL_DEV,
    PROT_SIGNAL_SCOPE,
    PROT_ABSTRACT_UNIX_SOCKET_SCOPE,
    PROTECTION_COUNT,
};
enum protection_mode {
    PROTECTION_STRICT = 0, /* missing in the kernel: refuse to start */
    PROTECTION_DEGRADED,   /* missing: skip and report */
    PROTECTION_DISABLED,   /* never */
};
struct protection_info {
    const char *name; /* as on the command line */
    int min_abi;      /* Landlock ABI that brought it */
    const char *what; /* one clause for a person */
};
extern const struct protection_info protection_info[PROTECTION_COUNT];
int protection_by_name(const char *name); /* index or -ENOENT */

/* A set of TCP ports: any, or inclusive ranges, sorted and merged by policy_validate(). */
struct port_range {
    uint16_t lo, hi;
};
struct port_set {
    bool any;
    struct port_range *ranges;
    size_t n;
};
bool port_set_is_empty(const struct port_set *s);
bool port_set_has(const struct port_set *s, uint16_t port);
/* `80,8000-8010` or `*`. Port 0 only where allow_zero (bind to any free port). -EINVAL with *err. */
int port_set_parse(struct port_set *s, const char *text, bool allow_zero, const char *flag,
                   struct error *err);
void port_set_fini(struct port_set *s);

struct fs_grant {
    char *path;    /* absolute, as given (not canonical) */
    bool optional; /* a missing path is skipped instead of an error */
};
struct fs_grants {
    struct fs_grant *v;
    size_t n;
};

enum gpu_mode { GPU_NONE = 0, GPU_ALL, GPU_LIST };

/* A tiny bit set over enum call_id. */
#define CALL_SET_WORDS ((CALL_ID_COUNT + 63) / 64)
struct call_set {
    uint64_t w[CALL_SET_WORDS];
};
static inline bool call_set_has(const struct call_set *s, unsigned id)
{
    return s->w[id / 64] >> (id % 64) & 1;
}
static inline void call_set_add(struct call_set *s, unsigned id)
{
    s->w[id / 64] |= (uint64_t)1 << (id % 64);
}
static inline void call_set_del(struct call_set *s, unsigned id)
{
    s->w[id / 64] &= ~((uint64_t)1 << (id % 64));
}

struct policy {
    struct fs_grants fs_read;
    struct fs_grants fs_write;
    struct strv fs_deny; /* absolute */

    struct port_set net_connect; /* --net-allow :PORTS (TCP, kernel path) */
    struct port_set net_bind;    /* --net-allow-bind */

    struct strv env; /* KEY=VALUE, applied last */
    bool clean_env;
    char *cwd; /* absolute or NULL */
    bool has_user;
    uid_t uid;
    gid_t gid;

    uint64_t timeout_ns;     /* 0: none */
    uint32_t max_open_files; /* 0: as inherited */
    uint64_t max_memory;     /* bytes of the whole sandbox, 0: no limit */
    uint32_t max_processes;  /* living at a time, the command included; 0: no limit */
    uint32_t max_cpu;        /* percent of one core for the whole sandbox; 0 and 100: no limit */
    uint32_t num_cpus;       /* processors that the command sees; 0: as they are */
    uint32_t *cpu_cores;
    size_t n_cpu_cores; /* 0: as inherited */
    enum gpu_mode gpu;
    uint32_t *gpu_devices;
    size_t n_gpu_devices;
    bool no_randomize_memory, no_huge_pages, no_coredump;

    struct call_set extra_deny;
    bool allow_sysv_ipc; /* --extra-allow-syscall sysv_ipc */
    enum protection_mode protection[PROTECTION_COUNT];
    bool no_supervisor;
    char *name; /* NULL: automatic, and the host name is not virtualised */

    bool linger;            /* wait for descendants instead of killing them when the leader exits */
    uint64_t stop_grace_ns; /* between SIGTERM and SIGKILL; default 200 ms */
    int stop_signal;        /* default SIGTERM */
    bool explain;           /* notify refused families and say why (costs speed) */
};

void policy_init(struct policy *p); /* defaults */
void policy_fini(struct policy *p);

/* Setters that parse text. `flag` is what the message names ("--fs-read", "fs_read"). All return 0
 * or a negative errno with *err filled; the policy is unchanged on failure. */
int policy_add_fs_read(struct policy *p, const char *flag, const char *path, bool optional,
                       struct error *err);
int policy_add_fs_write(struct policy *p, const char *flag, const char *path, bool optional,
                        struct error *err);
int policy_add_fs_deny(struct policy *p, const char *flag, const char *path, struct error *err);
int policy_add_net_allow(struct policy *p, const char *flag, const char *spec, struct error *err);
int policy_add_net_allow_bind(struct policy *p, const char *flag, const char *ports,
                              struct error *err);
int policy_set_timeout(struct policy *p, const char *flag, const char *seconds, struct error *err);
int policy_add_env(struct policy *p, const char *flag, const char *assignment, struct error *err);
int policy_set_cwd(struct policy *p, const char *flag, const char *dir, struct error *err);
int policy_set_user(struct policy *p, const char *flag, const char *uid_gid, struct error *err);
int policy_set_max_open_files(struct policy *p, const char *flag, const char *n, struct error *err);
int policy_set_max_memory(struct policy *p, const char *flag, const char *size, struct error *err);
int policy_set_max_processes(struct policy *p, const char *flag, const char *n, struct error *err);
int policy_set_max_cpu(struct policy *p, const char *flag, const char *percent, struct error *err);
int policy_set_num_cpus(struct policy *p, const char *flag, const char *n, struct error *err);
int policy_set_cpu_cores(struct policy *p, const char *flag, const char *list, struct error *err);
int policy_set_gpu(struct policy *p, const char *flag, const char *list, struct error *err);
/* Name of a call of either machine, an alias, or a group; suggestion in the error. */
int policy_add_deny_syscall(struct policy *p, const char *flag, const char *name,
                            struct error *err);
int policy_add_allow_syscall(struct policy *p, const char *flag, const char *group,
                             struct error *err);
int policy_set_protection(struct policy *p, const char *flag, const char *name,
                          enum protection_mode mode, struct error *err);
int policy_set_name(struct policy *p, const char *flag, const char *name, struct error *err);
int policy_set_stop_grace(struct policy *p, const char *flag, const char *seconds,
                          struct error *err);
int policy_set_stop_signal(struct policy *p, const char *flag, const char *name, struct error *err);

/* Checks the whole at once (conflicts, cores online, no_supervisor combinations), sorts and merges.
 * Must be called once before the policy is used; names the offending field. */
int policy_validate(struct policy *p, struct error *err);

/* Default deny list of FP-02 as data: names and the group they belong to. Used by the plan. */
struct syscall_group {
    const char *name;
    const char *const *calls; /* NULL-terminated */
    const uint16_t *ids;      /* the same as enum call_id, ended by CALL_ID_COUNT */
};
extern const struct syscall_group syscall_groups[];
extern const size_t syscall_group_count;
const struct syscall_group *syscall_group_by_name(const char *name);

/* Text parsers, exposed for tests and fuzzing. */
int parse_seconds(const char *text, uint64_t *ret_ns); /* "1.5"; -EINVAL, -ERANGE */
int parse_u32(const char *text, uint32_t *ret);        /* strict decimal */
int parse_size(const char *text, uint64_t *ret_bytes); /* 512, 64K, 512M, 2G; 0 refused */
int parse_signal(const char *text);                    /* number or -EINVAL */
/* Absolute form against the current directory, without resolving links; NULL when out of memory. */
char *path_absolute(const char *path);
