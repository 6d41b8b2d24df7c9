/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public functions about --workdir: what a policy says about changes, what a run changed, and the
 * decision that was left to the embedding program. Thin over api/sandbox.h; one handle, one thread.
 */
#include <errno.h>
#include <string.h>

#include "api/capi.h"

#define CONFLICT_OR_WORSE 125 /* as the command exits */

/* ---- policy ---- */

typedef int (*text_setter)(struct policy *, const char *, const char *, struct error *);

static sandlock_builder_t *builder_text(sandlock_builder_t *b, const char *field, const char *text,
                                        text_setter set)
{
    if (!b || b->err.kind != ERROR_NONE)
        return b;
    if (!text)
        error_set(&b->err, ERROR_POLICY, -EINVAL, field, "is NULL");
    else
        (void)set(&b->policy, field, text, &b->err);
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_workdir(sandlock_builder_t *b,
                                                              const char *path)
{
    return builder_text(b, "workdir", path, policy_set_workdir);
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_fs_storage(sandlock_builder_t *b,
                                                                 const char *path)
{
    return builder_text(b, "fs_storage", path, policy_set_fs_storage);
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_max_disk(sandlock_builder_t *b,
                                                               const char *size)
{
    return builder_text(b, "max_disk", size, policy_set_max_disk);
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_commit_backup(sandlock_builder_t *b, bool v)
{
    if (b)
        b->policy.commit_backup = v;
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_commit_in_place(sandlock_builder_t *b, bool v)
{
    if (b)
        b->policy.commit_in_place = v;
    return b;
}

static sandlock_builder_t *builder_action(sandlock_builder_t *b, const char *field, uint8_t action,
                                          enum stage_action *to)
{
    static const enum stage_action known[] = {STAGE_COMMIT, STAGE_ABORT, STAGE_KEEP, STAGE_DEFER};

    if (action < ARRAY_SIZE(known))
        *to = known[action];
    else if (b->err.kind == ERROR_NONE)
        error_set(&b->err, ERROR_POLICY, -EINVAL, field, "unknown action %u", action);
    return b;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_on_exit(sandlock_builder_t *b, uint8_t action)
{
    return b ? builder_action(b, "on_exit", action, &b->policy.on_exit) : NULL;
}

_public_ sandlock_builder_t *sandlock_sandbox_builder_on_error(sandlock_builder_t *b,
                                                               uint8_t action)
{
    return b ? builder_action(b, "on_error", action, &b->policy.on_error) : NULL;
}

/* ---- the run ---- */

int outcome_settle(struct sandlock_handle_t *h)
{
    const struct stage_wish wish = {.changes = true};
    struct error err = {0};
    int e;

    if (!h->policy.workdir)
        return 0;
    e = sandbox_settle(h->sandbox, &h->run, &wish, &h->stage, &err);
    if (e < 0) { /* CM-06: whatever the command said, its changes are not there */
        h->run.reason = REASON_EXITED;
        h->run.code = CONFLICT_OR_WORSE;
        h->run.signal = 0;
    }
    return e;
}

_public_ int sandlock_handle_pending(const sandlock_handle_t *h)
{
    return h ? sandbox_pending(h->sandbox) != NULL : -1;
}

_public_ char *sandlock_handle_upper_dir(const sandlock_handle_t *h)
{
    const char *path = h ? sandbox_pending(h->sandbox) : NULL;

    return path ? strdup(path) : NULL;
}

_public_ int sandlock_handle_commit(sandlock_handle_t *h)
{
    return h ? sandlock_handles_commit(&h, 1) : -1;
}

_public_ int sandlock_handles_commit(sandlock_handle_t *const *h, unsigned int n)
{
    _cleanup_free_ struct sandbox **s = calloc(n ? n : 1, sizeof(struct sandbox *));
    struct stage_result result = {0};
    int e;

    if (!s)
        return -ENOMEM;
    for (unsigned int i = 0; i < n; i++) {
        if (!h[i])
            return -EINVAL;
        s[i] = h[i]->sandbox;
    }
    e = sandbox_commit(s, n, &result, n ? &h[0]->err : NULL);
    stage_result_fini(&result);
    return e;
}

_public_ int sandlock_handle_abort(sandlock_handle_t *h)
{
    return h ? sandbox_abort(h->sandbox, &h->err) : -1;
}

/* ---- what was changed ---- */

static int side_copy(const struct cow_side *from, struct cow_side *to)
{
    *to = *from;
    to->link = from->link ? strdup(from->link) : NULL;
    return from->link && !to->link ? -ENOMEM : 0;
}

static int change_add(struct outcome_changes *c, const char *path, const struct cow_side *before,
                      const struct cow_side *after)
{
    struct outcome_change *one = &c->v[c->n];
    int e = 0;

    one->path = strdup(path);
    c->n++;
    if (!one->path)
        return -ENOMEM;
    if (before)
        e = side_copy(before, &one->side[SANDLOCK_CHANGE_BEFORE]);
    if (after && e == 0)
        e = side_copy(after, &one->side[SANDLOCK_CHANGE_AFTER]);
    return e;
}

static int by_path(const void *a, const void *b)
{
    const struct outcome_change *x = a, *y = b;

    return strcmp(x->path, y->path);
}

int outcome_changes(const struct cow_changes *from, struct outcome_changes *ret)
{
    int e = 0;

    *ret = (struct outcome_changes){.v = calloc(2 * from->n + 1, sizeof(*ret->v))};
    if (!ret->v)
        return -ENOMEM;
    for (size_t i = 0; i < from->n && e == 0; i++) {
        const struct cow_change *c = &from->v[i];

        if (c->from) {
            e = change_add(ret, c->from, &c->before, NULL);
            if (e == 0)
                e = change_add(ret, c->path, &c->replaced, &c->after);
        } else {
            e = change_add(ret, c->path, &c->before, &c->after);
        }
    }
    if (e < 0)
        outcome_changes_fini(ret);
    else
        qsort(ret->v, ret->n, sizeof(*ret->v), by_path);
    return e;
}

void outcome_changes_fini(struct outcome_changes *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->v[i].path);
        free(c->v[i].side[0].link);
        free(c->v[i].side[1].link);
    }
    free(c->v);
    *c = (struct outcome_changes){0};
}

_public_ uintptr_t sandlock_result_changes_len(const sandlock_result_t *r)
{
    return r ? r->changes.n : 0;
}

static const struct cow_side *change_side(const sandlock_result_t *r, uintptr_t i, int side)
{
    if (!r || i >= r->changes.n ||
        (side != SANDLOCK_CHANGE_BEFORE && side != SANDLOCK_CHANGE_AFTER) ||
        !r->changes.v[i].side[side].mode)
        return NULL;
    return &r->changes.v[i].side[side];
}

_public_ char *sandlock_result_change_path(const sandlock_result_t *r, uintptr_t i)
{
    return r && i < r->changes.n ? strdup(r->changes.v[i].path) : NULL;
}

_public_ int sandlock_result_change_entry(const sandlock_result_t *r, uintptr_t i, int side,
                                          sandlock_entry_t *out)
{
    const struct cow_side *s = change_side(r, i, side);

    if (!s || !out)
        return -1;
    *out = (sandlock_entry_t){.kind = S_ISREG(s->mode)   ? SANDLOCK_ENTRY_KIND_FILE
                                      : S_ISDIR(s->mode) ? SANDLOCK_ENTRY_KIND_DIR
                                      : S_ISLNK(s->mode) ? SANDLOCK_ENTRY_KIND_SYMLINK
                                                         : SANDLOCK_ENTRY_KIND_OTHER,
                              .mode = s->mode & 07777,
                              .size = s->size};
    return 0;
}

_public_ char *sandlock_result_change_target(const sandlock_result_t *r, uintptr_t i, int side)
{
    const struct cow_side *s = change_side(r, i, side);

    return s && s->link ? strdup(s->link) : NULL;
}
