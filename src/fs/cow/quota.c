/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the layer takes up (RD-01, QT-01, QT-02). Any thread. Without a quota nothing is counted.
 *
 * `used` is COW_NAME_COST a name and, for each file that was ever opened for writing, what is counted
 * for its inode: what it occupied when it was looked at last, plus what the call that was let go then
 * may add. So each look is O(1) and nothing has to be known about when a call ends. What was counted
 * wrongly (calls in flight, descriptors exchanged while they are looked at) cow_quota_sample() puts
 * right, from the whole layer.
 */
#include <dirent.h>

#include "fs/cow/internal.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

#define BLOCK 4096u
#define GONE_TRIES 3
#define GONE_MAX 256         /* files without a name that are watched */
#define DEPTH_MAX 2048       /* of directories that a sample goes into: more than a path can name */
#define INDEX_FREE (1 << 20) /* bytes of the index that nobody is charged for */

/* A file of the layer that can be written by descriptor. */
struct cow_open {
    uint64_t ino;
    int64_t counted; /* bytes */
    bool mapped;     /* pages appear without a call: counted as if it had no holes */
    struct cow_open *next_gone;
    int gone_fd; /* it has no name, and somebody writes to it: reads or writes; else -1 */
    bool gone;
};

static int64_t blocks_of(const struct cow_attr *a)
{
    return a->blocks > INT64_MAX / 1024 ? INT64_MAX / 2 : (int64_t)a->blocks * 512;
}

static uint64_t round_up(uint64_t bytes)
{
    return bytes > INT64_MAX / 2 ? INT64_MAX / 2 : (bytes + BLOCK - 1) / BLOCK * BLOCK;
}

static void sweep_gone(struct cow_layer *l);

/* Before something is refused: a file without a name may have ended. A copy of its descriptor that a
 * receiver is about to close keeps it for a moment. */
static bool look_again(struct cow_layer *l, int tried)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    bool any;

    if (tried)
        nanosleep(&moment, NULL);
    pthread_mutex_lock(&l->quota);
    any = l->gone_files;
    sweep_gone(l);
    pthread_mutex_unlock(&l->quota);
    return any;
}

int cow_quota_reserve(struct cow_layer *l, uint64_t bytes)
{
    if (!l->max_bytes)
        return 0;
    l->quota_stirred = true;
    for (int i = 0; i < GONE_TRIES && bytes <= INT64_MAX / 2 && !l->quota_blind; i++) {
        if ((uint64_t)(atomic_fetch_add(&l->used, (int64_t)bytes) + (int64_t)bytes) <= l->max_bytes)
            return 0;
        atomic_fetch_sub(&l->used, (int64_t)bytes);
        if (!look_again(l, i))
            break;
    }
    l->quota_refused++;
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
    if (l->quota_blind)
        return 0;
    return used < l->max_bytes ? l->max_bytes - used : 0;
}

uint64_t cow_quota_refused(struct cow_layer *l)
{
    return l->quota_refused;
}

uint64_t cow_quota_peak(struct cow_layer *l)
{
    return l->quota_peak;
}

/* ---- one file; with the quota's lock ---- */

static void count(struct cow_layer *l, struct cow_open *o, int64_t bytes)
{
    int64_t used = atomic_fetch_add(&l->used, bytes - o->counted) + bytes - o->counted;

    o->counted = bytes;
    if (used > 0 && (uint64_t)used > l->quota_peak)
        l->quota_peak = (uint64_t)used;
}

static int64_t now_takes(const struct cow_open *o, const struct cow_attr *a)
{
    return o->mapped ? MAX(blocks_of(a), (int64_t)round_up(a->size)) : blocks_of(a);
}

static void forget(struct cow_layer *l, struct cow_open *o)
{
    struct cow_open **p = &l->gone_files;

    count(l, o, 0);
    while (*p && *p != o)
        p = &(*p)->next_gone;
    if (*p) {
        *p = o->next_gone;
        l->n_gone_files--;
    }
    util_closep(&o->gone_fd);
    cow_map_put(&l->open, o->ino, NULL);
    free(o);
}

/* Does anybody hold it open for writing, or mapped so? `fd` is the only descriptor of ours. */
static bool is_written(int fd)
{
    int mode = fcntl(fd, F_GETFL) & O_ACCMODE;
    int lease = mode == O_RDONLY ? F_RDLCK : F_WRLCK;

    if (fcntl(fd, F_SETLEASE, lease) < 0)
        return errno == EAGAIN || errno == EACCES;
    (void)fcntl(fd, F_SETLEASE, F_UNLCK);
    return false;
}

