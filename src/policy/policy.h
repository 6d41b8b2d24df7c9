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

/* What a network rule is about, as a set of bits. */
enum net_proto { NET_TCP = 1, NET_UDP = 2, NET_ICMP = 4 };
enum net_target {
    NET_TARGET_ANY = 0, /* every address of both families */
    NET_TARGET_V4,      /* addr[0..3] */
    NET_TARGET_V6,
    NET_TARGET_NAME, /* resolved at the start of a run */
};
struct net_rule {
    uint8_t protos; /* enum net_proto */
    uint8_t target; /* enum net_target */
    uint8_t prefix; /* bits of addr that count */
    uint8_t addr[16];
    char *name; /* lower case, without a final dot; NULL unless NET_TARGET_NAME */
    struct port_set ports;
};
struct net_rules {
    struct net_rule *v;
    size_t n;
};
void net_rules_fini(struct net_rules *r);

struct fs_grant {
    char *path;    /* absolute, as given (not canonical) */
    bool optional; /* a missing path is skipped instead of an error */
};
struct fs_grants {
    struct fs_grant *v;
    size_t n;
};

/* Something of the host at a place of the command's tree. */
struct fs_mount {
    char *place;  /* absolute, squeezed, without ".." */
    char *source; /* absolute */
    bool read_only;
};
struct fs_mounts {
    struct fs_mount *v;
    size_t n;
};

/* What becomes of staged changes. The default of each differs, and is what 0 means. DEFER: the program
 * that runs the sandbox decides later; not on the command line. */
enum stage_action { STAGE_DEFAULT = 0, STAGE_COMMIT, STAGE_ABORT, STAGE_KEEP, STAGE_DEFER };

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

/* --rlimit: of each process, soft and hard, only ever lowered. */
#define POLICY_RLIMITS 5
struct policy_rlimit {
    int resource;
    uint64_t max;
};

struct policy {
    struct fs_grants fs_read;
    struct fs_grants fs_write;
    struct strv fs_deny; /* absolute */
    char *chroot;        /* directory that is the command's root, absolute; or NULL */
    bool chroot_shared;  /* it is of a cache that other sandboxes use: nothing is committed to it */
    struct fs_mounts fs_mount;
    char *workdir;    /* changes below it are staged; absolute, or NULL */
    char *fs_storage; /* where; absolute, or NULL: chosen */
    enum stage_action on_exit, on_error;
    bool dry_run;         /* both are abort, and the changes are listed */
    uint64_t max_disk;    /* bytes that may be staged, 0: no limit */
    bool commit_backup;   /* a commit keeps what it replaces until it is done */
    bool commit_in_place; /* or writes into files instead of replacing them */

    struct port_set net_connect;   /* --net-allow :PORTS (TCP to anybody, kernel path) */
    struct net_rules net_allow;    /* every other --net-allow */
    struct net_rules net_deny;     /* --net-deny: wins */
    struct port_set net_bind;      /* --net-allow-bind */
    struct port_set net_deny_bind; /* --net-deny-bind: wins; alone: every other port is allowed */
    uint64_t dns_refresh_ns;       /* --dns-refresh: between two look-ups of the names; 0: once */
    bool port_remap;               /* a port space of the sandbox's own */
    bool report_ports; /* --stats: say each port that is another outside, on standard error */

    struct strv env; /* KEY=VALUE, applied last */
    bool clean_env;
    char *cwd; /* absolute or NULL */
    bool has_user;
    uid_t uid;
    gid_t gid;

    uint64_t timeout_ns;     /* 0: none */
    uint32_t max_open_files; /* 0: as inherited */
    struct policy_rlimit rlimits[POLICY_RLIMITS];
    size_t n_rlimits;
    uint64_t max_memory;    /* bytes of the whole sandbox, 0: no limit */
    bool memory_enomem;     /* allocations fail before somebody is killed */
    uint32_t max_processes; /* living at a time, the command included; 0: no limit */
    uint32_t max_cpu;       /* percent of one core for the whole sandbox; 0 and 100: no limit */
    uint32_t num_cpus;      /* processors that the command sees; 0: as they are */
    uint32_t *cpu_cores;
    size_t n_cpu_cores; /* 0: as inherited */
    enum gpu_mode gpu;
    uint32_t *gpu_devices;
    size_t n_gpu_devices;
    bool no_randomize_memory, no_huge_pages, no_coredump;
    bool deterministic_dirs;

