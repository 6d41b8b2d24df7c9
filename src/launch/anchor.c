/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The anchor: parent and subreaper of the command. Shares the caller's memory but nothing else,
 * makes raw calls only. It reaps every member, reports on the channel, signals on request, and when
 * the channel closes (the supervisor died) kills every member before it ends. Where Landlock has
 * signal scopes the anchor is the outermost process of the command's domain, so kill(-1) reaches all
 * members, however they daemonised, atomically against fork, and nobody else.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "launch/internal.h"
#include "sys/raw_calls.h"

/* Kill again until nobody is left, first after 20 ms, then more rarely: signalling tens of thousands
 * of dying processes costs the time they need to die. */
#define ANCHOR_RETRY_NS 20000000
#define ANCHOR_RETRY_MAX_NS 900000000
/* wait4 walks all children: with a fork bomb's 30,000 reap in batches, not one a signal. */
#define ANCHOR_BATCH_AFTER 256
#define ANCHOR_BATCH_NS 5000000
/* A parked command still shares the supervisor's descriptors, so the channel stays open without one. */
#define ANCHOR_PARKED_NS 250000000

struct anchor {
    const struct anchor_setup *setup;
    int channel_fd, signal_fd;
    int32_t leader;
    int32_t leader_status;
    bool leader_ended, leader_reported, killing, scoped, orphaned;
    struct anchor_event event;
};

/* No stack protector, no return through libc: exits for both processes. */
static int anchor_child_main(void *arg)
{
    const struct child_setup *c = arg;

    child_run(c);
    if (c->shared->step) {
        __atomic_store_n(&c->shared->state, LAUNCH_FAILED, __ATOMIC_RELEASE);
        raw_futex_wake(&c->shared->state, 1);
    }
    raw_exit(127);
}

static void anchor_say_detached(const struct anchor_setup *s)
{
    __atomic_store_n(&s->shared->detached, 1, __ATOMIC_RELEASE);
    raw_futex_wake(&s->shared->detached, 1);
}

static int anchor_fail(const struct anchor_setup *s, enum launch_step step, long error)
{
    s->shared->step = step;
    s->shared->error = (int32_t)error;
    __atomic_store_n(&s->shared->state, LAUNCH_FAILED, __ATOMIC_RELEASE);
    raw_futex_wake(&s->shared->state, 1);
    anchor_say_detached(s); /* or will not any more */
    return 1;
}

static void anchor_signal(struct anchor *a, int sig)
{
    if (a->scoped)
        raw_kill(-1, sig);
    else
        anchor_signal_tree(a->setup->pids, a->setup->npids, sig);
    if (a->leader > 0 && !a->leader_ended)
        raw_kill(a->leader, sig); /* also before it entered its domain */
}

static void anchor_report(struct anchor *a, uint32_t kind, int32_t status)
{
    a->event.kind = kind;
    a->event.status = status;
    raw_getrusage(RUSAGE_CHILDREN, &a->event.usage);
    if (!a->orphaned)
        raw_sendto(a->channel_fd, &a->event, sizeof(a->event), MSG_NOSIGNAL);
}

/* The leader's end is told once, together with whether anybody is left. */
static void anchor_report_end(struct anchor *a, bool empty)
{
    a->event.empty = empty;
    if (a->leader_ended && !a->leader_reported) {
        a->leader_reported = true;
        anchor_report(a, ANCHOR_EVENT_LEADER, a->leader_status);
    } else if (empty) {
        anchor_report(a, ANCHOR_EVENT_EMPTY, 0);
    }
}

/* Reaps what there is. False when no member is left. */
static bool anchor_reap(struct anchor *a)
{
    for (;;) {
        int status = 0;
        long pid = raw_wait4(-1, &status, WNOHANG | WUNTRACED | __WALL, NULL);

        if (pid == -EINTR)
            continue;
        if (pid <= 0) {
            anchor_report_end(a, pid < 0);
            return pid == 0;
        }
        if (WIFSTOPPED(status)) {
            if (pid == a->leader)
                anchor_report(a, ANCHOR_EVENT_STOPPED, status);
            continue;
        }
        a->event.reaped++;
        if (pid == a->leader) {
            a->leader_ended = true;
            a->leader_status = status;
        }
    }
}

/* The supervisor is gone. */
static void anchor_orphaned(struct anchor *a)
{
    a->orphaned = true;
    a->killing = true;
    anchor_signal(a, SIGKILL);
}

