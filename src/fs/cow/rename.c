/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renames in the merged view. Any thread. What is of lower is first "placed": its object gets the old
 * name in the upper directory, which changes nothing that can be seen; then the kernel renames between
 * upper directories, so that types, loops and atomicity are its own. Lookups find either the old or the
 * new object at every moment.
 */
#include <linux/fs.h> /* RENAME_NOREPLACE: not in every C library */

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

/* ---- locks ---- */

void cow_locks_add(struct cow_locks *k, pthread_mutex_t *m)
{
    size_t at = 0;

    while (at < k->n && k->v[at] < m)
        at++;
    if (at < k->n && k->v[at] == m)
        return;
    memmove(k->v + at + 1, k->v + at, (k->n - at) * sizeof(*k->v));
    k->v[at] = m;
    k->n++;
}

void cow_locks_take(const struct cow_locks *k)
{
    for (size_t i = 0; i < k->n; i++)
        pthread_mutex_lock(k->v[i]);
}

void cow_locks_drop(const struct cow_locks *k)
{
    for (size_t i = k->n; i > 0; i--)
        pthread_mutex_unlock(k->v[i - 1]);
}

/* ---- placing ---- */

static int place_file(struct cow_layer *l, struct cow_pos *dir, const char *name,
                      struct cow_node *n)
{
    char object[COW_OBJECT_NAME_MAX];
    int e;

    cow_object_name(n, object);
    if (linkat(l->objects_fd, object, dir->upper_fd, name, 0) < 0)
        return -errno;
    e = cow_whiteout(l, dir, name);
    if (e < 0 && unlinkat(dir->upper_fd, name, 0) < 0)
        l->broken = true;
    return e;
}

/* To get another parent it must be writable for its owner, who is us, if only for that moment. */
static int move_object(struct cow_layer *l, const char *object, int fd, int to_fd, const char *name)
{
    int e = sys_renameat2(l->objects_fd, object, to_fd, name, RENAME_NOREPLACE);
    struct cow_attr a;

    if (e != -EACCES || cow_attr_fd(fd, &a) < 0 || a.mode & 0200)
        return e;
    e = sys_chmod_fd(fd, (a.mode & 07777) | 0200);
    if (e < 0)
        return e;
    e = sys_renameat2(l->objects_fd, object, to_fd, name, RENAME_NOREPLACE);
    if (sys_chmod_fd(fd, a.mode & 07777) < 0)
        l->broken = true;
    return e;
}

static int place_dir(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_node *n)
{
    char object[COW_OBJECT_NAME_MAX];
    int fd = cow_object_open(l, n, O_PATH | O_DIRECTORY), e;

    if (fd < 0)
        return fd;
    cow_object_name(n, object);
    pthread_rwlock_wrlock(&l->lock);
    if (n->fd < 0)
        n->fd = fd;
    else
        util_close(fd); /* of an attempt that failed */
    n->moved = true;
    pthread_rwlock_unlock(&l->lock);
    e = move_object(l, object, n->fd, dir->upper_fd, name);
    if (e == 0) {
        e = cow_whiteout(l, dir, name);
        if (e < 0 && sys_renameat2(dir->upper_fd, name, l->objects_fd, object, 0) < 0) {
            l->broken = true;
            return e;
        }
    }
    if (e < 0) {
        /* The descriptor stays open until the node ends: somebody may be duplicating it. */
        pthread_rwlock_wrlock(&l->lock);
        n->moved = false;
        pthread_rwlock_unlock(&l->lock);
    }
    return e;
}

static int place(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_entry *en)
{
    struct cow_node *n = en->node;
    int e = 0;

    if (en->in_upper)
        return 0;
    if (!n)
        e = cow_stage_name(l, dir, name, &n);
    if (e == 0)
        e = cow_quota_reserve(l, COW_NAME_COST);
    if (e < 0)
        return e;
    l->any_placed = true;
    e = cow_name_add(l, dir->node, name, NAME_UPPER, NULL);
    if (e == 0)
        e = S_ISDIR(en->id.mode) ? place_dir(l, dir, name, n) : place_file(l, dir, name, n);
    if (e < 0) {
        cow_name_del(l, dir->node, name, NAME_UPPER);
        cow_quota_release(l, COW_NAME_COST);
        return e;
    }
    en->node = n;
    en->where = COW_STAGED;
    en->in_upper = true;
    return 0;
}

/* ---- the move ---- */

