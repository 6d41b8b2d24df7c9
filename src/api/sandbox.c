/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run: plan, supervisor and launch put together, and taken apart again in the order that leaves
 * nothing behind. Runs in the caller's thread; under `behalf` the launch itself happens in the first
 * receiver, so that receivers and command share the outer Landlock domain.
 */
#include "api/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "launch/environment.h"
#include "net/rules.h"
#include "plan/root.h"

static unsigned closed_streams(void)
{
    unsigned closed = 0;

    for (int i = 0; i < 3; i++) {
        if (fcntl(i, F_GETFD) < 0 && errno == EBADF)
            closed |= 1u << i;
    }
    return closed;
}

static uint64_t current_sigmask(void)
{
    sigset_t set;
    uint64_t mask = 0;

    pthread_sigmask(SIG_SETMASK, NULL, &set);
    for (int sig = 1; sig <= 64; sig++) {
        if (sigismember(&set, sig) == 1)
            mask |= (uint64_t)1 << (sig - 1);
    }
    return mask;
}

/* The first receiver under `behalf`: enters the domain, launches, reports, serves. */
static void *sandbox_first_receiver(void *arg)
{
    struct sandbox *s = arg;
    int r = supervisor_confine_thread(s->supervisor);

    if (r < 0)
        error_set(s->launch_error, ERROR_SETUP, r, "supervisor",
                  "cannot enter the sandbox's domain: %s%s", error_text(r),
                  r == -EPERM ? " (is this process already in a sandbox with a supervisor? use "
                                "--no-supervisor for the outer or the inner one)"
                              : "");
    else
        r = launch_create(&s->spec, &s->launch, s->launch_error);
    if (r == 0) {
        supervisor_attach(s->supervisor, s->launch.listener_fd, s->launch.anchor_pid);
        r = supervisor_start_receivers(s->supervisor);
        if (r < 0)
            error_set(s->launch_error, ERROR_SETUP, r, "supervisor", "%s", error_text(r));
    }
    s->launch_result = r;
    launch_maps_done(&s->maps);
    if (r == 0)
        supervisor_serve(s->supervisor);
    return NULL;
}

static int sandbox_launch_behalf(struct sandbox *s, struct error *err)
{
    int r;

    s->launch_error = err;
    s->spec.maps = &s->maps;
    r = supervisor_start_thread(s->supervisor, sandbox_first_receiver, s);
    if (r < 0)
        return error_set(err, ERROR_SETUP, r, "supervisor", "%s", error_text(r));
    launch_maps_serve(&s->maps); /* until the launch has come to an end */
    s->launch_error = NULL;
    return s->launch_result;
}

static int sandbox_launch(struct sandbox *s, struct error *err)
{
    int r;

    if (s->plan.notify) {
        r = supervisor_new(&s->plan, s->options.explain_fd, &s->supervisor, err);
        if (r < 0)
            return r;
    }
    /* Not earlier: names are resolved before, and Ctrl-C ends that. */
    signals_hold(s);
    if (s->plan.behalf)
        return sandbox_launch_behalf(s, err);
    /* Notifications wait in the listener: nothing has to be ready, unless exec itself is one. */
    s->spec.at_once =
        s->options.own_process && !(s->supervisor && s->supervisor->dispatch[OP_EXEC].n);
    r = launch_create(&s->spec, &s->launch, err);
    if (r < 0 || !s->supervisor)
        return r;
    supervisor_attach(s->supervisor, s->launch.listener_fd, s->launch.anchor_pid);
    /* Lazily only where somebody polls the listener from now on and exec itself is not notified. */
    if (s->options.own_process && s->supervisor->dispatch[OP_EXEC].n == 0)
        return 0;
    r = supervisor_start_receivers(s->supervisor);
    return r < 0 ? error_set(err, ERROR_SETUP, r, "supervisor", "%s", error_text(r)) : 0;
}

int sandbox_create(const struct policy *p, const struct sandbox_options *o, struct sandbox **ret,
                   struct error *err)
{
    unsigned closed = closed_streams();
    struct sandbox *s = calloc(1, sizeof(*s));
    int r;