static void anchor_on_channel(struct anchor *a)
{
    unsigned char m[2] = {0, 0};
    long r = raw_recvfrom(a->channel_fd, m, sizeof(m), MSG_DONTWAIT);

    if (r == -EAGAIN || r == -EINTR)
        return;
    if (r <= 0) {
        anchor_orphaned(a);
        return;
    }
    if (m[0] == ANCHOR_KILL) {
        a->killing = true;
        anchor_signal(a, SIGKILL);
    } else if (m[0] == ANCHOR_STOP_SIGNAL) {
        anchor_signal(a, m[1]);
        anchor_signal(a, SIGCONT); /* a stopped member would never see it */
    } else if (m[0] == ANCHOR_PAUSE) {
        anchor_signal(a, SIGSTOP);
    } else if (m[0] == ANCHOR_RESUME) {
        anchor_signal(a, SIGCONT);
    }
}

static bool anchor_is_parked(const struct anchor *a)
{
    return !a->killing && __atomic_load_n(&a->setup->shared->go, __ATOMIC_ACQUIRE) == LAUNCH_WAIT;
}

static void anchor_loop(struct anchor *a)
{
    const struct timespec parked = {0, ANCHOR_PARKED_NS};
    struct timespec retry = {0, ANCHOR_RETRY_NS};
    const struct timespec batch = {0, ANCHOR_BATCH_NS};
    unsigned turns = 0;
    struct {
        unsigned char b[128];
    } info; /* struct signalfd_siginfo, contents not needed */

    while (anchor_reap(a)) {
        struct pollfd p[2] = {{.fd = a->signal_fd, .events = POLLIN},
                              {.fd = a->orphaned ? -1 : a->channel_fd, .events = POLLIN}};
        bool waits = anchor_is_parked(a);
        long r = raw_ppoll(p, 2, a->killing ? &retry : waits ? &parked : NULL);

        if (r == 0 && a->killing) {
            anchor_signal(a, SIGKILL);
            retry.tv_nsec = MIN(retry.tv_nsec * 2, ANCHOR_RETRY_MAX_NS);
        }
        if (r == 0 && waits && raw_getppid() != a->setup->parent)
            anchor_orphaned(a);
        if (r > 0 && p[1].revents)
            anchor_on_channel(a);
        if (r > 0 && p[0].revents)
            raw_read(a->signal_fd, &info, sizeof(info));
        if (a->leader_ended && ++turns > ANCHOR_BATCH_AFTER)
            raw_ppoll(NULL, 0, &batch);
    }
}

/* Private descriptor table with the channel alone; not in the caller's way (cwd, group, name). */
static long anchor_detach(struct anchor *a)
{
    unsigned ch = (unsigned)a->setup->channel_fd;
    long r = raw_close_range(ch + 1, ~0U, CLOSE_RANGE_UNSHARE);

    if (r < 0)
        return r;
    if (ch > 0)
        raw_close_range(0, ch - 1, 0);
    raw_chdir("/");
    a->channel_fd = (int)ch;
    r = raw_signalfd((uint64_t)1 << (SIGCHLD - 1), O_CLOEXEC | O_NONBLOCK);
    a->signal_fd = (int)r;
    return r;
}

static long anchor_prepare(const struct anchor_setup *s, struct anchor *a)
{
    const struct raw_sigaction dfl = {.handler = SIG_DFL};
    long r;

    /* Not "sandlock": killall of the supervisor must not take its safety net too. */
    raw_prctl(PR_SET_NAME, (unsigned long)"sl-anchor", 0, 0, 0);
    raw_sigaction(SIGCHLD, &dfl);
    raw_setpgid(0, 0);
    r = raw_prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (r < 0)
        return r;
    r = raw_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (r < 0)
        return r;
    if (s->ruleset_fd >= 0) {
        r = raw_landlock_restrict_self(s->ruleset_fd, 0);
        if (r < 0)
            return r;
        a->scoped = true;
    }
    return 0;
}

int anchor_main(void *arg)
{
    const struct anchor_setup *s = arg;
    struct anchor a = {.setup = s, .channel_fd = -1, .signal_fd = -1};
    long r;

    s->shared->anchor_pid = (int32_t)raw_getpid();
    r = anchor_prepare(s, &a);
    if (r < 0)
        return anchor_fail(s, STEP_ANCHOR, r);
    /* The child shares the caller's descriptor table until the listener is in it. */
    r = arch_clone(CLONE_VM | CLONE_FILES | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD,
                   s->child_stack_top, anchor_child_main, (void *)(uintptr_t)s->child,
                   (int *)&s->shared->child_tid, (int *)&s->shared->child_tid);
    if (r < 0)
        return anchor_fail(s, STEP_CLONE, r);
    a.leader = (int32_t)r;
    s->shared->child_pid = (int32_t)r; /* before `detached`, which the caller waits for */
    /* The child tells it as well, but may not have run yet when we are detached. */
    __atomic_store_n(&s->shared->child_pid, a.leader, __ATOMIC_RELEASE);
    r = anchor_detach(&a);
    if (r < 0) {
        raw_kill(a.leader, SIGKILL);
        return anchor_fail(s, STEP_ANCHOR, r);
    }
    anchor_say_detached(s);
    anchor_loop(&a);
    return 0;
}
