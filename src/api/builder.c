/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public policy builder: thin over src/policy. Caller's thread. Input: the embedding program's,
 * checked like a command line.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/capi.h"

static bool builder_ok(const sandlock_builder_t *b, const void *arg)
{
    return b && arg && b->err.kind == ERROR_NONE;
}

static void builder_missing(sandlock_builder_t *b, const void *arg, const char *field)
{
    if (b && !arg && b->err.kind == ERROR_NONE)
        error_set(&b->err, ERROR_POLICY, -EINVAL, field, "is NULL");
}

/* A setter that takes text: skipped after the first error. */
#define BUILDER_TEXT(name, field, call)                                                 \
    _public_ sandlock_builder_t *sandlock_sandbox_builder_##name(sandlock_builder_t *b, \
                                                                 const char *text)      \
    {                                                                                   \
        builder_missing(b, text, field);                                                \
        if (builder_ok(b, text))                                                        \
            (void)(call);                                                               \
        return b;                                                                       \
    }
#define BUILDER_BOOL(name, member)                                                              \
    _public_ sandlock_builder_t *sandlock_sandbox_builder_##name(sandlock_builder_t *b, bool v) \
    {                                                                                           \
        if (b)                                                                                  \
            b->policy.member = v;                                                               \
        return b;                                                                               \
    }

_public_ sandlock_builder_t *sandlock_sandbox_builder_new(void)
{
    sandlock_builder_t *b = calloc(1, sizeof(*b));

    if (b)
        policy_init(&b->policy);
    return b;
}

BUILDER_TEXT(fs_read, "fs_read", policy_add_fs_read(&b->policy, "fs_read", text, false, &b->err))
BUILDER_TEXT(fs_write, "fs_write",
             policy_add_fs_write(&b->policy, "fs_write", text, false, &b->err))
BUILDER_TEXT(fs_deny, "fs_deny", policy_add_fs_deny(&b->policy, "fs_deny", text, &b->err))
BUILDER_TEXT(chroot, "chroot", policy_set_chroot(&b->policy, "chroot", text, &b->err))
BUILDER_TEXT(cwd, "cwd", policy_set_cwd(&b->policy, "cwd", text, &b->err))
BUILDER_TEXT(net_allow, "net_allow", policy_add_net_allow(&b->policy, "net_allow", text, &b->err))
BUILDER_TEXT(net_deny, "net_deny", policy_add_net_deny(&b->policy, "net_deny", text, &b->err))
BUILDER_TEXT(net_deny_bind, "net_deny_bind",
             policy_add_net_deny_bind(&b->policy, "net_deny_bind", text, &b->err))
BUILDER_TEXT(net_allow_bind, "net_allow_bind",
             policy_add_net_allow_bind(&b->policy, "net_allow_bind", text, &b->err))
BUILDER_TEXT(time_start, "time_start",
             policy_set_time_start(&b->policy, "time_start", text, &b->err))
BUILDER_TEXT(dns_refresh, "dns_refresh",
             policy_set_dns_refresh(&b->policy, "dns_refresh", text, &b->err))
BUILDER_BOOL(clean_env, clean_env)
BUILDER_BOOL(port_remap, port_remap)
BUILDER_BOOL(no_randomize_memory, no_randomize_memory)
BUILDER_BOOL(no_huge_pages, no_huge_pages)
BUILDER_BOOL(no_coredump, no_coredump)
BUILDER_BOOL(deterministic_dirs, deterministic_dirs)

