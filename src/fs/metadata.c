/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "metadata" (FG-03): Landlock does not govern chmod, chown, times, xattrs and file
 * attributes, so here they need a write grant on the object. Receiver threads; paths, descriptors
 * and values are the child's. Active when the policy has write grants; without any the filter
 * refuses the families with the same EPERM. Nothing is ever continued: what was judged is what is
 * changed, by descriptor.
 */
#include "fs/metadata.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "determinism/determinism.h"
#include "fs/fs.h"
#include "fs/grants.h"
#include "fs/ids.h"
#include "fs/staged.h"
#include "fs/view.h"
#include "policy/policy.h"

/* linux/magic.h calls these by other names, or not at all. */
#define METADATA_PIPEFS 0x50495045u
#define METADATA_SOCKFS 0x534f434bu
#define METADATA_ANON_INODE 0x09041934u

/* ---- may it be changed? ---- */

/* Objects that live in no directory: pipes, sockets, anonymous inodes. What is set on them is seen
 * by holders of their descriptors only and ends with them. */
static bool metadata_is_anonymous(int fd)
{
    switch (sys_fs_magic(fd)) {
    case METADATA_PIPEFS:
    case METADATA_SOCKFS:
    case METADATA_ANON_INODE: return true;
    default: return false;
    }
}

/* Is what the descriptor was opened by gone? A temporary file that was given a name later is still meant.
 * The kernel says so with a mark behind the name; a file that is there by just that name bears it itself,
 * and where that cannot be seen it may. */
static bool metadata_is_detached(int fd, const struct sys_ident *id)
{
    char place[PATH_MAX];
    ssize_t n = fd_location(fd, place, sizeof(place));
    _cleanup_close_ int named_fd = -1;
    struct sys_ident named;

    if (n <= 0 || place[0] != '/' || place_unmarked(place, (size_t)n) == (size_t)n)
        return false;
    named_fd = sys_open_path(AT_FDCWD, place, 0);
    if (named_fd < 0)
        return named_fd == -ENOENT || named_fd == -ENOTDIR;
    return sys_identify(named_fd, &named) == 0 && !sys_ident_same(&named, id);
}

/* An object without a name (temporary file, memfd): the right to write its content decides, which was
 * checked when the descriptor was opened. Asked of one duplicate, since another thread may put a
 * different descriptor in its place at any time; where duplicates are refused the answer is no. */
static bool metadata_is_writer(const struct request *r, int by_fd, const struct resolved *o)
{
    const struct sys_ident *id = &o->id;
    struct sys_ident of_dup;
    int fd, flags;
    bool writer;

    if (by_fd < 0 || !S_ISREG(id->mode) || (id->nlink != 0 && !metadata_is_detached(o->fd, id)))
        return false;
    fd = request_fd(r, by_fd);
    if (fd < 0)
        return false;
    flags = fcntl(fd, F_GETFL);
    writer = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH) &&
             sys_identify(fd, &of_dup) == 0 && sys_ident_same(&of_dup, id);
    util_close(fd);
    return writer;
}

/* In the layer the object is ours whoever owns lower's: what the caller must be to change it. */
static enum cow_need metadata_need(const struct request *r)
{
    switch (r->call.op) {
    case OP_TIMES: return call_addr(&r->call, 2).addr ? COW_NEED_OWNER : COW_NEED_WRITE;
    case OP_XATTR_SET:
    case OP_XATTR_REMOVE:
    case OP_FXATTR_SET:
    case OP_FXATTR_REMOVE: return COW_NEED_WRITE;
    default: return COW_NEED_OWNER;
    }
}

/* A device's node is the machine's: the right to write to the device, which every image has on a few of
 * the host's and policies give to /dev/null, is none to close it to others. Terminals' belong to who has them;
 * behind 0:0 there is no device: renameat2 leaves that for RENAME_WHITEOUT. */
static bool metadata_is_device(const struct target *t)
{
    if (S_ISCHR(t->at.id.mode) && t->at.id.rdev == 0)
        return false;
    return (S_ISCHR(t->at.id.mode) || S_ISBLK(t->at.id.mode)) &&
           sys_fs_magic(t->at.fd) != DEVPTS_SUPER_MAGIC;
}

