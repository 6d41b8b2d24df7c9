/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is it denied? By (device, inode), by place, and by walking up. Asked by receivers in parallel, about
 * descriptors that resolve_path() made. What cannot be decided is denied.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fs/cow/layer.h"
#include "fs/deny_set.h"
#include "fs/place.h"

/* Directories are moved by others at any time: places older than this are read again. */
#define DENY_PLACE_NS 20000000ull
/* A mount known to lie outside every denied tree is asked again after this. */
#define DENY_MOUNT_NS 1000000000ull

static uint64_t deny_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* ---- places ---- */

static void deny_set_place(char **place, const char *now)
{
    if (*place && strcmp(*place, now) == 0)
        return;
    free(*place);
    *place = strdup(now); /* NULL when out of memory: then everything matches */
}

/* Others may delete the directory and make it anew: then the path is what was meant. The sandbox
 * cannot (deny_keeps). */
static void deny_reopen(struct deny_entry *e)
{
    struct deny_entry now = {.dir_fd = -1};
    struct sys_ident id;
    size_t off;
    char *rest;

    if (sys_identify(e->dir_fd, &id) < 0 || id.nlink != 0)
        return;
    if (deny_open_dir(&now, e->path, &off) < 0 || !(rest = strdup(e->path + off))) {
        util_close(now.dir_fd);
        return;
    }
    util_close(e->dir_fd);
    free(e->rest);
    e->dir_fd = now.dir_fd;
    e->dir = now.dir;
    e->rest = rest;
}

static void deny_refresh_entry(struct deny_entry *e)
{
    char dir[PATH_MAX], place[2 * PATH_MAX];
    ssize_t n;

    if (e->dir_fd < 0)
        return;
    deny_reopen(e);
    n = fd_location(e->dir_fd, dir, sizeof(dir));
    if (n >= 0) {
        snprintf(place, sizeof(place), "%s%s%s", dir, n == 1 || !*e->rest ? "" : "/", e->rest);
        deny_set_place(&e->place[0], place);
    }
    n = e->obj_fd < 0 ? -1 : fd_location(e->obj_fd, dir, sizeof(dir));
    if (n >= 0 && dir[0] == '/')
        deny_set_place(&e->place[1], dir);
    else if (e->place[0])
        deny_set_place(&e->place[1], e->place[0]);
}

/* Read-locks the set with places that are fresh. */
static void deny_lock_fresh(struct deny *d)
{
    for (;;) {
        pthread_rwlock_rdlock(&d->lock);
        if (deny_now() < atomic_load(&d->places_until))
            return;
        pthread_rwlock_unlock(&d->lock);
        pthread_rwlock_wrlock(&d->lock);
        unsigned moves = atomic_load(&d->moves);
        for (size_t i = 0; i < d->n; i++)
            deny_refresh_entry(&d->v[i]);
        atomic_store(&d->places_until, deny_now() + DENY_PLACE_NS);
        if (atomic_load(&d->moves) != moves)
            atomic_store(&d->places_until, 0); /* a directory moved while we read */
        /* While one is being moved the places are good for this question only. */
        if (moves & 1)
            return;
        pthread_rwlock_unlock(&d->lock);
    }
}

/* Renames of directories by the sandbox are rare: one at a time keeps the count simple. */
void deny_rename_begin(struct deny *d)
{
    pthread_mutex_lock(&d->rename_lock);
    atomic_fetch_add(&d->moves, 1);
    atomic_store(&d->places_until, 0);
}

void deny_rename_end(struct deny *d)
{
    atomic_fetch_add(&d->moves, 1);
    atomic_store(&d->places_until, 0);
    pthread_mutex_unlock(&d->rename_lock);
}

/* Is `path` the place `place` or beneath it? */
static bool deny_beneath(const char *path, const char *place)
{
    size_t n;

    if (!place)
        return true; /* unknown: refuse */
    n = strlen(place);
    if (n == 1 && place[0] == '/')
        return true;
    return strncmp(path, place, n) == 0 &&
           (path[n] == '\0' || path[n] == '/' || strcmp(path + n, PLACE_MARK) == 0);
}

