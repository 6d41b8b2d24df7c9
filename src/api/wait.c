/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of a run: the anchor's channel, captured streams, the caller's signals, the timeout
 * and the grace periods. One thread, the caller's. Nothing here waits for the workload itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "api/internal.h"
#include "launch/internal.h"
#include "net/rules.h"

enum { SLOT_CHANNEL, SLOT_KILL, SLOT_LISTENER, SLOT_SIGNAL, SLOT_OUT, SLOT_ERR, SLOT_COUNT };

struct wait_loop {
    struct sandbox *s;
    struct run_result *result;
    uint64_t timeout_at, kill_at;
    int signal_fd;
    struct capped capped[2];
    bool leader_ended, empty, timed_out, serving;
    int status;
};

uint64_t deadline_after(uint64_t ns)
{
    uint64_t now = util_now_ns();

    return ns == 0 || ns > NO_DEADLINE - now ? NO_DEADLINE : now + ns;
}

static const int forwarded_signals[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT,
                                        SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT};

static void forwarded_set(sigset_t *ret)
{
    sigemptyset(ret);
    for (size_t i = 0; i < ARRAY_SIZE(forwarded_signals); i++)
        sigaddset(ret, forwarded_signals[i]);
}

void signals_hold(struct sandbox *s)
{
    sigset_t set;

    if (!s->options.own_process || s->holds_signals)
        return;
    forwarded_set(&set);
    sigprocmask(SIG_BLOCK, &set, &s->caller_mask);
    s->holds_signals = true;
}

void signals_release(struct sandbox *s)
{
    if (s->holds_signals)
        sigprocmask(SIG_SETMASK, &s->caller_mask, NULL);
    s->holds_signals = false;
}

