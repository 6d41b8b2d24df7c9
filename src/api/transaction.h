/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stages that share one copy-on-write layer (TX-01..TX-03): commands that run one after another on one
 * work directory, each under its own policy, each seeing what those before it staged. All of them end
 * with exit code 0 and there is one commit, or nothing is committed. The caller's thread, except
 * transaction_kill().
 */
#pragma once

#include <pthread.h>

#include "api/sandbox.h"
#include "base/strv.h"

struct transaction_stage {
    struct policy policy; /* a shallow copy: the caller's, with the stage's name */
    char *name;
    struct strv argv;
    struct run_result run;
};

/* FAILED: not how the stages ended, but we: `problem` says whose matter it is. */
enum transaction_end {
    TRANSACTION_COMMITTED,
    TRANSACTION_DRY_RUN,
    TRANSACTION_ABORTED,
    TRANSACTION_FAILED
};
enum transaction_problem {
    PROBLEM_NONE = 0,
    PROBLEM_STAGE = 70,    /* a stage could not be driven */
    PROBLEM_LAYER = 74,    /* layer, lock or commit */
    PROBLEM_CONFLICT = 75, /* others changed the same: try again */
    PROBLEM_INVALID = 78,  /* refused: nothing has run, nothing was stored */
};

struct transaction {
    struct transaction_stage *v;
    size_t n;
    bool dry_run;
    uint64_t timeout_ns; /* of all stages together, not of the commit; 0: none */
    cow_progress *progress;

    /* how it ended */
    enum transaction_end end;
    enum transaction_problem problem;
    size_t n_ran; /* ABORTED: the last of them failed */
    struct stage_result changes;
    struct error err;

    pthread_mutex_t lock; /* of what follows */
    struct sandbox *current;
    bool killed;
};

void transaction_init(struct transaction *t);
void transaction_fini(struct transaction *t);
int transaction_add(struct transaction *t, const struct policy *p, const char *name,
                    const char *const *argv, size_t argc);
/* Once. 0 also when it was aborted; negative errno for FAILED. */
int transaction_run(struct transaction *t);
/* Ends the stage that runs, and starts none any more; a commit goes on (CM-07). From any thread. */
void transaction_kill(struct transaction *t);
/* As a command would exit with it: a stage's own, 128 + signal, 124, or the problem. */
int transaction_code(const struct transaction *t);
