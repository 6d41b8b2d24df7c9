/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `sandlock run`: one command under one policy. The main thread; our own user's words. Standard
 * output belongs to the command, every message of ours goes to standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "api/sandbox.h"
#include "cli.h"
#include "plan/plan.h"
#include "run_args.h"
#include "supervisor/supervisor.h"

/* The listing for the policy on this kernel; the machine may be another one. */
static int print_filter(const struct run_args *a)
{
    const struct kernel *kernel = kernel_probe();
    const struct feature *features[PLAN_MAX_FEATURES];
    _cleanup_(filter_plan_fini) struct filter_plan plan = {0};
    _cleanup_(filter_prog_fini) struct filter_prog prog = {0};
    _cleanup_buf_ struct buf out = {0};
    struct error err = {0};
    int n = plan_features(&a->policy, kernel, features, &err);

    if (n < 0 ||
        plan_filter(&a->policy, kernel, a->print_arch, features, (size_t)n, &plan, &err) < 0 ||
        filter_compile(&plan, &prog, &err) < 0)
        return cli_fail(&err);
    filter_print(&plan, &prog, &out);
    return cli_print(&out);
}

/* Written once, whatever the ending was. A limit that ended a process is named. */
static void write_status(int fd, int code, int signal_number, const struct limits_report *limits)
{
    const char *limit = limits && limits->memory_kills   ? ",\"limit\":\"memory\""
                        : limits && limits->disk_at_kill ? ",\"limit\":\"disk\""
                                                         : "";
    char line[96];
    int n = signal_number > 0 ? snprintf(line, sizeof(line), "{\"exit_code\":%d,\"signal\":%d%s}\n",
                                         code, signal_number, limit)
                              : snprintf(line, sizeof(line),
                                         "{\"exit_code\":%d,\"signal\":null%s}\n", code, limit);

    if (fd < 0)
        return;
    /* Nobody may be reading any more; our exit code matters more than that. */
    signal(SIGPIPE, SIG_IGN);
    while (write(fd, line, (size_t)n) < 0 && errno == EINTR)
        ;
}

/* "1.5" for 1500 ms: as short as it was written. */
static void format_seconds(uint64_t ns, char out[32])
{
    int n = snprintf(out, 32, "%llu.%09llu", (unsigned long long)(ns / 1000000000),
                     (unsigned long long)(ns % 1000000000));

    while (n > 0 && out[n - 1] == '0')
        out[--n] = '\0';
    if (n > 0 && out[n - 1] == '.')
        out[n - 1] = '\0';
}

static unsigned long long in_kib(uint64_t bytes)
{
    return (unsigned long long)(bytes / 1024);
}

/* Which mechanism holds each limit of this run, and what it saw. */
static void report_limits(const struct policy *p, const struct limits_report *l)
{
    if (p->max_memory)
        cli_note("memory: peak %llu kB of %llu kB, %llu killed; by %s", in_kib(l->memory_peak),
                 in_kib(p->max_memory), (unsigned long long)l->memory_kills,
                 limits_backend(LIMIT_MEMORY, p, l));
    if (p->max_processes)
        cli_note("processes: peak at most %u of %u, %llu refused; by %s", l->processes_peak,
                 p->max_processes, (unsigned long long)l->processes_refused,
                 limits_backend(LIMIT_PROCESSES, p, l));
    if (p->max_disk)
        cli_note("disk: peak %llu kB of %llu kB, %llu refused; by notification of what grows files",
                 in_kib(l->disk_peak), in_kib(p->max_disk), (unsigned long long)l->disk_refused);
    if (p->max_cpu)
        cli_note("cpu: %u%% of one core, held for %llu ms; by %s", p->max_cpu,
                 (unsigned long long)(l->cpu_stopped_ns / 1000000),
                 limits_backend(LIMIT_CPU, p, l));
}

static void report_memory_kill(const struct policy *p, const struct limits_report *l)
{
    if (!l->memory_victim) { /* the kernel's choice */
        cli_note("memory limit of %llu kB exceeded: the kernel killed %llu process%s",
                 in_kib(p->max_memory), (unsigned long long)l->memory_kills,
                 l->memory_kills > 1 ? "es" : "");
        return;
    }
    cli_note("memory limit of %llu kB exceeded (%llu kB in use): killed process %d (%s)%s",
             in_kib(p->max_memory), in_kib(l->memory_at_kill), l->memory_victim, l->memory_name,
             l->memory_kills > 1 ? " and others" : "");
}

