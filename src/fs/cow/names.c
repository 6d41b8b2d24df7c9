/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and removing names in the merged view. Any thread; a directory's names change under its lock.
 * The name is the child's: one component, checked by the caller. Errors are what the kernel would say.
 */
#include "fs/cow/internal.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

int cow_named(struct cow_layer *l, struct cow_pos *dir, const char *name)
{
    return dir->node ? cow_name_add(l, dir->node, name, NAME_UPPER, NULL) : 0;
}

/* ---- making ---- */

int cow_may_name(struct cow_layer *l, struct cow_pos *dir)
{
    int e = cow_may_create(l, dir);

    if (e == 0)
        e = cow_writable_dir(l, dir);
    return e < 0 ? e : cow_quota_reserve(l, COW_NAME_COST);
}

struct make {
    mode_t mode;
    const char *target; /* symlink */
    int from_dir;       /* link */
    const char *from;
    bool looked; /* the name was free a moment ago: only what the layer made since counts */
};

static int make_it(struct cow_pos *dir, const char *name, const struct make *m)
{
    int e;

    if (m->from)
        e = linkat(m->from_dir, m->from, dir->upper_fd, name,
                   m->from_dir == AT_FDCWD ? AT_SYMLINK_FOLLOW : 0);
    else if (m->target)
        e = symlinkat(m->target, dir->upper_fd, name);
    else if (S_ISDIR(m->mode))
        e = mkdirat(dir->upper_fd, name, m->mode & 07777);
    else
        e = mknodat(dir->upper_fd, name, m->mode, 0);
    return e < 0 ? -errno : 0;
}

static int make_locked(struct cow_layer *l, struct cow_pos *dir, const char *name,
                       const struct make *m)
{
    struct cow_entry en = {0};
    int e = cow_name_check(name);

    /* Where there is no lower side the upper one says EEXIST by itself. */
    if (e == 0 && dir->lower_fd >= 0 && !m->looked)
        e = cow_lookup(l, dir, name, &en);
    if (e < 0)
        return e;
    if (cow_exists(&en))
        return -EEXIST;
    e = cow_may_name(l, dir);
    if (e < 0)
        return e;
    e = cow_named(l, dir, name);
    if (e == 0)
        e = make_it(dir, name, m);
    if (e < 0) {
        if (dir->node && e != -EEXIST)
            cow_name_del(l, dir->node, name, NAME_UPPER);
        cow_quota_release(l, COW_NAME_COST);
    }
    return e;
}

static int make(struct cow_layer *l, struct cow_pos *dir, const char *name, const struct make *m)
{
    pthread_mutex_t *lock = cow_dir_lock(l, dir);
    int e;

    pthread_mutex_lock(lock);
    e = make_locked(l, dir, name, m);
    pthread_mutex_unlock(lock);
    return e;
}

int cow_mkdir(struct cow_layer *l, struct cow_pos *dir, const char *name, mode_t mode)
{
    return make(l, dir, name, &(struct make){.mode = S_IFDIR | (mode & 07777)});
}

int cow_mkdir_new(struct cow_layer *l, struct cow_pos *dir, const char *name, mode_t mode)
{
    return make(l, dir, name, &(struct make){.mode = S_IFDIR | (mode & 07777), .looked = true});
}

int cow_mknod(struct cow_layer *l, struct cow_pos *dir, const char *name, mode_t mode)
{
    if (S_ISDIR(mode) || S_ISLNK(mode))
        return -EINVAL;
    if (S_ISCHR(mode) || S_ISBLK(mode))
        return -EPERM;
    return make(l, dir, name, &(struct make){.mode = mode & S_IFMT ? mode : mode | S_IFREG});
}

int cow_symlink(struct cow_layer *l, const char *target, struct cow_pos *dir, const char *name)
{
    return make(l, dir, name, &(struct make){.target = target});
}

/* A new name for the object of a node. */
static int link_node(struct cow_layer *l, struct cow_node *n, struct cow_pos *dir, const char *name)
{
    int fd = cow_object_open(l, n, O_PATH), e;
    char path[FD_PATH_MAX];

    if (fd < 0)
        return fd;
    fd_path(fd, path);
    l->any_placed = true;
    e = make(l, dir, name, &(struct make){.from_dir = AT_FDCWD, .from = path});
    util_close(fd);
    return e;
}

