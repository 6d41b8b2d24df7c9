/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy as a whole: contradictions, and demands this machine cannot meet. Runs once in the
 * caller's thread before anything is created; every message names the field in its CLI spelling.
 */
#include <errno.h>
#include <signal.h>

#include "policy/internal.h"

static int refuse(struct error *err, const char *flag, const char *why)
{
    return error_set(err, ERROR_POLICY, -EINVAL, flag, "%s", why);
}

/* NS-01: without a supervisor nobody could do these; dropping them silently would be a lie. */
static int validate_no_supervisor(const struct policy *p, struct error *err)
{
    static const char why[] = "needs a supervisor and cannot be combined with --no-supervisor";

    if (!p->no_supervisor)
        return 0;
    if (p->fs_deny.n)
        return refuse(err, "--fs-deny", why);
    if (p->net_deny.n)
        return refuse(err, "--net-deny", why);
    if (policy_net_mediated(p) || policy_net_has_names(p))
        return refuse(err, "--net-allow",
                      "a rule for a host, or for some UDP ports, needs a supervisor and cannot be "
                      "combined with --no-supervisor");
    if (!port_set_is_empty(&p->net_deny_bind))
        return refuse(err, "--net-deny-bind", why);
    if (p->port_remap)
        return refuse(err, "--port-remap", why);
    if (p->dns_refresh_ns)
        return refuse(err, "--dns-refresh", why);
    if (p->chroot)
        return refuse(err, "--chroot", why);
    if (p->fs_mount.n)
        return refuse(err, "--fs-mount", why);
    if (p->workdir)
        return refuse(err, "--workdir", why);
    if (p->timeout_ns)
        return refuse(err, "--timeout", why);
    if (p->deterministic_dirs)
        return refuse(err, "--deterministic-dirs", why);
    if (p->max_memory)
        return refuse(err, "--max-memory", why);
    if (p->max_processes)
        return refuse(err, "--max-processes", why);
    if (p->max_cpu)
        return refuse(err, "--cpu", why);
    if (p->num_cpus)
        return refuse(err, "--num-cpus", why);
    if (p->explain)
        return refuse(err, "--explain", why);
    if (p->linger)
        return refuse(err, "--linger", why);
    if (p->stop_grace_ns != STOP_GRACE_DEFAULT_NS)
        return refuse(err, "--stop-grace", why);
    if (p->stop_signal != SIGTERM)
        return refuse(err, "--stop-signal", why);
    if (p->name)
        return refuse(err, "--name", why);
    if (p->has_time_start)
        return refuse(err, "--time-start", why);
    if (p->has_random_seed)
        return refuse(err, "--random-seed", why);
    return 0;
}

static int validate_protections(const struct policy *p, struct error *err)
{
    if (p->protection[PROT_FS_REFER] == PROTECTION_DISABLED)
        return refuse(err, "--disable", "fs-refer cannot be disabled");
    /* Such rules would look like a restriction while every port is open. */
    if (p->protection[PROT_NET_TCP] == PROTECTION_DISABLED) {
        static const char open[] = "restricts nothing when net-tcp is disabled: drop one of them";

        if (!port_set_is_empty(&p->net_connect))
            return refuse(err, "--net-allow", open);
        if (!port_set_is_empty(&p->net_bind))
            return refuse(err, "--net-allow-bind", open);
        if (p->net_allow.n)
            return refuse(err, "--net-allow", open);
        if (p->net_deny.n)
            return refuse(err, "--net-deny", open);
        if (!port_set_is_empty(&p->net_deny_bind))
            return refuse(err, "--net-deny-bind", open);
    }
    return 0;
}

static int validate_cores(const struct policy *p, struct error *err)
{
    struct cpu_mask mask;
    char available[128];

    if (p->n_cpu_cores == 0)
        return 0;
    if (!cpu_mask_read(&mask))
        return error_set(err, ERROR_SETUP, -errno, "--cpu-cores",
                         "cannot tell which cores are available: %s", error_text(errno));
    for (size_t i = 0; i < p->n_cpu_cores; i++) {
        if (cpu_mask_has(&mask, p->cpu_cores[i]))
            continue;
        cpu_mask_print(&mask, available, sizeof(available));
        return error_set(err, ERROR_POLICY, -EINVAL, "--cpu-cores",
                         "core %u is not available here (available: %s)", p->cpu_cores[i],
                         available);
    }
    return 0;
}

/* --num-cpus takes the lowest of the cores there are: processor i of the view is core cpu_cores[i].
 * More than there are can be shown, not run on. */
