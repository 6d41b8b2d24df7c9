/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of a commit with a backup, taken back in the reverse order: the tree as it was. Each can be
 * repeated. One thread.
 */
#include <linux/fs.h>
#include <stdio.h>

#include "fs/cow/apply.h"

#include "fs/cow/fault.h"

/* A copy is put back, which no identity tells from what the commit made there. */
static int returning_copy(struct apply *a, const struct cow_step *s)
{
    char name[24];

    apply_backup_name('e', s, a->p, name);
    return mkdirat(a->limbo_fd, name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* kept: the copy's name in the limbo. */
static bool is_returned(struct apply *a, const struct cow_step *s, const char *kept)
{
    struct cow_attr attr;
    char name[24];

    apply_backup_name('e', s, a->p, name);
    return cow_attr_at(a->limbo_fd, name, &attr) == 0 &&
           cow_attr_at(a->limbo_fd, kept, &attr) == -ENOENT;
}

/* To be moved a directory was opened to its owner, maybe by a rollback that was killed just then. */
static int undo_mode(struct apply *a, const char *name, const struct place *at,
                     const struct cow_step *s)
{
    struct cow_attr there;
    int e = cow_attr_at(at->fd, at->name, &there);

    if (e < 0)
        return e == -ENOENT ? 0 : e;
    if (!S_ISDIR(s->attr.mode) || there.mode == s->attr.mode ||
        !(cow_attr_same(&s->attr, &there) || is_returned(a, s, name)))
        return 0;
    return fchmodat(at->fd, at->name, s->attr.mode & 07777, 0) < 0 ? -errno : 0;
}

/* From the limbo to where it was; nothing may have come there meanwhile. */
static int undo_move(struct apply *a, const char *name, const char *path, const struct place *at,
                     const struct cow_step *s)
{
    struct cow_attr kept, there;
    bool copy;
    int e = cow_attr_at(a->limbo_fd, name, &kept);

    if (e < 0)
        return e == -ENOENT ? 0 : e; /* never left, or is back */
    if (cow_attr_at(at->fd, at->name, &there) == 0 && cow_attr_same(&s->attr, &there))
        return 0; /* a copy was made, but it did not leave */
    copy = !cow_attr_same(&s->attr, &kept);
    if (copy)
        e = returning_copy(a, s);
    if (S_ISDIR(kept.mode))
        apply_forget(a);
    if (e == 0)
        e = apply_move(a->limbo_fd, name, at->fd, at->name, RENAME_NOREPLACE);
    if (e == 0 && copy && (kept.uid != s->attr.uid || kept.gid != s->attr.gid))
        apply_note_owner(a, path, s->attr.uid, s->attr.gid);
    return e;
}

static int undo_return(struct apply *a, const char *name, const char *path,
                       const struct cow_step *s)
{
    _cleanup_place_ struct place at = {-1, NULL};
    struct cow_attr kept;
    int e = apply_place(a, 'L', path, &at);

    if (e < 0)
        return cow_attr_at(a->limbo_fd, name, &kept) == -ENOENT ? 0 : e;
    e = undo_move(a, name, path, &at, s);
    /* That of a renamed one has its turn with the attributes. */
    return e < 0 || s->op == STEP_OUT ? e : undo_mode(a, name, &at, s);
}

/* A link that was kept of it is its own, where the name is still there. */
static int undo_keep(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place at = {-1, NULL};
    struct cow_attr there;
    int e = apply_place(a, 'L', s->source, &at);

    if (e == 0 && cow_attr_at(at.fd, at.name, &there) == 0)
        return 0;
    return e < 0 ? e : undo_return(a, s->path, s->source, s);
}

/* What was replaced there, over what is there now. -ENOENT: nothing was. */
static int undo_replaced(struct apply *a, const struct place *at, const struct cow_step *s)
{
    struct cow_attr kept;
    char name[24];
    int e;

    apply_backup_name('b', s, a->p, name);
    e = cow_attr_at(a->limbo_fd, name, &kept);
    return e < 0 ? e : sys_renameat2(a->limbo_fd, name, at->fd, at->name, 0);
}

/* See place_moved(). */
static int undo_moved(struct apply *a, const struct place *at, const struct cow_step *s)
{
    int e = sys_renameat2(at->fd, at->name, a->limbo_fd, s->source, RENAME_NOREPLACE);

    if (e == 0)
        e = undo_replaced(a, at, s);
    return e == -ENOENT ? 0 : e;
}

static int undo_place(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL}, at = {-1, NULL};
    struct cow_attr source, there, kept;
    int e = apply_place(a, 'L', s->path, &at);

    if (e < 0) /* what it would lie in was never made, or is gone again */
        return e == -ENOENT || e == -ENOTDIR ? 0 : e;
    e = cow_attr_at(at.fd, at.name, &there);
    if (e < 0)
        return e == -ENOENT ? 0 : e;
    if (s->op == STEP_TAKE) { /* a directory of lower, on its way */
        if (!cow_attr_same(&s->attr, &there) || cow_attr_at(a->limbo_fd, s->source, &kept) == 0)
            return 0;
        apply_forget(a);
        return apply_move(at.fd, at.name, a->limbo_fd, s->source, RENAME_NOREPLACE);
    }
    e = apply_place(a, s->base, s->source, &from);
    if (e == 0)
        e = cow_attr_at(from.fd, from.name, &source);
    if (e == -ENOENT && s->base == 'X') /* the limbo goes when everything is back */
        return cow_attr_same(&s->attr, &there) ? undo_moved(a, &at, s) : 0;
    if (e < 0)
        return e;
    if (!cow_attr_same(&source, &there))
        return 0; /* not replaced, or back */
    e = undo_replaced(a, &at, s);
    if (e != -ENOENT)
        return e;
    return unlinkat(at.fd, at.name, 0) < 0 ? -errno : 0;
}

static int undo_mkdir(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place at = {-1, NULL};
    const struct cow_step *before = s > a->p->v ? s - 1 : s;
    struct cow_attr there;
    int e = apply_place(a, 'L', s->path, &at);

    if (e == 0)
        e = cow_attr_at(at.fd, at.name, &there);
    if (e < 0)
        return e == -ENOENT || e == -ENOTDIR ? 0 : e;
    /* What was in its way is back, or was never moved. */
    if (before->op == STEP_ASIDE && strcmp(before->source, s->path) == 0 &&
        (cow_attr_same(&before->attr, &there) || is_returned(a, before, before->path)))
        return 0;
    apply_forget(a);
    return unlinkat(at.fd, at.name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static int undo_once(struct apply *a, const struct cow_step *s)
{
    char name[24];

    switch (s->op) {
    case STEP_KEEP: return s->base == 'S' ? 0 : undo_keep(a, s);
    case STEP_OUT:
    case STEP_ASIDE: return undo_return(a, s->path, s->source, s);
    case STEP_MKDIR: return undo_mkdir(a, s);
    case STEP_PLACE:
    case STEP_TAKE: return undo_place(a, s);
    case STEP_REMOVE:
        apply_backup_name('r', s, a->p, name);
        return undo_return(a, name, s->path, s);
    default: return 0; /* when everything has its place again */
    }
}

/* Directories may have their new modes already; the old ones come at the end. */
static int undo_do(struct apply *a, const struct cow_step *s)
{
    int e = undo_once(a, s);

    if (e != -EACCES || apply_open_up(a, 'L', cow_step_at(s)) < 0)
        return e;
    return undo_once(a, s);
}

static int undo_attrs(struct apply *a, const struct cow_step *s)
{
    _cleanup_close_ int to_fd = apply_object(a, s->lower), from_fd = -1;
    struct cow_attr now;
    char name[24];
    bool owner;
    int e;

    if (to_fd == -EACCES && apply_open_up(a, 'L', s->lower) == 0)
        to_fd = apply_object(a, s->lower);
    if (to_fd < 0)
        return to_fd;
    e = cow_attr_fd(to_fd, &now);
    if (e == 0 && !cow_attr_same(&s->old, &now))
        e = -ESTALE;
    if (e < 0)
        return e;
    apply_backup_name('a', s, a->p, name);
    from_fd = S_ISLNK(now.mode) ? to_fd : sys_open_path(a->limbo_fd, name, O_NOFOLLOW);
    if (from_fd < 0) { /* xattrs were not touched; what a directory holds was */
        e = now.mode == s->old.mode ? 0 : sys_chmod_fd(to_fd, s->old.mode & 07777);
        return e < 0 ? e : cow_set_times(to_fd, &s->old);
    }
    e = cow_copy_attrs(from_fd, &s->old, to_fd, false, &owner);
    if (from_fd == to_fd)
        from_fd = -1;
    if (e == 0 && !owner)
        apply_note_owner(a, s->lower, s->old.uid, s->old.gid);
    return e;
}

/* What lies in a directory before the directory, which may close. */
static int undo_order(const void *x, const void *y)
{
    return -strcmp((*(struct cow_step *const *)x)->lower, (*(struct cow_step *const *)y)->lower);
}

static int undo_all_attrs(struct apply *a)
{
    struct cow_step **v = calloc(a->p->n + 1, sizeof(struct cow_step *));
    size_t n = 0;
    int e = v ? 0 : -ENOMEM;

    for (size_t i = 0; i < a->p->n && e == 0; i++) {
        if (a->p->v[i].lower)
            v[n++] = &a->p->v[i];
    }
    if (n)
        qsort(v, n, sizeof(struct cow_step *), undo_order);
    for (size_t i = 0; i < n && e == 0; i++)
        e = undo_attrs(a, v[i]);
    free(v);
    return e;
}

int cow_undo(struct cow_journal *j, struct cow_report *report)
{
    struct cow_plan *p = &j->plan;
    struct apply a = {.p = p, .report = report, .dir_fd = -1};
    int e = 0;

    a.limbo_fd = cow_limbo_open(p->l, true);
    if (a.limbo_fd < 0)
        return a.limbo_fd;
    for (size_t i = p->n; i > 0 && e == 0; i--) {
        e = undo_do(&a, &p->v[i - 1]);
        if (e < 0) {
            buf_add_quoted(&report->notes, "", p->v[i - 1].path);
            buf_addf(&report->notes, ": step %zu cannot be taken back: %s\n", i - 1, error_text(e));
        }
        if (report->progress)
            report->progress(report->progress_arg, "rolling back", p->n - i + 1, p->n);
    }
    apply_forget(&a);
    if (e == 0)
        e = undo_all_attrs(&a);
    util_close(a.limbo_fd);
    return e;
}
