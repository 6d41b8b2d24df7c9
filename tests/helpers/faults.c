/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a program and disturbs its own calls: the N-th of the named ones fails with an errno, or the program
 * gets a signal before it. `faults NUMBER,NUMBER... N ERRNO|-SIGNAL|0 COUNTS -- PROGRAM ARG...`
 *
 * All threads of the program are watched, its children are not: a sandbox may trace those itself. How many
 * of the calls there were, and whether the disturbance happened, is written to the file COUNTS as "N 0|1
 * NUMBER".
 * Exits as the program does, with 128 and the number when a signal ended it.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/arch.h"

#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC)
#define CALLS_MAX 64
#define THREADS_MAX 256

static long calls[CALLS_MAX], when, seen, disturbed_nr = -1;
static int n_calls, fault; /* an errno; negative: a signal; 0: none */
static bool happened;
static pid_t main_pid;
static struct {
    pid_t tid;
    bool failing; /* its call was taken away: the errno comes at its end */
} threads[THREADS_MAX];

static void die(const char *what)
{
    perror(what);
    exit(99);
}

static bool is_ours(pid_t tid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)main_pid, (int)tid);
    return access(path, F_OK) == 0;
}

static bool *failing_of(pid_t tid)
{
    for (int i = 0; i < THREADS_MAX; i++) {
        if (threads[i].tid == tid || threads[i].tid == 0) {
            threads[i].tid = tid;
            return &threads[i].failing;
        }
    }
    die("too many threads");
    return NULL;
}

static bool is_meant(long nr)
{
    for (int i = 0; i < n_calls; i++) {
        if (calls[i] == nr)
            return true;
    }
    return false;
}

static void take_away(pid_t tid)
{
    struct arch_regs r;

    if (arch_regs_get(tid, &r) < 0 || arch_regs_set_number(tid, &r, -1) < 0)
        return;
    *failing_of(tid) = true;
    happened = true;
}

static void on_enter(pid_t tid, long nr)
{
    if (!is_meant(nr) || ++seen != when)
        return;
    disturbed_nr = nr;
    if (fault > 0) {
        take_away(tid);
    } else if (fault < 0) {
        happened = true;
        kill(main_pid, -fault);
    }
}

static void on_leave(pid_t tid)
{
    bool *failing = failing_of(tid);
    struct arch_regs r;

    if (!*failing)
        return;
    *failing = false;
    if (arch_regs_get(tid, &r) == 0) {
        arch_regs_set_result(&r, (uint64_t) - (int64_t)fault);
        (void)arch_regs_set(tid, &r);
    }
}

/* New threads are watched from their first call on, and no child even for a moment: the program may want to
 * trace it. */
static void follow(pid_t tid, long nr, uint64_t flags)
{
    const struct call_info *c = arch_call_by_name(arch_native(), "clone");
    unsigned thread = c && nr == c->nr && flags & CLONE_THREAD ? PTRACE_O_TRACECLONE : 0;

    (void)ptrace(PTRACE_SETOPTIONS, tid, NULL, (void *)(uintptr_t)(OPTIONS | thread));
}

/* The signal to pass on. */
static int on_stop(pid_t tid, int status)
{
    struct __ptrace_syscall_info info = {0};
    int sig = WSTOPSIG(status);

    if (sig == (SIGTRAP | 0x80)) {
        if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) > 0) {
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                follow(tid, (long)info.entry.nr, info.entry.args[0]);
                on_enter(tid, (long)info.entry.nr);
            } else if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
                on_leave(tid);
            }
        }
        return 0;
    }
    return status >> 16 || sig == SIGSTOP || sig == SIGTRAP ? 0 : sig;
}

static int watch(void)
{
    for (;;) {
        int status, sig;
        pid_t tid = waitpid(-1, &status, __WALL);

        if (tid < 0)
            die("waitpid");
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (tid == main_pid)
                return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        if (tid != main_pid && !is_ours(tid)) {
            (void)ptrace(PTRACE_DETACH, tid, NULL, NULL);
            continue;
        }
        sig = on_stop(tid, status);
        (void)ptrace(PTRACE_SYSCALL, tid, NULL, (void *)(uintptr_t)sig);
    }
}

int main(int argc, char **argv)
{
    int status, code;
    FILE *counts;

    if (argc < 7 || strcmp(argv[5], "--") != 0)
        return 98;
    for (char *one = strtok(argv[1], ","); one && n_calls < CALLS_MAX; one = strtok(NULL, ","))
        calls[n_calls++] = strtol(one, NULL, 10);
    when = strtol(argv[2], NULL, 10);
    fault = (int)strtol(argv[3], NULL, 10);
    main_pid = fork();
    if (main_pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        execvp(argv[6], argv + 6);
        _exit(97);
    }
    if (waitpid(main_pid, &status, 0) < 0 || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, main_pid, NULL, (void *)OPTIONS) < 0)
        die("ptrace");
    (void)ptrace(PTRACE_SYSCALL, main_pid, NULL, NULL);
    code = watch();
    counts = fopen(argv[4], "w");
    if (!counts || fprintf(counts, "%ld %d %ld\n", seen, happened, disturbed_nr) < 0 ||
        fclose(counts) != 0)
        die(argv[4]);
    return code;
}
