/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "sorted-dirs" (--deterministic-dirs, DD-01): getdents and getdents64 answered in sorted order.
 * Receiver threads. The position stays in the kernel's open file description and is moved through a
 * duplicate: dup, fork, lseek and rewinddir share it without our knowing. See dirs.h for what it means.
 *
 * The directory is read through a description of our own: a child that seeks in its own meanwhile
 * cannot make a scan endless or incomplete.
 */
#include "fs/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "fs/listing.h"
#include "fs/resolve.h"
#include "fs/view.h"
#include "plan/kernel.h"
#include "policy/policy.h"

/* Records in one window: larger directories are scanned once per window. */
#define DIRS_WINDOW (8u << 20)
/* Entries taken through the caller's own description, which it may rewind under us. */
#define DIRS_OWN_MAX (1u << 20)
#define DIRS_TURNS 64

struct dirs {
    struct dirs_cache *cache;
    /* Two tasks that share a description get each entry once, as natively: one call of a directory
     * at a time. Held while the directory is read: whoever waits would wait for the same disk. */
    pthread_mutex_t turn[DIRS_TURNS];
    _Atomic(uint8_t *) spare; /* buffers of the last call, for the next one */
    bool hide;                /* proc-view is active: no foreign processes */
};

/* One call. */
struct dirs_call {
    const struct request *r;
    struct dirs *d;
    int fd;            /* duplicate of the caller's */
    uint8_t *scan_buf; /* LISTING_MAX bytes */
    struct sys_ident id;
    struct dirs_read read;
};

/* ---- reading the directory ---- */

static int dirs_take(const struct dirs_call *c, struct dirs_scan *scan, bool hide, uint8_t *buf,
                     size_t n)
{
    struct uapi_dirent *e;
    size_t off = 0;
    int r = 0;

    while (r == 0 && (e = listing_next(buf, n, &off))) {
        if (!hide || !listing_hides(c->r, e->name))
            r = dirs_scan_add(scan, e);
    }
    return r;
}

/* The file system's records, and what a tree of the command's own shows besides. */
static int dirs_read_all(const struct dirs_call *c, int fd, bool hide, struct dirs_scan *scan)
{
    uint8_t *buf = c->scan_buf;
    ssize_t n = view_list_made(c->r, &c->id, fd, buf, LISTING_MAX);

    if (n != -ENODATA)
        return n < 0 ? (int)n : dirs_take(c, scan, false, buf, (size_t)n);
    while ((n = sys_getdents64(fd, buf, LISTING_MAX)) > 0) {
        int e = dirs_take(c, scan, hide, buf, (size_t)n);

        if (e < 0)
            return e;
        if (fd == c->fd && scan->total > DIRS_OWN_MAX)
            return -EOVERFLOW;
        if (!request_alive(c->r))
            return -ESRCH;
    }
    if (n < 0)
        return (int)n;
    return dirs_take(c, scan, false, buf, view_list(c->r, &c->id, 0, buf, 0, LISTING_MAX));
}

/* For a directory that may not be opened again: inherited and not granted, or closed by its mode since. */
static int dirs_read_own(const struct dirs_call *c, bool hide, struct dirs_scan *scan)
{
    off_t before = lseek(c->fd, 0, SEEK_CUR);
    int e;

    if (before < 0 || lseek(c->fd, 0, SEEK_SET) < 0)
        return -errno;
    e = dirs_read_all(c, c->fd, hide, scan);
    (void)lseek(c->fd, before, SEEK_SET);
    return e;
}

/* The window of names that come after `after`. */
static int dirs_make(const struct dirs_call *c, const char *after, struct dirs_window **ret)
{
    _cleanup_dirs_scan_ struct dirs_scan scan;
    _cleanup_close_ int scan_fd = -1;
    struct sys_ident id;
    int hide = c->d->hide ? listing_is_proc_root(c->fd, &id) : 0, e;

    if (hide < 0)
        return hide;
    dirs_scan_init(&scan, DIRS_WINDOW, after);
    scan_fd = fd_reopen(c->fd, O_RDONLY | O_DIRECTORY, 0);
    if (scan_fd >= 0)
        e = dirs_read_all(c, scan_fd, hide, &scan);
    else if (scan_fd == -EACCES || scan_fd == -EPERM)
        e = dirs_read_own(c, hide, &scan);
    else
        e = scan_fd;
    return e < 0 ? e : dirs_scan_finish(&scan, ret);
}

/* ---- answering ---- */

/* A window just made, from its record number `index` on. */
static int dirs_deliver(struct dirs_call *c, uint32_t at, struct dirs_window *w, uint32_t index)
{
    if (index < w->count)
        return dirs_cache_add(c->d->cache, at, w, index, &c->read);
    dirs_window_free(w);
    return DIRS_END;
}

/* From the beginning, or from a position of which nothing is known: what was dropped is made again, and
 * the position taken as the number of an entry. */
static int dirs_from_start(struct dirs_call *c)
{
    _cleanup_free_ char *after = NULL;
    uint32_t index = c->read.pos;

    for (;;) {
        struct dirs_window *w;
        int e = dirs_make(c, after, &w);

        if (e < 0)
            return e;
        if (index < w->count || w->follow == 0 || w->count == 0)
            return dirs_deliver(c, 0, w, index);
        index -= w->count;
        free(after);
        after = strdup(dirs_window_last(w));
        dirs_window_free(w);
        if (!after)
            return -ENOMEM;
    }
}

