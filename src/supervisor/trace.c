/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Re-issued calls under ptrace. Receiver threads: the receiver is the tracer, so all requests and
 * waits stay on one thread and name its own tracees only (__WNOTHREAD). Trusts nothing but what the
 * kernel reports about the stopped task.
 *
 * The interrupt is sent before the answer: the caller's wait is only killable, so it stops at the end
 * of the notified call and before anything else, also before a signal that is pending. From then on
 * all signals are blocked; SIGKILL and SIGSTOP are not affected by that and are dealt with.
 */
#include "supervisor/trace.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

/* Enumerators in one C library, macros in another. */
#define TRACE_EVENT_EXEC 4
#define TRACE_EVENT_STOP 128
#define TRACE_GETSIGMASK 0x420a
#define TRACE_SETSIGMASK 0x420b

#define TRACE_OPTIONS (PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD)
#define TRACE_SYSCALL_STOP (SIGTRAP | 0x80)
#define TRACE_POLL_NS 100000

pid_t trace_wait(pid_t pid, pid_t tgid, int *ret_status)
{
    const struct timespec moment = {.tv_nsec = TRACE_POLL_NS};
    /* A wait for a thread's number is not woken when the thread changes it, so only leaders, who
     * keep theirs, are waited for asleep. */
    int options = __WALL | __WNOTHREAD | (pid != tgid ? WNOHANG : 0);

    for (;;) {
        pid_t p = waitpid(pid, ret_status, options);

        if (p == pid)
            return p;
        if (p < 0 && errno == EINTR)
            continue;
        if (pid == tgid)
            return -ESRCH;
        if (p < 0 && errno == ECHILD) {
            /* Either it became the leader, or it is gone with the process. */
            p = waitpid(tgid, ret_status, __WALL | __WNOTHREAD | WNOHANG);
            if (p == tgid)
                return p;
            if (p < 0 && errno == ECHILD)
                return -ESRCH;
        }
        nanosleep(&moment, NULL);
    }
}

void trace_let_go(pid_t pid, pid_t tgid, int sig)
{
    int status;

    /* Only a fatal signal takes a task out of its stop. What it leaves is ours until we have waited for
     * it: its parent is told afterwards. */
    while (ptrace(PTRACE_DETACH, pid, NULL, (void *)(intptr_t)sig) < 0) {
        pid = trace_wait(pid, tgid, &status);
        if (pid < 0 || !WIFSTOPPED(status))
            return;
    }
}

static void trace_detach(const struct trace *t, int sig)
{
    ptrace(TRACE_SETSIGMASK, t->pid, (void *)sizeof(t->mask), &t->mask);
    trace_let_go(t->pid, t->tgid, sig);
}

/* After a request that the kernel refuses, since the task is dying. */
static int trace_over(const struct trace *t)
{
    trace_let_go(t->pid, t->tgid, 0);
    return -ESRCH;
}

/* Runs to the next stop of interest: at the begin or end of a call, or TRACE_EVENT_EXEC. */
static int trace_step(struct trace *t, bool *ret_exec)
{
    int status, sig = 0;

    *ret_exec = false;
    for (;;) {
        pid_t pid;

        if (ptrace(PTRACE_SYSCALL, t->pid, NULL, (void *)(intptr_t)sig) < 0)
            return trace_over(t);
        sig = 0;
        pid = trace_wait(t->pid, t->tgid, &status);
        if (pid < 0 || !WIFSTOPPED(status))
            return -ESRCH;
        t->pid = pid;
        if (WSTOPSIG(status) == TRACE_SYSCALL_STOP)
            return 0;
        if (status >> 8 == (SIGTRAP | TRACE_EVENT_EXEC << 8)) {
            *ret_exec = true;
            return 0;
        }
        if (status >> 16)
            continue; /* the filter asks; or a stop of the whole group: it holds again when we are done */
        if (WSTOPSIG(status) == SIGSTOP) {
            sig = SIGSTOP; /* cannot be blocked: begins that stop */
            continue;
        }
        /* All others are blocked, so this is a fault of its own: somebody took the instruction away.
         * It is the caller's. */
        trace_detach(t, WSTOPSIG(status));
        return -ESRCH;
    }
}

int trace_hold(const struct request *r, struct trace *ret)
{
    struct trace t = {.r = r, .pid = r->tid};
    int e = request_status(r, &t.tgid, NULL);

    if (e < 0)
        return e;
    e = request_seize(r, TRACE_OPTIONS);
    if (e < 0)
        return e == -EPERM ? -EACCES : e;
    ptrace(PTRACE_INTERRUPT, r->tid, NULL, NULL);
    *ret = t;
    return 0;
}