    if (!s)
        return error_set(err, ERROR_SETUP, -ENOMEM, "sandbox", "%s", error_text(ENOMEM));
    s->policy = p;
    s->options = *o;
    if (s->options.explain_fd < 0)
        s->options.explain_fd = 2;
    s->launch = (struct launch){
        .channel_fd = -1, .listener_fd = -1, .stdio_fd = {-1, -1, -1}, .tty_fd = -1};
    s->env = environment_new(p);
    s->spec = (struct launch_spec){.plan = &s->plan,
                                   .argv = o->argv,
                                   .envp = s->env,
                                   .closed_stdio = closed,
                                   .cgroup_fd = -1,
                                   .sigmask = current_sigmask(),
                                   .foreground = o->own_process,
                                   .own_process = o->own_process};
    memcpy(s->spec.stdio, o->stdio, sizeof(s->spec.stdio));
    if (o->own_process) /* orphans come to us should the anchor be killed by somebody */
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    r = !s->env ? error_set(err, ERROR_SETUP, -ENOMEM, "environment", "%s", error_text(ENOMEM))
                : plan_build_on(p, kernel_probe(), o->layer, &s->plan, err);
    if (r == 0 && s->plan.root && s->plan.root->layer)
        cow_set_progress(s->plan.root->layer, o->progress, NULL);
    for (int i = 0; i < 3 && r == 0; i++) {
        if (s->spec.stdio[i] == STDIO_INHERIT)
            r = net_check_stream(p, i, err);
    }
    if (r == 0) {
        s->cgroup = limits_cgroup_new(p);
        s->spec.cgroup_fd = s->cgroup ? s->cgroup->procs_fd : -1;
        r = sandbox_launch(s, err);
    }
    if (r == 0)
        r = limits_start(p, s->launch.anchor_pid, s->supervisor,
                         s->launch.in_cgroup ? s->cgroup : NULL, &s->limits, err);
    if (r < 0) {
        sandbox_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

int sandbox_start(struct sandbox *s, struct error *err)
{
    s->started = true;
    return launch_start(&s->launch, err);
}

int sandbox_kill(struct sandbox *s)
{
    return launch_command(&s->launch, ANCHOR_KILL, 0);
}

int sandbox_restrict(struct sandbox *s, const struct limits_restriction *to)
{
    return limits_restrict(s->limits, s->supervisor, to);
}

int sandbox_take_stream(struct sandbox *s, int i)
{
    return steal_fd(&s->launch.stdio_fd[i]);
}

pid_t sandbox_pid(const struct sandbox *s)
{
    return s->launch.pid;
}

void sandbox_free(struct sandbox *s)
{
    if (!s)
        return;
    signals_release(s);
    limits_stop(s->limits); /* while the anchor's number is its own */
    launch_leave(&s->launch);
    limits_cgroup_free(s->cgroup);
    (void)sandbox_settle(s, NULL, NULL, NULL, NULL);
    if (!s->lost)
        supervisor_free(s->supervisor);
    /* else: the anchor was killed from outside and members may live on; receivers cannot be joined */
    if (s->options.own_process && !UTIL_FREE_AT_EXIT)
        return;
    limits_free(s->limits);
    launch_fini(&s->launch);
    plan_fini(&s->plan);
    free(s->env);
    free(s);
}

void run_result_fini(struct run_result *r)
{
    buf_fini(&r->out[0]);
    buf_fini(&r->out[1]);
    buf_fini(&r->stats.ports);
}

int run_result_exit_code(const struct run_result *r)
{
    if (r->reason == REASON_EXITED)
        return r->code;
    return r->reason == REASON_TIMEOUT ? 124 : 128 + r->signal;
}

int start_exit_code(const struct error *err)
{
    return err->kind == ERROR_NOTFOUND ? 127 : err->kind == ERROR_NOEXEC ? 126 : 125;
}

int sandbox_exec(const struct policy *p, const char *const *argv, struct error *err)
{
    _cleanup_free_ char **env = environment_new(p);
    struct plan plan = {0};
    struct launch_spec spec = {
        .plan = &plan, .argv = argv, .envp = env, .cgroup_fd = -1, .sigmask = current_sigmask()};
    int r;

    if (!env)
        return error_set(err, ERROR_SETUP, -ENOMEM, "environment", "%s", error_text(ENOMEM));
    r = plan_build(p, kernel_probe(), &plan, err);
    for (int i = 0; i < 3 && r == 0; i++)
        r = net_check_stream(p, i, err);
    if (r == 0)
        r = launch_exec_self(&spec, err);
    plan_fini(&plan);
    return r;
}