static int choose_cores(struct policy *p, struct error *err)
{
    struct cpu_mask mask;
    size_t n = 0;
    uint32_t *v;

    if (p->num_cpus == 0 || p->n_cpu_cores) {
        p->n_cpu_cores = p->num_cpus ? MIN(p->n_cpu_cores, (size_t)p->num_cpus) : p->n_cpu_cores;
        return 0;
    }
    v = reallocarray(NULL, p->num_cpus, sizeof(*v));
    if (!v)
        return policy_error_memory("--num-cpus", err);
    if (!cpu_mask_read(&mask)) {
        free(v);
        return error_set(err, ERROR_SETUP, -errno, "--num-cpus",
                         "cannot tell which cores are available: %s", error_text(errno));
    }
    for (uint32_t i = 0; i <= CPU_CORE_MAX && n < p->num_cpus; i++) {
        if (cpu_mask_has(&mask, i))
            v[n++] = i;
    }
    p->cpu_cores = v;
    p->n_cpu_cores = n;
    return 0;
}

static int validate_paths(const struct policy *p, struct error *err)
{
    static const char why[] = "the path is not absolute";

    for (size_t i = 0; i < p->fs_read.n; i++) {
        if (*p->fs_read.v[i].path != '/')
            return refuse(err, "--fs-read", why);
    }
    for (size_t i = 0; i < p->fs_write.n; i++) {
        if (*p->fs_write.v[i].path != '/')
            return refuse(err, "--fs-write", why);
    }
    for (size_t i = 0; i < p->fs_deny.n; i++) {
        if (*p->fs_deny.v[i] != '/')
            return refuse(err, "--fs-deny", why);
    }
    if (p->cwd && *p->cwd != '/')
        return refuse(err, "--cwd", why);
    return 0;
}

/* What concerns the layer alone says nothing without one. */
static int validate_workdir(const struct policy *p, struct error *err)
{
    static const char alone[] = "needs --workdir DIR";

    if (!p->workdir) {
        if (p->fs_storage)
            return refuse(err, "--fs-storage", alone);
        if (p->on_exit)
            return refuse(err, "--on-exit", alone);
        if (p->on_error)
            return refuse(err, "--on-error", alone);
        if (p->max_disk)
            return refuse(err, "--max-disk", alone);
        if (p->commit_backup)
            return refuse(err, "--commit-backup", alone);
        if (p->commit_in_place)
            return refuse(err, "--commit-in-place", alone);
        return p->dry_run ? refuse(err, "--dry-run", alone) : 0;
    }
    if (p->dry_run && (p->on_exit == STAGE_COMMIT || p->on_exit == STAGE_KEEP))
        return refuse(err, "--on-exit", "contradicts --dry-run");
    if (p->dry_run && (p->on_error == STAGE_COMMIT || p->on_error == STAGE_KEEP))
        return refuse(err, "--on-error", "contradicts --dry-run");
    if (p->commit_backup && p->commit_in_place)
        return refuse(err, "--commit-in-place", "leaves nothing for --commit-backup to go back to");
    return 0;
}

static int validate_memory_mode(const struct policy *p, struct error *err)
{
    return p->memory_enomem && !p->max_memory
               ? refuse(err, "--memory-mode", "needs --max-memory SIZE")
               : 0;
}

int policy_validate(struct policy *p, struct error *err)
{
    int r = validate_paths(p, err);

    if (r == 0)
        r = validate_protections(p, err);
    if (r == 0)
        r = validate_no_supervisor(p, err);
    if (r == 0)
        r = validate_workdir(p, err);
    if (r == 0)
        r = validate_cores(p, err);
    if (r == 0)
        r = choose_cores(p, err);
    if (r < 0)
        return r;
    r = validate_memory_mode(p, err);
    if (r < 0)
        return r;
    if (p->has_user && (p->uid == (uid_t)-1 || p->gid == (gid_t)-1))
        return refuse(err, "--user", "user and group go together, each below 4294967295");
    if (p->gpu == GPU_LIST && p->n_gpu_devices == 0)
        return refuse(err, "--gpu", "the list of devices is empty");
    if (p->dns_refresh_ns && !policy_net_has_names(p))
        return refuse(err, "--dns-refresh", "no --net-allow rule names a host");
    port_set_normalise(&p->net_connect);
    port_set_normalise(&p->net_bind);
    port_set_normalise(&p->net_deny_bind);
    return 0;
}