/* As fs.protected_hardlinks has it, whatever it is set to: a commit has to make that link in lower. */
static int may_link(struct cow_layer *l, int lower_fd, const struct cow_node *n)
{
    struct cow_attr a = {0};
    int e = n ? 0 : cow_attr_fd(lower_fd, &a);

    if (n)
        a = n->origin;
    if (e < 0 || a.uid == geteuid())
        return e;
    if (!S_ISREG(a.mode) || a.mode & S_ISUID ||
        (a.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
        return -EPERM;
    e = n ? cow_node_may(l, n, R_OK | W_OK, AT_EACCESS)
          : sys_access_fd(lower_fd, R_OK | W_OK, AT_EACCESS);
    return e == -EACCES ? -EPERM : e;
}

int cow_link_fd(struct cow_layer *l, int fd, struct cow_pos *dir, const char *name)
{
    struct cow_node *n = cow_node_of_fd(l, fd);
    char path[FD_PATH_MAX];
    struct cow_attr a;
    int e;

    if (n) {
        e = S_ISDIR(n->origin.mode) ? -EPERM : may_link(l, -1, n);
        return e < 0 ? e : link_node(l, n, dir, name);
    }
    e = cow_attr_fd(fd, &a);
    if (e < 0)
        return e;
    if (S_ISDIR(a.mode))
        return -EPERM;
    if (cow_fd_is_ours(l, fd)) {
        fd_path(fd, path);
        return make(l, dir, name, &(struct make){.from_dir = AT_FDCWD, .from = path});
    }
    e = may_link(l, fd, NULL);
    if (e == 0)
        e = cow_stage_fd(l, fd, &n);
    return e < 0 ? e : link_node(l, n, dir, name);
}

/* ---- removing ---- */

/* A name of lower in a sticky directory of somebody else. (In the upper one the kernel looks.) */
int cow_may_remove(struct cow_layer *l, struct cow_pos *dir, const struct cow_entry *en)
{
    int e = cow_may_write_dir(l, dir);

    return e < 0 ? e : cow_may_remove_name(l, dir, en);
}

int cow_may_remove_name(struct cow_layer *l, struct cow_pos *dir, const struct cow_entry *en)
{
    struct cow_attr a = {0};
    uid_t me;
    int e = 0;

    if (en->in_upper)
        return 0;
    /* Of a staged directory the layer has its own attributes, taken when it was staged. */
    if (dir->node && dir->node->staged && !dir->node->attrs)
        a = dir->node->origin;
    else
        e = cow_attr_fd(dir->lower_fd, &a);
    if (e == 0 && a.mode & S_ISVTX) {
        me = geteuid();
        if (me != 0 && a.uid != me && en->id.uid != me)
            e = -EPERM;
    }
    if (e == 0 && en->where == COW_LOWER && en->id.dev != l->lower.dev)
        e = -EBUSY;
    return e == 0 && en->id.mnt != l->lower.mnt && en->where == COW_LOWER ? -EBUSY : e;
}

/* Takes the name out of the upper directory and what it led to out of the index. */
static int remove_upper(struct cow_layer *l, struct cow_pos *dir, const char *name,
                        const struct cow_entry *en)
{
    bool is_dir = S_ISDIR(en->id.mode);
    struct cow_attr a;
    int e = cow_attr_at(dir->upper_fd, name, &a), hold_fd;

    if (e < 0)
        return e;
    hold_fd = cow_quota_hold(l, dir->upper_fd, name, &a);
    if (unlinkat(dir->upper_fd, name, is_dir ? AT_REMOVEDIR : 0) < 0) {
        e = -errno;
        util_closep(&hold_fd);
        return e;
    }
    if (dir->node)
        cow_name_del(l, dir->node, name, NAME_UPPER);
    cow_quota_forget(l, &a, hold_fd);
    if (!en->node)
        return 0;
    if (is_dir)
        cow_node_dead(l, en->node);
    else
        cow_maybe_dead(l, en->node);
    return 0;
}

/* a: of what the name leads to. */
static int remove_lower(struct cow_layer *l, struct cow_pos *dir, const char *name,
                        const struct cow_entry *en, const struct cow_attr *a)
{
    int e = cow_writable_dir(l, dir);

    /* Of what is staged that is the object's; what goes is lower's. */
    if (e == 0)
        e = en->where == COW_LOWER ? cow_whiteout_of(l, dir, name, a) : cow_whiteout(l, dir, name);
    if (e < 0)
        return e;
    if (en->node && !S_ISDIR(en->id.mode))
        cow_maybe_dead(l, en->node);
    return cow_touch(dir);
}

static int unlink_locked(struct cow_layer *l, struct cow_pos *dir, const char *name)
{
    struct cow_entry en;
    struct cow_attr a = {0};
    int e = cow_look(l, dir, name, &en, &a, NULL);

    if (e == 0 && !cow_exists(&en))
        e = -ENOENT;
    if (e == 0)
        e = cow_may_remove(l, dir, &en);
    if (e == 0 && S_ISDIR(en.id.mode))
        e = -EISDIR;
    if (e < 0)
        return e;
    return en.in_upper ? remove_upper(l, dir, name, &en) : remove_lower(l, dir, name, &en, &a);
}

int cow_unlink(struct cow_layer *l, struct cow_pos *dir, const char *name)
{
    pthread_mutex_t *lock = cow_dir_lock(l, dir);
    int e;

    pthread_mutex_lock(lock);
    e = unlink_locked(l, dir, name);
    pthread_mutex_unlock(lock);
    return e;
}

/* A directory of lower that goes needs a node, so that positions in it notice. */
int cow_bury(struct cow_layer *l, struct cow_pos *gone)
{
    char path[PATH_MAX], name[COW_OBJECT_NAME_MAX];
    struct cow_attr a;
    struct cow_node *n = gone->node;
    int e = 0;

    if (!n) {
        e = cow_attr_fd(gone->lower_fd, &a);
        if (e == 0)
            e = cow_lower_name(l, gone->lower_fd, NULL, path);
        if (e == 0)
            e = cow_node_get(l, &a, path, &n);
        if (e < 0)
            return e;
    }
    pthread_mutex_lock(&n->latch);
    if (n->staged && !n->moved) {
        /* Descriptors of its upper side now find it removed, as the kernel would have it. */
        cow_object_name(n, name);
        if (unlinkat(l->objects_fd, name, AT_REMOVEDIR) == 0)
            cow_quota_release(l, COW_NAME_COST);
        else
            e = -errno;
    }
    if (e == 0)
        cow_node_dead(l, n);
    pthread_mutex_unlock(&n->latch);
    return e;
}

static int rmdir_locked(struct cow_layer *l, struct cow_pos *dir, const char *name,
                        const struct cow_entry *en, const struct cow_attr *a, struct cow_pos *gone)
{
    int e = cow_is_empty(l, gone);

    if (e < 0)
        return e;
    if (en->in_upper)
        return remove_upper(l, dir, name, en);
    e = remove_lower(l, dir, name, en, a);
    if (e < 0)
        return e;
    e = cow_bury(l, gone);
    if (e < 0)
        cow_unwhite(l, dir, name);
    return e;
}

int cow_rmdir(struct cow_layer *l, struct cow_pos *dir, const char *name)
{
    _cleanup_cow_pos_ struct cow_pos gone = COW_POS_INIT;
    struct cow_locks locks = {0};
    struct cow_entry en;
    struct cow_attr attr, a = {0};
    int e = cow_find(l, dir, name, &en);

    if (e == 0)
        e = cow_may_remove(l, dir, &en);
    if (e == 0)
        e = cow_enter(l, dir, name, &gone);
    if (e < 0)
        return e;
    cow_locks_add(&locks, cow_dir_lock(l, dir));
    cow_locks_add(&locks, cow_dir_lock(l, &gone));
    cow_locks_take(&locks);
    /* Still the same, now that nobody else changes it? */
    e = cow_look(l, dir, name, &en, &a, NULL);
    if (e == 0)
        e = cow_pos_update(l, &gone);
    if (e == 0)
        e = cow_attr_fd(gone.upper_fd >= 0 ? gone.upper_fd : gone.lower_fd, &attr);
    if (e == 0 && (!cow_exists(&en) || attr.ino != en.id.ino || (gone.node && gone.node->dead)))
        e = -ENOENT;
    if (e == 0)
        e = rmdir_locked(l, dir, name, &en, &a, &gone);
    cow_locks_drop(&locks);
    return e;
}

/* ---- attributes ---- */

static int change_node(struct cow_layer *l, struct cow_node *n, enum cow_need need)
{
    int e = need == COW_NEED_WRITE ? cow_node_may(l, n, W_OK, AT_EACCESS) : 0;

    /* The object is ours although lower's is not: the kernel would let us do anything to it. */
    if (n->has_owner && need == COW_NEED_OWNER && n->uid != geteuid())
        e = -EPERM;
    if (e < 0)
        return e;
    n->attrs = true;
    return cow_object_open(l, n, O_PATH);
}

static int change_lower(struct cow_layer *l, int fd, enum cow_need need, struct cow_node **ret)
{
    struct cow_attr a;
    int e = cow_attr_fd(fd, &a);

    if (e == 0 && need == COW_NEED_WRITE && a.uid != geteuid())
        e = sys_access_fd(fd, W_OK, AT_EACCESS);
    if (e == 0)
        e = cow_stage_fd(l, fd, ret);
    return e == -EXDEV ? -EROFS : e;
}

int cow_change_fd(struct cow_layer *l, int fd, enum cow_need need)
{
    struct cow_node *n = cow_node_of_fd(l, fd);
    int e = 0, own_fd;

    if (!n && cow_fd_is_ours(l, fd)) {
        own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        return own_fd < 0 ? -errno : own_fd;
    }
    if (!n)
        e = change_lower(l, fd, need, &n);
    return e < 0 ? e : change_node(l, n, need);
}
