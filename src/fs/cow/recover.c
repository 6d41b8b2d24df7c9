/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs left behind (ST-03, ST-04): listing, finishing, undoing, dropping. Liveness is the lock,
 * which dies with its process. One thread.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/file.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

#define ORPHANS_MAX 16 /* removed at a time: a start shall not take long */

static bool is_id(const char *name)
{
    return strlen(name) == 16 && strspn(name, "0123456789abcdef") == 16;
}

/* ---- the list ---- */

struct listing {
    int storage_fd;
    int (*each)(const struct cow_info *i, void *arg);
    void *arg;
};

struct sizing {
    int dir_fd;
    uint64_t *bytes;
};

static int add_size(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct sizing *s = arg, down = {.bytes = s->bytes};
    struct cow_attr a;

    (void)ino;
    if (cow_attr_at(s->dir_fd, name, &a) < 0)
        return 0;
    *s->bytes += a.blocks * 512;
    if (type != DT_DIR)
        return 0;
    down.dir_fd = sys_open_path(s->dir_fd, name, O_DIRECTORY | O_NOFOLLOW);
    if (down.dir_fd >= 0) {
        cow_each_name(down.dir_fd, add_size, &down);
        util_close(down.dir_fd);
    }
    return 0;
}

/* Past the point of no return? Also where another layer of a transaction holds the decision. */
static int is_decided(struct cow_layer *l, struct cow_journal *j)
{
    struct cow_attr a;
    int e = cow_journal_read(l, j);

    if (e == -ENOENT)
        return cow_has_mark(l, "commit") ? 1 : 0; /* done: the storage was being removed */
    if (e == -ENODATA || e == -EBADMSG)
        return cow_has_mark(l, "commit") ? -EBADMSG : 0; /* it was complete before the decision */
    if (e < 0)
        return e;
    e = cow_attr_at(AT_FDCWD, j->coordinator, &a);
    return e == 0 ? 1 : e == -ENOENT ? 0 : e;
}

/* Its run died while it was being made, or while the storage was being removed. */
static bool is_unborn(const struct cow_layer *l, int opened)
{
    return l->lock_fd >= 0 && ((opened == -ENOENT && l->index_fd < 0) || opened == -ENODATA);
}

static int list_one(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct listing *s = arg;
    struct cow_info i = {0};
    struct cow_journal j = {0};
    struct cow_layer *l;
    int e;

    (void)type, (void)ino;
    if (!is_id(name))
        return 0;
    snprintf(i.id, sizeof(i.id), "%s", name);
    e = cow_open_header(s->storage_fd, name, &l);
    if (!l)
        return e;
    if (e == -EBUSY)
        i.state = COW_LIVE;
    else if (e < 0 && e != -ESTALE && !is_unborn(l, e))
        i.state = COW_BROKEN;
    else if ((e == 0 && is_decided(l, &j) > 0) || (is_unborn(l, e) && cow_has_mark(l, "commit")))
        i.state = COW_INTERRUPTED; /* or done: its storage was being removed */
    else
        i.state = l->kept ? COW_KEPT : COW_ORPHAN;
    i.lower = STEAL_PTR(l->lower_path);
    i.command = STEAL_PTR(l->command);
    i.reason = is_unborn(l, e) ? strdup("empty") : STEAL_PTR(l->reason);
    i.created = l->created;
    if (l->storage_fd >= 0) {
        struct sizing z = {.dir_fd = l->storage_fd, .bytes = &i.bytes};

        cow_each_name(l->storage_fd, add_size, &z);
    }
    cow_journal_fini(&j);
    cow_free(l); /* and its lock, so that `each` may recover it */
    e = s->each(&i, s->arg);
    free(i.lower);
    free(i.command);
    free(i.reason);
    return e;
}

int cow_storage_list(int storage_fd, int (*each)(const struct cow_info *i, void *arg), void *arg)
{
    struct listing s = {.storage_fd = storage_fd, .each = each, .arg = arg};

    return cow_each_name(storage_fd, list_one, &s);
}

/* ---- orphans ---- */

struct orphans {
    int storage_fd;
    size_t n;
    struct cow_layer *v[ORPHANS_MAX]; /* locked, so ours to remove */
};

