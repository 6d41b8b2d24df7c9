/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open, openat, openat2, creat on behalf. Receiver threads (blocking opens: a worker). The object is
 * found with O_PATH, judged, and only then opened, through the descriptor: no name is looked up
 * twice. Flags and paths are hostile; flags go to the kernel, which knows them better.
 */
#include "fs/behalf.h"

#include <errno.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fs/open_hint.h"
#include "fs/protect.h"
#include "fs/staged.h"
#include "fs/view.h"
#include "fs/virtual.h"

#define OPEN_TRIES 8
#define OPEN_HOW_MIN 24   /* OPEN_HOW_SIZE_VER0 */
#define OPEN_HOW_MAX 4096 /* the kernel's bound is a page; more than the smallest is never useful */

/* Flags of open(2) that this code knows; openat ignores others, openat2 refuses them. */
#define OPEN_KNOWN                                                                                \
    ((uint64_t)(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK |       \
                O_DSYNC | O_SYNC | O_ASYNC | O_DIRECT | SYS_O_EITHER | O_DIRECTORY | O_NOFOLLOW | \
                O_NOATIME | O_CLOEXEC | O_PATH | O_TMPFILE))
#define OPEN_PATH_FLAGS ((uint64_t)(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC))
#define OPEN_RESOLVE                                                                   \
    (RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | \
     RESOLVE_IN_ROOT | 0x20u /* RESOLVE_CACHED, 5.12 */)
#define OPEN_CACHED 0x20u

#define OPEN_IS_TMPFILE(f) (((f)&O_TMPFILE) == O_TMPFILE)

/* What was asked for. */
struct open_call {
    int dirfd;
    uint64_t flags;
    mode_t mode;
    uint64_t resolve;
    unsigned limits; /* the same for a walk by hand */
};

/* struct open_how with the size rules of openat2(2): longer is fine when the tail is zero. */
static int open_read_how(const struct request *r, struct open_call *c)
{
    uint8_t buf[OPEN_HOW_MAX];
    uint64_t size = r->call.args[3], word[3];
    int e;

    if (size < OPEN_HOW_MIN)
        return -EINVAL;
    if (size > OPEN_HOW_MAX)
        return -E2BIG;
    e = request_read(r, call_addr(&r->call, 2), buf, size);
    if (e < 0)
        return e;
    for (size_t i = OPEN_HOW_MIN; i < size; i++) {
        if (buf[i])
            return -E2BIG;
    }
    memcpy(word, buf, sizeof(word));
    c->flags = word[0];
    c->resolve = word[2];
    if ((c->flags & ~OPEN_KNOWN) || (c->resolve & ~(uint64_t)OPEN_RESOLVE) ||
        (c->resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) == (RESOLVE_BENEATH | RESOLVE_IN_ROOT))
        return -EINVAL;
    if (c->flags & O_CREAT || OPEN_IS_TMPFILE(c->flags) ? (word[1] & ~07777ull) != 0 : word[1] != 0)
        return -EINVAL;
    if ((c->flags & O_PATH) && (c->flags & ~OPEN_PATH_FLAGS))
        return -EINVAL;
    c->mode = (mode_t)word[1];
    return 0;
}

/* In a tree of the command's own the walk keeps the restrictions: the kernel's knows no mounts of ours. */
static unsigned open_limits(uint64_t resolve)
{
    return (resolve & RESOLVE_NO_SYMLINKS ? WALK_NO_LINKS | WALK_NO_MAGIC : 0) |
           (resolve & RESOLVE_NO_MAGICLINKS ? WALK_NO_MAGIC : 0) |
           (resolve & RESOLVE_NO_XDEV ? WALK_NO_XDEV : 0) |
           (resolve & RESOLVE_BENEATH ? WALK_BENEATH : 0) |
           (resolve & RESOLVE_IN_ROOT ? WALK_IN_ROOT : 0);
}

