/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of a commit, done on lower. Each looks first whether it has been done already, so the whole
 * list can be repeated after any interruption. Every step works on (directory descriptor, one name);
 * directories are reached beneath lower's root without following a link. One thread.
 */
#include <linux/fs.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "fs/cow/apply.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

/* ---- steps ---- */

/* 1 when the object there is the one that is meant, 0 when not or nothing, or -errno. */
static int is_there(const struct place *at, const struct cow_attr *meant)
{
    struct cow_attr now;
    int e = cow_attr_at(at->fd, at->name, &now);

    if (e < 0)
        return e == -ENOENT ? 0 : e;
    return cow_attr_same(meant, &now);
}

/* Of somebody else (fs.protected_hardlinks), or on such a file system. */
static bool may_not_be_linked(int e)
{
    return e == EPERM || e == EOPNOTSUPP || e == EMLINK;
}

/* A copy, whole at once, in place of what is there. */
static int copy_over_name(struct apply *a, const struct place *from, int to_fd, const char *to)
{
    int e = cow_remove_tree(a->limbo_fd, "q");

    if (e == 0)
        e = cow_copy_tree_entry(from->fd, from->name, a->limbo_fd, "q");
    return e < 0 ? e : sys_renameat2(a->limbo_fd, "q", to_fd, to, 0);
}

/* On an empty object of the limbo. */
static int keep_attrs(struct apply *a, int fd, const struct cow_attr *attr, const char *name)
{
    _cleanup_close_ int made_fd = -1;
    bool owner;
    int e = cow_remove_tree(a->limbo_fd, "q");

    if (e < 0)
        return e;
    if (S_ISDIR(attr->mode))
        e = mkdirat(a->limbo_fd, "q", 0700) < 0 ? -errno : 0;
    else
        e = mknodat(a->limbo_fd, "q", S_IFREG | 0600, 0) < 0 ? -errno : 0;
    made_fd = e < 0 ? e : sys_open_path(a->limbo_fd, "q", O_NOFOLLOW);
    if (made_fd < 0)
        return made_fd;
    if (!S_ISLNK(attr->mode))
        e = cow_copy_attrs(fd, attr, made_fd, true, &owner);
    return e < 0 ? e : sys_renameat2(a->limbo_fd, "q", a->limbo_fd, name, 0);
}

/* Somebody else's directory, which was found empty: who may write to the one that holds it may remove it, but
 * not move it. A backup of it is another one. */
static int remove_unmovable(struct apply *a, const struct place *at, const struct cow_attr *meant,
                            const char *kept)
{
    _cleanup_close_ int fd = -1;
    struct cow_attr there;
    int e = 0;

    if (a->p->l->backup && cow_attr_at(a->limbo_fd, kept, &there) < 0) {
        fd = sys_open_path(at->fd, at->name, O_NOFOLLOW);
        e = fd < 0 ? fd : keep_attrs(a, fd, meant, kept);
    }
    return e == 0 && unlinkat(at->fd, at->name, AT_REMOVEDIR) < 0 ? -errno : e;
}

static bool may_not_be_moved(int e, const struct cow_attr *meant)
{
    return (e == -EACCES || e == -EPERM) && S_ISDIR(meant->mode) && meant->uid != geteuid();
}

/* Out of lower into the limbo: by a second link, or by a rename. */
static int step_leave(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL};
    struct cow_attr in_limbo;
    int e = cow_attr_at(a->limbo_fd, s->path, &in_limbo);

    /* Done, unless it is a copy, of something that may still be there. */
    if (e == 0 ? cow_attr_same(&s->attr, &in_limbo) : e != -ENOENT)
        return e;
    e = apply_place(a, 'L', s->source, &from);
    if (e < 0)
        return e == -ENOENT ? 0 : e;
    e = is_there(&from, &s->attr);
    if (e <= 0)
        return e;
    if (s->op == STEP_KEEP && linkat(from.fd, from.name, a->limbo_fd, s->path, 0) == 0)
        return 0;
    if (s->op == STEP_KEEP && !may_not_be_linked(errno))
        return -errno;
    apply_forget(a);
    e = apply_move(from.fd, from.name, a->limbo_fd, s->path, 0);
    if (s->op == STEP_ASIDE && may_not_be_moved(e, &s->attr))
        e = remove_unmovable(a, &from, &s->attr, s->path);
    return e;
}