static int claim_orphan(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct orphans *o = arg;
    struct cow_journal j = {0};
    struct cow_layer *l;
    int e;

    (void)type, (void)ino;
    if (!is_id(name))
        return 0;
    e = cow_open_header(o->storage_fd, name, &l);
    if (l && l->lock_fd >= 0 && !l->kept && (is_unborn(l, e) || (e == 0 && is_decided(l, &j) == 0)))
        o->v[o->n++] = l;
    else
        cow_free(l);
    cow_journal_fini(&j);
    return o->n == ORPHANS_MAX;
}

void cow_clean_storage(int storage_fd)
{
    struct orphans o = {.storage_fd = storage_fd};

    /* Not while somebody is making a layer, which has no lock yet: see layer_make_locked(). */
    if (flock(storage_fd, LOCK_EX | LOCK_NB) < 0)
        return;
    (void)cow_each_name(storage_fd, claim_orphan, &o);
    (void)flock(storage_fd, LOCK_UN);
    for (size_t i = 0; i < o.n; i++) {
        if (!o.v[i]->lower_path || cow_journal_undo(o.v[i]) == 0)
            (void)cow_remove_layer(o.v[i]);
        cow_free(o.v[i]);
    }
}

/* ---- going forward ---- */

static int recover_path(const char *path, struct cow_report *report, struct error *err);

/* The layer with the decision waits for the others of its transaction. */
static int recover_others(struct cow_layer *l, struct cow_journal *j, struct cow_report *report,
                          struct error *err)
{
    const char *at = j->participants;
    struct cow_attr a;
    int e = 0;

    if (!at || strcmp(at, l->storage_path) != 0)
        return 0; /* not the first */
    for (at += strlen(at) + 1; *at && e == 0; at += strlen(at) + 1) {
        if (cow_attr_at(AT_FDCWD, at, &a) != -ENOENT)
            e = recover_path(at, report, err);
    }
    return e;
}

static int forward(struct cow_layer *l, struct cow_journal *j, struct cow_report *report,
                   struct error *err)
{
    int lock_fd, e;

    if (!j->coordinator) { /* all was done, the storage was going */
        e = cow_limbo_remove(l);
        return e < 0 ? e : cow_remove_layer(l);
    }
    lock_fd = cow_lower_lock(l, l->commit_wait_ms);
    if (lock_fd < 0)
        return lock_fd;
    e = cow_finish(&j->plan, lock_fd, j->n_participants == 1, report);
    util_close(lock_fd);
    if (e == 0)
        e = recover_others(l, j, report, err);
    return e < 0 ? e : cow_remove_layer(l);
}

#define ROLLING_BACK "rollback" /* exists: no way forward any more */

static int rollback(struct cow_layer *l, struct cow_journal *j, struct cow_report *report)
{
    int lock_fd, e;

    if (!j->coordinator)
        return cow_has_mark(l, ROLLING_BACK) ? cow_remove_layer(l) : -EALREADY;
    if (!l->backup)
        return -EOPNOTSUPP;
    if (j->n_participants > 1)
        return -EXDEV;
    lock_fd = cow_lower_lock(l, l->commit_wait_ms);
    if (lock_fd < 0)
        return lock_fd;
    e = cow_mark(l, ROLLING_BACK, true);
    if (e == 0)
        e = cow_undo(j, report);
    if (e == 0)
        e = cow_limbo_remove(l);
    if (e == 0 && syncfs(lock_fd) < 0)
        e = -errno;
    util_close(lock_fd);
    if (e == 0)
        e = cow_journal_done(l);
    return e < 0 ? e : cow_remove_layer(l);
}

static int recover_layer(struct cow_layer *l, int opened, struct cow_report *report,
                         enum cow_recover_what what, struct error *err)
{
    struct cow_journal j = {0};
    int e = opened, decided;

    if (is_unborn(l, e) && what == COW_RECOVER_ROLLBACK && !cow_has_mark(l, ROLLING_BACK))
        return cow_has_mark(l, "commit") ? -EALREADY : -ENODATA;
    if (is_unborn(l, e))
        return cow_remove_layer(l);
    if (e < 0)
        return what == COW_RECOVER_DROP && e != -EBUSY ? cow_remove_layer(l) : e;
    decided = is_decided(l, &j);
    if (decided > 0 && (what == COW_RECOVER_ROLLBACK || cow_has_mark(l, ROLLING_BACK))) {
        e = rollback(l, &j, report);
    } else if (decided > 0) {
        e = what == COW_RECOVER_DROP ? -EINPROGRESS : forward(l, &j, report, err);
    } else if (what == COW_RECOVER_ROLLBACK) {
        e = decided < 0 ? decided : -ENODATA;
    } else {
        e = decided < 0 ? decided : cow_journal_undo(l);
        if (e == 0 && (what == COW_RECOVER_DROP || (what == COW_RECOVER_AUTO && !l->kept)))
            e = cow_remove_layer(l);
        else if (e == 0 && what == COW_RECOVER_COMMIT)
            e = 1; /* to be opened as a whole */
    }
    cow_journal_fini(&j);
    return e;
}