static int open_decode(const struct request *r, struct open_call *c)
{
    int e;

    *c = (struct open_call){.dirfd = call_int(&r->call, 0)};
    if (r->call.form == CALL_openat2) {
        e = open_read_how(r, c);
        if (e < 0)
            return e;
    } else {
        c->flags = call_u32(&r->call, 2) & OPEN_KNOWN;
        c->mode = call_u32(&r->call, 3) & 07777;
    }
    if (c->flags & O_PATH) {
        c->flags &= OPEN_PATH_FLAGS;
        return 0;
    }
    if ((c->flags & O_CREAT) && (c->flags & O_DIRECTORY))
        return -EINVAL;
    if (OPEN_IS_TMPFILE(c->flags)) {
        if ((c->flags & O_ACCMODE) == O_RDONLY)
            return -EINVAL;
    } else if (c->flags & O_TMPFILE & ~(uint64_t)O_DIRECTORY) {
        return -EINVAL;
    }
    return 0;
}

/* ---- opening a found object ---- */

/* /dev/tty means the caller's terminal; opened here it would be the supervisor's. */
static int open_check_tty(const struct request *r, const struct sys_ident *id)
{
    if (S_ISCHR(id->mode) && id->rdev == makedev(5, 0) && getsid(r->tid) != getsid(0))
        return -ENXIO;
    return 0;
}

/* May the open itself wait for somebody? Memory devices, terminals of this kernel and everything
 * without a driver behind it do not. */
static bool open_may_block(const struct sys_ident *id, uint64_t flags)
{
    unsigned major_nr = major(id->rdev);

    if (S_ISFIFO(id->mode))
        return !(flags & O_NONBLOCK) && (flags & O_ACCMODE) != O_RDWR;
    if (S_ISCHR(id->mode))
        return !(major_nr == 1 || major_nr == 5 || (major_nr >= 136 && major_nr <= 143));
    return S_ISBLK(id->mode);
}

/* To open it changes nothing and tells nobody: only the injected descriptor counts, and the kernel takes
 * none for a call that is gone. */
static bool open_leaves_no_trace(const struct sys_ident *id, uint64_t flags)
{
    return (S_ISREG(id->mode) || S_ISDIR(id->mode)) && (flags & O_ACCMODE) == O_RDONLY &&
           !(flags & (O_TRUNC | O_CREAT)) && !OPEN_IS_TMPFILE(flags);
}

static struct verdict open_verdict(int fd, uint64_t flags)
{
    return fd < 0 ? verdict_errno(fd) : verdict_inject(fd, flags & O_CLOEXEC ? O_CLOEXEC : 0);
}

static struct verdict open_object(const struct request *r, const struct open_call *c,
                                  struct target *t)
{
    int e, fd;

    e = open_check_tty(r, &t->at.id);
    if (e < 0)
        return verdict_errno(e);
    fd = virtual_open(r, t->at.fd, &t->at.id, t->at.on_proc, c->flags);
    if (fd != -ENODATA)
        return open_verdict(fd, c->flags);
    if (OPEN_IS_TMPFILE(c->flags)) {
        e = behalf_umask(r);
        if (e < 0)
            return verdict_errno(e);
    }
    if (open_may_block(&t->at.id, c->flags))
        return behalf_open_later(r, &t->at, c->flags,
                                 S_ISFIFO(t->at.id.mode) ? WAIT_FIFO : WAIT_DEVICE);
    if (S_ISREG(t->at.id.mode)) {
        fd = behalf_reopen_file(r, &t->at, c->flags);
        if (fd == -EAGAIN && !(c->flags & O_NONBLOCK))
            return behalf_open_later(r, &t->at, c->flags, WAIT_LEASE);
    } else {
        fd = staged_reopen(r, &t->at, c->flags, c->mode);
        if (fd == -ENODATA)
            fd = behalf_reopen(t->at.fd, c->flags, c->mode);
    }
    if (fd == -EACCES)
        request_explain(r, t->path, EACCES, "no grant, or file permissions",
                        (c->flags & O_ACCMODE) == O_RDONLY ? "add --fs-read" : "add --fs-write");
    return open_verdict(fd, c->flags);
}

