/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transaction of stages: the layer is made once, lent to one sandbox after the other, and decided
 * about at the end. Between two stages no process and no receiver is left, so the layer in memory is
 * exact and needs no reading back; its lock is held all the time. The caller's thread.
 */
#include "api/transaction.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/internal.h"
#include "fs/cow/layer.h"
#include "plan/root.h"

void transaction_init(struct transaction *t)
{
    *t = (struct transaction){.end = TRANSACTION_FAILED};
    pthread_mutex_init(&t->lock, NULL);
}

static void stage_fini(struct transaction_stage *s)
{
    run_result_fini(&s->run);
    strv_fini(&s->argv);
    free(s->name);
}

void transaction_fini(struct transaction *t)
{
    for (size_t i = 0; i < t->n; i++)
        stage_fini(&t->v[i]);
    free(t->v);
    stage_result_fini(&t->changes);
    pthread_mutex_destroy(&t->lock);
}

int transaction_add(struct transaction *t, const struct policy *p, const char *name,
                    const char *const *argv, size_t argc)
{
    struct transaction_stage s = {.name = name ? strdup(name) : NULL}, *v;
    int e = name && !s.name ? -ENOMEM : 0;

    if (e == 0)
        e = strv_add_all(&s.argv, argv, argc);
    v = e == 0 ? realloc(t->v, (t->n + 1) * sizeof(*v)) : NULL;
    if (!v) {
        stage_fini(&s);
        return e < 0 ? e : -ENOMEM;
    }
    s.policy = *p;
    s.policy.name = s.name;
    t->v = v;
    t->v[t->n++] = s;
    return 0;
}

static int problem(struct transaction *t, enum transaction_problem p, int e)
{
    if (t->problem == PROBLEM_NONE)
        t->problem = p;
    t->end = TRANSACTION_FAILED;
    return e;
}

/* ---- before anything exists (TX-01) ---- */

static int refuse(struct transaction *t, size_t i, const char *what, const char *why)
{
    char where[64];

    snprintf(where, sizeof(where), "stage %zu: %s", i + 1, what);
    return error_set(&t->err, ERROR_POLICY, -EINVAL, where, "%s", why);
}

