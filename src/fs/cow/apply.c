/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of a commit, done on lower. Each looks first whether it has been done already, so the whole
 * list can be repeated after any interruption. Every step works on (directory descriptor, one name);
 * directories are reached beneath lower's root without following a link. One thread.
 */
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>

#include "fs/cow/internal.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

struct apply {
    struct cow_plan *p;
    struct cow_report *report;
    int limbo_fd;
    char dir[PATH_MAX]; /* lower's directory that is open */
    int dir_fd;
};

#define BENEATH (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)

/* ---- the limbo ---- */

static void limbo_name(const struct cow_layer *l, char name[40])
{
    snprintf(name, 40, ".sandlock-%s", l->id);
}

int cow_limbo_open(struct cow_layer *l, bool make)
{
    int in_fd = l->same_fs ? l->storage_fd : l->lower_fd, fd;
    char name[40] = "limbo";

    if (!l->same_fs)
        limbo_name(l, name);
    if (make && mkdirat(in_fd, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    fd = openat(in_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* The root's times stay. */
int cow_limbo_remove(struct cow_layer *l)
{
    struct cow_attr a;
    char name[40];
    int e;

    if (l->same_fs)
        return 0; /* goes with the layer */
    limbo_name(l, name);
    if (cow_attr_at(l->lower_fd, name, &a) == -ENOENT)
        return 0;
    e = cow_attr_fd(l->lower_fd, &a);
    if (e == 0)
        e = cow_remove_tree(l->lower_fd, name);
    return e < 0 ? e : cow_set_times(l->lower_fd, &a);
}

/* ---- paths ---- */

/* The directory that holds the path, and the last component. Borrowed descriptor or -errno. */
static int base_fd(struct apply *a, char base)
{
    switch (base) {
    case 'S': return a->p->l->storage_fd;
    case 'X': return a->limbo_fd;
    default: return a->p->l->lower_fd;
    }
}

static int dup_fd(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    return copy < 0 ? -errno : copy;
}

static int open_parent(struct apply *a, char base, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    char dir[PATH_MAX];
    int fd;

    *ret_name = slash ? slash + 1 : path;
    if (!n)
        return dup_fd(base_fd(a, base));
    if (n >= sizeof(dir))
        return -ENAMETOOLONG;
    memcpy(dir, path, n);
    dir[n] = '\0';
    if (base == 'L' && a->dir_fd >= 0 && strcmp(a->dir, dir) == 0)
        return dup_fd(a->dir_fd);
    fd = sys_openat2(base_fd(a, base), dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, BENEATH);
    if (fd >= 0 && base == 'L') {
        if (a->dir_fd >= 0)
            util_close(a->dir_fd);
        a->dir_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        strcpy(a->dir, dir);
    }
    return fd;
}

/* Renames of directories make what is remembered about paths wrong. */
static void forget_dir(struct apply *a)
{
    if (a->dir_fd >= 0)
        a->dir_fd = util_close(a->dir_fd);
}

struct place {
    int fd;
    const char *name;
};
static void place_fini(struct place *p)
{
    if (p->fd >= 0)
        util_close(p->fd);
}
#define _cleanup_place_ _cleanup_(place_fini)

static int place_open(struct apply *a, char base, const char *path, struct place *ret)
{
    ret->fd = open_parent(a, base, path, &ret->name);
    return ret->fd < 0 ? ret->fd : 0;
}

/* 1 when the object there is the one that is meant, 0 when not or nothing, or -errno. */
static int is_there(const struct place *at, const struct cow_attr *meant)
{
    struct cow_attr now;
    int e = cow_attr_at(at->fd, at->name, &now);

    if (e < 0)
        return e == -ENOENT ? 0 : e;
    return cow_attr_same(meant, &now);
}

/* To move a directory its owner must be able to write to it, too: its mode comes at the end. */
static int move(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    int e = sys_renameat2(from_fd, from, to_fd, to, flags);
    struct cow_attr a;

    if (e != -EACCES || cow_attr_at(from_fd, from, &a) < 0 || !S_ISDIR(a.mode) ||
        (a.mode & 0700) == 0700 || fchmodat(from_fd, from, (a.mode & 07777) | 0700, 0) < 0)
        return e;
    return sys_renameat2(from_fd, from, to_fd, to, flags);
}

/* ---- steps ---- */

/* Out of lower into the limbo: by a second link, or by a rename. */
static int step_leave(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL};
    struct cow_attr in_limbo;
    int e = cow_attr_at(a->limbo_fd, s->path, &in_limbo);

    if (e != -ENOENT)
        return e; /* done */
    e = place_open(a, 'L', s->source, &from);
    if (e < 0)
        return e == -ENOENT ? 0 : e;
    e = is_there(&from, &s->attr);
    if (e <= 0)
        return e;
    /* A file of somebody else may not be linked (fs.protected_hardlinks), but moved. */
    if (s->op == STEP_KEEP && linkat(from.fd, from.name, a->limbo_fd, s->path, 0) == 0)
        return 0;
    if (s->op == STEP_KEEP && errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK)
        return -errno;
    forget_dir(a);
    e = move(from.fd, from.name, a->limbo_fd, s->path, 0);
    /* Somebody else's, and empty: it may be removed, but not moved. */
    if ((e == -EACCES || e == -EPERM) && s->op == STEP_ASIDE && !a->p->l->backup &&
        unlinkat(from.fd, from.name, AT_REMOVEDIR) == 0)
        return 0;
    return e;
}

static int step_mkdir(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place at = {-1, NULL};
    int e = place_open(a, 'L', s->path, &at);

    if (e < 0)
        return e;
    return mkdirat(at.fd, at.name, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static void note_owner(struct apply *a, const char *path, uid_t uid, gid_t gid)
{
    buf_add_quoted(&a->report->notes, "", path);
    buf_addf(&a->report->notes, ": the owner could not be set to %u:%u\n", uid, gid);
}

static int set_owner(struct apply *a, const struct place *at, const struct cow_step *s)
{
    if (s->has_owner && fchownat(at->fd, at->name, s->uid, s->gid, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != EPERM)
            return -errno;
        note_owner(a, s->path, s->uid, s->gid);
    }
    return 0;
}

/* ---- what a commit with a backup keeps, by the number of the step ---- */

static void backup_name(char kind, const struct cow_step *s, const struct cow_plan *p,
                        char name[24])
{
    snprintf(name, 24, "%c%zu", kind, (size_t)(s - p->v));
}

/* The file that is about to be replaced: a second link, or where that is not allowed a copy. */
static int backup_replaced(struct apply *a, const struct place *to, const struct cow_step *s)
{
    struct cow_attr kept, now;
    char name[24];
    int e;

    if (!a->p->l->backup)
        return 0;
    backup_name('b', s, a->p, name);
    if (cow_attr_at(a->limbo_fd, name, &kept) == 0)
        return 0;
    e = cow_attr_at(to->fd, to->name, &now);
    if (e < 0)
        return e == -ENOENT ? 0 : e;
    if (linkat(to->fd, to->name, a->limbo_fd, name, 0) == 0)
        return 0;
    if (errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK)
        return -errno;
    e = cow_remove_tree(a->limbo_fd, "q");
    if (e == 0)
        e = cow_copy_tree_entry(to->fd, to->name, a->limbo_fd, "q");
    return e < 0 ? e : sys_renameat2(a->limbo_fd, "q", a->limbo_fd, name, 0);
}

/* Attributes, on an empty object. */
static int backup_attrs(struct apply *a, int fd, const struct cow_step *s)
{
    _cleanup_close_ int made_fd = -1;
    struct cow_attr kept;
    char name[24];
    bool owner;
    int e;

    if (!a->p->l->backup || !s->lower)
        return 0;
    backup_name('a', s, a->p, name);
    if (cow_attr_at(a->limbo_fd, name, &kept) == 0)
        return 0;
    e = cow_remove_tree(a->limbo_fd, "q");
    if (e < 0)
        return e;
    if (S_ISDIR(s->old.mode))
        e = mkdirat(a->limbo_fd, "q", 0700) < 0 ? -errno : 0;
    else
        e = mknodat(a->limbo_fd, "q", S_IFREG | 0600, 0) < 0 ? -errno : 0;
    made_fd = e < 0 ? e : sys_open_path(a->limbo_fd, "q", O_NOFOLLOW);
    if (made_fd < 0)
        return made_fd;
    if (!S_ISLNK(s->old.mode))
        e = cow_copy_attrs(fd, &s->old, made_fd, true, &owner);
    return e < 0 ? e : sys_renameat2(a->limbo_fd, "q", a->limbo_fd, name, 0);
}

/* Instead of being removed. */
static int backup_removed(struct apply *a, const struct place *at, const struct cow_step *s)
{
    char name[24];
    int e;

    backup_name('r', s, a->p, name);
    e = move(at->fd, at->name, a->limbo_fd, name, RENAME_NOREPLACE);
    return e == -ENOENT ? 0 : e;
}

static bool may_not_be_linked(int e)
{
    return e == EPERM || e == EOPNOTSUPP || e == EMLINK;
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

static int step_place(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL}, to = {-1, NULL};
    struct cow_attr source, there;
    int e = place_open(a, 'L', s->path, &to);

    if (e < 0)
        return e;
    e = place_open(a, s->base, s->source, &from);
    if (e == 0)
        e = cow_attr_at(from.fd, from.name, &source);
    if (e == -ENOENT) /* taken already? */
        return cow_attr_at(to.fd, to.name, &there);
    if (e == 0 && s->op == STEP_PLACE) {
        e = place_link(a, &from, &to, s);
    } else if (e == 0) {
        if (S_ISDIR(source.mode))
            forget_dir(a);
        e = move(from.fd, from.name, to.fd, to.name, S_ISDIR(source.mode) ? RENAME_NOREPLACE : 0);
    }
    return e < 0 ? e : set_owner(a, &to, s);
}

static int step_remove(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place at = {-1, NULL};
    int e = place_open(a, 'L', s->path, &at);

    if (e < 0)
        return e == -ENOENT ? 0 : e;
    e = is_there(&at, &s->attr);
    if (e <= 0)
        return e;
    if (S_ISDIR(s->attr.mode))
        forget_dir(a);
    if (a->p->l->backup)
        return backup_removed(a, &at, s);
    if (S_ISDIR(s->attr.mode))
        return cow_remove_tree(at.fd, at.name);
    return unlinkat(at.fd, at.name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int open_object(struct apply *a, const char *path)
{
    _cleanup_place_ struct place at = {-1, NULL};
    int e;

    if (!*path)
        return dup_fd(a->p->l->lower_fd);
    e = place_open(a, 'L', path, &at);
    return e < 0 ? e : sys_open_path(at.fd, at.name, O_NOFOLLOW);
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
    _cleanup_close_ int from_fd = -1, to_fd = open_object(a, s->path);
    struct cow_attr attr = s->attr;
    bool owner;
    int e;

    if (to_fd < 0)
        return to_fd;
    if (s->op == STEP_TIMES) {
        e = close_again(to_fd, &attr);
        return e < 0 ? e : cow_set_times(to_fd, &attr);
    }
    e = place_open(a, s->base, s->source, &from);
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
        note_owner(a, s->path, attr.uid, attr.gid);
    return e;
}

/* Into the file that lower has, for those who have it open or linked elsewhere. What has taken its place
 * meanwhile, and what is being executed, is replaced. */
static int step_write(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL}, to = {-1, NULL};
    _cleanup_close_ int source_fd = -1, there_fd = -1, from_fd = -1, to_fd = -1;
    struct cow_attr source, there;
    int e = place_open(a, s->base, s->source, &from);

    if (e == 0)
        e = source_fd = sys_open_path(from.fd, from.name, O_NOFOLLOW);
    if (e < 0) /* the storage goes only when everything is done */
        return e == -ENOENT ? 0 : e;
    e = cow_attr_fd(source_fd, &source);
    if (e == 0)
        e = place_open(a, 'L', s->path, &to);
    if (e < 0)
        return e;
    there_fd = sys_open_path(to.fd, to.name, O_NOFOLLOW);
    if (there_fd < 0 && there_fd != -ENOENT)
        return there_fd;
    if (there_fd >= 0) {
        e = cow_attr_fd(there_fd, &there);
        if (e == 0 && cow_attr_same(&s->attr, &there))
            to_fd = cow_open_closed(there_fd, O_WRONLY, 0200);
    }
    if (e == 0 && to_fd >= 0) {
        from_fd = cow_open_closed(source_fd, O_RDONLY, 0400);
        return from_fd < 0 ? from_fd : cow_copy_over(from_fd, to_fd, source.size);
    }
    if (e < 0 || (to_fd != -1 && to_fd != -ETXTBSY))
        return e < 0 ? e : to_fd;
    buf_add_quoted(&a->report->notes, "", s->path);
    buf_adds(&a->report->notes, ": not written in place but replaced\n");
    e = cow_remove_tree(a->limbo_fd, "p");
    if (e == 0)
        e = cow_copy_tree_entry(from.fd, from.name, a->limbo_fd, "p");
    return e < 0 ? e : sys_renameat2(a->limbo_fd, "p", to.fd, to.name, 0);
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

/* Directories that are closed to their owner, from the top down to the one that holds the path: of lower,
 * where their modes come at the end; of the layer, where the plan knows them. */
static int open_up(struct apply *a, char base, const char *path)
{
    char dir[PATH_MAX];
    struct cow_attr attr;
    mode_t need;
    int e = 0;

    for (const char *slash = strchr(path, '/'); slash && e == 0; slash = strchr(slash + 1, '/')) {
        _cleanup_close_ int fd = -1;

        /* No more than that: of those above nothing may follow that closes them again. */
        need = strchr(slash + 1, '/') ? 0100 : 0300;

        if ((size_t)(slash - path) >= sizeof(dir))
            return -ENAMETOOLONG;
        memcpy(dir, path, (size_t)(slash - path));
        dir[slash - path] = '\0';
        fd = sys_openat2(base_fd(a, base), dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, BENEATH);
        e = fd < 0 ? fd : cow_attr_fd(fd, &attr);
        if (e == 0 && (attr.mode & need) != need)
            e = sys_chmod_fd(fd, (attr.mode & 07777) | need);
    }
    return e;
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
            (s->attr.mode & 0700) != 0700 && place_open(&a, 'S', s->source, &at) == 0 &&
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
        open_up(a, s->base, s->source);
    if (s->op != STEP_KEEP && s->op != STEP_OUT && s->op != STEP_ASIDE)
        open_up(a, 'L', s->path);
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
    forget_dir(&a);
    util_close(a.limbo_fd);
    return e;
}

static int stage_body(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL};
    int e = place_open(a, 'S', s->source, &from);

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
        if (e == -EACCES && open_up(&a, 'S', s->source) == 0)
            e = stage_body(&a, s);
        if (p->report->progress)
            p->report->progress(p->report->progress_arg, "copying", i + 1, p->n);
    }
    util_close(limbo_fd);
    return e < 0 ? e : cow_plan_room(p);
}

/* ---- back ---- */

/* From the limbo to where it was; nothing may have come there meanwhile. */
static int undo_return(struct apply *a, const char *name, const char *path,
                       const struct cow_step *s)
{
    _cleanup_place_ struct place at = {-1, NULL};
    struct cow_attr kept;
    int e = cow_attr_at(a->limbo_fd, name, &kept);

    if (e < 0)
        return e == -ENOENT ? 0 : e; /* never left, or is back */
    e = place_open(a, 'L', path, &at);
    if (e < 0)
        return e;
    if (S_ISDIR(kept.mode))
        forget_dir(a);
    e = move(a->limbo_fd, name, at.fd, at.name, RENAME_NOREPLACE);
    if (e == 0 && s->op != STEP_OUT && S_ISDIR(kept.mode) && kept.mode != s->attr.mode &&
        fchmodat(at.fd, at.name, s->attr.mode & 07777, 0) < 0)
        e = -errno;
    return e;
}

/* A link that was kept of it is its own, where the name is still there. */
static int undo_keep(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place at = {-1, NULL};
    struct cow_attr there;
    int e = place_open(a, 'L', s->source, &at);

    if (e == 0 && cow_attr_at(at.fd, at.name, &there) == 0)
        return 0;
    return e < 0 ? e : undo_return(a, s->path, s->source, s);
}

/* See place_moved(). */
static int undo_moved(struct apply *a, const struct place *at, const struct cow_step *s)
{
    struct cow_attr kept;
    char name[24];
    int e = sys_renameat2(at->fd, at->name, a->limbo_fd, s->source, RENAME_NOREPLACE);

    if (e < 0)
        return e;
    backup_name('b', s, a->p, name);
    if (cow_attr_at(a->limbo_fd, name, &kept) < 0)
        return 0;
    return sys_renameat2(a->limbo_fd, name, at->fd, at->name, 0);
}

static int undo_place(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place from = {-1, NULL}, at = {-1, NULL};
    struct cow_attr source, there, kept;
    char name[24];
    int e = place_open(a, 'L', s->path, &at);

    if (e < 0) /* what it would lie in was never made, or is gone again */
        return e == -ENOENT || e == -ENOTDIR ? 0 : e;
    e = cow_attr_at(at.fd, at.name, &there);
    if (e < 0)
        return e == -ENOENT ? 0 : e;
    if (s->op == STEP_TAKE) { /* a directory of lower, on its way */
        if (!cow_attr_same(&s->attr, &there) || cow_attr_at(a->limbo_fd, s->source, &kept) == 0)
            return 0;
        forget_dir(a);
        return move(at.fd, at.name, a->limbo_fd, s->source, RENAME_NOREPLACE);
    }
    e = place_open(a, s->base, s->source, &from);
    if (e == 0)
        e = cow_attr_at(from.fd, from.name, &source);
    if (e == -ENOENT && s->base == 'X') /* the limbo goes when everything is back */
        return cow_attr_same(&s->attr, &there) ? undo_moved(a, &at, s) : 0;
    if (e < 0)
        return e;
    if (!cow_attr_same(&source, &there))
        return 0; /* not replaced, or back */
    backup_name('b', s, a->p, name);
    e = cow_attr_at(a->limbo_fd, name, &kept);
    if (e == 0)
        return sys_renameat2(a->limbo_fd, name, at.fd, at.name, 0);
    if (e != -ENOENT)
        return e;
    return unlinkat(at.fd, at.name, 0) < 0 ? -errno : 0;
}

static int undo_mkdir(struct apply *a, const struct cow_step *s)
{
    _cleanup_place_ struct place at = {-1, NULL};
    const struct cow_step *before = s > a->p->v ? s - 1 : s;
    struct cow_attr there;
    int e = place_open(a, 'L', s->path, &at);

    if (e == 0)
        e = cow_attr_at(at.fd, at.name, &there);
    if (e < 0)
        return e == -ENOENT || e == -ENOTDIR ? 0 : e;
    /* What was in its way is back, or was never moved. */
    if (before->op == STEP_ASIDE && strcmp(before->source, s->path) == 0 &&
        cow_attr_same(&before->attr, &there))
        return 0;
    forget_dir(a);
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
    case STEP_REMOVE: backup_name('r', s, a->p, name); return undo_return(a, name, s->path, s);
    default: return 0; /* when everything has its place again */
    }
}

/* Directories may have their new modes already; the old ones come at the end. */
static int undo_do(struct apply *a, const struct cow_step *s)
{
    bool leaves = s->op == STEP_KEEP || s->op == STEP_OUT || s->op == STEP_ASIDE;
    int e = undo_once(a, s);

    if (e != -EACCES || open_up(a, 'L', leaves ? s->source : s->path) < 0)
        return e;
    return undo_once(a, s);
}

static int undo_attrs(struct apply *a, const struct cow_step *s)
{
    _cleanup_close_ int to_fd = open_object(a, s->lower), from_fd = -1;
    struct cow_attr now;
    char name[24];
    bool owner;
    int e;

    if (to_fd == -EACCES && open_up(a, 'L', s->lower) == 0)
        to_fd = open_object(a, s->lower);
    if (to_fd < 0)
        return to_fd;
    e = cow_attr_fd(to_fd, &now);
    if (e == 0 && !cow_attr_same(&s->old, &now))
        e = -ESTALE;
    if (e < 0)
        return e;
    backup_name('a', s, a->p, name);
    from_fd = S_ISLNK(now.mode) ? to_fd : sys_open_path(a->limbo_fd, name, O_NOFOLLOW);
    if (from_fd < 0) { /* xattrs were not touched; what a directory holds was */
        e = now.mode == s->old.mode ? 0 : sys_chmod_fd(to_fd, s->old.mode & 07777);
        return e < 0 ? e : cow_set_times(to_fd, &s->old);
    }
    e = cow_copy_attrs(from_fd, &s->old, to_fd, false, &owner);
    if (from_fd == to_fd)
        from_fd = -1;
    if (e == 0 && !owner)
        note_owner(a, s->lower, s->old.uid, s->old.gid);
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
    forget_dir(&a);
    if (e == 0)
        e = undo_all_attrs(&a);
    util_close(a.limbo_fd);
    return e;
}