struct move {
    struct cow_layer *l;
    struct cow_pos *from, *to;
    const char *old, *new;
    unsigned flags;
    struct cow_entry source, target;
    struct cow_attr source_attr; /* of what source_fd is */
    int source_fd; /* a file of lower that is to be staged: what the name led to, or -1 */
    struct cow_pos source_dir, target_dir; /* when they are directories */
};

static bool same_dir(const struct cow_pos *a, const struct cow_pos *b)
{
    return a->ino == b->ino && (a->lower_fd >= 0) == (b->lower_fd >= 0) && a->foreign == b->foreign;
}

static bool same_object(const struct cow_entry *a, const struct cow_entry *b)
{
    if (a->node || b->node)
        return a->node == b->node;
    return a->where == b->where && a->id.ino == b->id.ino && a->id.dev == b->id.dev;
}

/* 1 when the directory is `at` or above it, 0, or -errno. */
static int is_above(struct cow_layer *l, const struct cow_pos *dir, struct cow_pos *at)
{
    struct cow_pos p, up;
    int e = cow_pos_copy(at, &p);

    while (e == 0) {
        if (same_dir(&p, dir)) {
            e = 1;
            break;
        }
        e = cow_parent(l, &p, &up);
        if (e == 0) {
            cow_pos_fini(&p);
            p = up;
        }
    }
    cow_pos_fini(&p);
    return e == -EXDEV ? 0 : e;
}

static int move_check_loops(struct move *m)
{
    int e = 0;

    if (S_ISDIR(m->source.id.mode)) {
        e = is_above(m->l, &m->source_dir, m->to);
        if (e > 0)
            return -EINVAL;
    }
    if (e == 0 && cow_exists(&m->target) && S_ISDIR(m->target.id.mode)) {
        e = is_above(m->l, &m->target_dir, m->from);
        if (e > 0)
            return m->flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
    }
    return e;
}

static int move_check_types(struct move *m)
{
    bool is_dir = S_ISDIR(m->source.id.mode);

    if (!cow_exists(&m->target) || m->flags & RENAME_EXCHANGE)
        return 0;
    if (is_dir && !S_ISDIR(m->target.id.mode))
        return -ENOTDIR;
    if (!is_dir && S_ISDIR(m->target.id.mode))
        return -EISDIR;
    return is_dir ? cow_is_empty(m->l, &m->target_dir) : 0;
}

/* As the kernel has it a directory must be writable to get another parent. A commit moves what is lower's by way of
 * another one in any case, where it opens what is its user's own. */
static int move_check_dir(struct move *m, const struct cow_entry *en, struct cow_pos *dir)
{
    uid_t uid = en->node && en->node->staged ? en->node->origin.uid : en->id.uid;

    if (!S_ISDIR(en->id.mode) || (same_dir(m->from, m->to) && (en->in_upper || uid == geteuid())))
        return 0;
    return cow_may_write_dir(m->l, dir);
}

static int move_check(struct move *m)
{
    int e = 0;

    if (!cow_exists(&m->source))
        return -ENOENT;
    if (m->flags & RENAME_NOREPLACE && cow_exists(&m->target))
        return -EEXIST;
    if (m->flags & RENAME_EXCHANGE && !cow_exists(&m->target))
        return -ENOENT;
    if (m->from->foreign || m->to->foreign)
        return m->from->foreign && m->to->foreign ? -EROFS : -EXDEV;
    e = move_check_loops(m);
    if (e == 0)
        e = cow_may_remove(m->l, m->from, &m->source);
    /* With both locks held the same directory need not be asked twice. */
    if (e == 0 && !same_dir(m->from, m->to))
        e = cow_may_write_dir(m->l, m->to);
    if (e == 0)
        e = move_check_dir(m, &m->source, &m->source_dir);
    if (e == 0 && m->flags & RENAME_EXCHANGE)
        e = move_check_dir(m, &m->target, &m->target_dir);
    if (e == 0 && cow_exists(&m->target))
        e = cow_may_remove_name(m->l, m->to, &m->target);
    return e < 0 ? e : move_check_types(m);
}

static void move_undo_name(struct move *m)
{
    if (m->to->node && !m->target.in_upper)
        cow_name_del(m->l, m->to->node, m->new, NAME_UPPER);
}

/* A file of lower that keeps its old name until the new one is there: one link instead of two. As with
 * rename(2), both may be seen for a moment. */