/* ---- in the layer of --workdir ---- */

void deny_set_layer(struct deny *d, struct cow_layer *layer)
{
    d->layer = layer;
}

/* Where an object is: in the view, if the layer has it. What has no name there is where the kernel says:
 * a file of the layer's own without a name is in no place that could be denied. */
static ssize_t deny_location(const struct deny *d, int fd, char *buf, size_t size)
{
    ssize_t n = d->layer ? cow_place(d->layer, fd, buf, size) : -EXDEV;

    return n == -EXDEV || n == -ENOENT || n == -ESTALE ? fd_location(fd, buf, size) : n;
}

/* An object of the layer's own: what is denied is never staged, so it can only be in a denied place. */
static bool deny_is_staged(const struct deny *d, int fd, const struct sys_ident *id)
{
    return d->layer && cow_stores(d->layer, fd, id);
}

static int deny_place(struct deny *d, const char *path)
{
    int hit = 0;

    deny_lock_fresh(d);
    for (size_t i = 0; !hit && i < d->n; i++)
        hit = d->v[i].dir_fd >= 0 &&
              (deny_beneath(path, d->v[i].place[0]) || deny_beneath(path, d->v[i].place[1]));
    pthread_rwlock_unlock(&d->lock);
    return hit;
}

int deny_is_above(struct deny *d, int dir_fd)
{
    char path[PATH_MAX];
    ssize_t n = deny_location(d, dir_fd, path, sizeof(path));
    int hit = 0;

    if (n < 0)
        return 1;
    deny_lock_fresh(d);
    for (size_t i = 0; !hit && i < d->n; i++) {
        const struct deny_entry *e = &d->v[i];

        hit = e->dir_fd >= 0 && (!e->place[0] || !e->place[1] || deny_beneath(e->place[0], path) ||
                                 deny_beneath(e->place[1], path));
    }
    pthread_rwlock_unlock(&d->lock);
    return hit;
}

int deny_keeps(struct deny *d, int dir_fd, const struct sys_ident *dir)
{
    _cleanup_cow_pos_ struct cow_pos p = COW_POS_INIT;
    struct sys_ident lower;
    int hit = 0;

    /* Entries know lower's directories. */
    if (d->layer && cow_pos_of_fd(d->layer, dir_fd, &p) == 0 && p.lower_fd >= 0 &&
        sys_identify(p.lower_fd, &lower) == 0)
        dir = &lower;
    pthread_rwlock_rdlock(&d->lock);
    for (size_t i = 0; !hit && i < d->n; i++)
        hit = d->v[i].dir_fd >= 0 && sys_ident_same(&d->v[i].dir, dir);
    pthread_rwlock_unlock(&d->lock);
    return hit;
}

/* ---- identities ---- */

static bool deny_is_identity(const struct deny *d, const struct sys_ident *id)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct deny_entry *e = &d->v[i];

        if ((e->obj_fd >= 0 && sys_ident_same(&e->id, id)) ||
            (e->link_fd >= 0 && sys_ident_same(&e->link, id)))
            return true;
    }
    return false;
}

struct deny_walk {
    struct deny *d;
    const char *name; /* of the step below, only known for the first */
};

static int deny_visit(int dir_fd, const struct sys_ident *id, void *arg)
{
    struct deny_walk *w = arg;
    int hit = deny_is_identity(w->d, id);

    (void)dir_fd;
    if (hit || !w->name)
        return hit;
    pthread_rwlock_rdlock(&w->d->lock);
    for (size_t i = 0; !hit && i < w->d->n; i++)
        hit = sys_ident_same(&w->d->v[i].dir, id) && strcmp(w->d->v[i].rest, w->name) == 0;
    pthread_rwlock_unlock(&w->d->lock);
    w->name = NULL;
    return hit;
}

/* ---- mounts ---- */

/* Everything denied was reached through this very mount: then places are exact, since within one
 * mount an object has one spelling. */
