/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "fs-layer": the calls by descriptor that only a layer needs, fstat (CW-21) and getdents (CW-03).
 * Receiver threads. Descriptors and lengths are the child's.
 *
 * A listing is a snapshot. Which one a description reads, and where it is in it, is kept in the
 * kernel's own file position, so that dup, fork, lseek and rewinddir work as ever: a serial number and
 * an index, below what ext4 lets a position be.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "fs/behalf.h"
#include "fs/fs.h"
#include "fs/listing.h"
#include "fs/staged.h"
#include "fs/view.h"
#include "plan/kernel.h"
#include "plan/plan.h"
#include "plan/root.h"
#include "policy/policy.h"

#define SNAPSHOTS 64u
#define SNAPSHOT_MOUNTS 8192u    /* bytes of the mount points in one directory */
#define SNAPSHOT_MAX (64u << 20) /* bytes of one listing, and of all that are kept */
#define INDEX_BITS 23            /* entries of one directory */
#define INDEX_MASK ((1u << INDEX_BITS) - 1)
#define SERIAL_MASK 0xfffffu

struct snapshot {
    uint32_t serial; /* 0: none */
    uint64_t dev, ino;
    uint64_t used;
    struct buf records;
    uint32_t *at; /* of each record in the records */
    uint32_t n;
};

struct staged {
    pthread_mutex_t lock;
    uint32_t serial;
    uint64_t clock;
    struct snapshot v[SNAPSHOTS];
};

static void snapshot_fini(struct snapshot *s)
{
    buf_fini(&s->records);
    free(s->at);
    *s = (struct snapshot){0};
}

static size_t snapshot_bytes(const struct snapshot *s)
{
    return s->records.cap + s->n * sizeof(*s->at);
}

static int snapshot_index(struct snapshot *s)
{
    struct uapi_dirent *e;
    size_t off = 0, before = 0, room = 0;

    while ((e = listing_next((uint8_t *)s->records.data, s->records.len, &off))) {
        if (s->n == room) {
            uint32_t *v = reallocarray(s->at, room = room ? 2 * room : 64, sizeof(*v));

            if (!v)
                return -ENOMEM;
            s->at = v;
        }
        if (s->n == INDEX_MASK)
            return -EOVERFLOW;
        s->at[s->n++] = (uint32_t)before;
        before = off;
    }
    return 0;
}

static int compare_names(const void *a, const void *b, void *records)
{
    const char *data = records;

    return strcmp(data + *(const uint32_t *)a + LISTING_NAME_OFFSET,
                  data + *(const uint32_t *)b + LISTING_NAME_OFFSET);
}

/* Mount points whose names the directory does not have (CR-12); places in the listing are ours. */
static int snapshot_mounts(const struct request *r, const struct cow_pos *p, struct snapshot *s)
{
    uint8_t more[SNAPSHOT_MOUNTS];
    struct sys_ident id;
    int e;

    if (p->lower_fd < 0 || !supervisor_plan(r->sup)->root->n)
        return 0;
    e = sys_identify(p->lower_fd, &id);
    if (e == 0)
        buf_add(&s->records, more, view_list(r, &id, 0, more, 0, sizeof(more)));
    return e < 0 ? e : buf_error(&s->records);
}

static int snapshot_fill(const struct request *r, struct cow_pos *p, bool sorted,
                         struct snapshot *s)
{
    struct cow_layer *l = staged_layer(r);
    char *chunk = malloc(LISTING_MAX);
    struct cow_list *list = NULL;
    uint64_t offset = 0;
    ssize_t n = 0;
    int e = chunk ? cow_list_new(l, p, &list) : -ENOMEM;

    while (e == 0 && (n = cow_list_read(list, chunk, LISTING_MAX, &offset)) > 0) {
        buf_add(&s->records, chunk, (size_t)n);
        e = s->records.len > SNAPSHOT_MAX ? -EOVERFLOW : buf_error(&s->records);
    }
    cow_list_free(list);
    free(chunk);
    e = n < 0 ? (int)n : e;
    if (e == 0)
        e = snapshot_mounts(r, p, s);
    if (e == 0)
        e = snapshot_index(s);
    if (e == 0 && sorted)
        qsort_r(s->at, s->n, sizeof(*s->at), compare_names, s->records.data);
    return e;
}

