/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk limit (RD-01, QT-01): `--max-disk` bounds what the layer of --workdir takes up. Names and copies
 * are counted where they are made, in the layer. Here: calls that grow a file by descriptor, which are
 * notified only under this option, and a thread that looks at what is really there.
 *
 * A call is let go or refused with ENOSPC; it then runs in the kernel, and nothing of it is copied. What a
 * program gets past that (a descriptor exchanged while it is looked at) the thread finds: everything is
 * killed when the layer holds DISK_SLACK more than it may. Receivers, and one thread. Descriptors and
 * addresses are the child's.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/cow/layer.h"
#include "limits/internal.h"
#include "plan/root.h"
#include "policy/policy.h"
#include "supervisor/internal.h"

#define DISK_PAUSE_MIN 20000000u /* ns between two samples */
#define DISK_PAUSE_MAX 2000000000u
#define DISK_COST 20u                  /* the thread sleeps so many times what a sample took */
#define DISK_SLACK_MIN (1u << 20)      /* bytes over the limit, and 1/16 of it, that are let be */
#define DISK_LAST 2u                   /* samples after the last call that was seen */
#define WRITE_MAX UINT64_C(0x7ffff000) /* the kernel writes no more in one call */
#define IOV_MAX_COUNT 1024u

static struct cow_layer *disk_layer(const struct supervisor *s)
{
    const struct root *root = s ? supervisor_plan(s)->root : NULL;

    return root ? root->layer : NULL;
}

static struct verdict go_on(void)
{
    return verdict_continue("what is written is the caller's to write; how much of it there is, is "
                            "looked at again by the thread, whatever the registers led to");
}

/* Asks the layer about `len` bytes at `at`. */
static struct verdict disk_ask(const struct request *r, int fd, enum cow_grow how, uint64_t at,
                               uint64_t len)
{
    int e = cow_quota_grow(disk_layer(r->sup), fd, how, at, len);

    if (e == -ENOSPC)
        request_explain(r, r->call.info->name, ENOSPC, "--max-disk", "a larger --max-disk");
    return e < 0 ? verdict_errno(e) : go_on();
}

/* The caller's descriptor when it can write to a file. -EBADF: the kernel knows what to say. Another error:
 * nobody can tell what would grow. */
static int disk_fd(const struct request *r, unsigned arg)
{
    int fd = request_fd(r, call_int(&r->call, arg)), flags;

    if (fd < 0)
        return fd == -ESRCH ? -EBADF : fd;
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || flags & O_PATH || (flags & O_ACCMODE) == O_RDONLY) {
        util_close(fd);
        return -EBADF;
    }
    return fd;
}

static struct verdict not_ours(int error)
{
    return error == -EBADF ? go_on() : verdict_errno(error);
}

static uint64_t end_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

static uint64_t place_of(int fd)
{
    off_t at = lseek(fd, 0, SEEK_CUR);

    return at < 0 ? 0 : (uint64_t)at;
}

/* ---- writing ---- */

static uint64_t iov_bytes(const struct request *r)
{
    struct iovec iov[64];
    uint64_t sum = 0, n = MIN(r->call.args[2], (uint64_t)IOV_MAX_COUNT);
    child_addr at = call_addr(&r->call, 1);

    for (uint64_t done = 0; done < n;) {
        uint64_t some = MIN(n - done, (uint64_t)ARRAY_SIZE(iov));

        if (request_read(r, (child_addr){at.addr + done * sizeof(*iov)}, iov, some * sizeof(*iov)) <
            0)
            return sum;
        for (uint64_t i = 0; i < some; i++)
            sum += MIN((uint64_t)iov[i].iov_len, WRITE_MAX);
        done += some;
    }
    return MIN(sum, WRITE_MAX);
}

static struct verdict disk_write(struct request *r)
{
    const uint64_t *a = r->call.args;
    bool vector = r->call.form != CALL_write && r->call.form != CALL_pwrite64;
    bool positioned = r->call.form != CALL_write && r->call.form != CALL_writev;
    uint64_t at, len;
    _cleanup_close_ int fd = disk_fd(r, 0);