/* PR-10: what of an open changes an existing object, or lets change it. */
static bool open_writes(const struct sys_ident *id, uint64_t flags)
{
    if (S_ISCHR(id->mode) || S_ISBLK(id->mode) || S_ISFIFO(id->mode) || S_ISSOCK(id->mode))
        return false; /* a read-only file system says nothing about what is behind them */
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) || OPEN_IS_TMPFILE(flags);
}

/* ---- creating ---- */

static struct verdict open_existing(const struct request *r, const struct open_call *c,
                                    struct target *t)
{
    bool reads = (c->flags & O_ACCMODE) == O_RDONLY && !(c->flags & O_TRUNC);
    int e = behalf_judge(r, &t->at, reads ? JUDGE_OPEN : JUDGE_WRITE, t->path);

    if (e < 0)
        return verdict_errno(e);
    if (c->flags & O_CREAT) {
        if (c->flags & O_EXCL)
            return verdict_errno(EEXIST);
        if (S_ISDIR(t->at.id.mode))
            return verdict_errno(EISDIR);
        e = protect_create(t->at.parent_fd, &t->at.id);
        if (e < 0)
            return verdict_errno(e);
    }
    e = open_writes(&t->at.id, c->flags) ? view_writable(r, &t->at, t->path) : 0;
    return e < 0 ? verdict_errno(e) : open_object(r, c, t);
}

/* The name was judged and is free: made in its directory, never through a link. -EEXIST when somebody
 * was faster. */
static int open_new(const struct request *r, const struct open_call *c, const struct target *t)
{
    /* O_EXCL does not follow a link either; O_NOFOLLOW would show in F_GETFL. */
    uint64_t flags = c->flags | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY;
    _cleanup_cow_pos_ struct cow_pos pos = COW_POS_INIT;
    int e = behalf_judge_name(r, &t->at, t->path);

    if (e == 0)
        e = view_writable(r, &t->at, t->path);
    if (e < 0)
        return e;
    e = behalf_umask(r);
    if (e == 0)
        e = staged_name(r, &t->at, &pos);
    if (e < 0)
        return e;
    if (e > 0)
        return cow_open_new(staged_layer(r), &pos, t->at.name, (int)flags, c->mode);
    return sys_openat(t->at.parent_fd, t->at.name, (int)flags, c->mode);
}

static struct verdict open_create(const struct request *r, const struct open_call *c)
{
    _cleanup_target_ struct target t;
    /* Whether the caller still waits is looked at before anything is done: here, or by behalf_umask(). */
    unsigned walk = WALK_PARENT | WALK_ANSWER | c->limits;
    int e;

    e = target_resolve(r, c->dirfd, call_addr(&r->call, 1), walk, &t);
    /* A final slash is refused before a link there is looked at. */
    if (e == 0 && !(c->flags & (O_NOFOLLOW | O_EXCL)) && !t.at.trailing_slash && t.at.fd >= 0 &&
        S_ISLNK(t.at.id.mode)) {
        walk |= WALK_FOLLOW;
        e = target_again(r, c->dirfd, walk, &t);
    }
    for (int i = 0; e == 0 && i < OPEN_TRIES; i++) {
        if (t.at.trailing_slash && !t.at.dots[0])
            return verdict_errno(EISDIR);
        if (t.at.fd >= 0)
            return request_alive(r) ? open_existing(r, c, &t) : verdict_errno(ESRCH);
        e = open_new(r, c, &t);
        if (e == -EACCES)
            request_explain(r, t.path, EACCES, "no write grant, or directory permissions",
                            "add --fs-write");
        if (e != -EEXIST || (c->flags & O_EXCL))
            return open_verdict(e, c->flags);
        e = target_again(r, c->dirfd, walk, &t);
    }
    return verdict_errno(e < 0 ? e : -EEXIST);
}

