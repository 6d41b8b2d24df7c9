/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the words of `sandlock run` to a checked policy. The main thread, before anything is created;
 * our own user's words. Changes nothing but the close-on-exec flag of the status descriptor.
 */
#include "run_args.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "arch/arch.h"
#include "options.h"

void run_args_fini(struct run_args *a)
{
    cli_image_fini(&a->image);
    policy_fini(&a->policy);
}

static int set_status_fd(struct run_args *a, const char *flag, const char *text, struct error *err)
{
    uint32_t n;
    int mode;

    if (parse_u32(text, &n) < 0 || n > INT_MAX)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         "\"%.80s\" is not a descriptor (accepted: a number)", text);
    mode = fcntl((int)n, F_GETFL);
    if (mode < 0)
        return error_set(err, ERROR_USAGE, -errno, flag, "descriptor %u is not open", n);
    if ((mode & O_ACCMODE) == O_RDONLY || (mode & O_PATH))
        return error_set(err, ERROR_USAGE, -EBADF, flag, "descriptor %u is not open for writing",
                         n);
    /* Not the command's to write to; the standard streams stay what they are. */
    if (n > STDERR_FILENO && fcntl((int)n, F_SETFD, FD_CLOEXEC) < 0)
        return error_set(err, ERROR_SETUP, -errno, flag, "descriptor %u: %s", n, error_text(errno));
    a->status_fd = (int)n;
    return 0;
}

static int set_print_filter(struct run_args *a, const char *flag, const char *name,
                            struct error *err)
{
    a->action = ACTION_PRINT_FILTER;
    a->print_arch = arch_native();
    if (!name)
        return 0;
    for (size_t i = 0; i < arch_count; i++) {
        if (strcmp(arch_all[i]->name, name) == 0) {
            a->print_arch = arch_all[i];
            return 0;
        }
    }
    return error_set(err, ERROR_USAGE, -EINVAL, flag,
                     "\"%.80s\" is not a machine (accepted: x86_64, aarch64)", name);
}

static int set_shell(struct run_args *a, const char *flag, const char *cmd, struct error *err)
{
    if (!*cmd)
        return error_set(err, ERROR_USAGE, -EINVAL, flag, "the command is empty");
    a->shell[0] = "/bin/sh";
    a->shell[1] = "-c";
    a->shell[2] = cmd;
    return 0;
}

static int set_explain(struct run_args *a, const char *flag, const char *path, struct error *err)
{
    if (path && !*path)
        return error_set(err, ERROR_USAGE, -EINVAL, flag, "the file name is empty");
    a->policy.explain = true;
    a->explain_path = path;
    return 0;
}

/* Options that set one bit. */
static bool apply_switch(struct run_args *a, enum run_option o)
{
    struct policy *p = &a->policy;
    bool *bit = o == RUN_OPTION_clean_env             ? &p->clean_env
                : o == RUN_OPTION_no_randomize_memory ? &p->no_randomize_memory
                : o == RUN_OPTION_no_huge_pages       ? &p->no_huge_pages
                : o == RUN_OPTION_no_coredump         ? &p->no_coredump
                : o == RUN_OPTION_deterministic_dirs  ? &p->deterministic_dirs
                : o == RUN_OPTION_no_supervisor       ? &p->no_supervisor
                : o == RUN_OPTION_port_remap          ? &p->port_remap
                : o == RUN_OPTION_linger              ? &p->linger
                : o == RUN_OPTION_dry_run             ? &p->dry_run
                : o == RUN_OPTION_commit_backup       ? &p->commit_backup
                : o == RUN_OPTION_commit_in_place     ? &p->commit_in_place
                : o == RUN_OPTION_diff                ? &a->diff
                : o == RUN_OPTION_changes_json        ? &a->changes_json
                : o == RUN_OPTION_stats               ? &a->stats
                : o == RUN_OPTION_quiet               ? &a->quiet
                                                      : NULL;

    if (bit)
        *bit = true;
    p->report_ports = a->stats;
    return bit;
}

