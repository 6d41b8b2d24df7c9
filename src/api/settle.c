/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a copy-on-write layer: listed, then committed, dropped or kept as the policy says for this
 * ending (CW-08, BA-01). Caller's thread, outside every domain, when no member of the sandbox and no
 * receiver is left.
 */
#include <errno.h>
#include <string.h>

#include "api/internal.h"
#include "fs/cow/layer.h"
#include "plan/root.h"

void stage_result_fini(struct stage_result *r)
{
    buf_fini(&r->list);
    buf_fini(&r->diff);
    buf_fini(&r->json);
    buf_fini(&r->conflicts);
    buf_fini(&r->notes);
    cow_changes_fini(&r->changes);
    free(r->kept);
    *r = (struct stage_result){0};
}

static enum stage_action settle_action(const struct sandbox *s, const struct run_result *run)
{
    const struct policy *p = s->policy;

    /* Members that live on could still change what is being looked at. */
    if (s->lost)
        return p->dry_run ? STAGE_ABORT : STAGE_KEEP;
    if (p->dry_run)
        return STAGE_ABORT;
    if (!run)
        return p->on_exit == STAGE_KEEP || p->on_error == STAGE_KEEP ? STAGE_KEEP : STAGE_ABORT;
    if (run->reason == REASON_EXITED && run->code == 0 && !p->on_exit)
        return s->plan.root->layer_shared ? STAGE_ABORT : STAGE_COMMIT;
    if (run->reason == REASON_EXITED && run->code == 0)
        return p->on_exit;
    return p->on_error ? p->on_error : STAGE_ABORT;
}

int settle_list(struct cow_layer *l, const struct stage_wish *wish, struct stage_result *ret,
                struct error *err)
{
    struct cow_changes c = {0};
    int e = cow_changes(l, &c);

    if (e == 0) {
        ret->n_changes = c.n;
        if (wish->list)
            e = cow_changes_text(l, &c, &ret->list);
        if (wish->json)
            cow_changes_json(&c, &ret->json);
        if (wish->listed && e == 0)
            wish->listed(ret, wish->listed_arg);
        if (wish->diff && e == 0)
            e = cow_changes_diff(l, &c, COW_DIFF_MAX, wish->flush, &ret->diff);
        if (wish->changes && e == 0) {
            ret->changes = c;
            c = (struct cow_changes){0};
        }
    }
    cow_changes_fini(&c);
    return e < 0 ? error_set(err, ERROR_SETUP, e, "--workdir", "cannot list the changes: %s",
                             error_text(e))
                 : 0;
}

int settle_keep(struct cow_layer *l, const char *why, struct stage_result *ret, struct error *err)
{
    int e = cow_keep(l, why, err);

    if (ret && e == 0)
        ret->kept = strdup(cow_storage_path(l));
    return e;
}

int settle_commit(struct cow_layer *const *l, size_t n, cow_progress *progress,
                  struct stage_result *ret, struct error *err)
{
    struct cow_report report = {.progress = progress};
    int e = cow_commit(l, n, &report, err);

    for (size_t i = 0; e < 0 && i < n; i++)
        (void)settle_keep(l[i], e == -ESTALE ? "conflict" : "the commit failed",
                          n == 1 ? ret : NULL, NULL);
    if (ret) {
        ret->conflicts = report.conflicts;
        ret->notes = report.notes;
        report.conflicts = report.notes = (struct buf){0};
    }
    cow_report_fini(&report);
    return e;
}

const char *sandbox_pending(const struct sandbox *s)
{
    return s->pending ? cow_storage_path(s->plan.root->layer) : NULL;
}

/* Decided about, or left where it is. */
static void settle_forget(struct sandbox *s)
{
    s->pending = false;
    cow_free(s->plan.root->layer);
    s->plan.root->layer = NULL;
}

int sandbox_abort(struct sandbox *s, struct error *err)
{
    int e;

    if (!s->pending)
        return error_set(err, ERROR_SETUP, -ENOENT, "--workdir", "nothing is pending");
    e = cow_abort(s->plan.root->layer, err);
    settle_forget(s);
    return e;
}

int sandbox_commit(struct sandbox *const *s, size_t n, struct stage_result *ret, struct error *err)
{
    _cleanup_free_ struct cow_layer **l = calloc(n ? n : 1, sizeof(struct cow_layer *));
    int e;

    if (!l)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--workdir", "out of memory");
    for (size_t i = 0; i < n; i++) {
        if (!s[i]->pending)
            return error_set(err, ERROR_SETUP, -ENOENT, "--workdir", "nothing is pending");
        l[i] = s[i]->plan.root->layer;
        for (size_t k = 0; k < i; k++) {
            if (s[k] == s[i])
                return error_set(err, ERROR_SETUP, -EINVAL, "--workdir", "named twice");
        }
    }
    e = settle_commit(l, n, NULL, ret, err);
    if (e == -EINVAL)
        return e; /* refused as such: still pending */
    for (size_t i = 0; i < n; i++)
        settle_forget(s[i]);
    return e;
}

int sandbox_settle(struct sandbox *s, const struct run_result *run, const struct stage_wish *wish,
                   struct stage_result *ret, struct error *err)
{
    struct cow_layer *l = s->plan.root ? s->plan.root->layer : NULL;
    enum stage_action action;
    int e = 0;

    if (!l)
        return 0;
    if (s->pending) { /* nobody decided: it lies where it is */
        settle_forget(s);
        return 0;
    }
    if (!s->lost) { /* a receiver may still be at work for a task that is dead */
        supervisor_free(s->supervisor);
        s->supervisor = NULL;
    }
    if (s->plan.root->layer_lent) { /* decided about where all stages are seen */
        s->plan.root->layer = NULL;
        return 0;
    }
    action = settle_action(s, run);
    if (wish && ret && (wish->list || wish->diff || wish->json || wish->changes))
        e = settle_list(l, wish, ret, err);
    if (action == STAGE_COMMIT && e == 0)
        e = settle_commit(&l, 1, wish ? wish->progress : NULL, ret, err);
    else if (action == STAGE_ABORT)
        e = cow_abort(l, e < 0 ? NULL : err) < 0 && e == 0 ? -EIO : e;
    else
        e = settle_keep(l,
                        action == STAGE_DEFER ? "deferred"
                        : run                 ? "kept"
                                              : "abandoned",
                        ret, err) < 0 &&
                    e == 0
                ? -EIO
                : e;
    if (action == STAGE_DEFER && e == 0) {
        s->pending = true;
        return 0;
    }
    s->plan.root->layer = NULL;
    if (!s->lost)
        cow_free(l);
    return e;
}