/* `by_fd`: the caller's descriptor the object came from, or -1. */
static int metadata_judge(struct request *r, struct target *t, int by_fd)
{
    const struct grants *g = supervisor_state(r->sup, &fs_metadata_feature);
    int bits, e;

    if (metadata_is_anonymous(t->at.fd))
        return 0;
    e = behalf_judge(r, &t->at, JUDGE_LOOK, t->path);
    if (e == 0)
        e = view_writable(r, &t->at, t->path);
    if (e < 0)
        return e;
    if (metadata_is_device(t)) {
        request_explain(r, t->path, EPERM, "device nodes stay as they are", NULL);
        return -EPERM;
    }
    if (t->at.staged || staged_holds(r, t->at.fd))
        return staged_change(r, &t->at, metadata_need(r));
    bits = g ? grants_of_object(g, t->at.fd, t->at.parent_fd, t->at.name) : 0;
    if ((bits > 0 && (bits & GRANT_WRITE)) || metadata_is_writer(r, by_fd, &t->at))
        return 0;
    request_explain(r, t->path, EPERM, "no write grant", "-w");
    return -EPERM;
}

int metadata_walk(uint32_t at_flags)
{
    if (at_flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    return (at_flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) |
           (at_flags & AT_EMPTY_PATH ? WALK_EMPTY_OK : 0);
}

int metadata_path(struct request *r, int dirfd, child_addr path, unsigned walk, struct target *t)
{
    int e = target_resolve(r, dirfd, path, walk, t);

    return e < 0 ? e : metadata_judge(r, t, t->path[0] ? -1 : dirfd);
}

int metadata_fd(struct request *r, int fd, struct target *t)
{
    int flags;

    t->at = (struct resolved)RESOLVED_INIT;
    t->path[0] = '\0';
    flags = fd < 0 ? -EBADF : request_fd_flags(r, fd);
    if (flags < 0 || (flags & O_PATH))
        return flags < 0 ? flags : -EBADF;
    int got = request_fd_path(r, fd);
    if (got < 0)
        return got;
    t->at.fd = got;
    int e = sys_identify(got, &t->at.id);
    if (e < 0)
        return e;
    if (!request_alive(r))
        return -ESRCH;
    if (fd_location(got, t->path, sizeof(t->path)) < 0)
        t->path[0] = '\0';
    return metadata_judge(r, t, fd);
}

/* ---- chmod, chown ---- */

static int metadata_chmod_target(const struct target *t, mode_t mode)
{
    /* Modes of links mean nothing; kernels before 6.6 would set them on some file systems. */
    return S_ISLNK(t->at.id.mode) ? -EOPNOTSUPP : sys_chmod_fd(t->at.fd, mode & 07777);
}

static struct verdict metadata_chmod(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    int e, walk = metadata_walk(call_u32(&r->call, 3));

    if (walk < 0)
        return verdict_errno(walk);
    e = metadata_path(r, call_int(&r->call, 0), call_addr(&r->call, 1), (unsigned)walk, &t);
    return verdict_result(e < 0 ? e : metadata_chmod_target(&t, call_u32(&r->call, 2)));
}

static struct verdict metadata_fchmod(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    int e = metadata_fd(r, call_int(&r->call, 0), &t);

    return verdict_result(e < 0 ? e : metadata_chmod_target(&t, call_u32(&r->call, 1)));
}

static int metadata_chown_target(struct request *r, const struct target *t, uid_t uid, gid_t gid)
{
    int e = ids_take(supervisor_policy(r->sup), &uid, &gid);

    if (e < 0)
        return e;
    return fchownat(t->at.fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static struct verdict metadata_chown(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    int e, walk = metadata_walk(call_u32(&r->call, 4));

    if (walk < 0)
        return verdict_errno(walk);
    e = metadata_path(r, call_int(&r->call, 0), call_addr(&r->call, 1), (unsigned)walk, &t);
    if (e == 0)
        e = metadata_chown_target(r, &t, call_u32(&r->call, 2), call_u32(&r->call, 3));
    return verdict_result(e);
}

static struct verdict metadata_fchown(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    int e = metadata_fd(r, call_int(&r->call, 0), &t);

    if (e == 0)
        e = metadata_chown_target(r, &t, call_u32(&r->call, 1), call_u32(&r->call, 2));
    return verdict_result(e);
}

/* ---- times ---- */

/* 1: *ts is filled; 2: with what no clock shows, which the kernel says after it has found the file; 0: a null
 * pointer, the current time; or -errno. */
static int metadata_read_times(const struct request *r, struct timespec ts[2])
{
    child_addr from = call_addr(&r->call, 2);
    int64_t v[4];
    size_t size = r->call.variant == VARIANT_UTIMBUF ? 16 : sizeof(v);
    int e, result = 1;

    if (!from.addr)
        return 0;
    e = request_read(r, from, v, size);
    if (e < 0)
        return e;
    if (r->call.variant == VARIANT_UTIMBUF) {
        ts[0] = (struct timespec){.tv_sec = v[0]};
        ts[1] = (struct timespec){.tv_sec = v[1]};
        for (int i = 0; i < 2; i++)
            determinism_take_time(r->sup, &ts[i]);
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        int64_t part = v[2 * i + 1];
        bool micro = r->call.variant == VARIANT_TIMEVAL;
        bool special = !micro && (part == UTIME_NOW || part == UTIME_OMIT);

        if (!special && (part < 0 || part >= (micro ? 1000000 : 1000000000))) {
            if (micro)
                return -EINVAL;
            result = 2;
        }
        ts[i] = (struct timespec){.tv_sec = v[2 * i], .tv_nsec = micro ? part * 1000 : part};
        determinism_take_time(r->sup, &ts[i]);
    }
    return result;
}

/* What the times are set on. A path that is not there is the descriptor's way, except with AT_FDCWD. */
static int metadata_times_target(struct request *r, bool valid, struct target *t)
{
    int fd = call_int(&r->call, 0), walk = metadata_walk(call_u32(&r->call, 3)), e;
    child_addr path = call_addr(&r->call, 1);

    if (walk < 0)
        return walk;
    if (!path.addr && fd == AT_FDCWD)
        return -EFAULT;
    if (!path.addr)
        e = call_u32(&r->call, 3) ? -EINVAL : metadata_fd(r, fd, t);
    else if (valid)
        e = metadata_path(r, fd, path, (unsigned)walk, t);
    else
        e = target_resolve(r, fd, path, (unsigned)walk, t);
    return e < 0 || valid ? e : -EINVAL;
}

static struct verdict metadata_times(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    struct timespec ts[2];
    char path[FD_PATH_MAX];
    int e, set = metadata_read_times(r, ts);

    if (set < 0)
        return verdict_errno(set);
    if (set && ts[0].tv_nsec == UTIME_OMIT && ts[1].tv_nsec == UTIME_OMIT)
        return verdict_value(0); /* as the kernel: nothing is even looked up */
    e = metadata_times_target(r, set != 2, &t);
    if (e < 0)
        return verdict_errno(e);
    fd_path(t.at.fd, path);
    return verdict_result(utimensat(AT_FDCWD, path, set ? ts : NULL, 0) < 0 ? -errno : 0);
}

/* ---- the feature ---- */

static bool metadata_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return policy_has_write(p);
}

static int metadata_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct grants *g;
    int e = grants_new(supervisor_policy(s), &g, err);

    if (e == 0)
        *ret_state = g;
    return e;
}

static void metadata_stop(void *state)
{
    grants_free(state);
}

static const struct feature_call metadata_calls[] = {
    {OP_CHMOD, metadata_chmod, NULL, 0},
    {OP_FCHMOD, metadata_fchmod, NULL, 0},
    {OP_CHOWN, metadata_chown, NULL, 0},
    {OP_FCHOWN, metadata_fchown, NULL, 0},
    {OP_TIMES, metadata_times, NULL, 0},
    {OP_XATTR_SET, metadata_xattr_set, NULL, 0},
    {OP_XATTR_REMOVE, metadata_xattr_remove, NULL, 0},
    {OP_FXATTR_SET, metadata_fxattr_set, NULL, 0},
    {OP_FXATTR_REMOVE, metadata_fxattr_remove, NULL, 0},
    {OP_FILEATTR_SET, metadata_fileattr_set, NULL, 0},
    {OP_IOCTL, metadata_ioctl, metadata_ioctl_when, METADATA_IOCTLS},
};

const struct feature fs_metadata_feature = {
    .name = "metadata",
    .wanted = metadata_wanted,
    .calls = metadata_calls,
    .ncalls = ARRAY_SIZE(metadata_calls),
    .start = metadata_start,
    .stop = metadata_stop,
};