static sandlock_builder_t *builder_mount(sandlock_builder_t *b, const char *virtual_path,
                                         const char *host_path, const char *mode)
{
    _cleanup_free_ char *spec = NULL;

    builder_missing(b, virtual_path, "fs_mount");
    builder_missing(b, host_path, "fs_mount");
    if (!builder_ok(b, virtual_path) || !host_path)
        return b;
    if (strchr(virtual_path, ':')) {
        error_set(&b->err, ERROR_POLICY, -EINVAL, "fs_mount", "the path inside has a colon");
    } else if (asprintf(&spec, "%s:%s%s", virtual_path, host_path, mode) < 0) {
        spec = NULL;
        error_set(&b->err, ERROR_SETUP, -ENOMEM, "fs_mount", "%s", error_text(ENOMEM));
    } else {
        (void)policy_add_fs_mount(&b->policy, "fs_mount", spec, &b->err);
    }
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_fs_mount(sandlock_builder_t *b,
                                                               const char *virtual_path,
                                                               const char *host_path)
{
    return builder_mount(b, virtual_path, host_path, "");
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_fs_mount_ro(sandlock_builder_t *b,
                                                                  const char *virtual_path,
                                                                  const char *host_path)
{
    return builder_mount(b, virtual_path, host_path, ":ro");
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_env_var(sandlock_builder_t *b,
                                                              const char *key, const char *value)
{
    _cleanup_free_ char *pair = NULL;

    builder_missing(b, key, "env");
    builder_missing(b, value, "env");
    if (!builder_ok(b, key) || !value)
        return b;
    if (asprintf(&pair, "%s=%s", key, value) < 0) {
        pair = NULL;
        error_set(&b->err, ERROR_SETUP, -ENOMEM, "env", "%s", error_text(ENOMEM));
    } else {
        (void)policy_add_env(&b->policy, "env", pair, &b->err);
    }
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_user(sandlock_builder_t *b, uint32_t uid,
                                                           uint32_t gid)
{
    if (b) {
        b->policy.has_user = true;
        b->policy.uid = uid;
        b->policy.gid = gid;
    }
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_random_seed(sandlock_builder_t *b,
                                                                  uint64_t seed)
{
    if (b) {
        b->policy.has_random_seed = true;
        b->policy.random_seed = seed;
    }
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_max_open_files(sandlock_builder_t *b,
                                                                     unsigned int n)
{
    if (b && n == 0 && b->err.kind == ERROR_NONE)
        error_set(&b->err, ERROR_POLICY, -EINVAL, "max_open_files", "must be at least 1");
    else if (b)
        b->policy.max_open_files = n;
    return b;
}

BUILDER_TEXT(max_memory, "max_memory",
             policy_set_max_memory(&b->policy, "max_memory", text, &b->err))

BUILDER_TEXT(memory_mode, "memory_mode",
             policy_set_memory_mode(&b->policy, "memory_mode", text, &b->err))
BUILDER_TEXT(rlimit, "rlimit", policy_set_rlimit(&b->policy, "rlimit", text, &b->err))

typedef int (*number_setter)(struct policy *, const char *, const char *, struct error *);

static sandlock_builder_t *builder_number(sandlock_builder_t *b, const char *field, uint32_t n,
                                          number_setter set)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", n);
    if (b && b->err.kind == ERROR_NONE)
        (void)set(&b->policy, field, text, &b->err);
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_max_processes(sandlock_builder_t *b,
                                                                    uint32_t n)
{
    return builder_number(b, "max_processes", n, policy_set_max_processes);
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_max_cpu(sandlock_builder_t *b, uint8_t pct)
{
    return builder_number(b, "max_cpu", pct, policy_set_max_cpu);
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_num_cpus(sandlock_builder_t *b, uint32_t n)
{
    return builder_number(b, "num_cpus", n, policy_set_num_cpus);
}

/* "0,2,5" for the text setters: one place validates lists. */
static char *number_list(const uint32_t *v, uint32_t len)
{
    _cleanup_buf_ struct buf text = {0};

    for (uint32_t i = 0; i < len; i++)
        buf_addf(&text, "%s%u", i ? "," : "", v[i]);
    return buf_steal(&text);
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_cpu_cores(sandlock_builder_t *b,
                                                                const uint32_t *cores, uint32_t len)
{
    _cleanup_free_ char *list = NULL;

    builder_missing(b, cores, "cpu_cores");
    if (!builder_ok(b, cores))
        return b;
    list = number_list(cores, len);
    (void)policy_set_cpu_cores(&b->policy, "cpu_cores", list ? list : "", &b->err);
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_gpu_devices(sandlock_builder_t *b,
                                                                  const uint32_t *devices,
                                                                  uint32_t len)
{
    _cleanup_free_ char *list = NULL;

    if (len)
        builder_missing(b, devices, "gpu_devices");
    if (!b || b->err.kind != ERROR_NONE)
        return b;
    list = len ? number_list(devices, len) : strdup("all");
    (void)policy_set_gpu(&b->policy, "gpu_devices", list ? list : "", &b->err);
    return b;
}

typedef int (*syscall_setter)(struct policy *, const char *, const char *, struct error *);

static void builder_each(sandlock_builder_t *b, const char *field, const char *names,
                         syscall_setter set)
{
    builder_missing(b, names, field);
    while (builder_ok(b, names) && *names) {
        size_t n = strcspn(names, ", ");
        _cleanup_free_ char *one = strndup(names, n);

        if (n && one)
            (void)set(&b->policy, field, one, &b->err);
        names += n + strspn(names + n, ", ");
    }
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_extra_deny_syscalls(sandlock_builder_t *b,
                                                                          const char *names)
{
    builder_each(b, "extra_deny_syscalls", names, policy_add_deny_syscall);
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_extra_allow_syscalls(sandlock_builder_t *b,
                                                                           const char *names)
{
    builder_each(b, "extra_allow_syscalls", names, policy_add_allow_syscall);
    return b;
}

static sandlock_builder_t *builder_protection(sandlock_builder_t *b, uint32_t protection,
                                              enum protection_mode mode, const char *field)
{
    if (!b || b->err.kind != ERROR_NONE)
        return b;
    if (protection >= PROTECTION_COUNT)
        error_set(&b->err, ERROR_POLICY, -EINVAL, field, "unknown protection %u", protection);
    else
        (void)policy_set_protection(&b->policy, field, protection_info[protection].name, mode,
                                    &b->err);
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_allow_degraded(sandlock_builder_t *b,
                                                                     uint32_t protection)
{
    return builder_protection(b, protection, PROTECTION_DEGRADED, "allow_degraded");
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_disable(sandlock_builder_t *b,
                                                              uint32_t protection)
{
    return builder_protection(b, protection, PROTECTION_DISABLED, "disable");
}

_public_ uint32_t sandlock_protection_min_abi(uint32_t protection)
{
    return protection < PROTECTION_COUNT ? (uint32_t)protection_info[protection].min_abi : 0;
}

_public_ sandlock_sandbox_t *sandlock_sandbox_build(sandlock_builder_t *b, int *err, char **err_msg)
{
    struct error e = {0};

    if (err)
        *err = 0;
    if (err_msg)
        *err_msg = NULL;
    if (!b)
        error_set(&e, ERROR_POLICY, -EINVAL, "builder", "is NULL");
    else if (b->err.kind != ERROR_NONE)
        e = b->err;
    else if (policy_validate(&b->policy, &e) == 0)
        return (sandlock_sandbox_t *)b; /* the builder becomes the policy */
    if (err)
        *err = e.code ? e.code : -EINVAL;
    if (err_msg && asprintf(err_msg, "%s%s%s", e.where, e.where[0] ? ": " : "", e.message) < 0)
        *err_msg = NULL;
    sandlock_sandbox_free((sandlock_sandbox_t *)b);
    return NULL;
}

_public_ void sandlock_sandbox_free(sandlock_sandbox_t *p)
{
    struct sandlock_builder_t *b = (struct sandlock_builder_t *)p;

    if (!b)
        return;
    policy_fini(&b->policy);
    free(b);
}

_public_ int64_t sandlock_syscall_nr(const char *name)
{
    const struct call_info *c = name ? arch_call_by_name(arch_native(), name) : NULL;

    return c ? c->nr : -1;
}

_public_ int sandlock_landlock_abi_version(void)
{
    return kernel_probe()->landlock_abi;
}

_public_ int sandlock_min_landlock_abi(void)
{
    int abi = 1;

    for (int i = 0; i < PROTECTION_COUNT; i++)
        abi = MAX(abi, protection_info[i].min_abi);
    return abi;
}