static int move_file(struct move *m)
{
    struct cow_layer *l = m->l;
    struct cow_node *n = m->source.node;
    char object[COW_OBJECT_NAME_MAX];
    int e = 0;

    if (!n)
        e = m->source_fd >= 0
                ? cow_stage_found(l, m->from, m->old, m->source_fd, &m->source_attr, &n)
                : cow_stage_name(l, m->from, m->old, &n);
    if (e == 0)
        e = cow_quota_reserve(l, COW_NAME_COST);
    if (e < 0)
        return e;
    l->any_placed = true;
    cow_object_name(n, object);
    if (linkat(l->objects_fd, object, m->to->upper_fd, m->new, 0) < 0) {
        e = -errno;
    } else {
        /* Nothing moves out of the upper directory, so its time does not follow by itself; that of the one
         * the link was made in does. */
        e = same_dir(m->from, m->to) ? 0 : cow_touch(m->from);
        /* What goes is what has been staged. */
        if (e == 0)
            e = m->source_fd >= 0 ? cow_whiteout_of(l, m->from, m->old, &m->source_attr)
                                  : cow_whiteout(l, m->from, m->old);
        if (e < 0 && unlinkat(m->to->upper_fd, m->new, 0) < 0)
            l->broken = true;
    }
    if (e < 0)
        cow_quota_release(l, COW_NAME_COST);
    return e;
}

/* What was at the new name is gone. Nothing here can be undone: room has been reserved. */
static int move_replaced(struct move *m, const struct cow_attr *replaced, int hold_fd)
{
    struct cow_entry *t = &m->target;
    int e = 0;

    if (m->from->node)
        cow_name_del(m->l, m->from->node, m->old, NAME_UPPER);
    if (!cow_exists(t))
        return 0;
    if (t->in_upper) {
        cow_quota_forget(m->l, replaced, hold_fd);
        if (t->node && S_ISDIR(t->id.mode))
            cow_node_dead(m->l, t->node);
    } else {
        e = cow_whiteout(m->l, m->to, m->new);
        if (e == 0 && S_ISDIR(t->id.mode))
            e = cow_bury(m->l, &m->target_dir);
        if (e < 0)
            m->l->broken = true;
    }
    if (t->node && !S_ISDIR(t->id.mode))
        cow_maybe_dead(m->l, t->node);
    return e;
}

static int move_do(struct move *m)
{
    struct cow_layer *l = m->l;
    struct cow_attr replaced = {0};
    bool by_link = !m->source.in_upper && !m->target.in_upper && !S_ISDIR(m->source.id.mode) &&
                   !(m->flags & RENAME_EXCHANGE);
    int e = cow_writable_dir(l, m->from), hold_fd = -1;

    if (e == 0)
        e = cow_writable_dir(l, m->to);
    if (e == 0)
        e = cow_log_reserve(l);
    if (e == 0 && !by_link)
        e = place(l, m->from, m->old, &m->source);
    if (e == 0 && m->flags & RENAME_EXCHANGE) {
        e = place(l, m->to, m->new, &m->target);
        return e < 0 ? e
                     : sys_renameat2(m->from->upper_fd, m->old, m->to->upper_fd, m->new,
                                     RENAME_EXCHANGE);
    }
    if (e == 0 && m->target.in_upper)
        e = cow_attr_at(m->to->upper_fd, m->new, &replaced);
    if (e == 0 && m->to->node) {
        e = cow_name_add(l, m->to->node, m->new, NAME_UPPER, NULL);
        if (e == 0)
            e = cow_name_prepare(l, m->to->node, m->new);
    }
    if (e < 0)
        return e;
    if (m->target.in_upper)
        hold_fd = cow_quota_hold(l, m->to->upper_fd, m->new, &replaced);
    e = by_link ? move_file(m)
                : sys_renameat2(m->from->upper_fd, m->old, m->to->upper_fd, m->new, 0);
    if (e < 0) {
        util_closep(&hold_fd);
        move_undo_name(m);
        return e;
    }
    return move_replaced(m, &replaced, hold_fd);
}

/* A name that only lower can have is opened as it is looked up: staging needs that. */
static int move_look_source(struct move *m)
{
    struct cow_pos *dir = m->from;
    int e;

    m->source_fd = util_close(m->source_fd);
    if (dir->lower_fd < 0 || dir->upper_fd < 0 || !dir->node ||
        cow_name_flags(m->l, dir->node, m->old))
        return cow_lookup(m->l, dir, m->old, &m->source);
    e = cow_look(m->l, dir, m->old, &m->source, &m->source_attr, &m->source_fd);
    if (e == 0 && (m->source.where != COW_LOWER || S_ISDIR(m->source.id.mode)))
        m->source_fd = util_close(m->source_fd);
    return e;
}