int trace_stop(struct trace *t, int result)
{
    uint64_t all = ~0ull;
    int status;
    pid_t pid;

    request_answer(t->r, verdict_result(result));
    pid = trace_wait(t->pid, t->tgid, &status);
    if (pid < 0 || !WIFSTOPPED(status))
        return -ESRCH;
    t->pid = pid;
    if (status >> 16 != TRACE_EVENT_STOP || arch_regs_get(pid, &t->regs) < 0 ||
        ptrace(TRACE_GETSIGMASK, pid, (void *)sizeof(t->mask), &t->mask) < 0) {
        trace_let_go(pid, t->tgid, status >> 16 ? 0 : WSTOPSIG(status));
        return -ESRCH;
    }
    t->insn = arch_regs_pc(&t->regs) - arch_syscall_insn_len;
    ptrace(TRACE_SETSIGMASK, pid, (void *)sizeof(all), &all);
    return 0;
}

/* Stands it at the entry of the very call that was asked for? Another thread may have exchanged the
 * instruction; what stands here is what the kernel acts on, and cannot be changed any more. */
static bool trace_is_at(const struct trace *t, enum call_id id, const uint64_t args[6])
{
    struct arch_regs regs;
    int64_t nr;
    bool same;

    if (arch_regs_get(t->pid, &regs) < 0 || arch_regs_number(t->pid, &regs, &nr) < 0)
        return false;
    same = nr == arch_call_by_id(arch_native(), id)->nr &&
           arch_regs_pc(&regs) == t->insn + arch_syscall_insn_len;
    for (unsigned i = 0; i < 6; i++)
        same &= arch_regs_arg(&regs, i) == args[i];
    return same;
}

static int trace_options(const struct trace *t, unsigned options)
{
    return ptrace(PTRACE_SETOPTIONS, t->pid, NULL, (void *)(uintptr_t)options) < 0 ? trace_over(t)
                                                                                   : 0;
}

/* Registers as they are just before the call instruction, then over it up to its entry. */
static int trace_enter(struct trace *t, enum call_id id, const uint64_t args[6])
{
    const struct call_info *c = arch_call_by_id(arch_native(), id);
    struct arch_regs regs = t->regs;
    bool executed;

    arch_regs_set_pc(&regs, t->insn);
    arch_regs_set_call(&regs, c->nr);
    for (unsigned i = 0; i < 6; i++)
        arch_regs_set_arg(&regs, i, args[i]);
    if (arch_regs_set(t->pid, &regs) < 0)
        return trace_over(t);
    return trace_step(t, &executed);
}

static int trace_result(const struct trace *t, int64_t *ret_result)
{
    struct arch_regs regs;

    if (arch_regs_get(t->pid, &regs) < 0)
        return trace_over(t);
    *ret_result = (int64_t)arch_regs_result(&regs);
    return 0;
}

int trace_call(struct trace *t, enum call_id id, const uint64_t args[6], int64_t *ret_result)
{
    bool executed;
    int e = trace_enter(t, id, args);

    if (e == 0)
        e = trace_step(t, &executed);
    return e < 0 ? e : trace_result(t, ret_result);
}

int trace_exec(struct trace *t, const uint64_t args[6], int64_t *ret_result)
{
    bool executed;
    int e = trace_enter(t, CALL_execveat, args);

    if (e < 0)
        return e;
    /* The filter lets a marked exec pass where a tracer says so (SECCOMP_RET_TRACE), and refuses it
     * everywhere else: said for this one call, and for nothing that the caller made of it. */
    if (!trace_is_at(t, CALL_execveat, args)) {
        trace_detach(t, 0); /* what it made of it is its own call, as any other */
        return -ESRCH;
    }
    e = trace_options(t, TRACE_OPTIONS | PTRACE_O_TRACESECCOMP);
    if (e == 0)
        e = trace_step(t, &executed);
    if (e == 0)
        e = trace_options(t, TRACE_OPTIONS);
    if (e < 0)
        return e;
    if (!executed)
        return trace_result(t, ret_result);
    return arch_regs_get(t->pid, &t->regs) < 0 ? trace_over(t) : 1;
}

int trace_leave_exec(struct trace *t, uint64_t insn)
{
    bool executed;
    int e = arch_regs_set(t->pid, &t->regs) < 0 ? trace_over(t) : trace_step(t, &executed);

    if (e < 0)
        return e;
    t->insn = insn;
    return arch_regs_get(t->pid, &t->regs) < 0 ? trace_over(t) : 0;
}

void trace_end(struct trace *t, int64_t result)
{
    arch_regs_set_result(&t->regs, (uint64_t)result);
    arch_regs_set(t->pid, &t->regs);
    trace_detach(t, 0);
}

void trace_end_exec(struct trace *t)
{
    arch_regs_set(t->pid, &t->regs);
    trace_detach(t, 0);
}
