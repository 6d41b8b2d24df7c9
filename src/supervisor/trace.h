/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls made by the caller itself that it did not ask for (RC-03): for what cannot be done on behalf,
 * such as a change of its working directory or an exec. The caller is stopped between its notified
 * call, which does nothing, and its next instruction; it then makes calls with registers set here.
 * Not a byte of its memory is changed. Runs in the receiver that got the notification, from begin to
 * end. What the caller's other threads do meanwhile is hostile: they may change its memory and its
 * descriptors, so each call made here must be harmless whatever those have become.
 */
#pragma once

#include "supervisor/supervisor.h"

struct trace {
    const struct request *r;
    pid_t tgid;
    pid_t pid;             /* the number it answers to: an exec makes it the leader's */
    uint64_t mask;         /* its signal mask: all are blocked meanwhile */
    uint64_t insn;         /* where its call instruction is */
    struct arch_regs regs; /* with which it will go on */
};

/* The next report about a thread that this one traces, under either number: an exec of another thread than
 * the leader takes over the leader's. The pid, or -ESRCH when there is none left to wait for. */
pid_t trace_wait(pid_t pid, pid_t tgid, int *ret_status);
/* Detaches from a stopped task, which then gets the signal `sig` (0: none), also when it was killed meanwhile. */
void trace_let_go(pid_t pid, pid_t tgid, int sig);

/* Takes hold of the caller, which still waits for the answer: descriptors can be given to it now. 0,
 * -ESRCH when it is gone, -EACCES when it cannot be traced: then nothing has happened. */
int trace_hold(const struct request *r, struct trace *ret);
/* Ends the notified call with this result and stops behind it. 0, or -ESRCH: over, nothing to end. */
int trace_stop(struct trace *t, int result);
/* One call. 0 and its result, or -ESRCH: over. */
int trace_call(struct trace *t, enum call_id id, const uint64_t args[6], int64_t *ret_result);
/* The same for a call that executes. 1: stopped in the new image, t->regs are its; 0: it failed with
 * *ret_result; -ESRCH: over. */
int trace_exec(struct trace *t, const uint64_t args[6], int64_t *ret_result);
/* From the stop in the new image, with t->regs, to the point from which it makes calls, `insn` being
 * where such an instruction lies in its memory. 0 or -ESRCH. */
int trace_leave_exec(struct trace *t, uint64_t insn);
/* A number that is free in the caller's table, high up, for request_addfd_at(): one of its threads that
 * takes it meanwhile loses that descriptor. Or -EMFILE. */
int trace_number(const struct request *r);
/* An O_PATH descriptor for the caller. Before trace_stop(): makes it ready, and returns the number that
 * trace_receive() wants, or -errno. After it: the descriptor's number there, -errno, or -ESRCH: over. */
int trace_offer(const struct request *r, int fd);
int trace_receive(struct trace *t, int number, bool cloexec);

/* Lets it go on with its own registers; the notified call returns `result`. */
void trace_end(struct trace *t, int64_t result);
/* The same in a new image: t->regs as they are. */
void trace_end_exec(struct trace *t);
