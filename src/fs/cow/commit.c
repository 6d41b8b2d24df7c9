/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commit (CM-01) of one layer or of several together (TX-04), in the order
 *   1. lock the work directories; conflicts; the plan: nothing has happened
 *   2. journal with the plan, bodies copied where storage and lower differ, all synced
 *   3. the file `commit` in the first layer, synced: the point of no return, for all of them
 *   4. the steps; sync; the storage goes, the first layer's last
 * Interrupted before 3, recovery takes 2 back. After it, recovery repeats 4. One thread, the run is over.
 */
#include <stdio.h>
#include <sys/file.h>
#include <time.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

#define LOCK_PAUSE_MS 20

struct member {
    struct cow_layer *l;
    struct cow_plan plan;
    int lock_fd; /* lower, open for flock and syncfs */
    bool journal;
};

void cow_report_fini(struct cow_report *r)
{
    buf_fini(&r->conflicts);
    buf_fini(&r->notes);
}

/* ---- locks ---- */

/* Descriptor or -errno. Members of one transaction may share a work directory's lock only with
 * themselves: two layers over one directory are -EDEADLK. */
int cow_lower_lock(struct cow_layer *l, int wait_ms)
{
    int fd = openat(l->lower_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000};

    if (fd < 0)
        return -errno;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int e = -errno;

        if (e == -EINTR)
            continue;
        if (e != -EWOULDBLOCK || wait_ms <= 0) {
            util_close(fd);
            return e == -EWOULDBLOCK ? -EBUSY : e;
        }
        nanosleep(&pause, NULL);
        wait_ms -= LOCK_PAUSE_MS;
    }
    return fd;
}

/* In one order whatever the caller's, so that two transactions do not wait for each other. */
static int lock_order(const void *a, const void *b)
{
    const struct cow_layer *x = (*(struct member *const *)a)->l,
                           *y = (*(struct member *const *)b)->l;

    if (x->lower.dev != y->lower.dev)
        return x->lower.dev < y->lower.dev ? -1 : 1;
    return x->lower.ino < y->lower.ino ? -1 : x->lower.ino > y->lower.ino;
}

static int lock_all(struct member *m, size_t n, struct error *err)
{
    struct member **order = calloc(n, sizeof(struct member *));
    int e = order ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && e == 0; i++)
        order[i] = &m[i];
    if (e == 0)
        qsort(order, n, sizeof(struct member *), lock_order);
    for (size_t i = 0; i < n && e == 0; i++) {
        if (i > 0 && lock_order(&order[i - 1], &order[i]) == 0) {
            e = -EDEADLK;
            break;
        }
        order[i]->lock_fd = cow_lower_lock(order[i]->l, order[i]->l->commit_wait_ms);
        e = order[i]->lock_fd < 0 ? order[i]->lock_fd : 0;
    }
    free(order);
    if (e < 0)
        error_set(err, ERROR_SETUP, e, m[0].l->lower_path, "%s",
                  e == -EBUSY ? "another commit holds the work directory" : error_text(e));
    return e;
}

/* ---- before the point of no return ---- */

static int prepare(struct member *m, struct cow_report *report)
{
    if (m->l->broken)
        return -EIO;
    if (!report->ours) {
        int e = cow_conflicts(m->l, report);

        if (e < 0)
            return e;
    }
    return cow_plan_make(m->l, report, &m->plan);
}

static int sync_fd(int fd)
{
    return syncfs(fd) < 0 ? -errno : 0;
}

static int write_journals(struct member *m, size_t n, struct cow_layer *const *layers)
{
    char coordinator[PATH_MAX];
    int e = 0;

    if (snprintf(coordinator, sizeof(coordinator), "%s/commit", layers[0]->storage_path) >=
        (int)sizeof(coordinator))
        return -ENAMETOOLONG;
    for (size_t i = 0; i < n && e == 0; i++) {
        m[i].journal = true;
        e = cow_journal_write(&m[i].plan, coordinator, layers, n);
        if (e == 0)
            e = cow_stage_bodies(&m[i].plan);
        if (e == 0)
            e = sync_fd(m[i].l->storage_fd);
        if (e == 0 && !m[i].l->same_fs)
            e = sync_fd(m[i].lock_fd);
    }
    return e;
}

int cow_journal_undo(struct cow_layer *l)
{
    struct cow_journal j = {0};
    bool known = !l->same_fs && cow_journal_read(l, &j) == 0;
    int limbo_fd = known ? cow_limbo_open(l, false) : -1;
    int e = cow_limbo_remove(l);

    /* The limbo lay in lower's root, which looks as before. */
    if (e == 0 && limbo_fd >= 0)
        e = cow_set_times(l->lower_fd, &j.root);
    if (limbo_fd >= 0)
        util_close(limbo_fd);
    if (known) {
        int closed = cow_close_sources(&j.plan);

        e = e < 0 ? e : closed;
        cow_journal_fini(&j);
    }
    if (e == 0 && unlinkat(l->storage_fd, "journal", 0) < 0 && errno != ENOENT)
        e = -errno;
    return e;
}