static bool same_place(const char *a, const char *b)
{
    struct stat x, y;

    if (!a || !b || strcmp(a, b) == 0)
        return (!a && !b) || (a && b);
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int check_policy(struct transaction *t, size_t i)
{
    const struct policy *p = &t->v[i].policy, *first = &t->v[0].policy;

    if (p->no_supervisor)
        return refuse(t, i, "--no-supervisor", "a stage needs its supervisor");
    if (!p->workdir)
        return refuse(t, i, "--workdir", "is missing: the stages of a transaction share one");
    if (p->chroot)
        return refuse(t, i, "--chroot", "is not possible in a transaction, nor is an image");
    if (p->linger)
        return refuse(t, i, "--linger", "what a stage leaves running ends with it");
    if (p->on_exit || p->on_error || p->dry_run)
        return refuse(t, i,
                      p->on_exit    ? "--on-exit"
                      : p->on_error ? "--on-error"
                                    : "--dry-run",
                      "the transaction decides about the changes, not its stages");
    if (!same_place(p->fs_storage, first->fs_storage))
        return refuse(t, i, "--fs-storage", "is not that of the first stage");
    if (p->max_disk != first->max_disk)
        return refuse(t, i, "--max-disk", "is not that of the first stage");
    if (p->commit_backup != first->commit_backup)
        return refuse(t, i, "--commit-backup", "is not as in the first stage");
    if (p->commit_in_place != first->commit_in_place)
        return refuse(t, i, "--commit-in-place", "is not as in the first stage");
    return 0;
}

/* *ret_root: of the first stage. */
static int check_all(struct transaction *t, struct root **ret_root)
{
    struct sys_ident lower, id;
    int e;

    if (t->n < 2)
        return error_set(&t->err, ERROR_POLICY, -EINVAL, "transaction",
                         "has %zu stage%s; accepted are two or more", t->n, t->n == 1 ? "" : "s");
    for (size_t i = 0; i < t->n; i++) {
        struct root *root = NULL;

        e = check_policy(t, i);
        if (e == 0)
            e = root_new(&t->v[i].policy, &root, &t->err);
        if (e < 0)
            return e;
        e = sys_identify(root->workdir_fd, i ? &id : &lower);
        if (i == 0)
            *ret_root = root;
        else
            root_free(root);
        if (e < 0)
            return refuse(t, i, "--workdir", error_text(e));
        if (i && !sys_ident_same(&id, &lower))
            return refuse(t, i, "--workdir", "is not that of the first stage");
    }
    return 0;
}

/* ---- the stages ---- */

/* The one that transaction_kill() reaches. False: it was called before. */
static bool set_current(struct transaction *t, struct sandbox *s)
{
    bool go;

    pthread_mutex_lock(&t->lock);
    go = !t->killed;
    t->current = go ? s : NULL;
    pthread_mutex_unlock(&t->lock);
    return go;
}

void transaction_kill(struct transaction *t)
{
    pthread_mutex_lock(&t->lock);
    t->killed = true;
    if (t->current)
        (void)sandbox_kill(t->current);
    pthread_mutex_unlock(&t->lock);
}

/* A command that cannot be executed is a stage that failed (TX-02), anything else is ours. */
static int stage_drive(struct transaction *t, struct transaction_stage *st, struct sandbox *s,
                       uint64_t left)
{
    int e;

    if (!set_current(t, s)) {
        st->run = (struct run_result){.reason = REASON_KILLED, .code = -1, .signal = SIGKILL};
        return 0;
    }
    e = sandbox_start(s, &t->err);
    if (e < 0 && (t->err.kind == ERROR_NOTFOUND || t->err.kind == ERROR_NOEXEC)) {
        st->run = (struct run_result){.reason = REASON_EXITED, .code = start_exit_code(&t->err)};
        e = 0;
    } else if (e == 0) {
        e = sandbox_wait(s, left, &st->run, &t->err);
    }
    set_current(t, NULL);
    return e;
}

/* *ret_lost: somebody may still work with the layer. */
static int stage_run(struct transaction *t, size_t i, struct cow_layer *l, uint64_t until,
                     bool *ret_lost)
{
    static const enum stdio_mode stdio[3] = {STDIO_INHERIT, STDIO_INHERIT, STDIO_PIPED};
    struct transaction_stage *st = &t->v[i];
    struct sandbox_options o = {.argv = (const char *const *)st->argv.v,
                                .capture = true,
                                .capture_capped = true,
                                .explain_fd = -1,
                                .progress = t->progress,
                                .layer = l};
    uint64_t now = util_now_ns();
    struct sandbox *s;
    int e;

    t->n_ran = i + 1;
    if (now >= until) {
        st->run = (struct run_result){.reason = REASON_TIMEOUT, .code = -1};
        return 0;
    }
    memcpy(o.stdio, stdio, sizeof(o.stdio));
    e = sandbox_create(&st->policy, &o, &s, &t->err);
    if (e < 0)
        return e;
    e = stage_drive(t, st, s, until == NO_DEADLINE ? 0 : until - now);
    *ret_lost = s->lost;
    sandbox_free(s); /* and every receiver */
    if (e == 0 && *ret_lost)
        e = error_set(&t->err, ERROR_SETUP, -ECHILD, "stage",
                      "the process that watches over it was killed from outside");
    return e;
}

static bool stage_did_well(const struct transaction_stage *s)
{
    return s->run.reason == REASON_EXITED && s->run.code == 0;
}

/* 1: all did well. */
static int run_stages(struct transaction *t, struct cow_layer *l, bool *ret_lost)
{
    uint64_t until = deadline_after(t->timeout_ns);

    for (size_t i = 0; i < t->n; i++) {
        int e = stage_run(t, i, l, until, ret_lost);

        if (e < 0) { /* its result says so, too */
            t->v[i].run.reason = REASON_EXITED;
            t->v[i].run.code = PROBLEM_STAGE;
            t->v[i].run.signal = 0;
            return e;
        }
        if (!stage_did_well(&t->v[i]))
            return 0;
    }
    return 1;
}

/* ---- the decision ---- */

static int decide(struct transaction *t, struct cow_layer *l, int did_well)
{
    const struct stage_wish wish = {.changes = true};
    int e = settle_list(l, &wish, &t->changes, &t->err);

    if (e < 0) {
        (void)settle_keep(l, "its changes could not be listed", &t->changes, NULL);
        return problem(t, PROBLEM_LAYER, e);
    }
    if (did_well > 0 && !t->dry_run) {
        e = settle_commit(&l, 1, t->progress, &t->changes, &t->err);
        t->end = TRANSACTION_COMMITTED;
        return e < 0 ? problem(t, e == -ESTALE ? PROBLEM_CONFLICT : PROBLEM_LAYER, e) : 0;
    }
    e = cow_abort(l, did_well < 0 ? NULL : &t->err);
    t->end = did_well > 0 ? TRANSACTION_DRY_RUN : TRANSACTION_ABORTED;
    if (did_well < 0)
        return problem(t, PROBLEM_STAGE, did_well);
    return e < 0 ? problem(t, PROBLEM_LAYER, e) : 0;
}

int transaction_run(struct transaction *t)
{
    struct root *root = NULL;
    struct cow_layer *l = NULL;
    bool lost = false;
    int e = check_all(t, &root);

    if (e < 0) {
        root_free(root);
        return problem(t, PROBLEM_INVALID, e);
    }
    e = root_stage(root, &t->v[0].policy, &t->err);
    l = STEAL_PTR(root->layer);
    root_free(root);
    if (e < 0)
        return problem(t, PROBLEM_LAYER, e);
    cow_set_progress(l, t->progress, NULL);
    e = run_stages(t, l, &lost);
    if (lost) { /* it is still worked with: neither looked at nor freed */
        (void)settle_keep(l, "a stage was lost", &t->changes, NULL);
        return problem(t, PROBLEM_STAGE, e);
    }
    e = decide(t, l, e);
    cow_free(l);
    return e;
}

int transaction_code(const struct transaction *t)
{
    const struct run_result *last = t->n_ran ? &t->v[t->n_ran - 1].run : NULL;

    if (t->end == TRANSACTION_FAILED)
        return (int)t->problem;
    if (t->end != TRANSACTION_ABORTED || !last)
        return 0;
    return run_result_exit_code(last);
}