static void report_disk(const struct policy *p, const struct limits_report *l)
{
    if (l->disk_at_kill)
        cli_note("disk limit of %llu kB exceeded (%llu kB staged): killed everything",
                 in_kib(p->max_disk), in_kib(l->disk_at_kill));
    else if (l->disk_refused)
        cli_note("disk limit of %llu kB reached: %llu calls refused (no space)",
                 in_kib(p->max_disk), (unsigned long long)l->disk_refused);
}

static void report_stats(struct run_stats *s)
{
    _cleanup_buf_ struct buf ops = {0};

    for (unsigned op = 0; op < CALL_OP_COUNT; op++) {
        if (s->by_op[op])
            buf_addf(&ops, "%s%s %llu", ops.len ? ", " : "", call_op_name(op),
                     (unsigned long long)s->by_op[op]);
    }
    cli_note("notifications: %llu", (unsigned long long)s->notifications);
    if (ops.len)
        cli_note("notifications by operation: %s", buf_cstr(&ops));
    cli_note("denied: %llu", (unsigned long long)s->denied);
    cli_note("continued: %llu, injected: %llu", (unsigned long long)s->continued,
             (unsigned long long)s->injected);
    cli_note("cpu time: %lld.%03ds user, %lld.%03ds system", (long long)s->usage.ru_utime.tv_sec,
             (int)(s->usage.ru_utime.tv_usec / 1000), (long long)s->usage.ru_stime.tv_sec,
             (int)(s->usage.ru_stime.tv_usec / 1000));
    cli_note("max rss: %ld kB", s->usage.ru_maxrss);
    if (s->ports.len)
        cli_note("ports: %s", buf_cstr(&s->ports));
}

/* U8: what was waived and is really missing is said, every time. */
static void report_degraded(const struct policy *p)
{
    for (unsigned i = 0; i < PROTECTION_COUNT; i++) {
        if (p->protection[i] != PROTECTION_DEGRADED)
            continue;
        if (kernel_probe()->landlock_abi < protection_info[i].min_abi)
            cli_note("%s is not enforced: it needs Landlock ABI %d, this kernel has %d",
                     protection_info[i].name, protection_info[i].min_abi,
                     kernel_probe()->landlock_abi);
    }
}

/* Says how it ended; returns our exit code. */
static int report_end(const struct run_args *a, struct run_result *result)
{
    int code = result->signal ? EXIT_SIGNAL_BASE + result->signal : result->code;

    if (result->reason == REASON_TIMEOUT) {
        char seconds[32];

        format_seconds(a->policy.timeout_ns, seconds);
        if (!a->quiet)
            cli_note("timeout after %ss", seconds);
        code = EXIT_TIMED_OUT;
    } else if (result->reason == REASON_KILLED && !result->signal) {
        code = EXIT_SIGNAL_BASE + SIGKILL;
    }
    if (!a->quiet && result->stats.limits.memory_kills)
        report_memory_kill(&a->policy, &result->stats.limits);
    if (!a->quiet && a->policy.max_disk)
        report_disk(&a->policy, &result->stats.limits);
    if (a->stats) {
        report_stats(&result->stats);
        report_limits(&a->policy, &result->stats.limits);
    }
    return code;
}

static void print_lines(const struct buf *b)
{
    size_t done = 0;

    while (done < b->len) {
        ssize_t n = write(STDERR_FILENO, b->data + done, b->len - done);

        if (n < 0 && errno != EINTR)
            return; /* nobody reads any more */
        done += n > 0 ? (size_t)n : 0;
    }
}

static int print_some(struct buf *b)
{
    print_lines(b);
    b->len = 0;
    return 0; /* what becomes of the changes does not depend on who reads about them */
}

/* BA-02: a dry run was made for its list, so --quiet leaves that. Before the diff, which is printed as it is
 * made. */