/* The point of no return. When it fails it is not passed, unless even taking it back fails. */
static int decide(struct cow_layer *first, bool *ret_passed)
{
    int fd = openat(first->storage_fd, "commit", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    int e = 0;

    if (fd < 0)
        return -errno;
    if (fsync(fd) < 0 || fsync(first->storage_fd) < 0)
        e = -errno;
    util_close(fd);
    if (e == 0)
        *ret_passed = true;
    else if (unlinkat(first->storage_fd, "commit", 0) < 0)
        *ret_passed = true;
    return e;
}

/* ---- after it ---- */

int cow_finish(struct cow_plan *p, int lower_fd, bool alone, struct cow_report *report)
{
    int e = cow_apply(p, report);

    /* Before anything goes that a rollback would need. */
    if (e == 0 && alone && p->l->backup) {
        e = sync_fd(lower_fd);
        if (e == 0)
            e = cow_journal_done(p->l);
    }
    if (e == 0)
        e = cow_limbo_remove(p->l);
    if (e == 0)
        e = sync_fd(lower_fd);
    return e;
}

static int apply_all(struct member *m, size_t n, struct cow_report *report)
{
    int e = 0;

    for (size_t i = 0; i < n && e == 0; i++)
        e = cow_finish(&m[i].plan, m[i].lock_fd, n == 1, report);
    for (size_t i = n; i > 0 && e == 0; i--)
        e = cow_remove_layer(m[i - 1].l);
    return e;
}

static int commit_members(struct member *m, size_t n, struct cow_layer *const *layers,
                          struct cow_report *report, struct error *err)
{
    size_t steps = 0;
    bool passed = false;
    int e = lock_all(m, n, err);

    if (e < 0)
        return e;
    for (size_t i = 0; i < n && e == 0; i++) {
        e = prepare(&m[i], report);
        steps += m[i].plan.n;
    }
    if (e == 0 && report->n_conflicts)
        return error_set(err, ERROR_SETUP, -ESTALE, layers[0]->lower_path,
                         "%zu paths were changed by others meanwhile: nothing is committed",
                         report->n_conflicts);
    if (e == 0 && steps) {
        e = write_journals(m, n, layers);
        if (e == 0)
            e = decide(layers[0], &passed);
    }
    if (e < 0 && !passed) {
        for (size_t i = 0; i < n; i++) {
            if (m[i].journal)
                cow_journal_undo(m[i].l);
        }
        return error_set(err, ERROR_SETUP, e, layers[0]->lower_path, "nothing is committed: %s",
                         error_text(e));
    }
    if (e == 0)
        e = apply_all(m, n, report);
    if (e < 0)
        return error_set(err, ERROR_SETUP, e, layers[0]->storage_path,
                         "the commit was interrupted (%s); `sandlock recover` finishes it%s",
                         error_text(e), n == 1 && layers[0]->backup ? ", or takes it back" : "");
    return 0;
}

/* The index of a layer whose work directory one before it has as well, or n. */
static size_t same_lower(struct cow_layer *const *layers, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            if (layers[k]->lower.dev == layers[i]->lower.dev &&
                layers[k]->lower.ino == layers[i]->lower.ino)
                return i;
        }
    }
    return n;
}

int cow_commit(struct cow_layer *const *layers, size_t n, struct cow_report *report,
               struct error *err)
{
    size_t same = same_lower(layers, n);
    struct member *m = calloc(n ? n : 1, sizeof(*m));
    int e;

    if (same < n) {
        free(m);
        return error_set(err, ERROR_SETUP, -EINVAL, layers[same]->lower_path,
                         "is the work directory of two of them; accepted is one each");
    }
    for (size_t i = 0; i < n; i++) {
        if (cow_is_shared(layers[i])) {
            free(m);
            return error_set(err, ERROR_SETUP, -EPERM, layers[i]->lower_path,
                             "is of an image, shared between runs: nothing is committed to it");
        }
    }
    if (!m)
        return error_set(err, ERROR_SETUP, -ENOMEM, "", "out of memory");
    for (size_t i = 0; i < n; i++) {
        m[i].l = layers[i];
        m[i].lock_fd = -1;
    }
    e = n ? commit_members(m, n, layers, report, err) : 0;
    for (size_t i = 0; i < n; i++) {
        cow_plan_fini(&m[i].plan);
        if (m[i].lock_fd >= 0)
            util_close(m[i].lock_fd);
    }
    free(m);
    return e;
}