    bool has_time_start;
    int64_t time_start_ns; /* --time-start: nanoseconds since 1970 */
    bool has_random_seed;
    uint64_t random_seed;

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
int policy_set_chroot(struct policy *p, const char *flag, const char *dir, struct error *err);
/* VIRTUAL:HOST[:ro] */
int policy_add_fs_mount(struct policy *p, const char *flag, const char *spec, struct error *err);
/* Is something mounted at exactly this place? */
bool policy_has_mount(const struct policy *p, const char *place);
int policy_set_workdir(struct policy *p, const char *flag, const char *dir, struct error *err);
int policy_set_fs_storage(struct policy *p, const char *flag, const char *dir, struct error *err);
/* commit, abort, keep */
int policy_set_stage_action(enum stage_action *to, const char *flag, const char *word,
                            struct error *err);
/* Does the command see another tree than the host's: --chroot, --fs-mount, --workdir? */
bool policy_has_view(const struct policy *p);
/* May the command change any file: a write grant, or a mount that is not read-only? */
bool policy_has_write(const struct policy *p);
int policy_add_net_allow(struct policy *p, const char *flag, const char *spec, struct error *err);
int policy_add_net_deny(struct policy *p, const char *flag, const char *spec, struct error *err);
int policy_add_net_allow_bind(struct policy *p, const char *flag, const char *ports,
                              struct error *err);
int policy_add_net_deny_bind(struct policy *p, const char *flag, const char *ports,
                             struct error *err);
/* Of a whole policy: only denials mean that everything else (but ICMP) may leave. */
bool policy_net_allows_by_default(const struct policy *p);
/* Protocols of which some destination may be allowed: sockets of these kinds can exist. */
unsigned policy_net_protos(const struct policy *p);
bool policy_net_has_names(const struct policy *p);
/* Protocols whose destinations have to be looked at one by one, because no kernel rule can. */
unsigned policy_net_mediated(const struct policy *p);
/* Are TCP (and, with denials, UDP) binds restricted; must each be looked at? */
bool policy_bind_governed(const struct policy *p);
bool policy_bind_mediated(const struct policy *p);
/* The bind rule for one port. */
bool policy_bind_allowed(const struct policy *p, uint16_t port);
int policy_set_timeout(struct policy *p, const char *flag, const char *seconds, struct error *err);
int policy_set_dns_refresh(struct policy *p, const char *flag, const char *seconds,
                           struct error *err);
int policy_add_env(struct policy *p, const char *flag, const char *assignment, struct error *err);
int policy_set_cwd(struct policy *p, const char *flag, const char *dir, struct error *err);
int policy_set_user(struct policy *p, const char *flag, const char *uid_gid, struct error *err);
int policy_set_max_open_files(struct policy *p, const char *flag, const char *n, struct error *err);
int policy_set_max_memory(struct policy *p, const char *flag, const char *size, struct error *err);
int policy_set_max_disk(struct policy *p, const char *flag, const char *size, struct error *err);
int policy_set_memory_mode(struct policy *p, const char *flag, const char *mode, struct error *err);
int policy_set_rlimit(struct policy *p, const char *flag, const char *limit, struct error *err);
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
int policy_set_time_start(struct policy *p, const char *flag, const char *time, struct error *err);
int policy_set_random_seed(struct policy *p, const char *flag, const char *n, struct error *err);
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
int parse_u64(const char *text, uint64_t *ret);        /* the same */
/* RFC 3339, or seconds since 1970 with a fraction: nanoseconds. -EINVAL, or -ERANGE outside 1970 to
 * 2199, which leaves the kernel's clock (to 2262) room in both directions. */
int parse_time(const char *text, int64_t *ret_ns);
int parse_size(const char *text, uint64_t *ret_bytes); /* 512, 64K, 512M, 2G; 0 refused */
int parse_signal(const char *text);                    /* number or -EINVAL */
/* Absolute form against the current directory, without resolving links; NULL when out of memory. */
char *path_absolute(const char *path);
/* Forms of IPv6 addresses that lead to an IPv4 host (mapped, compatible, NAT64's well-known prefix):
 * true, with that host's address. */
bool net_rule_canonical(const uint8_t v6[16], uint8_t v4[4]);
/* Drops repeated and final slashes and "." components, in place: nothing that could change the
 * meaning. */
void path_squeeze(char *path);