static bool deny_same_mount(struct deny *d, uint64_t mnt)
{
    bool same = true;

    pthread_rwlock_rdlock(&d->lock);
    for (size_t i = 0; same && i < d->n; i++) {
        const struct deny_entry *e = &d->v[i];

        same = (e->dir_fd < 0 || e->dir.mnt == mnt) && (e->obj_fd < 0 || e->id.mnt == mnt);
    }
    pthread_rwlock_unlock(&d->lock);
    return same;
}

static bool deny_mount_known(struct deny *d, const struct sys_ident *id)
{
    uint64_t now = deny_now();
    bool known = false;

    pthread_rwlock_rdlock(&d->lock);
    for (size_t i = 0; !known && i < DENY_MOUNTS; i++)
        known =
            d->mounts[i].mnt == id->mnt && d->mounts[i].dev == id->dev && now < d->mounts[i].until;
    pthread_rwlock_unlock(&d->lock);
    return known;
}

/* A walk from this mount found nothing: true for the whole of it, when it shows another file system
 * than every denied object, since then only what is above its root could have been denied. */
static void deny_mount_learn(struct deny *d, const struct sys_ident *id)
{
    bool other = true;

    pthread_rwlock_wrlock(&d->lock);
    for (size_t i = 0; other && i < d->n; i++) {
        const struct deny_entry *e = &d->v[i];

        other = (e->obj_fd < 0 || e->id.dev != id->dev) && (e->dir_fd < 0 || e->dir.dev != id->dev);
    }
    if (other)
        d->mounts[d->next_mount++ % DENY_MOUNTS] = (struct deny_mount){
            .mnt = id->mnt, .dev = id->dev, .until = deny_now() + DENY_MOUNT_NS};
    pthread_rwlock_unlock(&d->lock);
}

static int deny_ascend(struct deny *d, int dir_fd, const char *name, const struct sys_ident *id)
{
    struct deny_walk w = {.d = d, .name = name};
    int r;

    if (deny_mount_known(d, id))
        return 0;
    r = place_ascend(dir_fd, deny_visit, &w);
    if (r == 0)
        deny_mount_learn(d, id);
    return r != 0;
}

/* ---- questions ---- */

int deny_object(struct deny *d, int fd, const struct sys_ident *id, int parent_fd, const char *name)
{
    _cleanup_close_ int found_fd = -1;
    char path[PATH_MAX];

    if (deny_is_identity(d, id))
        return 1;
    /* Also when it lies deeper than a path can say. */
    if (deny_location(d, fd, path, sizeof(path)) < 0)
        return 1;
    if (path[0] != '/')
        return 0; /* a pipe, a socket, an anonymous inode: no path leads to it */
    if (deny_place(d, path))
        return 1;
    if (deny_is_staged(d, fd, id) || deny_same_mount(d, id->mnt))
        return 0;
    if (parent_fd < 0 || !name || !*name) {
        found_fd = place_parent(fd, id);
        if (found_fd < 0) {
            found_fd = -1;
            if (S_ISDIR(id->mode))
                return deny_ascend(d, fd, NULL, id);
            /* Without a name nothing but a descriptor leads to it: judged when it was opened. */
            return id->nlink != 0 && !deny_mount_known(d, id);
        }
        parent_fd = found_fd;
        name = strrchr(path, '/') + 1;
    }
    return deny_ascend(d, parent_fd, name, id);
}

int deny_name(struct deny *d, int parent_fd, const char *name)
{
    char path[PATH_MAX + NAME_MAX + 2];
    struct sys_ident id;
    ssize_t n = deny_location(d, parent_fd, path, PATH_MAX);

    if (n < 0 || sys_identify(parent_fd, &id) < 0 || deny_is_identity(d, &id))
        return 1;
    if (path[0] != '/')
        return 1;
    snprintf(path + n, sizeof(path) - (size_t)n, "%s%s", n == 1 ? "" : "/", name);
    if (deny_place(d, path))
        return 1;
    if (deny_is_staged(d, parent_fd, &id) || deny_same_mount(d, id.mnt))
        return 0;
    return deny_ascend(d, parent_fd, name, &id);
}
