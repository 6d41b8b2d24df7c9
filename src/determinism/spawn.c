/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which child is which, for --random-seed: a fork is watched with ptrace, so that the child is known by
 * number and place in the tree before its first instruction. Workers; the worker is the tracer.
 *
 * The event is reported by the kernel from inside the call, with the child held. A fork that fails
 * reports nothing and cannot be told from a slow one: then the thread is interrupted. Should that hit a
 * slow fork, the kernel restarts it (ERESTARTNOINTR), it is notified again, and gets more time.
 */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#include "determinism/internal.h"

#define EVENT_FORK 1 /* PTRACE_EVENT_*: enumerators in one C library, macros in another */
#define EVENT_VFORK 2
#define EVENT_CLONE 3

#define SPIN 40 /* looks before sleeping: a small fork takes some 50 µs */
#define NAP_NS 30000
#define PATIENCE_MS 3
#define DEFER_NAP_NS 200000
#define DEFER_TRIES 25000 /* 5 s */
#define PATIENCE_MAX_MS 10000

static void spawn_detach(pid_t pid, int status)
{
    int sig = status >> 16 ? 0 : WSTOPSIG(status);

    ptrace(PTRACE_DETACH, pid, NULL, (void *)(intptr_t)sig);
}

/* Interrupts it when its time is over, or when its next call waits for us to let go. */
static bool spawn_interrupt(struct watch *w, int64_t until)
{
    if (w->state == WATCH_INTERRUPTED || (w->state == WATCH_ON && util_now_ms() < until))
        return false;
    ptrace(PTRACE_INTERRUPT, w->tid, NULL, NULL);
    return atomic_exchange(&w->state, WATCH_INTERRUPTED) == WATCH_ON;
}

/* Waits for the next stop. False: the thread is gone. *ret_late: it took longer than it should. */
static bool spawn_wait(struct watch *w, unsigned patience_ms, int *ret_status, bool *ret_late)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};
    int64_t until = util_now_ms() + patience_ms;

    *ret_late = false;
    for (unsigned i = 0;; i++) {
        pid_t p = waitpid(w->tid, ret_status, __WALL | __WNOTHREAD | WNOHANG);

        if (p == w->tid)
            return WIFSTOPPED(*ret_status);
        if (p < 0 && errno != EINTR)
            return false;
        if (i < SPIN) {
            sched_yield();
            continue;
        }
        *ret_late |= spawn_interrupt(w, until);
        nanosleep(&nap, NULL);
    }
}

/* The caller stands at the event; its child is traced too and about to stop. */
static void spawn_register(const struct request *r, pid_t tgid)
{
    unsigned long message = 0;
    int status;
    pid_t child;

    if (ptrace(PTRACE_GETEVENTMSG, r->tid, NULL, &message) < 0 || message == 0)
        return;
    child = (pid_t)message;
    while (waitpid(child, &status, __WALL | __WNOTHREAD) < 0) {
        if (errno != EINTR)
            return;
    }
    if (!WIFSTOPPED(status))
        return;
    /* Not registered: it will not get a single byte. */
    (void)stream_fork(random_state(r)->streams, tgid, child);
    spawn_detach(child, status);
}

/* Stopped in the middle of its fork, which the kernel will begin again? Where the machine keeps the
 * number, the result says so; else the pc stands before the call already (arch.h). */
static bool spawn_was_interrupted(const struct request *r)
{
    uint64_t behind = r->data->instruction_pointer, pc;
    struct arch_regs regs;

    if (arch_regs_get(r->tid, &regs) < 0)
        return false;
    pc = arch_regs_pc(&regs);
    return pc == behind - arch_syscall_insn_len ||
           (pc == behind && (int64_t)arch_regs_result(&regs) == -ERESTARTNOINTR);
}

static void spawn_watch(const struct request *r, struct watch *w, pid_t tgid)
{
    struct random_state *s = random_state(r);
    unsigned patience = s->patience_ms ? s->patience_ms : PATIENCE_MS;
    int status, event;
    bool late, stopped = spawn_wait(w, patience, &status, &late);

    /* Before it runs again: its next call must not find a watch that is over. */
    w->tid = 0;
    w->state = WATCH_NONE;
    if (!stopped)
        return;
    event = status >> 16;
    if (event == EVENT_FORK || event == EVENT_VFORK || event == EVENT_CLONE)
        spawn_register(r, tgid);
    else if (late && spawn_was_interrupted(r))
        s->patience_ms = MIN(4 * patience, PATIENCE_MAX_MS);
    spawn_detach(r->tid, status);
}

/* The caller is traced, and waits. */
static struct verdict spawn_traced(const struct request *r, pid_t tgid)
{
    struct watch *w = request_watch(r);
    int e;

    if (!w) /* cannot be: there is one for each worker */
        return (struct verdict){.kind = VERDICT_KILL, .fd = -1};
    e = request_answer(r, verdict_continue("registers alone decided; the filter has refused what a "
                                           "fork may not do"));
    if (e < 0) /* the answer came too late: somebody is killing it */
        ptrace(PTRACE_INTERRUPT, r->tid, NULL, NULL);
    spawn_watch(r, w, tgid);
    return verdict_gone();
}

/* On a worker: a receiver that watches could be the one who has to answer the caller's next call. */
static struct verdict spawn_work(const struct request *r, void *arg)
{
    pid_t tgid;
    int e = random_tgid(r, &tgid);

    (void)arg;
    if (e < 0)
        return verdict_errno(e);
    e = request_seize(r, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE);
    if (e == -ESRCH)
        return verdict_gone();
    if (e == -ERESTARTNOINTR)
        return verdict_errno(e);
    if (e == 0)
        return spawn_traced(r, tgid);
    request_explain(r, "fork", EPERM, "--random-seed",
                    "the program is traced or protected, so its child cannot be told apart");
    return verdict_errno(EPERM);
}

/* When more fork at a time than there are workers the others wait, as they would for a processor. This
 * receiver waits with them; a watched thread whose call is not received yet can be interrupted, so the
 * workers go on. */
static struct verdict spawn_defer(const struct request *r)
{
    const struct timespec moment = {.tv_nsec = DEFER_NAP_NS};
    struct verdict v = request_defer(r, spawn_work, NULL);

    for (int i = 0; i < DEFER_TRIES && v.kind == VERDICT_ERRNO && request_alive(r); i++) {
        nanosleep(&moment, NULL);
        v = request_defer(r, spawn_work, NULL);
    }
    return v;
}

struct verdict random_on_spawn(struct request *r)
{
    uint64_t flags = r->call.args[0];

    if (flags & CLONE_THREAD)
        return verdict_continue("registers alone decided: a thread is of its process's stream, and "
                                "starting one gives no access");
    if (flags & CLONE_UNTRACED) { /* would not be reported */
        request_explain(r, "clone", EPERM, "--random-seed", "without CLONE_UNTRACED");
        return verdict_errno(EPERM);
    }
    return spawn_defer(r);
}