static void report_list(const struct stage_result *r, const void *arg)
{
    const struct run_args *a = arg;

    if (a->policy.dry_run && r->n_changes == 0)
        cli_note("dry-run: no filesystem changes");
    else if (a->policy.dry_run)
        cli_note("dry-run: filesystem changes:");
    print_lines(&r->list);
}

static void report_stage(const struct run_args *a, const struct stage_result *r)
{
    print_lines(&r->diff);
    print_lines(&r->json);
    print_lines(&r->conflicts);
    if (!a->quiet)
        print_lines(&r->notes);
    if (r->kept && !a->quiet)
        cli_note("changes kept in %s", r->kept);
}

static int settle(struct sandbox *s, const struct run_args *a, const struct run_result *run,
                  struct error *err)
{
    const struct stage_wish wish = {.list = a->policy.dry_run,
                                    .diff = a->diff,
                                    .json = a->changes_json,
                                    .progress = a->quiet ? NULL : cli_progress,
                                    .listed = report_list,
                                    .listed_arg = a,
                                    .flush = print_some};
    struct stage_result result = {0};
    int r;

    if (!a->policy.workdir)
        return 0;
    r = sandbox_settle(s, run, &wish, &result, err);
    cli_progress_end();
    if (r >= 0 || result.conflicts.len || result.kept)
        report_stage(a, &result);
    stage_result_fini(&result);
    return r;
}

static int run_supervised(const struct run_args *a, struct run_result *ret, struct error *err)
{
    _cleanup_close_ int explain_fd = -1;
    struct sandbox_options options = {
        .argv = a->argv,
        .own_process = true,
        .explain_fd = -1,
        .progress = a->quiet ? NULL : cli_progress,
    };
    struct sandbox *s = NULL;
    int r;

    if (a->explain_path) {
        explain_fd =
            open(a->explain_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
        if (explain_fd < 0)
            return error_set(err, ERROR_SETUP, -errno, "--explain", "cannot write %.200s: %s",
                             a->explain_path, error_text(errno));
        options.explain_fd = explain_fd;
    }
    if (!a->quiet) /* before: the command runs from sandbox_create() on */
        report_degraded(&a->policy);
    r = sandbox_create(&a->policy, &options, &s, err);
    if (r < 0)
        return r;
    r = sandbox_start(s, err);
    if (r >= 0)
        r = sandbox_wait(s, 0, ret, err);
    if (r >= 0)
        r = settle(s, a, ret, err);
    sandbox_free(s);
    return r;
}

static int run_command(const struct run_args *a)
{
    struct run_result result = {.code = -1};
    struct error err = {0};
    int code;
    int r;

    if (!**a->argv) {
        error_set(&err, ERROR_NOTFOUND, -ENOENT, NULL, "the name of the command is empty");
        write_status(a->status_fd, -1, 0, NULL);
        return cli_fail(&err);
    }
    if (a->policy.no_supervisor) {
        if (!a->quiet)
            report_degraded(&a->policy);
        sandbox_exec(&a->policy, a->argv, &err);
        return cli_fail(&err);
    }
    r = run_supervised(a, &result, &err);
    code = r < 0 ? cli_fail(&err) : report_end(a, &result);
    /* A timeout has no code of the command's, even when it managed to exit on the signal. */
    if (r < 0)
        write_status(a->status_fd, -1, 0, NULL);
    else
        write_status(a->status_fd, result.reason == REASON_TIMEOUT ? -1 : result.code,
                     result.signal, &result.stats.limits);
    run_result_fini(&result);
    return code;
}

int cli_run(char *const *argv)
{
    struct run_args args;
    struct error err = {0};
    int code;

    if (run_args_parse(&args, argv, &err) < 0) {
        code = cli_fail(&err);
        write_status(args.status_fd, -1, 0, NULL);
    } else {
        switch (args.action) {
        case ACTION_HELP: code = cli_help(COMMAND_RUN); break;
        case ACTION_VERSION: code = cli_print_version(); break;
        case ACTION_PRINT_FILTER: code = print_filter(&args); break;
        case ACTION_RUN:
        default: code = run_command(&args); break;
        }
    }
    if (UTIL_FREE_AT_EXIT)
        run_args_fini(&args);
    return code;
}