static int step_mkdir(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place at = {-1, NULL};
    int e = apply_place(a, 'L', s->path, &at);

    if (e < 0)
        return e;
    return mkdirat(at.fd, at.name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int set_owner(struct apply *a, const struct place *at, const struct cow_step *s)
{
    if (s->has_owner && fchownat(at->fd, at->name, s->uid, s->gid, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != EPERM)
            return -errno;
        apply_note_owner(a, s->path, s->uid, s->gid);
    }
    return 0;
}

/* ---- what a commit with a backup keeps, by the number of the step ---- */

/* The file that is about to be replaced: a second link, or where that is not allowed a copy. */
static int backup_replaced(struct apply *a, const struct place *to, const struct cow_step *s)
{
    struct cow_attr kept, now;
    char name[24];
    int e;

    if (!a->p->l->backup)
        return 0;
    apply_backup_name('b', s, a->p, name);
    if (cow_attr_at(a->limbo_fd, name, &kept) == 0)
        return 0;
    e = cow_attr_at(to->fd, to->name, &now);
    if (e < 0)
        return e == -ENOENT ? 0 : e;
    if (linkat(to->fd, to->name, a->limbo_fd, name, 0) == 0)
        return 0;
    if (!may_not_be_linked(errno))
        return -errno;
    return copy_over_name(a, to, a->limbo_fd, name);
}

static int backup_attrs(struct apply *a, int fd, const struct cow_step *s)
{
    struct cow_attr kept;
    char name[24];

    if (!a->p->l->backup || !s->lower)
        return 0;
    apply_backup_name('a', s, a->p, name);
    return cow_attr_at(a->limbo_fd, name, &kept) == 0 ? 0 : keep_attrs(a, fd, &s->old, name);
}

/* Instead of being removed. */
static int backup_removed(struct apply *a, const struct place *at, const struct cow_step *s)
{
    char name[24];
    int e;

    apply_backup_name('r', s, a->p, name);
    e = apply_move(at->fd, at->name, a->limbo_fd, name, 0);
    if (may_not_be_moved(e, &s->attr))
        e = remove_unmovable(a, at, &s->attr, name);
    return e == -ENOENT ? 0 : e;
}

/* What was moved into the limbo because it may not be linked is moved out of it. */
static int place_moved(const struct place *from, const struct place *to, const struct cow_step *s,
                       int e)
{
    if (s->base != 'X' || !may_not_be_linked(-e))
        return e;
    return sys_renameat2(from->fd, from->name, to->fd, to->name, 0);
}

static int place_link(struct apply *a, const struct place *from, const struct place *to,
                      const struct cow_step *s)
{
    struct cow_attr source, there;
    int e = cow_attr_at(from->fd, from->name, &source);

    if (e < 0)
        return e;
    if (linkat(from->fd, from->name, to->fd, to->name, 0) == 0)
        return 0;
    if (errno != EEXIST)
        return place_moved(from, to, s, -errno);
    e = cow_attr_at(to->fd, to->name, &there);
    if (e < 0 || cow_attr_same(&source, &there))
        return e; /* done; and a rename onto another link of itself would do nothing */
    e = backup_replaced(a, to, s);
    if (e == 0)
        e = cow_remove_tree(a->limbo_fd, "p");
    if (e == 0 && linkat(from->fd, from->name, a->limbo_fd, "p", 0) < 0)
        return place_moved(from, to, s, -errno);
    return e < 0 ? e : sys_renameat2(a->limbo_fd, "p", to->fd, to->name, 0);
}

/* It was taken already; or it is a file of lower that others replaced or removed before it could be kept, which
 * would never be otherwise. (Bytes that were staged follow: step_write().) */
static int nothing_to_place(struct apply *a, const struct place *to, const struct cow_step *s)
{
    struct cow_attr there;
    int e = cow_attr_at(to->fd, to->name, &there);

    if (e != -ENOENT || s->base != 'X' || !s->attr.ino || S_ISDIR(s->attr.mode))
        return e;
    buf_add_quoted(&a->report->notes, "", s->path);
    buf_adds(&a->report->notes, ": what was to be moved there was replaced or removed meanwhile\n");
    return 0;
}

static int step_place(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL}, to = {-1, NULL};
    struct cow_attr source;
    int e = apply_place(a, 'L', s->path, &to);

    if (e < 0)
        return e;
    e = apply_place(a, s->base, s->source, &from);
    if (e == 0)
        e = cow_attr_at(from.fd, from.name, &source);
    if (e == -ENOENT)
        return nothing_to_place(a, &to, s);
    if (e == 0 && s->op == STEP_PLACE) {
        e = place_link(a, &from, &to, s);
    } else if (e == 0) {
        if (S_ISDIR(source.mode))
            apply_forget(a);
        e = apply_move(from.fd, from.name, to.fd, to.name,
                       S_ISDIR(source.mode) ? RENAME_NOREPLACE : 0);
    }
    return e < 0 ? e : set_owner(a, &to, s);
}

static int step_remove(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place at = {-1, NULL};
    int e = apply_place(a, 'L', s->path, &at);

    if (e < 0)
        return e == -ENOENT ? 0 : e;
    e = is_there(&at, &s->attr);
    if (e <= 0)
        return e;
    if (S_ISDIR(s->attr.mode))
        apply_forget(a);
    if (a->p->l->backup)
        return backup_removed(a, &at, s);
    if (S_ISDIR(s->attr.mode))
        return cow_remove_tree(at.fd, at.name);
    return unlinkat(at.fd, at.name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* A directory that was opened, maybe by steps that looked whether they were done already. */
static int close_again(int fd, const struct cow_attr *was)
{
    struct cow_attr now;
    int e = cow_attr_fd(fd, &now);

    if (e < 0 || !S_ISDIR(now.mode) || now.mode == was->mode || (now.mode ^ was->mode) & ~0300u)
        return e;
    return sys_chmod_fd(fd, was->mode & 07777);
}

static int step_attrs(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL};
    _cleanup_close_ int from_fd = -1, to_fd = apply_object(a, s->path);
    struct cow_attr attr = s->attr;
    bool owner;
    int e;

    if (to_fd == -ENOENT && s->op == STEP_ATTRS && !S_ISDIR(s->attr.mode))
        return 0; /* see nothing_to_place() */
    if (to_fd < 0)
        return to_fd;
    if (s->op == STEP_TIMES) {
        e = close_again(to_fd, &attr);
        return e < 0 ? e : cow_set_times(to_fd, &attr);
    }
    e = apply_place(a, s->base, s->source, &from);
    from_fd = e < 0 ? e : sys_open_path(from.fd, from.name, O_NOFOLLOW);
    if (from_fd < 0) /* the storage goes only when everything is done */
        return from_fd == -ENOENT ? close_again(to_fd, &attr) : from_fd;
    if (s->has_owner) {
        attr.uid = s->uid;
        attr.gid = s->gid;
    }
    e = backup_attrs(a, to_fd, s);
    if (e == 0)
        e = cow_copy_attrs(from_fd, &attr, to_fd, false, &owner);
    if (e == 0 && !owner)
        apply_note_owner(a, s->path, attr.uid, attr.gid);
    return e;
}

/* The file that is to be written into: descriptor, -ENOENT when it is to be replaced. That goes for what has
 * taken its place meanwhile, for what is being executed, and for what may not be written after all. */
static int open_in_place(const struct place *at, const struct cow_attr *meant)
{
    _cleanup_close_ int path_fd = sys_open_path(at->fd, at->name, O_NOFOLLOW);
    struct cow_attr there;
    int e;

    if (path_fd < 0)
        return path_fd;
    e = cow_attr_fd(path_fd, &there);
    if (e < 0)
        return e;
    if (!cow_attr_same(meant, &there))
        return -ENOENT;
    e = cow_open_closed(path_fd, O_WRONLY, 0200);
    return e == -ETXTBSY || e == -EPERM ? -ENOENT : e;
}

/* Into the file that lower has, for those who have it open or linked elsewhere. */
static int step_write(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL}, to = {-1, NULL};
    _cleanup_close_ int source_fd = -1, from_fd = -1, to_fd = -1;
    struct cow_attr source;
    int e = apply_place(a, s->base, s->source, &from);

    source_fd = e < 0 ? e : sys_open_path(from.fd, from.name, O_NOFOLLOW);
    if (source_fd < 0) /* the storage goes only when everything is done */
        return source_fd == -ENOENT ? 0 : source_fd;
    e = cow_attr_fd(source_fd, &source);
    if (e == 0)
        e = apply_place(a, 'L', s->path, &to);
    if (e < 0)
        return e;
    to_fd = open_in_place(&to, &s->attr);
    if (to_fd == -ENOENT) {
        buf_add_quoted(&a->report->notes, "", s->path);
        buf_adds(&a->report->notes, ": not written in place but replaced\n");
        return copy_over_name(a, &from, to.fd, to.name);
    }
    from_fd = to_fd < 0 ? to_fd : cow_open_closed(source_fd, O_RDONLY, 0400);
    return from_fd < 0 ? from_fd : cow_copy_over(from_fd, to_fd, source.size);
}

static int step_once(struct apply *a, const struct cow_step *s)
{
    switch (s->op) {
    case STEP_KEEP:
        if (s->base == 'S')
            return 0; /* copied before */
        return step_leave(a, s);
    case STEP_OUT:
    case STEP_ASIDE: return step_leave(a, s);
    case STEP_MKDIR: return step_mkdir(a, s);
    case STEP_PLACE:
    case STEP_TAKE: return step_place(a, s);
    case STEP_REMOVE: return step_remove(a, s);
    case STEP_ATTRS:
    case STEP_TIMES: return step_attrs(a, s);
    case STEP_WRITE: return step_write(a, s);
    }
    return -EBADMSG;
}

int cow_close_sources(struct cow_plan *p)
{
    struct apply a = {.p = p, .limbo_fd = -1, .dir_fd = -1};
    int e = 0;

    /* Attributes come from the bottom up. */
    for (size_t i = 0; i < p->n; i++) {
        const struct cow_step *s = &p->v[i];
        _cleanup_place_ struct place at = {-1, NULL};

        if (s->op == STEP_ATTRS && s->base == 'S' && S_ISDIR(s->attr.mode) &&
            (s->attr.mode & 0700) != 0700 && apply_place(&a, 'S', s->source, &at) == 0 &&
            fchmodat(at.fd, at.name, s->attr.mode & 07777, 0) < 0)
            e = -errno;
    }
    return e;
}

static int step_do(struct apply *a, const struct cow_step *s)
{
    int e = step_once(a, s);

    if (e != -EACCES || s->op == STEP_ATTRS || s->op == STEP_TIMES)
        return e;
    if (s->source)
        apply_open_up(a, s->base, s->source);
    if (cow_step_at(s) == s->path)
        apply_open_up(a, 'L', s->path);
    return step_once(a, s);
}

int cow_apply(struct cow_plan *p, struct cow_report *report)
{
    struct apply a = {.p = p, .report = report, .dir_fd = -1};
    int e = 0;

    a.limbo_fd = cow_limbo_open(p->l, true);
    if (a.limbo_fd < 0)
        return a.limbo_fd;
    for (size_t i = 0; i < p->n && e == 0; i++) {
        e = step_do(&a, &p->v[i]);
        if (e < 0) {
            buf_add_quoted(&report->notes, "", p->v[i].path);
            buf_addf(&report->notes, ": step %zu failed: %s\n", i, error_text(e));
        }
        if (report->progress)
            report->progress(report->progress_arg, "committing", i + 1, p->n);
    }
    apply_forget(&a);
    util_close(a.limbo_fd);
    return e;
}

static int stage_body(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL};
    int e = apply_place(a, 'S', s->source, &from);

    return e < 0 ? e : cow_copy_tree_entry(from.fd, from.name, a->limbo_fd, s->path);
}

int cow_stage_bodies(struct cow_plan *p)
{
    int limbo_fd = cow_limbo_open(p->l, true), e = 0;

    if (limbo_fd < 0)
        return limbo_fd;
    for (size_t i = 0; i < p->n && e == 0; i++) {
        const struct cow_step *s = &p->v[i];
        struct apply a = {.p = p, .limbo_fd = limbo_fd, .dir_fd = -1};

        if (s->op != STEP_KEEP || s->base != 'S')
            continue;
        e = stage_body(&a, s);
        if (e == -EACCES && apply_open_up(&a, 'S', s->source) == 0)
            e = stage_body(&a, s);
        if (p->report->progress)
            p->report->progress(p->report->progress_arg, "copying", i + 1, p->n);
    }
    util_close(limbo_fd);
    return e < 0 ? e : cow_plan_room(p);
}
