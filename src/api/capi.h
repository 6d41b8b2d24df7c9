/* SPDX-License-Identifier: Apache-2.0 */
/* The objects behind the public API's opaque handles. */
#pragma once

#include "api/sandbox.h"
#include "base/strv.h"
#include "sandlock.h"

/* Builder and built policy are one object: building validates and freezes it. */
struct sandlock_builder_t {
    struct policy policy;
    struct error err; /* the first one */
};

/* One path that a run changed: a rename is two of them. */
struct outcome_changes {
    struct outcome_change {
        char *path;
        struct cow_side side[2]; /* before, after; mode 0: nothing there */
    } * v;
    size_t n;
};

struct sandlock_result_t {
    struct run_result run;
    struct outcome_changes changes;
    int code; /* as the CLI would exit, for commands that never ran */
};

struct sandlock_handle_t {
    struct policy policy; /* shallow copy: the caller's, with this run's name */
    struct sandbox *sandbox;
    struct strv argv; /* copies: the caller's may go when the call that made the handle returns */
    char *name;
    struct run_result run;
    struct stage_result stage; /* what the run changed */
    bool started, waited;
    int start_error; /* exit code 126 or 127 when exec failed */
    struct error err;
};

/* What a sandbox or a stage is made of; without a name it is NULL. */
bool command_is_valid(const sandlock_sandbox_t *policy, const char *name, const char *const *argv,
                      unsigned argc);
/* Once, after the wait: commits, drops, keeps or defers. A failure becomes the run's result, too. */
int outcome_settle(struct sandlock_handle_t *h);
int outcome_changes(const struct cow_changes *from, struct outcome_changes *ret);
void outcome_changes_fini(struct outcome_changes *c);