static int apply(struct run_args *a, enum run_option o, const char *flag, const char *value,
                 struct error *err)
{
    struct policy *p = &a->policy;

    switch (o) {
    case RUN_OPTION_fs_read: return policy_add_fs_read(p, flag, value, false, err);
    case RUN_OPTION_fs_write: return policy_add_fs_write(p, flag, value, false, err);
    case RUN_OPTION_fs_deny: return policy_add_fs_deny(p, flag, value, err);
    case RUN_OPTION_chroot: return policy_set_chroot(p, flag, value, err);
    case RUN_OPTION_fs_mount: return policy_add_fs_mount(p, flag, value, err);
    case RUN_OPTION_workdir: return policy_set_workdir(p, flag, value, err);
    case RUN_OPTION_fs_storage: return policy_set_fs_storage(p, flag, value, err);
    case RUN_OPTION_on_exit: return policy_set_stage_action(&p->on_exit, flag, value, err);
    case RUN_OPTION_max_disk: return policy_set_max_disk(p, flag, value, err);
    case RUN_OPTION_on_error: return policy_set_stage_action(&p->on_error, flag, value, err);
    case RUN_OPTION_net_allow: return policy_add_net_allow(p, flag, value, err);
    case RUN_OPTION_net_allow_bind: return policy_add_net_allow_bind(p, flag, value, err);
    case RUN_OPTION_net_deny: return policy_add_net_deny(p, flag, value, err);
    case RUN_OPTION_net_deny_bind: return policy_add_net_deny_bind(p, flag, value, err);
    case RUN_OPTION_dns_refresh: return policy_set_dns_refresh(p, flag, value, err);
    case RUN_OPTION_timeout: return policy_set_timeout(p, flag, value, err);
    case RUN_OPTION_max_open_files: return policy_set_max_open_files(p, flag, value, err);
    case RUN_OPTION_max_memory: return policy_set_max_memory(p, flag, value, err);
    case RUN_OPTION_memory_mode: return policy_set_memory_mode(p, flag, value, err);
    case RUN_OPTION_rlimit: return policy_set_rlimit(p, flag, value, err);
    case RUN_OPTION_max_processes: return policy_set_max_processes(p, flag, value, err);
    case RUN_OPTION_cpu: return policy_set_max_cpu(p, flag, value, err);
    case RUN_OPTION_num_cpus: return policy_set_num_cpus(p, flag, value, err);
    case RUN_OPTION_cpu_cores: return policy_set_cpu_cores(p, flag, value, err);
    case RUN_OPTION_exec_shell: return set_shell(a, flag, value, err);
    case RUN_OPTION_image: a->image_ref = value; return 0;
    case RUN_OPTION_env: return policy_add_env(p, flag, value, err);
    case RUN_OPTION_cwd: return policy_set_cwd(p, flag, value, err);
    case RUN_OPTION_user: return policy_set_user(p, flag, value, err);
    case RUN_OPTION_name: return policy_set_name(p, flag, value, err);
    case RUN_OPTION_time_start: return policy_set_time_start(p, flag, value, err);
    case RUN_OPTION_random_seed: return policy_set_random_seed(p, flag, value, err);
    case RUN_OPTION_gpu: return policy_set_gpu(p, flag, value, err);
    case RUN_OPTION_extra_deny_syscall: return policy_add_deny_syscall(p, flag, value, err);
    case RUN_OPTION_extra_allow_syscall: return policy_add_allow_syscall(p, flag, value, err);
    case RUN_OPTION_allow_degraded:
        return policy_set_protection(p, flag, value, PROTECTION_DEGRADED, err);
    case RUN_OPTION_disable: return policy_set_protection(p, flag, value, PROTECTION_DISABLED, err);
    case RUN_OPTION_stop_signal: return policy_set_stop_signal(p, flag, value, err);
    case RUN_OPTION_stop_grace: return policy_set_stop_grace(p, flag, value, err);
    case RUN_OPTION_explain: return set_explain(a, flag, value, err);
    case RUN_OPTION_status_fd: return set_status_fd(a, flag, value, err);
    case RUN_OPTION_print_filter: return set_print_filter(a, flag, value, err);
    default: break;
    }
    /* A row of the table that nobody carries out must never pass as if it had been. */
    return apply_switch(a, o) ? 0
                              : error_set(err, ERROR_POLICY, -EOPNOTSUPP, flag, "not built in yet");
}

