/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding threads (RC-02). The governor's thread, which is the tracer of what it holds.
 *
 * A seized and interrupted thread stops without a signal: its parent's wait, job control and handlers
 * of SIGCONT see nothing, and a stop that somebody else wants stays in force when we let go. Where
 * threads cannot be traced their process gets SIGSTOP, which all of them may see.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "limits/internal.h"
#include "sys/procfile.h"

#define HOLD_EVENT_STOP \
    128 /* PTRACE_EVENT_STOP: a macro in one C library, an enumerator in another */

static void hold_by_signal(struct cpu_hold *h, pid_t pid)
{
    if (!tree_has(&h->stopped, pid) && tree_add(&h->stopped, pid) == 0)
        (void)limits_signal(pid, h->anchor, SIGSTOP);
}

void cpu_hold_thread(struct cpu_hold *h, pid_t pid, pid_t tid)
{
    if (h->signals) {
        hold_by_signal(h, pid);
        return;
    }
    if (tree_has(&h->traced, tid))
        return;
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0) {
        if (errno == EPERM) /* a program that its user may not read */
            hold_by_signal(h, pid);
        return;
    }
    ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
    (void)tree_add(&h->traced, tid); /* failing: ends with the thread that traces */
}

void cpu_hold_collect(void)
{
    int status;

    /* Only what this thread traces: children of the embedding program are its own. */
    while (waitpid(-1, &status, __WALL | WNOHANG | __WNOTHREAD) > 0)
        ;
}

/* Does the thread still belong to us? */
static bool hold_is_traced(pid_t tid)
{
    char path[32], text[2048];
    long tracer;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
    return sys_read_file(path, text, sizeof(text)) > 0 &&
           sys_file_field(text, "TracerPid", 10, &tracer) == 0 && tracer != 0;
}

/* True when it runs again, or is no more. */
static bool hold_let_go(pid_t tid)
{
    siginfo_t info;
    int sig = 0;

    if (ptrace(PTRACE_GETSIGINFO, tid, NULL, &info) == 0) {
        /* On its way to a handler when it stopped: the signal must arrive. */
        if (info.si_code >> 8 != HOLD_EVENT_STOP)
            sig = info.si_signo;
    } else if (errno != EINVAL) { /* EINVAL: a stop of the whole group */
        return !hold_is_traced(tid);
    }
    return ptrace(PTRACE_DETACH, tid, NULL, (void *)(intptr_t)sig) == 0 || !hold_is_traced(tid);
}

bool cpu_hold_release(struct cpu_hold *h, const struct tree *members)
{
    size_t left = 0;

    cpu_hold_collect();
    for (size_t i = 0; i < h->traced.n; i++) {
        if (!hold_let_go(h->traced.v[i]))
            h->traced.v[left++] = h->traced.v[i];
    }
    h->traced.n = left;
    for (size_t i = 0; i < h->stopped.n; i++) {
        if (tree_has(members, h->stopped.v[i]))
            (void)limits_signal(h->stopped.v[i], h->anchor, SIGCONT);
    }
    h->stopped.n = 0;
    return left == 0;
}

void cpu_hold_fini(struct cpu_hold *h)
{
    tree_fini(&h->traced);
    tree_fini(&h->stopped);
}