/* The least recently used one but that of this serial; its readers get a new one. */
static struct snapshot *snapshot_oldest(struct staged *g, uint32_t but)
{
    struct snapshot *oldest = NULL;

    for (size_t i = 0; i < SNAPSHOTS; i++) {
        struct snapshot *s = &g->v[i];

        if (s->serial && s->serial != but && (!oldest || s->used < oldest->used))
            oldest = s;
    }
    return oldest;
}

static struct snapshot *snapshot_place(struct staged *g)
{
    struct snapshot *oldest;

    for (size_t i = 0; i < SNAPSHOTS; i++) {
        if (!g->v[i].serial)
            return &g->v[i];
    }
    oldest = snapshot_oldest(g, 0);
    snapshot_fini(oldest);
    return oldest;
}

/* Their memory is ours: no limit of the sandbox sees it, and each rewind of one directory makes another. */
static void snapshots_bound(struct staged *g, const struct snapshot *newest)
{
    struct snapshot *oldest;
    size_t sum = 0;

    for (size_t i = 0; i < SNAPSHOTS; i++)
        sum += snapshot_bytes(&g->v[i]);
    while (sum > SNAPSHOT_MAX && (oldest = snapshot_oldest(g, newest->serial))) {
        sum -= snapshot_bytes(oldest);
        snapshot_fini(oldest);
    }
}

static struct snapshot *snapshot_find(struct staged *g, const struct sys_ident *id, uint32_t serial)
{
    for (size_t i = 0; serial && i < SNAPSHOTS; i++) {
        if (g->v[i].serial == serial && g->v[i].dev == id->dev && g->v[i].ino == id->ino)
            return &g->v[i];
    }
    return NULL;
}

static int snapshot_get(const struct request *r, struct staged *g, struct cow_pos *p,
                        const struct sys_ident *id, uint64_t position, struct snapshot **ret)
{
    uint32_t serial = (uint32_t)(position >> INDEX_BITS) & SERIAL_MASK;
    struct snapshot *s = snapshot_find(g, id, serial);
    int e;

    if (!s) {
        s = snapshot_place(g);
        e = snapshot_fill(r, p, supervisor_policy(r->sup)->deterministic_dirs, s);
        if (e < 0) {
            snapshot_fini(s);
            return e;
        }
        g->serial = g->serial % SERIAL_MASK + 1;
        s->serial = g->serial;
        s->dev = id->dev;
        s->ino = id->ino;
        snapshots_bound(g, s);
    }
    s->used = ++g->clock;
    *ret = s;
    return 0;
}

/* Records from the position on; the position behind them. */
static ssize_t snapshot_read(const struct snapshot *s, uint64_t *position, uint8_t *buf,
                             size_t size)
{
    uint64_t high = (uint64_t)s->serial << INDEX_BITS;
    uint32_t i = (uint32_t)*position & INDEX_MASK;
    size_t n = 0;

    for (; i < s->n; i++) {
        const struct uapi_dirent *from = (const struct uapi_dirent *)(s->records.data + s->at[i]);

        if (from->len > size - n) {
            if (n == 0)
                return -EINVAL;
            break;
        }
        memcpy(buf + n, from, from->len);
        ((struct uapi_dirent *)(buf + n))->off = (int64_t)(high | (i + 1));
        n += from->len;
    }
    *position = high | i;
    return (ssize_t)n;
}

static int64_t staged_list(const struct request *r, int fd, struct cow_pos *p,
                           const struct sys_ident *id)
{
    struct staged *g = supervisor_state(r->sup, &fs_staged_feature);
    size_t size = MIN(call_u32(&r->call, 2), LISTING_MAX);
    off_t before = lseek(fd, 0, SEEK_CUR);
    _cleanup_free_ uint8_t *buf = malloc(size ? size : 1);
    uint64_t position = (uint64_t)before;
    struct snapshot *s;
    ssize_t n;
    int e;

    if (before < 0 || !buf)
        return before < 0 ? -errno : -ENOMEM;
    pthread_mutex_lock(&g->lock);
    e = snapshot_get(r, g, p, id, position, &s);
    n = e < 0 ? e : snapshot_read(s, &position, buf, size);
    pthread_mutex_unlock(&g->lock);
    if (n < 0)
        return n;
    e = n > 0 ? listing_write(r, buf, (size_t)n) : 0;
    if (e < 0)
        return e;
    return lseek(fd, (off_t)position, SEEK_SET) < 0 ? -errno : n;
}