    if (fd < 0)
        return not_ours(fd);
    if (r->call.form == CALL_pwritev2 && a[3] == UINT64_MAX)
        positioned = false;
    if (fcntl(fd, F_GETFL) & O_APPEND ||
        (r->call.form == CALL_pwritev2 && a[5] & 0x10 /* APPEND */))
        at = end_of(fd);
    else
        at = positioned ? a[3] : place_of(fd);
    len = vector ? iov_bytes(r) : MIN(a[2], WRITE_MAX);
    return disk_ask(r, fd, COW_GROW_WRITE, at, len);
}

/* ---- copying from another descriptor ---- */

/* What the source can give at most. */
static uint64_t source_bytes(const struct request *r, unsigned arg, unsigned off, uint64_t len)
{
    _cleanup_close_ int fd = request_fd(r, call_int(&r->call, arg));
    child_addr ptr = call_addr(&r->call, off);
    uint64_t at = 0, end;
    struct stat st;
    int room;

    if (fd < 0 || fstat(fd, &st) < 0)
        return fd == -EBADF ? 0 : len;
    if (S_ISFIFO(st.st_mode)) {
        room = fcntl(fd, F_GETPIPE_SZ);
        return room > 0 ? MIN(len, (uint64_t)room) : len;
    }
    if (!S_ISREG(st.st_mode))
        return len;
    end = st.st_size > 0 ? (uint64_t)st.st_size : 0;
    if (!ptr.addr)
        at = place_of(fd);
    else if (request_read(r, ptr, &at, sizeof(at)) < 0)
        at = 0;
    return at < end ? MIN(len, end - at) : 0;
}

static struct verdict disk_copy(struct request *r)
{
    bool sends = r->call.form == CALL_sendfile;
    unsigned to = sends ? 0 : 2, from = sends ? 1 : 0, len = sends ? 3 : 4;
    child_addr ptr = {0};
    uint64_t at;
    _cleanup_close_ int fd = -1;

    if (r->call.form == CALL_vmsplice) /* pipes only */
        return go_on();
    if (!sends)
        ptr = call_addr(&r->call, 3);
    fd = disk_fd(r, to);
    if (fd < 0)
        return not_ours(fd);
    if (!ptr.addr)
        at = fcntl(fd, F_GETFL) & O_APPEND ? end_of(fd) : place_of(fd);
    else if (request_read(r, ptr, &at, sizeof(at)) < 0)
        return go_on();
    return disk_ask(r, fd, COW_GROW_WRITE, at,
                    source_bytes(r, from, sends ? 2 : 1, MIN(r->call.args[len], WRITE_MAX)));
}

static struct verdict disk_clone(struct request *r)
{
    uint32_t request = call_u32(&r->call, 1);
    struct file_clone_range range = {.src_fd = call_int(&r->call, 2)};
    _cleanup_close_ int fd = -1, from_fd = -1;

    if (request != FICLONE && request != FICLONERANGE)
        return verdict_pass();
    if (request == FICLONERANGE &&
        request_read(r, call_addr(&r->call, 2), &range, sizeof(range)) < 0)
        return go_on();
    fd = disk_fd(r, 0);
    from_fd = fd < 0 ? fd : request_fd(r, (int)range.src_fd);
    if (from_fd < 0)
        return not_ours(from_fd);
    return disk_ask(r, fd, COW_GROW_WRITE, range.dest_offset,
                    range.src_length ? range.src_length : end_of(from_fd));
}

/* ---- room without bytes ---- */

static struct verdict disk_allocate(struct request *r)
{
    _cleanup_close_ int fd = -1;