static int dirs_read(struct dirs_call *c)
{
    _cleanup_free_ char *after = NULL;
    struct dirs_window *w;
    int e = c->read.pos ? dirs_cache_read(c->d->cache, &c->read, &after) : DIRS_UNKNOWN;

    if (e == DIRS_UNKNOWN)
        return dirs_from_start(c);
    if (e != DIRS_CONTINUE)
        return e;
    e = dirs_make(c, after, &w);
    return e < 0 ? e : dirs_deliver(c, c->read.pos, w, 0);
}

/* The position moves when the records have arrived. */
static int64_t dirs_answer(struct dirs_call *c)
{
    off_t before = lseek(c->fd, 0, SEEK_CUR);
    int e;

    if (before < 0)
        return -errno;
    c->read.pos = (uint32_t)MIN(before, (off_t)DIRS_POS_MAX);
    e = dirs_read(c);
    if (e < 0 || e == DIRS_END)
        return e < 0 ? e : 0;
    if (c->read.n < 0)
        return c->read.n;
    e = listing_write(c->r, c->read.buf, (size_t)c->read.n);
    if (e < 0)
        return e;
    return lseek(c->fd, c->read.pos, SEEK_SET) < 0 ? -errno : c->read.n;
}

/* Buffers for an answer and for reading a directory; mapping and clearing them anew would take a
 * tenth of a small listing. */
static uint8_t *dirs_buffers_take(struct dirs *d)
{
    uint8_t *spare = atomic_exchange(&d->spare, NULL);

    return spare ? spare : malloc(2 * (size_t)LISTING_MAX);
}

static void dirs_buffers_give(struct dirs *d, uint8_t *buffers)
{
    free(atomic_exchange(&d->spare, buffers));
}

static int dirs_identify(struct dirs_call *c)
{
    int e, flags = fcntl(c->fd, F_GETFL);

    if (flags < 0 || (flags & O_PATH))
        return -EBADF;
    e = sys_identify(c->fd, &c->id);
    if (e < 0)
        return e;
    c->read.dev = c->id.dev;
    c->read.ino = c->id.ino;
    return S_ISDIR(c->id.mode) ? 0 : -ENOTDIR;
}

static struct verdict dirs_getdents(struct request *r)
{
    struct dirs *d = supervisor_state(r->sup, &fs_dirs_feature);
    _cleanup_close_ int fd = request_fd(r, call_int(&r->call, 0));
    struct dirs_call c = {.r = r, .d = d, .fd = fd};
    pthread_mutex_t *turn;
    int64_t n;

    if (fd == -EPERM)
        request_explain(
            r, "a directory", EPERM, "--deterministic-dirs",
            "the program's file is not readable: its descriptors cannot be read either");
    if (fd < 0)
        return verdict_errno(fd);
    n = dirs_identify(&c);
    if (n < 0)
        return verdict_result(n);
    c.read.size = MIN(call_u32(&r->call, 2), LISTING_MAX);
    c.read.buf = dirs_buffers_take(d);
    if (!c.read.buf)
        return verdict_errno(ENOMEM);
    c.scan_buf = c.read.buf + LISTING_MAX;
    turn = &d->turn[(c.read.dev ^ c.read.ino) % DIRS_TURNS];
    pthread_mutex_lock(turn);
    n = dirs_answer(&c);
    pthread_mutex_unlock(turn);
    dirs_buffers_give(d, c.read.buf);
    return verdict_result(n);
}

/* ---- the feature ---- */

static bool dirs_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->deterministic_dirs && !p->no_supervisor;
}

static void dirs_stop(void *state)
{
    struct dirs *d = state;

    if (!d)
        return;
    dirs_cache_free(d->cache);
    free(atomic_load(&d->spare));
    free(d);
}

static int dirs_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct dirs *d;

    if (!kernel_can_getfd())
        return error_set(err, ERROR_SETUP, -EPERM, "--deterministic-dirs",
                         "needs pidfd_getfd, which is refused here (a container's system call "
                         "filter, or a kernel before 5.6)");
    d = calloc(1, sizeof(*d));
    if (d)
        d->cache = dirs_cache_new();
    if (!d || !d->cache) {
        dirs_stop(d);
        return error_set(err, ERROR_SETUP, -ENOMEM, "--deterministic-dirs", "out of memory");
    }
    for (size_t i = 0; i < DIRS_TURNS; i++)
        (void)pthread_mutex_init(&d->turn[i], NULL);
    d->hide = fs_grants_proc(supervisor_policy(s));
    *ret_state = d;
    return 0;
}

static const struct feature_call dirs_calls[] = {
    {OP_GETDENTS, dirs_getdents, NULL, 0},
};

const struct feature fs_dirs_feature = {
    .name = "sorted-dirs",
    .wanted = dirs_wanted,
    .calls = dirs_calls,
    .ncalls = ARRAY_SIZE(dirs_calls),
    .start = dirs_start,
    .stop = dirs_stop,
};