static void loop_signals_open(struct wait_loop *w)
{
    sigset_t set;

    signals_hold(w->s);
    forwarded_set(&set);
    w->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Stop ourselves as the command was stopped, so that the shell that started us takes over; when it
 * continues us, continue the command in the foreground or background we are now in. Only a job of a
 * terminal has such a shell: otherwise nobody would wake us and the timeout would never come. */
static void loop_job_control(struct wait_loop *w, int sig)
{
    struct launch *l = &w->s->launch;
    bool had;

    /* It asked for the terminal, and nobody else of our job has it. */
    if ((sig == SIGTTIN || sig == SIGTTOU) && launch_terminal_give(l)) {
        (void)launch_signal_group(l, SIGCONT);
        return;
    }
    if (!w->s->options.own_process || w->leader_ended || (!isatty(0) && !isatty(1) && !isatty(2)))
        return;
    had = launch_terminal_take(l);
    /* Nobody goes on running while we answer nothing and watch no clock. */
    launch_command(l, ANCHOR_PAUSE, 0);
    kill(getpid(), SIGSTOP);
    if (had) /* otherwise it asks again */
        (void)launch_terminal_give(l);
    launch_command(l, ANCHOR_RESUME, 0);
}

static void loop_on_signal(struct wait_loop *w)
{
    struct signalfd_siginfo info;

    while (read(w->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (!w->leader_ended)
            (void)launch_signal_group(&w->s->launch, (int)info.ssi_signo);
    }
}

/* Ask first, kill after the grace period. */
static void loop_end_members(struct wait_loop *w)
{
    const struct policy *p = w->s->policy;

    if (w->kill_at != NO_DEADLINE)
        return;
    if (p->stop_grace_ns == 0) {
        launch_command(&w->s->launch, ANCHOR_KILL, 0);
    } else {
        launch_command(&w->s->launch, ANCHOR_STOP_SIGNAL,
                       p->stop_signal ? p->stop_signal : SIGTERM);
    }
    w->kill_at = deadline_after(p->stop_grace_ns ? p->stop_grace_ns : 1000000000u);
}

static void loop_on_lost_anchor(struct wait_loop *w)
{
    struct sandbox *s = w->s;

    /* Somebody killed the anchor. The leader died with it (PDEATHSIG); of the rest we reach what was
     * re-parented to us (own_process: we are a subreaper) and the leader's group. */
    s->lost = true;
    w->empty = true;
    if (!w->leader_ended)
        w->status = SIGKILL;
    (void)launch_signal_group(&s->launch, SIGKILL);
    if (s->options.own_process) {
        int32_t *pids = calloc(4096, sizeof(*pids));

        for (int i = 0; pids && i < 3; i++)
            anchor_signal_tree(pids, 4096, SIGKILL);
        free(pids);
    }
}

static void loop_on_channel(struct wait_loop *w)
{
    struct anchor_event e;
    ssize_t n = recv(w->s->launch.channel_fd, &e, sizeof(e), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != sizeof(e)) {
        loop_on_lost_anchor(w);
        return;
    }
    w->result->stats.usage = e.usage;
    if (e.kind == ANCHOR_EVENT_STOPPED) {
        if (WSTOPSIG(e.status) != SIGSTOP || !limits_hold_by_signal(w->s->limits))
            loop_job_control(w, WSTOPSIG(e.status));
        return;
    }
    if (e.kind == ANCHOR_EVENT_LEADER) {
        w->leader_ended = true;
        w->status = e.status;
        (void)launch_terminal_take(&w->s->launch);
        if (!e.empty && !w->s->policy->linger)
            loop_end_members(w);
    }
    if (e.kind == ANCHOR_EVENT_EMPTY || e.empty)
        w->empty = true;
}

static void loop_on_stream(struct wait_loop *w, int i)
{
    int *fd = &w->s->launch.stdio_fd[i];
    char chunk[65536];
    ssize_t n = read(*fd, chunk, sizeof(chunk));

    if (n > 0 && w->s->options.capture_capped)
        capped_add(&w->capped[i - 1], chunk, (size_t)n);
    else if (n > 0)
        buf_add(&w->result->out[i - 1], chunk, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        *fd = util_close(*fd);
}

static void loop_on_deadline(struct wait_loop *w)
{
    uint64_t now = util_now_ns();

    if (now >= w->timeout_at) {
        w->timeout_at = NO_DEADLINE;
        w->timed_out = true;
        loop_end_members(w);
    }
    if (now >= w->kill_at) {
        launch_command(&w->s->launch, ANCHOR_KILL, 0);
        w->kill_at = deadline_after(1000000000u);
    }
}

static void loop_on_listener(struct wait_loop *w)
{
    w->serving = true;
    if (supervisor_start_receivers(w->s->supervisor) < 0)
        launch_command(&w->s->launch, ANCHOR_KILL, 0); /* nobody would answer */
}

static int loop_timeout_ms(const struct wait_loop *w)
{
    uint64_t at = MIN(w->timeout_at, w->kill_at), now;

    if (at == NO_DEADLINE)
        return -1;
    now = util_now_ns();
    return at <= now ? 0 : (int)MIN((at - now) / 1000000u + 1, (uint64_t)3600 * 1000);
}

static void loop_fill(const struct wait_loop *w, struct pollfd p[SLOT_COUNT])
{
    const struct sandbox *s = w->s;
    bool lazy = s->supervisor && !w->serving;

    p[SLOT_CHANNEL] = (struct pollfd){.fd = s->launch.channel_fd, .events = POLLIN};
    p[SLOT_KILL] =
        (struct pollfd){.fd = s->supervisor ? s->supervisor->kill_fd : -1, .events = POLLIN};
    p[SLOT_LISTENER] = (struct pollfd){.fd = lazy ? s->launch.listener_fd : -1, .events = POLLIN};
    p[SLOT_SIGNAL] = (struct pollfd){.fd = w->signal_fd, .events = POLLIN};
    for (int i = 1; i < 3; i++)
        p[SLOT_OUT + i - 1] = (struct pollfd){.fd = s->options.capture ? s->launch.stdio_fd[i] : -1,
                                              .events = POLLIN};
}

static void loop_turn(struct wait_loop *w)
{
    struct pollfd p[SLOT_COUNT];
    uint64_t drained;

    loop_fill(w, p);
    if (poll(p, SLOT_COUNT, loop_timeout_ms(w)) < 0)
        return; /* EINTR */
    if (p[SLOT_LISTENER].revents & POLLIN)
        loop_on_listener(w);
    else if (p[SLOT_LISTENER].revents)
        w->serving = true; /* hung up: nothing will come */
    if (p[SLOT_KILL].revents &&
        read(w->s->supervisor->kill_fd, &drained, sizeof(drained)) == sizeof(drained))
        launch_command(&w->s->launch, ANCHOR_KILL, 0);
    if (p[SLOT_SIGNAL].revents)
        loop_on_signal(w);
    for (int i = 1; i < 3; i++) {
        if (p[SLOT_OUT + i - 1].revents)
            loop_on_stream(w, i);
    }
    if (p[SLOT_CHANNEL].revents)
        loop_on_channel(w);
    loop_on_deadline(w);
}

/* Everything is dead: what is still in the pipes is all there will be (IO-05). */
static void loop_drain(struct wait_loop *w)
{
    for (int i = 1; i < 3 && w->s->options.capture; i++) {
        int *fd = &w->s->launch.stdio_fd[i];
        struct pollfd p = {.fd = *fd, .events = POLLIN};

        while (*fd >= 0 && poll(&p, 1, 0) == 1)
            loop_on_stream(w, i);
        if (w->s->options.capture_capped)
            capped_take(&w->capped[i - 1], &w->result->out[i - 1]);
    }
}

static void loop_result(const struct wait_loop *w)
{
    struct run_result *r = w->result;

    r->code = -1;
    r->signal = 0;
    if (WIFEXITED(w->status)) {
        r->reason = REASON_EXITED;
        r->code = WEXITSTATUS(w->status);
    } else {
        r->signal = WTERMSIG(w->status);
        r->reason = r->signal == SIGKILL ? REASON_KILLED : REASON_SIGNALED;
    }
    if (w->timed_out) {
        r->reason = REASON_TIMEOUT;
        r->code = -1;
    }
    w->s->launch.abnormal = r->reason != REASON_EXITED;
}

static void loop_stats(const struct wait_loop *w)
{
    struct run_stats *t = &w->result->stats;
    const struct supervisor *s = w->s->supervisor;

    limits_report(w->s->limits, s, &t->limits);
    if (!s)
        return;
    t->notifications = atomic_load(&s->notifications);
    t->denied = atomic_load(&s->denied);
    t->continued = atomic_load(&s->continued);
    t->injected = atomic_load(&s->injected);
    for (size_t i = 0; i < CALL_OP_COUNT; i++)
        t->by_op[i] = atomic_load(&s->by_op[i]);
    net_remap_list(s, &t->ports);
}

int sandbox_wait(struct sandbox *s, uint64_t timeout_ns, struct run_result *ret, struct error *err)
{
    struct wait_loop w = {.s = s, .result = ret, .kill_at = NO_DEADLINE, .signal_fd = -1};

    memset(ret, 0, sizeof(*ret));
    if (!s->started || s->launch.channel_fd < 0)
        return error_set(err, ERROR_SETUP, -ECHILD, "wait", "nothing was started");
    /* IO-03: a stdin that nobody took is at its end. */
    s->launch.stdio_fd[0] = util_close(s->launch.stdio_fd[0]);
    w.timeout_at = MIN(deadline_after(s->policy->timeout_ns), deadline_after(timeout_ns));
    w.serving = s->supervisor && s->supervisor->nreceivers > 0;
    if (s->options.own_process)
        loop_signals_open(&w);
    while (!w.empty)
        loop_turn(&w);
    limits_stop(s->limits);
    if (!s->lost)
        launch_end(&s->launch);
    loop_drain(&w);
    loop_result(&w);
    loop_stats(&w);
    util_close(w.signal_fd);
    signals_release(s);
    return 0;
}