    if (call_u32(&r->call, 1) & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE))
        return go_on();
    fd = disk_fd(r, 0);
    return fd < 0 ? not_ours(fd)
                  : disk_ask(r, fd, COW_GROW_WRITE, r->call.args[2],
                             MIN(r->call.args[3], (uint64_t)INT64_MAX));
}

static struct verdict disk_resize(struct request *r)
{
    _cleanup_close_ int fd = disk_fd(r, 0);

    return fd < 0 ? not_ours(fd) : disk_ask(r, fd, COW_GROW_RESIZE, r->call.args[1], 0);
}

static struct verdict disk_map(struct request *r)
{
    _cleanup_close_ int fd = disk_fd(r, 4);

    return fd < 0 ? not_ours(fd) : disk_ask(r, fd, COW_GROW_MAP, 0, 0);
}

/* ---- the thread ---- */

static void disk_kill(struct limits *l, uint64_t bytes)
{
    pthread_mutex_lock(&l->report_lock);
    l->report.disk_at_kill = bytes;
    pthread_mutex_unlock(&l->report_lock);
    supervisor_want_kill(l->sup);
}

void *disk_main(void *arg)
{
    struct limits *l = arg;
    struct cow_layer *layer = disk_layer(l->sup);
    uint64_t max = l->policy->max_disk, slack = MAX(max / 16, (uint64_t)DISK_SLACK_MIN);
    uint64_t pause = DISK_PAUSE_MIN;
    unsigned last = 0;

    while (layer && limits_sleep(&l->clock, pause)) {
        uint64_t begin = util_now_ns();
        int64_t bytes;

        pause = DISK_PAUSE_MIN;
        last = cow_quota_stirred(layer) ? DISK_LAST : last - (last > 0);
        if (last == 0)
            continue;
        bytes = cow_quota_sample(layer);
        if (bytes > 0 && (uint64_t)bytes > max && (uint64_t)bytes - max > slack) {
            disk_kill(l, (uint64_t)bytes);
            return NULL;
        }
        pause = MIN(MAX((util_now_ns() - begin) * DISK_COST, (uint64_t)DISK_PAUSE_MIN),
                    (uint64_t)DISK_PAUSE_MAX);
    }
    return NULL;
}

void limits_disk_report(const struct supervisor *sup, struct limits_report *ret)
{
    struct cow_layer *layer = disk_layer(sup);

    if (!layer || !supervisor_policy(sup)->max_disk)
        return;
    ret->disk_peak = cow_quota_peak(layer);
    ret->disk_refused = cow_quota_refused(layer);
}

/* ---- the feature ---- */

#define DISK_IOCTL(request)                                                   \
    {                                                                         \
        .test = {{.arg = 1, .cmp = CMP_EQ, .value = (request)}}, .ntests = 1, \
        .ret = SECCOMP_RET_USER_NOTIF                                         \
    }
static const struct filter_clause clone_when[] = {DISK_IOCTL(FICLONE), DISK_IOCTL(FICLONERANGE)};
/* Shared, and of a file. */
static const struct filter_clause map_when[] = {
    {.test = {{.arg = 3, .cmp = CMP_EQ, .mask = MAP_SHARED | MAP_ANONYMOUS, .value = MAP_SHARED}},
     .ntests = 1,
     .ret = SECCOMP_RET_USER_NOTIF}};

static const struct feature_call disk_calls[] = {
    {OP_WRITE, disk_write, NULL, 0},
    {OP_COPY, disk_copy, NULL, 0},
    {OP_ALLOCATE, disk_allocate, NULL, 0},
    {OP_FTRUNCATE, disk_resize, NULL, 0},
    {OP_MMAP, disk_map, map_when, ARRAY_SIZE(map_when)},
    {OP_IOCTL, disk_clone, clone_when, ARRAY_SIZE(clone_when)},
};

static bool disk_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->workdir && p->max_disk;
}

const struct feature limits_disk_feature = {
    .name = "max-disk",
    .wanted = disk_wanted,
    .calls = disk_calls,
    .ncalls = ARRAY_SIZE(disk_calls),
};