/* It lost its last name: counted until nobody can write to it any more. Takes fd over. */
static void watch_gone(struct cow_layer *l, struct cow_open *o, int fd)
{
    if (fd >= 0 && !is_written(fd)) {
        util_close(fd);
        forget(l, o);
        return;
    }
    o->gone = true;
    if (fd < 0 || l->n_gone_files >= GONE_MAX) {
        /* Nobody can tell when it ends: it stays counted for good. */
        if (fd >= 0)
            util_close(fd);
        return;
    }
    o->gone_fd = fd;
    o->next_gone = l->gone_files;
    l->gone_files = o;
    l->n_gone_files++;
}

static void sweep_gone(struct cow_layer *l)
{
    struct cow_open *o, *next;

    for (o = l->gone_files; o; o = next) {
        struct cow_attr a;

        next = o->next_gone;
        if (cow_attr_fd(o->gone_fd, &a) == 0)
            count(l, o, now_takes(o, &a));
        if (!is_written(o->gone_fd))
            forget(l, o);
    }
}

static struct cow_open *file_of(struct cow_layer *l, const struct cow_attr *a)
{
    return a->dev == l->storage.dev ? cow_map_get(&l->open, a->ino) : NULL;
}

static int file_add(struct cow_layer *l, const struct cow_attr *a, struct cow_open **ret)
{
    struct cow_open *o = calloc(1, sizeof(*o));
    int e = o ? cow_map_put(&l->open, a->ino, o) : -ENOMEM;

    if (e < 0) {
        free(o);
        return e;
    }
    o->ino = a->ino;
    o->gone_fd = -1;
    *ret = o;
    return 0;
}