/* ---- openat2 with resolve flags ---- */

/* The kernel walks with the caller's restrictions. Ordinary links of procfs then mean the
 * supervisor: the judge refuses what they lead to, nothing is opened by mistake. */
static int open_restricted(const struct request *r, const struct open_call *c, struct target *t)
{
    _cleanup_close_ int base_fd = -1;
    uint64_t flags = O_PATH | O_CLOEXEC | (c->flags & (O_NOFOLLOW | O_DIRECTORY));
    ssize_t n;
    int e;

    t->at = (struct resolved)RESOLVED_INIT;
    n = request_read_path(r, call_addr(&r->call, 1), t->path);
    if (n <= 0)
        return n < 0 ? (int)n : -ENOENT;
    if (c->resolve & OPEN_CACHED)
        return -EAGAIN; /* always allowed to say so: the caller asks again without */
    if ((c->flags & O_CREAT) && t->path[n - 1] == '/')
        return -EISDIR;
    base_fd = request_fd_path(r, c->dirfd);
    if (base_fd < 0 && (t->path[0] != '/' || (c->resolve & RESOLVE_IN_ROOT))) {
        e = base_fd;
        base_fd = -1;
        return e;
    }
    for (int i = 0; i < OPEN_TRIES; i++) {
        e = sys_openat2(base_fd, t->path, flags, 0, c->resolve | RESOLVE_NO_MAGICLINKS);
        if (e != -EAGAIN)
            break;
    }
    if (e < 0)
        return e;
    t->at.fd = e;
    e = sys_identify(t->at.fd, &t->at.id);
    if (e < 0)
        return e;
    t->at.on_proc = sys_fs_magic(t->at.fd) == 0x9fa0; /* PROC_SUPER_MAGIC */
    return request_alive(r) ? 0 : -ESRCH;
}

/* Creating under restrictions: the directory part obeys them, the last component is a plain name. */
static int open_restricted_parent(const struct request *r, const struct open_call *c,
                                  struct target *t)
{
    _cleanup_close_ int base_fd = -1;
    char *slash = strrchr(t->path, '/');
    const char *name = slash ? slash + 1 : t->path;
    char dir[PATH_MAX];
    size_t n = slash ? (size_t)(slash - t->path) + 1 : 0;
    int fd;

    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EISDIR;
    if (strlen(name) > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(dir, t->path, n);
    memcpy(dir + n, ".", 2);
    base_fd = request_fd_path(r, c->dirfd);
    fd = sys_openat2(base_fd, dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                     c->resolve | RESOLVE_NO_MAGICLINKS);
    if (base_fd < 0)
        base_fd = -1;
    if (fd < 0)
        return fd;
    t->at.parent_fd = fd;
    memcpy(t->at.name, name, strlen(name) + 1);
    return request_alive(r) ? 0 : -ESRCH;
}

static struct verdict open_with_resolve(const struct request *r, const struct open_call *c)
{
    _cleanup_target_ struct target t;
    int e = open_restricted(r, c, &t);

    if (e == 0)
        return open_existing(r, c, &t);
    if (e != -ENOENT || !(c->flags & O_CREAT) || !t.path[0])
        return verdict_errno(e);
    e = open_restricted_parent(r, c, &t);
    /* A dangling link as the last component: EEXIST, nothing is made behind it. */
    return open_verdict(e < 0 ? e : open_new(r, c, &t), c->flags);
}

/* ---- the handler ---- */

/* Flags that a regular file opened for reading may have on the short way. */
#define OPEN_READS ((uint64_t)(O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | SYS_O_EITHER))

/*
 * The short way: a path that led to a regular file last time is opened at once, and judged then. To open it
 * again through an O_PATH descriptor costs a fifth of the whole. Without waiting, since it may be a FIFO by now: then,
 * as after any other surprise, -EAGAIN and the long way. Descriptor or refusal otherwise.
 */
static int open_known_file(const struct request *r, const struct open_call *c, unsigned walk,
                           struct target *t)
{
    int e;

