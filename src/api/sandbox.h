/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of one command under one policy: what the CLI and the public API are made of. Blocking
 * calls belong to one thread at a time; sandbox_kill() may come from any thread or signal handler.
 */
#pragma once

#include <sys/resource.h>

#include "base/buf.h"
#include "fs/cow/layer.h"
#include "launch/launch.h"
#include "limits/limits.h"
#include "policy/policy.h"

enum exit_reason { REASON_EXITED = 0, REASON_SIGNALED = 1, REASON_KILLED = 2, REASON_TIMEOUT = 3 };

struct run_stats {
    uint64_t notifications;        /* all of them */
    uint64_t by_op[CALL_OP_COUNT]; /* per operation */
    uint64_t denied;               /* refused by mediation */
    uint64_t continued, injected;
    struct rusage usage;
    struct buf ports; /* --port-remap: "tcp 80 -> 40001, ..." */
    struct limits_report limits;
};

struct run_result {
    enum exit_reason reason;
    int code;   /* exit code, or -1 */
    int signal; /* 0 when it exited */
    struct run_stats stats;
    struct buf out[2]; /* captured stdout, stderr when piped */
};
void run_result_fini(struct run_result *r);
/* As a shell would say it: the command's own, 128 + signal, 124 after a timeout. */
int run_result_exit_code(const struct run_result *r);
/* Of a command that sandbox_start() could not start: 127 not found, 126 not executable, 125 anything else. */
int start_exit_code(const struct error *err);

struct sandbox_options {
    const char *const *argv;
    enum stdio_mode stdio[3];
    bool capture;     /* drain piped stdout and stderr into the result */
    bool own_process; /* the CLI: the process exists for this run. Signals are passed on to the
                          command, the terminal is handed over, job control works, receivers start
                          at the first notification, sandbox_wait() follows sandbox_start(), the
                          command may run from sandbox_create() on, and the end of the process
                          frees what is left */
    int explain_fd;   /* lines of --explain go here; -1: stderr */
    cow_progress *progress;  /* of large copies below --workdir, or NULL */
    struct cow_layer *layer; /* go on with this one, which stays the caller's; or NULL */
    bool capture_capped;     /* keep the first and the last 32 KiB of a stream */
};

struct sandbox;

/* Builds the plan, creates the parked child. *err names what failed; nothing remains then. */
int sandbox_create(const struct policy *p, const struct sandbox_options *o, struct sandbox **ret,
                   struct error *err);
/* Releases the command; returns when exec succeeded, or fails with ERROR_NOTFOUND / ERROR_NOEXEC. */
int sandbox_start(struct sandbox *s, struct error *err);
/* Waits for the end (or the policy's timeout) and fills *ret; every member is dead or, with linger,
 * ended by itself. timeout_ns adds a bound of the caller's: 0 none; on expiry the sandbox is killed
 * and the reason is REASON_TIMEOUT. */
int sandbox_wait(struct sandbox *s, uint64_t timeout_ns, struct run_result *ret, struct error *err);
int sandbox_kill(struct sandbox *s);
/* limits_restrict(), from any thread while the sandbox has not been waited for. */
int sandbox_restrict(struct sandbox *s, const struct limits_restriction *to);
/* Our end of a piped stream becomes the caller's; -1 when it is not piped or was taken. */
int sandbox_take_stream(struct sandbox *s, int i);
pid_t sandbox_pid(const struct sandbox *s);
void sandbox_free(struct sandbox *s);

/* What became of the changes below --workdir. */
struct stage_result {
    struct buf list, diff, json; /* what was asked for */
    struct buf conflicts, notes;
    size_t n_changes;
    char *kept;                 /* where the layer is, when it was kept */
    struct cow_changes changes; /* wish.changes */
};
struct stage_wish {
    bool list, diff, json, changes;
    cow_progress *progress; /* or NULL */
    /* Or NULL: is called when the result has everything but the diff, which is then handed over as it grows,
     * so that not all of it is in memory. The end of it is left in the result. */
    void (*listed)(const struct stage_result *r, const void *arg);
    const void *listed_arg;
    cow_flush *flush; /* or NULL */
};
void stage_result_fini(struct stage_result *r);
/* After sandbox_wait(), whose result decides between the policy's two actions; NULL: there is none, because
 * the run was given up. Does nothing without --workdir, and once only. */
int sandbox_settle(struct sandbox *s, const struct run_result *run, const struct stage_wish *wish,
                   struct stage_result *ret, struct error *err);
/* Where a layer lies whose action is STAGE_DEFER, between sandbox_settle() and the decision; it is marked
 * as kept, so that it outlives us. NULL: nothing is pending. */
const char *sandbox_pending(const struct sandbox *s);
/* Drops it. -ENOENT: nothing is pending. */
int sandbox_abort(struct sandbox *s, struct error *err);
/* Commits what is pending of all of them, or nothing. After a failure it is not pending any more, but still
 * there (of one: ret->kept). -ENOENT, -EINVAL (a sandbox or a work directory twice): nothing was done. */
int sandbox_commit(struct sandbox *const *s, size_t n, struct stage_result *ret, struct error *err);

/* --no-supervisor: confines the calling process and executes argv; returns only on failure. */
int sandbox_exec(const struct policy *p, const char *const *argv, struct error *err);