static int move_look(struct move *m)
{
    int e = move_look_source(m);

    return e < 0 ? e : cow_lookup(m->l, m->to, m->new, &m->target);
}

static int move_open_dirs(struct move *m)
{
    int e = 0;

    if (cow_exists(&m->source) && S_ISDIR(m->source.id.mode))
        e = cow_enter(m->l, m->from, m->old, &m->source_dir);
    if (e == 0 && cow_exists(&m->target) && S_ISDIR(m->target.id.mode))
        e = cow_enter(m->l, m->to, m->new, &m->target_dir);
    return e;
}

/* With the locks: is everything as it was when they were chosen? */
static int move_again(struct move *m)
{
    struct cow_entry source = m->source, target = m->target;
    int e = move_look(m);

    if (e < 0)
        return e;
    if (cow_exists(&source) != cow_exists(&m->source) ||
        cow_exists(&target) != cow_exists(&m->target))
        return -EAGAIN;
    if (cow_exists(&source) && S_ISDIR(source.id.mode) != S_ISDIR(m->source.id.mode))
        return -EAGAIN;
    if (cow_exists(&target) && (S_ISDIR(target.id.mode) || S_ISDIR(m->target.id.mode)) &&
        !same_object(&target, &m->target))
        return -EAGAIN;
    return cow_pos_update(m->l, &m->target_dir);
}

static int move_looked(struct move *m)
{
    int e;

    if (!(m->flags & RENAME_NOREPLACE) && cow_exists(&m->source) && cow_exists(&m->target) &&
        same_object(&m->source, &m->target))
        return 0; /* one name, or two of one file: as POSIX has it */
    e = move_check(m);
    return e < 0 ? e : move_do(m);
}

static int move_locked(struct move *m)
{
    int e = move_again(m);

    return e < 0 ? e : move_looked(m);
}

/* No directory takes part: the two that hold the names are all that must be locked, and one look is
 * enough. 1: it was done, its result is in *ret. */
static int move_plain(struct move *m, int *ret)
{
    struct cow_locks locks = {0};
    bool done = true;

    cow_locks_add(&locks, cow_dir_lock(m->l, m->from));
    cow_locks_add(&locks, cow_dir_lock(m->l, m->to));
    cow_locks_take(&locks);
    *ret = move_look(m);
    if (*ret == 0) {
        done = !(cow_exists(&m->source) && S_ISDIR(m->source.id.mode)) &&
               !(cow_exists(&m->target) && S_ISDIR(m->target.id.mode));
        if (done)
            *ret = move_looked(m);
    }
    cow_locks_drop(&locks);
    return done;
}

static int move_once(struct move *m)
{
    struct cow_locks locks = {0};
    bool dirs;
    int e;

    if (move_plain(m, &e))
        return e;
    if (e == 0)
        e = move_open_dirs(m);
    if (e < 0)
        return e;
    dirs = m->source_dir.ino || m->target_dir.ino;
    cow_locks_add(&locks, cow_dir_lock(m->l, m->from));
    cow_locks_add(&locks, cow_dir_lock(m->l, m->to));
    if (m->target_dir.ino && !(m->flags & RENAME_EXCHANGE))
        cow_locks_add(&locks, cow_dir_lock(m->l, &m->target_dir));
    if (dirs)
        pthread_mutex_lock(&m->l->moves);
    cow_locks_take(&locks);
    e = move_locked(m);
    cow_locks_drop(&locks);
    if (dirs)
        pthread_mutex_unlock(&m->l->moves);
    return e;
}

#define RENAME_TRIES 8

int cow_rename(struct cow_layer *l, struct cow_pos *from, const char *old, struct cow_pos *to,
               const char *new, unsigned flags)
{
    int e = -EAGAIN;

    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    for (int i = 0; i < RENAME_TRIES && e == -EAGAIN; i++) {
        struct move m = {.l = l,
                         .from = from,
                         .to = to,
                         .old = old,
                         .new = new,
                         .flags = flags,
                         .source_fd = -1,
                         .source_dir = COW_POS_INIT,
                         .target_dir = COW_POS_INIT};

        e = move_once(&m);
        util_closep(&m.source_fd);
        cow_pos_fini(&m.source_dir);
        cow_pos_fini(&m.target_dir);
    }
    return e;
}