/* Other directories are listed by whoever looks at listings, or by the kernel. */
static struct verdict staged_list_others(const struct request *r)
{
    const struct policy *p = supervisor_policy(r->sup);

    if (p->deterministic_dirs || fs_grants_proc(p) || p->fs_mount.n > 0)
        return verdict_pass();
    return verdict_continue("the names in a directory that the caller has open: of another one, "
                            "exchanged meanwhile, it sees what lies on disk, and opens none of it "
                            "without being asked");
}

static struct verdict staged_getdents(struct request *r)
{
    _cleanup_cow_pos_ struct cow_pos p = COW_POS_INIT;
    _cleanup_close_ int fd = -1;
    struct sys_ident id;
    int e, got = request_fd(r, call_int(&r->call, 0)), flags;

    if (got < 0)
        return verdict_errno(got);
    fd = got;
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_PATH))
        return verdict_errno(EBADF);
    e = sys_identify(fd, &id);
    if (e == 0 && !S_ISDIR(id.mode))
        e = -ENOTDIR;
    if (e == 0) {
        e = cow_pos_of_fd(staged_layer(r), fd, &p);
        if (e == -EXDEV || (e == 0 && p.foreign))
            return staged_list_others(r);
    }
    return e < 0 ? verdict_errno(e) : verdict_result(staged_list(r, fd, &p, &id));
}

static struct verdict staged_fstat(struct request *r)
{
    _cleanup_close_ int fd = -1;
    uint8_t out[ARCH_STAT_MAX];
    struct stat st;
    struct sys_ident id;
    int e;

    e = call_int(&r->call, 0) < 0 ? -EBADF : request_fd_path(r, call_int(&r->call, 0));
    if (e < 0)
        return verdict_errno(e);
    fd = e;
    e = cow_is_clean(staged_layer(r)) ? 0 : sys_identify(fd, &id);
    if (e < 0)
        return verdict_errno(e);
    if (cow_is_clean(staged_layer(r)) || cow_is_plain(staged_layer(r), &id) || !staged_holds(r, fd))
        return verdict_continue("the attributes of an open object give no access");
    e = staged_stat(r, fd, &id, &st);
    if (e < 0)
        return verdict_errno(e);
    behalf_show_stat(r, &st);
    return verdict_result(
        request_write(r, call_addr(&r->call, 1), out, arch_native()->encode_stat(&st, out)));
}

/* ---- the feature ---- */

static bool staged_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->workdir;
}

static void staged_stop(void *state)
{
    struct staged *g = state;

    if (!g)
        return;
    for (size_t i = 0; i < SNAPSHOTS; i++)
        snapshot_fini(&g->v[i]);
    free(g);
}

static int staged_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct staged *g;

    (void)s;
    if (!kernel_can_getfd())
        return error_set(err, ERROR_SETUP, -EPERM, "--workdir",
                         "needs pidfd_getfd, which is refused here (a container's system call "
                         "filter, or a kernel before 5.6)");
    g = calloc(1, sizeof(*g));
    if (!g)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--workdir", "out of memory");
    (void)pthread_mutex_init(&g->lock, NULL);
    *ret_state = g;
    return 0;
}

static const struct feature_call staged_calls[] = {
    {OP_FSTAT, staged_fstat, NULL, 0},
    {OP_GETDENTS, staged_getdents, NULL, 0},
};

const struct feature fs_staged_feature = {
    .name = "fs-layer",
    .wanted = staged_wanted,
    .calls = staged_calls,
    .ncalls = ARRAY_SIZE(staged_calls),
    .behalf = true,
    .start = staged_start,
    .stop = staged_stop,
};