static int open_readable(int fd)
{
    int got = fd_reopen(fd, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);

    return got >= 0 ? got : fd_reopen(fd, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
}

int cow_quota_open(struct cow_layer *l, int fd)
{
    struct cow_open *o;
    struct cow_attr a;
    int e;

    if (!l->max_bytes)
        return 0;
    e = cow_attr_fd(fd, &a);
    if (e < 0 || !S_ISREG(a.mode))
        return e;
    pthread_mutex_lock(&l->quota);
    o = cow_map_get(&l->open, a.ino);
    if (!o)
        e = file_add(l, &a, &o);
    if (e == 0)
        count(l, o, now_takes(o, &a));
    if (e == 0 && a.nlink == 0 && !o->gone)
        watch_gone(l, o, open_readable(fd));
    pthread_mutex_unlock(&l->quota);
    l->quota_stirred = true;
    return e;
}

/* ---- what a call may add ---- */

/* Of a file without holes only what lies behind its end takes room. */
static int64_t write_adds(const struct cow_attr *a, uint64_t at, uint64_t len)
{
    bool whole = (uint64_t)blocks_of(a) >= a->size;
    uint64_t end =
        len > INT64_MAX / 4 - MIN(at, (uint64_t)INT64_MAX / 4) ? INT64_MAX / 4 : at + len;
    uint64_t start = whole ? MAX(at, round_up(a->size)) : at;

    return end > start ? (int64_t)(round_up(end) - start / BLOCK * BLOCK) : 0;
}

static int64_t will_take(struct cow_open *o, const struct cow_attr *a, enum cow_grow how,
                         uint64_t at, uint64_t len)
{
    int64_t now = now_takes(o, a), new = now;

    switch (how) {
    case COW_GROW_MAP: new = MAX(blocks_of(a), (int64_t)round_up(a->size)); break;
    case COW_GROW_RESIZE:
        if (at < a->size)
            new = MIN(now, (int64_t)round_up(at));
        else if (o->mapped)
            new = MAX(now, (int64_t)round_up(at));
        break;
    case COW_GROW_WRITE:
    default:
        new = blocks_of(a) + write_adds(a, at, len);
        if (o->mapped)
            new = MAX(new, MAX(now, (int64_t)round_up(at + MIN(len, UINT64_MAX - at))));
    }
    return new;
}

static int grow_once(struct cow_layer *l, int fd, enum cow_grow how, uint64_t at, uint64_t len)
{
    struct cow_open *o;
    struct cow_attr a;
    int e = cow_attr_fd(fd, &a);

    if (e < 0 || !S_ISREG(a.mode) || a.dev != l->storage.dev)
        return e;
    pthread_mutex_lock(&l->quota);
    o = file_of(l, &a);
    if (o) {
        int64_t new = will_take(o, &a, how, at, len), more = new - o->counted;
        /* Rewriting what is there is never refused. */
        bool fits = more <= 0 || new <= now_takes(o, &a) || (uint64_t)more <= cow_quota_room(l);

        count(l, o, fits ? new : now_takes(o, &a));
        o->mapped |= fits && how == COW_GROW_MAP;
        e = fits ? 0 : -ENOSPC;
    }
    pthread_mutex_unlock(&l->quota);
    return e;
}

int cow_quota_grow(struct cow_layer *l, int fd, enum cow_grow how, uint64_t at, uint64_t len)
{
    int e;

    if (!l->max_bytes)
        return 0;
    l->quota_stirred = true;
    for (int i = 0;; i++) {
        e = grow_once(l, fd, how, at, len);
        if (e != -ENOSPC || i == GONE_TRIES || !look_again(l, i))
            break;
    }
    l->quota_refused += e == -ENOSPC;
    return e;
}

/* ---- names that go ---- */

int cow_quota_hold(struct cow_layer *l, int dir_fd, const char *name, const struct cow_attr *a)
{
    int flags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, fd;

    if (!l->max_bytes || !S_ISREG(a->mode) || a->nlink > 1)
        return -1;
    fd = openat(dir_fd, name, O_RDONLY | flags);
    return fd >= 0 ? fd : openat(dir_fd, name, O_WRONLY | flags);
}

void cow_quota_forget(struct cow_layer *l, const struct cow_attr *a, int hold_fd)
{
    struct cow_open *o;

    if (!l->max_bytes)
        return;
    atomic_fetch_sub(&l->used, COW_NAME_COST);
    if (a->nlink <= 1 && S_ISREG(a->mode)) {
        pthread_mutex_lock(&l->quota);
        if (l->n_gone_files >= GONE_MAX / 2)
            sweep_gone(l);
        o = cow_map_get(&l->open, a->ino);
        if (o && !o->gone)
            watch_gone(l, o, steal_fd(&hold_fd));
        pthread_mutex_unlock(&l->quota);
    }
    util_closep(&hold_fd);
}

/* ---- the whole ---- */

struct sampling {
    struct cow_layer *l;
    int dir_fd;
    unsigned depth;
    int64_t *total;
};

static void sample_file(struct cow_layer *l, const struct cow_attr *a, int64_t *total)
{
    struct cow_open *o;

    *total += blocks_of(a) / MAX((int64_t)a->nlink, 1);
    pthread_mutex_lock(&l->quota);
    o = file_of(l, a);
    if (o && !o->gone)
        count(l, o, now_takes(o, a));
    pthread_mutex_unlock(&l->quota);
}

/* Gone meanwhile, or closed by its own mode: of what is in it only the counts are known. */
static int unseen(int e)
{
    return e == -ENOENT || e == -EACCES ? 0 : e;
}

static int sample_name(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct sampling *s = arg, down = *s;
    struct cow_attr a;
    int e;

    (void)ino;
    if (cow_attr_at(s->dir_fd, name, &a) < 0)
        return 0; /* gone */
    *s->total += COW_NAME_COST;
    if (S_ISREG(a.mode))
        sample_file(s->l, &a, s->total);
    if (type != DT_DIR || s->depth >= DEPTH_MAX)
        return 0;
    down.depth++;
    down.dir_fd = sys_open_path(s->dir_fd, name, O_DIRECTORY | O_NOFOLLOW);
    if (down.dir_fd < 0)
        return unseen(down.dir_fd);
    e = cow_each_name(down.dir_fd, sample_name, &down);
    util_close(down.dir_fd);
    return unseen(e);
}

static void sample_index(struct cow_layer *l, int64_t *total)
{
    struct cow_attr a;
    int64_t now = 0;

    if (cow_attr_fd(l->index_fd, &a) == 0)
        now = MAX(blocks_of(&a) - INDEX_FREE, 0);
    atomic_fetch_add(&l->used, now - l->index_counted);
    l->index_counted = now;
    *total += now;
}

bool cow_quota_stirred(struct cow_layer *l)
{
    return atomic_exchange(&l->quota_stirred, false);
}

int64_t cow_quota_sample(struct cow_layer *l)
{
    int64_t total = 0;
    struct sampling s = {.l = l, .dir_fd = l->objects_fd, .total = &total};
    int e;

    if (!l->max_bytes)
        return 0;
    e = cow_each_name(l->objects_fd, sample_name, &s);
    pthread_mutex_lock(&l->quota);
    sweep_gone(l);
    for (struct cow_open *o = l->gone_files; o; o = o->next_gone)
        total += o->counted;
    sample_index(l, &total);
    pthread_mutex_unlock(&l->quota);
    l->quota_blind = e < 0;
    return e < 0 ? e : total;
}

void cow_quota_fini(struct cow_layer *l)
{
    for (size_t i = 0; i < l->open.room; i++) {
        struct cow_open *o = l->open.slots[i].value;

        if (o)
            util_closep(&o->gone_fd);
        free(o);
    }
    cow_map_fini(&l->open);
}
