/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the layer takes up (RD-01, QT-01). Any thread. Without a quota nothing is counted. Files that
 * were handed out for writing are remembered by inode and compared with what was counted for them.
 */
#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

#define OPENS_MAX 4096 /* files remembered; the ones that rest are let go first */
#define OPENS_STILL 3

int cow_quota_reserve(struct cow_layer *l, uint64_t bytes)
{
    if (!l->max_bytes)
        return 0;
    if (bytes > INT64_MAX / 2)
        return -ENOSPC;
    if ((uint64_t)(atomic_fetch_add(&l->used, (int64_t)bytes) + (int64_t)bytes) <= l->max_bytes)
        return 0;
    atomic_fetch_sub(&l->used, (int64_t)bytes);
    return -ENOSPC;
}

void cow_quota_release(struct cow_layer *l, uint64_t bytes)
{
    if (l->max_bytes)
        atomic_fetch_sub(&l->used, (int64_t)bytes);
}

uint64_t cow_quota_used(struct cow_layer *l)
{
    int64_t used = l->used;

    return used > 0 ? (uint64_t)used : 0;
}

uint64_t cow_quota_room(struct cow_layer *l)
{
    uint64_t used = cow_quota_used(l);

    if (!l->max_bytes)
        return UINT64_MAX;
    return used < l->max_bytes ? l->max_bytes - used : 0;
}

/* ---- files that are open for writing ---- */

static void open_count(struct cow_layer *l, struct cow_open *o)
{
    struct cow_attr a;
    int64_t now;

    if (cow_attr_fd(o->fd, &a) < 0)
        return;
    now = (int64_t)a.blocks * 512;
    o->still = now == o->counted ? o->still + 1 : 0;
    atomic_fetch_add(&l->used, now - o->counted);
    o->counted = now;
}

/* Lets go of files that rest: only the descriptor; what was counted stays counted. */
static void opens_trim(struct cow_layer *l)
{
    struct cow_open **p = &l->opens;

    while (*p) {
        struct cow_open *o = *p;

        open_count(l, o);
        if (o->still >= OPENS_STILL && o->fd >= 0) {
            *p = o->next;
            cow_map_put(&l->open, o->ino, NULL);
            util_close(o->fd);
            free(o);
            l->n_opens--;
        } else {
            p = &o->next;
        }
    }
}

static int open_add(struct cow_layer *l, int fd, const struct cow_attr *a)
{
    struct cow_open *o;
    int e;

    if (l->n_opens >= OPENS_MAX)
        opens_trim(l);
    if (l->n_opens >= OPENS_MAX)
        return -ENFILE;
    o = calloc(1, sizeof(*o));
    if (!o)
        return -ENOMEM;
    o->ino = a->ino;
    o->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    e = o->fd < 0 ? -errno : cow_map_put(&l->open, a->ino, o);
    if (e < 0) {
        util_close(o->fd);
        free(o);
        return e;
    }
    o->counted = 0;
    o->next = l->opens;
    l->opens = o;
    l->n_opens++;
    open_count(l, o);
    return 0;
}

int cow_quota_open(struct cow_layer *l, int fd)
{
    struct cow_attr a;
    int e;

    if (!l->max_bytes)
        return 0;
    e = cow_attr_fd(fd, &a);
    if (e < 0 || !S_ISREG(a.mode))
        return e;
    pthread_mutex_lock(&l->quota);
    if (!cow_map_get(&l->open, a.ino))
        e = open_add(l, fd, &a);
    pthread_mutex_unlock(&l->quota);
    return e;
}

bool cow_quota_sample(struct cow_layer *l)
{
    if (!l->max_bytes)
        return false;
    pthread_mutex_lock(&l->quota);
    for (struct cow_open *o = l->opens; o; o = o->next)
        open_count(l, o);
    pthread_mutex_unlock(&l->quota);
    return cow_quota_used(l) >= l->max_bytes;
}

void cow_quota_forget(struct cow_layer *l, const struct cow_attr *a)
{
    struct cow_open **p = &l->opens, *o;

    if (!l->max_bytes)
        return;
    atomic_fetch_sub(&l->used, COW_NAME_COST);
    if (a->nlink > 1 || !S_ISREG(a->mode))
        return;
    pthread_mutex_lock(&l->quota);
    while (*p && (*p)->ino != a->ino)
        p = &(*p)->next;
    o = *p;
    if (o) {
        *p = o->next;
        cow_map_put(&l->open, a->ino, NULL);
        atomic_fetch_sub(&l->used, o->counted);
        util_close(o->fd);
        free(o);
        l->n_opens--;
    } else {
        atomic_fetch_sub(&l->used, (int64_t)a->blocks * 512);
    }
    pthread_mutex_unlock(&l->quota);
}

void cow_quota_fini(struct cow_layer *l)
{
    while (l->opens) {
        struct cow_open *o = l->opens;

        l->opens = o->next;
        util_close(o->fd);
        free(o);
    }
    cow_map_fini(&l->open);
}
