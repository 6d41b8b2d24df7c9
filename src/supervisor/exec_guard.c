/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exec under supervision. Receiver threads; the receiver is the tracer, so all requests and
 * waits for one exec stay on one thread. Trusts nothing the caller wrote: only what the kernel
 * reports about the stopped process.
 *
 * Waits name this thread's own tracees only (__WNOTHREAD): another thread of ours may trace another
 * thread of the same process.
 *
 * The order matters. The caller waits in its notification when we seize it: nothing can slip through
 * before. After the answer it runs inside the kernel only: it either reaches the exec event, or the
 * call fails and the interrupt stops it on its way back to user space. A stop that is not the exec
 * event therefore says that this exec is over; a restarted one is notified again. A vfork parent
 * goes on at the usual moment. When another thread than the leader executes, it takes over the
 * leader's number: the event then arrives under that number.
 */
#include "supervisor/exec_guard.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#include "supervisor/explain.h"
#include "supervisor/internal.h"
#include "supervisor/trace.h"
#include "sys/raw_calls.h"

#define GUARD_EVENT_EXEC \
    4 /* PTRACE_EVENT_EXEC: an enumerator in one C library, a macro in another */
#define GUARD_POLL_NS 100000
#define SEIZE_TRIES 1000 /* of GUARD_POLL_NS */

static bool guard_wanted(const struct supervisor *s)
{
    for (size_t i = 0; i < s->plan->nfeatures; i++) {
        if (s->plan->features[i]->exec)
            return true;
    }
    return false;
}

/* The hooks of one exec, in feature order: what refuses stands before what rewrites. */
int exec_guard_hooks(const struct request *r, pid_t pid)
{
    const struct plan *p = r->sup->plan;
    int e = 0;

    for (size_t i = 0; i < p->nfeatures && e == 0; i++) {
        if (p->features[i]->exec)
            e = p->features[i]->exec(r, pid);
    }
    return e;
}

/* The process is stopped in its new image. */
static void guard_judge(const struct request *r, pid_t pid)
{
    int status;

    if (exec_guard_hooks(r, pid) == 0) {
        trace_let_go(pid, pid, 0);
        return;
    }
    kill(pid, SIGKILL);
    /* Its parent is told only after the tracer has seen the end. */
    while (waitpid(pid, &status, __WALL | __WNOTHREAD) >= 0) {
        if (!WIFSTOPPED(status))
            return;
    }
}

static void guard_watch(const struct request *r, pid_t tgid)
{
    int status;
    pid_t pid = trace_wait(r->tid, tgid, &status);

    if (pid < 0 || !WIFSTOPPED(status))
        return;
    if (status >> 8 == (SIGTRAP | GUARD_EVENT_EXEC << 8))
        guard_judge(r, pid);
    else if (status >> 16)
        trace_let_go(pid, tgid, 0); /* our interrupt, or a stop of the whole group, which stays */
    else
        trace_let_go(pid, tgid, WSTOPSIG(status)); /* a signal on its way to the program */
}

/* The process, asked of its /proc file (25 µs) only when the thread is not its leader. */
static int guard_tgid(const struct request *r, pid_t *ret)
{
    *ret = r->tid;
    return raw_tgkill(r->tid, r->tid, 0) == 0 ? 0 : request_status(r, ret, NULL);
}

struct watch *request_watch(const struct request *r)
{
    for (size_t i = 0; i < SUPERVISOR_MAX_WORKERS; i++) {
        struct watch *w = &r->sup->watch[i];
        int none = WATCH_NONE;

        if (atomic_compare_exchange_strong(&w->state, &none, WATCH_ON)) {
            w->tid = r->tid;
            return w;
        }
    }
    return NULL;
}

static struct watch *watch_of(const struct request *r)
{
    for (size_t i = 0; i < SUPERVISOR_MAX_WORKERS; i++) {
        struct watch *w = &r->sup->watch[i];

        if (w->state != WATCH_NONE && w->tid == r->tid)
            return w;
    }
    return NULL;
}

static bool watch_ask(struct watch *w)
{
    const struct timespec moment = {.tv_nsec = GUARD_POLL_NS};
    int on = WATCH_ON;

    atomic_compare_exchange_strong(&w->state, &on, WATCH_ASKED);
    for (int i = 0; w->state == WATCH_ASKED && i < SEIZE_TRIES; i++)
        nanosleep(&moment, NULL);
    return w->state == WATCH_INTERRUPTED;
}

int request_seize(const struct request *r, unsigned options)
{
    struct watch *w;

    if (ptrace(PTRACE_SEIZE, r->tid, NULL, (void *)(uintptr_t)(options | PTRACE_O_EXITKILL)) == 0)
        return 0;
    if (errno != EPERM)
        return -ESRCH;
    w = watch_of(r);
    return w && watch_ask(w) ? -ERESTARTNOINTR : -EPERM;
}

struct verdict exec_guard_run(const struct request *r, struct verdict v)
{
    pid_t tgid;
    int e;

    if (v.kind != VERDICT_CONTINUE || !guard_wanted(r->sup))
        return v;
    e = guard_tgid(r, &tgid);
    if (e < 0)
        return verdict_errno(e);
    e = request_seize(r, PTRACE_O_TRACEEXEC);
    if (e == -ESRCH)
        return verdict_gone();
    if (e == -ERESTARTNOINTR)
        return verdict_errno(e);
    if (e < 0) {
        request_explain(r, "exec", EACCES, "exec stop",
                        "the program is traced or protected, so its exec cannot be watched");
        return verdict_errno(EACCES);
    }
    /* Before the answer: a failed exec is back in user space within microseconds, and in a vfork there
     * the thread would not stop before its child needs us. Nothing is lost by being early: only a
     * fatal signal ends its wait. Also needed when the answer fails, to let go of the thread. */
    ptrace(PTRACE_INTERRUPT, r->tid, NULL, NULL);
    request_answer(r, v);
    guard_watch(r, tgid);
    return verdict_gone();
}

struct verdict exec_guard_allow(struct request *r)
{
    if (supervisor_state(r->sup, &explain_feature))
        return verdict_pass(); /* which says why, and lets it go on as well */
    return verdict_continue("Landlock decides what may be executed, at its real place; the hooks "
                            "see the new image at the exec stop");
}

int exec_guard_check(const struct feature *f, struct error *err)
{
    if (!f->exec || kernel_can_ptrace())
        return 0;
    return error_set(err, ERROR_SETUP, -EPERM, f->name,
                     "ptrace of own children is refused here (Yama, a container's profile, an "
                     "outer sandlock that runs without --no-supervisor); it is needed to stop "
                     "programs before their first instruction");
}