static const char *recover_text(int e, enum cow_recover_what what)
{
    if (e == -EBUSY)
        return "in use";
    if (e == -EINPROGRESS)
        return "its commit has begun and must be finished, or rolled back where it has a backup";
    if (e == -EPROTONOSUPPORT)
        return "is of a newer release, which is needed for it";
    if (what == COW_RECOVER_ROLLBACK && e == -EOPNOTSUPP)
        return "there is no backup (--commit-backup) to roll back to: it can only be finished";
    if (what == COW_RECOVER_ROLLBACK && e == -ENODATA)
        return "no commit of it has begun: --abort drops it";
    if (what == COW_RECOVER_ROLLBACK && e == -EALREADY)
        return "its commit is complete";
    if (what == COW_RECOVER_ROLLBACK && e == -EXDEV)
        return "is committed together with other work directories: it can only be finished";
    return error_text(e);
}

static int check_id(int storage_fd, const char *id, struct error *err)
{
    struct cow_attr a;

    if (!is_id(id))
        return error_set(err, ERROR_SETUP, -EINVAL, id,
                         "is not the name of a layer, as `sandlock recover` lists them");
    if (cow_attr_at(storage_fd, id, &a) == -ENOENT)
        return error_set(err, ERROR_SETUP, -ENOENT, id, "there is no such layer");
    return 0;
}

int cow_recover(int storage_fd, const char *id, enum cow_recover_what what,
                struct cow_report *report, struct error *err)
{
    struct cow_layer *l = NULL;
    int e = check_id(storage_fd, id, err);

    if (e < 0)
        return e;
    e = cow_open_header(storage_fd, id, &l);
    if (l)
        e = recover_layer(l, e, report, what, err);
    cow_free(l);
    if (e == 1) {
        e = cow_open_existing(storage_fd, id, &l, err);
        if (e < 0)
            return e;
        e = cow_commit(&l, 1, report, err);
        cow_free(l);
        return e;
    }
    return e < 0 ? error_set(err, ERROR_SETUP, e, id, "%s", recover_text(e, what)) : 0;
}

int cow_show(int storage_fd, const char *id, enum cow_show how, cow_flush *flush, struct buf *out,
             struct error *err)
{
    struct cow_changes c = {0};
    struct cow_journal j = {0};
    struct cow_layer *l = NULL;
    int e = check_id(storage_fd, id, err);

    if (e < 0)
        return e;
    e = cow_open_existing(storage_fd, id, &l, err);
    if (e < 0)
        return e;
    e = is_decided(l, &j);
    if (e == 0)
        e = cow_changes(l, &c);
    else if (e > 0)
        e = -EINPROGRESS;
    if (e == 0 && how == COW_SHOW_LIST)
        e = cow_changes_text(l, &c, out);
    else if (e == 0 && how == COW_SHOW_DIFF)
        e = cow_changes_diff(l, &c, COW_DIFF_MAX, flush, out);
    else if (e == 0)
        cow_changes_json(&c, out);
    cow_changes_fini(&c);
    cow_journal_fini(&j);
    cow_free(l);
    if (e == -EINPROGRESS)
        return error_set(err, ERROR_SETUP, e, id, "its commit has begun");
    return e < 0 ? error_set(err, ERROR_SETUP, e, id, "%s", error_text(e)) : 0;
}

static int recover_path(const char *path, struct cow_report *report, struct error *err)
{
    const char *id = strrchr(path, '/');
    char holder[PATH_MAX];
    int fd, e;

    if (!id || (size_t)(id - path) >= sizeof(holder))
        return -EBADMSG;
    memcpy(holder, path, (size_t)(id - path));
    holder[id - path] = '\0';
    fd = openat(AT_FDCWD, holder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    e = cow_recover(fd, id + 1, COW_RECOVER_AUTO, report, err);
    util_close(fd);
    return e;
}