    if ((c->flags & ~OPEN_READS) || c->limits || staged_layer(r) || !open_hint_is_file(t->path))
        return -EAGAIN;
    e = resolve_open(r, t->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | (int)c->flags, walk, &t->at);
    if (e < 0 || !S_ISREG(t->at.id.mode) || virtual_may_be(r, &t->at.id)) {
        open_hint_learn(t->path, false);
        return -EAGAIN;
    }
    e = behalf_judge(r, &t->at, JUDGE_OPEN, t->path);
    /* Not kept: the flag would show in F_GETFL. */
    if (e == 0 && !(c->flags & O_NONBLOCK) && fcntl(t->at.fd, F_SETFL, 0) < 0)
        e = -EIO;
    return e < 0 ? e : steal_fd(&t->at.fd);
}

static struct verdict open_plain(const struct request *r, const struct open_call *c)
{
    _cleanup_target_ struct target t;
    unsigned walk = c->limits | (c->flags & O_NOFOLLOW ? 0 : WALK_FOLLOW);
    ssize_t n;
    int e;

    t.at = (struct resolved)RESOLVED_INIT; /* not the path as well: that costs */
    n = request_read_path(r, call_addr(&r->call, 1), t.path);
    if (n < 0)
        return verdict_errno((int)n);
    e = open_known_file(r, c, walk, &t);
    if (e != -EAGAIN)
        return open_verdict(e, c->flags);
    if (c->flags & O_DIRECTORY)
        walk |= WALK_DIRECTORY;
    e = target_again(r, c->dirfd, walk | WALK_ANSWER, &t);
    if (e == 0 && !open_leaves_no_trace(&t.at.id, c->flags) && !request_alive(r))
        e = -ESRCH;
    if (e < 0)
        return verdict_errno(e);
    if (t.path[0] == '/' && S_ISREG(t.at.id.mode) && !t.at.on_proc && !t.at.magic)
        open_hint_learn(t.path, true);
    return open_existing(r, c, &t);
}

static struct verdict open_path_only(const struct request *r, const struct open_call *c)
{
    _cleanup_target_ struct target t;
    int e;

    if (c->resolve) {
        e = open_restricted(r, c, &t);
        if (e == 0)
            e = behalf_judge(r, &t.at, JUDGE_LOOK, t.path);
    } else {
        e = target_judge(r, c->dirfd, call_addr(&r->call, 1),
                         c->limits | (c->flags & O_NOFOLLOW ? 0 : WALK_FOLLOW), JUDGE_LOOK, &t);
    }
    if (e < 0)
        return verdict_errno(e);
    if ((c->flags & O_DIRECTORY) && !S_ISDIR(t.at.id.mode))
        return verdict_errno(ENOTDIR);
    if (supervisor_plan(r->sup)->root)
        return view_open_path(r, t.at.fd, c->flags);
    /* Cannot be injected: the kernel answers EBADF to ADDFD of such a descriptor (PR-14). */
    return verdict_continue("an O_PATH descriptor gives no access: re-open, exec, link, *at and "
                            "/proc/self/fd uses of it are notified and judged on the object");
}

struct verdict behalf_open(struct request *r)
{
    struct open_call c;
    int e = open_decode(r, &c);

    if (e < 0)
        return verdict_errno(e);
    if (c.resolve && supervisor_plan(r->sup)->root) {
        if (c.resolve & OPEN_CACHED)
            return verdict_errno(EAGAIN);
        c.limits = open_limits(c.resolve);
        c.resolve = 0;
    }
    if (c.flags & O_PATH)
        return open_path_only(r, &c);
    if (c.resolve)
        return open_with_resolve(r, &c);
    if (c.flags & O_CREAT)
        return open_create(r, &c);
    return open_plain(r, &c);
}