static int check_conflicts(const struct run_args *a, const struct option_parser *p,
                           struct error *err)
{
    const char *word = *p->argv;

    if (a->shell[0] && word)
        return error_set(err, ERROR_USAGE, -EINVAL, "--exec-shell",
                         "cannot be combined with a command (\"%.80s\")", word);
    if (!a->shell[0] && !word && !a->image_ref && a->action == ACTION_RUN)
        return error_set(err, ERROR_USAGE, -EINVAL, NULL,
                         "no command given (accepted: sandlock run [OPTION]... -- COMMAND, or "
                         "--exec-shell CMD)");
    if (a->quiet && a->stats)
        return error_set(err, ERROR_USAGE, -EINVAL, "--quiet", "contradicts --stats");
    if (a->quiet && a->policy.explain && !a->explain_path)
        return error_set(err, ERROR_USAGE, -EINVAL, "--quiet",
                         "contradicts --explain without a file");
    if (!a->policy.workdir && (a->diff || a->changes_json))
        return error_set(err, ERROR_POLICY, -EINVAL, a->diff ? "--diff" : "--changes-json",
                         "needs --workdir DIR");
    if (!a->policy.no_supervisor)
        return 0;
    /* By what was written, not by the value it left: `--stop-grace 0.2` is a wish as well. */
    for (size_t i = 0; i < p->count; i++) {
        if ((p->options[i].flags & OPT_SUPERVISOR) && option_seen(p, (unsigned)i)) {
            char flag[24] = "--";

            memcpy(flag + 2, p->options[i].name, sizeof(p->options[i].name));
            return error_set(err, ERROR_POLICY, -EINVAL, flag,
                             "needs a supervisor and cannot be combined with --no-supervisor");
        }
    }
    return 0;
}

/* The image is the root, and its own words the command when none was given. */
static int take_image(struct run_args *a, struct error *err)
{
    int r = cli_image_get(&a->image, a->image_ref, err);

    if (r == 0)
        r = cli_image_apply(&a->image, &a->policy, err);
    if (r < 0 || (a->argv && *a->argv))
        return r;
    if (!a->image.argv.n)
        return error_set(err, ERROR_USAGE, -EINVAL, "--image",
                         "the image names no command: give one behind --");
    a->argv = (const char *const *)a->image.argv.v;
    return 0;
}

int run_args_parse(struct run_args *a, char *const *argv, struct error *err)
{
    struct option_parser p = {.options = run_options, .count = RUN_OPTION_COUNT, .argv = argv};
    const char *value;
    int o;

    *a = (struct run_args){.status_fd = -1};
    policy_init(&a->policy);
    while ((o = option_next(&p, &value, err)) >= 0) {
        int r;

        if (o == RUN_OPTION_help || o == RUN_OPTION_version) {
            a->action = o == RUN_OPTION_help ? ACTION_HELP : ACTION_VERSION;
            return 0;
        }
        r = apply(a, (enum run_option)o, p.flag, value, err);
        if (r < 0)
            return r;
    }
    if (o != -ENOENT)
        return o;
    o = check_conflicts(a, &p, err);
    if (o < 0)
        return o;
    a->argv = a->shell[0] ? a->shell : (const char *const *)p.argv;
    if (a->image_ref) {
        o = take_image(a, err);
        if (o < 0)
            return o;
    }
    return policy_validate(&a->policy, err);
}
