/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions about objects, answered on behalf: stat, statx, access, readlink, statfs, reading of
 * xattrs and file attributes; chdir and inotify watches. Receiver threads. Lengths come from the
 * child and are bounded before anything is allocated.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "determinism/determinism.h"
#include "fs/behalf.h"
#include "fs/ids.h"
#include "fs/procfs.h"
#include "fs/staged.h"
#include "fs/view.h"
#include "fs/virtual.h"
#include "plan/root.h"

#define LOOK_STAT_FLAGS (AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | 0x6000u)
#define LOOK_SYNC_FLAGS 0x6000u /* AT_STATX_SYNC_TYPE */
#define LOOK_STATX_INO 32u      /* offsets in struct statx: stx_ino, stx_size behind it; */
#define LOOK_STATX_DEV 136u     /* stx_dev_major, stx_dev_minor behind it; */
#define LOOK_STATX_UID 20u      /* offset of stx_uid in struct statx, stx_gid behind it */
#define LOOK_XATTR_MAX 65536u   /* XATTR_SIZE_MAX, XATTR_LIST_MAX */
#define LOOK_ATTR_MIN 24u       /* FILE_ATTR_SIZE_VER0 */

static unsigned look_walk(uint32_t at_flags)
{
    return (at_flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) |
           (at_flags & AT_EMPTY_PATH ? WALK_EMPTY_OK : 0);
}

/* A descriptor's own attributes are readable by fstat(2) without anybody being asked, so the empty
 * path is not judged: it would only break inherited descriptors. */
static int look_stat_target(struct request *r, uint32_t flags, unsigned walk, struct target *t)
{
    int e = target_resolve(r, call_int(&r->call, 0), call_addr(&r->call, 1),
                           look_walk(flags) | walk, t);

    if (e < 0 || !t->path[0])
        return e;
    return behalf_judge(r, &t->at, JUDGE_LOOK, t->path);
}

/* Whether a null path will do differs between kernels. */
static int look_null_path(const struct request *r, uint32_t flags)
{
    if (r->call.args[1] != 0 || !(flags & AT_EMPTY_PATH))
        return 0;
    return sys_null_path(call_int(&r->call, 0), flags);
}

void behalf_show_stat(const struct request *r, struct stat *st)
{
    ids_show(supervisor_policy(r->sup), st);
    determinism_show_stat(r->sup, st);
}

static struct verdict look_answer_stat(struct request *r, struct stat *st)
{
    uint8_t out[ARCH_STAT_MAX];

    return verdict_result(
        request_write(r, call_addr(&r->call, 2), out, arch_native()->encode_stat(st, out)));
}

/* Is it the form by which C libraries make fstat(2)? Looked at once; when the path changes to "" later,
 * the long way answers that as well. */
static bool look_is_fstat(const struct request *r, uint32_t flags)
{
    char first = 1;

    return (flags & AT_EMPTY_PATH) && call_int(&r->call, 0) >= 0 &&
           (r->call.args[1] == 0 ||
            (request_read(r, call_addr(&r->call, 1), &first, 1) == 0 && first == '\0'));
}

/* fstat(2) in one call instead of five. -ENODATA: the object needs the long way, since its attributes may be
 * told by somebody else than the kernel. */
static int look_fstat(const struct request *r, int fd, struct stat *ret)
{
    const struct root *root = supervisor_plan(r->sup)->root;
    char path[CHILD_FD_PATH_MAX];
    struct fs_statx all;
    struct sys_ident id;
    int e;

    if (staged_layer(r))
        return -ENODATA;
    request_fd_name(r, fd, path);
    e = sys_identify_path(path, &id, &all);
    if (e < 0)
        return e == -ENOENT ? -EBADF : -ENODATA;
    if ((major(id.dev) == 0 && !root_holds(root, &id)) || virtual_may_be(r, &id))
        return -ENODATA;
    if (!request_alive(r))
        return -ESRCH;
    sys_stat_of(&all, ret);
    return 0;
}

struct verdict behalf_stat(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    uint32_t flags = call_u32(&r->call, 3);
    struct stat st;
    int e;

    if (flags & ~LOOK_STAT_FLAGS)
        return verdict_errno(EINVAL);
    e = look_null_path(r, flags);
    if (e < 0)
        return verdict_errno(e);
    if (look_is_fstat(r, flags)) {
        e = look_fstat(r, call_int(&r->call, 0), &st);
        if (e == 0)
            behalf_show_stat(r, &st);
        if (e != -ENODATA)
            return e < 0 ? verdict_errno(e) : look_answer_stat(r, &st);
    }
    e = look_stat_target(r, flags, WALK_ATTRIBUTES, &t);
    if (e < 0)
        return verdict_errno(e);
    if (t.at.has_attributes && !staged_layer(r))
        sys_stat_of(&t.at.attributes, &st);
    else
        e = staged_stat(r, t.at.fd, &t.at.id, &st);
    if (e < 0)
        return verdict_errno(e);
    behalf_show_stat(r, &st);
    virtual_attributes(r, t.at.fd, &t.at.id, t.at.on_proc, &st);
    return look_answer_stat(r, &st);
}

/* What the stand-in of a virtual file tells, in the fields of struct statx. */
static void look_statx_virtual(const struct request *r, const struct resolved *at, uint8_t *out)
{
    struct stat st = {0};
    uint64_t ino_size[2];
    uint32_t dev[2];

    memcpy(ino_size, out + LOOK_STATX_INO, sizeof(ino_size));
    memcpy(dev, out + LOOK_STATX_DEV, sizeof(dev));
    st.st_ino = ino_size[0];
    st.st_size = (off_t)ino_size[1];
    st.st_dev = makedev(dev[0], dev[1]);
    virtual_attributes(r, at->fd, &at->id, at->on_proc, &st);
    ino_size[0] = st.st_ino;
    ino_size[1] = (uint64_t)st.st_size;
    dev[0] = major(st.st_dev);
    dev[1] = minor(st.st_dev);
    memcpy(out + LOOK_STATX_INO, ino_size, sizeof(ino_size));
    memcpy(out + LOOK_STATX_DEV, dev, sizeof(dev));
}

struct verdict behalf_statx(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    uint32_t flags = call_u32(&r->call, 2), mask = call_u32(&r->call, 3);
    uint8_t out[SYS_STATX_SIZE];
    uint32_t ids[2];
    int e;

    if ((flags & ~LOOK_STAT_FLAGS) || (flags & LOOK_SYNC_FLAGS) == LOOK_SYNC_FLAGS ||
        (mask & 0x80000000u)) /* STATX__RESERVED */
        return verdict_errno(EINVAL);
    e = look_null_path(r, flags);
    if (e == 0)
        e = look_stat_target(r, flags, 0, &t);
    if (e < 0)
        return verdict_errno(e);
    memset(out, 0, sizeof(out));
    e = sys_statx_fd(t.at.fd, flags & LOOK_SYNC_FLAGS, mask, out);
    if (e == 0)
        e = staged_show_statx(r, t.at.fd, &t.at.id, out);
    if (e < 0)
        return verdict_errno(e);
    memcpy(ids, out + LOOK_STATX_UID, sizeof(ids));
    ids_show_pair(supervisor_policy(r->sup), &ids[0], &ids[1]);
    memcpy(out + LOOK_STATX_UID, ids, sizeof(ids));
    look_statx_virtual(r, &t.at, out);
    determinism_show_statx(r->sup, out);
    return verdict_result(request_write(r, call_addr(&r->call, 4), out, sizeof(out)));
}

struct verdict behalf_access(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    uint32_t mode = call_u32(&r->call, 2), flags = call_u32(&r->call, 3);
    int e;

    if ((mode & ~7u) || (flags & ~(uint32_t)(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)))
        return verdict_errno(EINVAL);
    e = target_judge(r, call_int(&r->call, 0), call_addr(&r->call, 1),
                     look_walk(flags) | WALK_ANSWER, JUDGE_LOOK, &t);
    if (e < 0)
        return verdict_errno(e);
    e = staged_access(r, t.at.fd, (int)mode, (int)(flags & AT_EACCESS));
    if (e == 0 && (mode & W_OK) && (S_ISREG(t.at.id.mode) || S_ISDIR(t.at.id.mode)) &&
        view_is_read_only(r, &t.at))
        e = -EROFS;
    return verdict_result(e);
}

/* What the caller would read from the links of procfs that are made for whoever reads them. */
static ssize_t look_self_link(const struct request *r, const struct target *t, char *buf,
                              size_t size)
{
    struct procfs_place place;
    pid_t tgid;
    int n, e;

    if (!t->at.on_proc || procfs_place(t->at.fd, &t->at.id, &place) < 0)
        return -ENOENT;
    if (strcmp(place.rest, "self") != 0 && strcmp(place.rest, "thread-self") != 0)
        return -ENOENT;
    e = request_status(r, &tgid, NULL);
    if (e < 0)
        return e;
    n = place.rest[0] == 's' ? snprintf(buf, size, "%d", (int)tgid)
                             : snprintf(buf, size, "%d/task/%d", (int)tgid, (int)r->tid);
    return n;
}

/* In a tree of the command's own the links of /proc/<pid> must not tell the host's names. -ENODATA: this is
 * no such link. */
static ssize_t look_inside_link(const struct request *r, const struct target *t, char *buf,
                                size_t size)
{
    const struct root *root = supervisor_plan(r->sup)->root;
    struct procfs_place place;
    ssize_t n, shown;
    int fd;

    if (!root || !t->at.on_proc || procfs_place(t->at.fd, &t->at.id, &place) < 0 || !place.pid)
        return -ENODATA;
    n = readlinkat(t->at.fd, "", buf, size);
    if (n < 0)
        return -errno;
    if (n == 0 || buf[0] != '/')
        return n; /* pipe:[N] and the like */
    fd = view_proc_link(r, t->at.parent_fd, t->at.name);
    if (fd == -ENODATA)
        fd = sys_open_path(t->at.parent_fd, t->at.name, 0);
    if (fd < 0)
        return fd;
    shown = view_show(root, fd, buf, size);
    util_close(fd);
    return shown;
}

struct verdict behalf_readlink(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    int size = call_int(&r->call, 3);
    char buf[PATH_MAX];
    ssize_t n;
    int e;

    if (size <= 0)
        return verdict_errno(EINVAL);
    if (r->call.args[1] == 0) /* empty is allowed here, absent is not */
        return verdict_errno(EFAULT);
    e = target_judge(r, call_int(&r->call, 0), call_addr(&r->call, 1), WALK_EMPTY_OK | WALK_ANSWER,
                     JUDGE_LOOK, &t);
    if (e < 0)
        return verdict_errno(e);
    if (!S_ISLNK(t.at.id.mode)) /* of each directory of a path: what realpath(3) asks most */
        return verdict_errno(t.path[0] ? EINVAL : ENOENT);
    if (!request_alive(r))
        return verdict_gone();
    n = look_self_link(r, &t, buf, sizeof(buf));
    if (n == -ENOENT)
        n = look_inside_link(r, &t, buf, sizeof(buf));
    if (n == -ENODATA) {
        n = readlinkat(t.at.fd, "", buf, sizeof(buf));
        n = n < 0 ? -errno : n;
    }
    if (n < 0)
        return verdict_errno((int)n);
    n = MIN(n, size);
    e = request_write(r, call_addr(&r->call, 2), buf, (size_t)n);
    return e < 0 ? verdict_errno(e) : verdict_value(n);
}

struct verdict behalf_statfs(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    uint8_t out[SYS_STATFS_SIZE] = {0};
    int e = target_judge(r, AT_FDCWD, call_addr(&r->call, 0), WALK_FOLLOW, JUDGE_LOOK, &t);

    if (e == 0)
        e = sys_statfs_fd(t.at.fd, out);
    if (e == 0 && view_is_read_only(r, &t.at))
        sys_statfs_set_read_only(out);
    if (e == 0)
        e = request_write(r, call_addr(&r->call, 1), out, sizeof(out));
    return verdict_result(e);
}

/* ---- extended attributes ---- */

/* Where the value goes and how long it may be. */
static int look_xattr_buffer(struct request *r, child_addr *ret_addr, size_t *ret_size)
{
    struct xattr_args_copy args;
    int e;

    if (r->call.variant != VARIANT_STRUCT) {
        *ret_addr = call_addr(&r->call, 3);
        *ret_size = (size_t)MIN(r->call.args[4], LOOK_XATTR_MAX);
        return 0;
    }
    e = behalf_read_xattr_args(r, &args);
    if (e < 0)
        return e;
    if (args.flags)
        return -EINVAL;
    *ret_addr = args.value;
    *ret_size = MIN(args.size, LOOK_XATTR_MAX);
    return 0;
}

/* n bytes of a result, as getxattr and listxattr report it. */
static struct verdict look_xattr_answer(struct request *r, ssize_t n, child_addr to,
                                        const void *buf, size_t size)
{
    int e;

    if (n < 0)
        return verdict_errno(n == -ERANGE && size >= LOOK_XATTR_MAX ? -E2BIG : (int)n);
    if (size == 0 || n == 0)
        return verdict_value(n);
    e = request_write(r, to, buf, (size_t)n);
    return e < 0 ? verdict_errno(e) : verdict_value(n);
}

/* What a call for the attribute `name`, or with NULL the list of names, is about. */
static int look_xattr_target(struct request *r, const char *name, struct target *t)
{
    int e = target_judge(r, call_int(&r->call, 0), call_addr(&r->call, 1),
                         look_walk(r->call.at_flags), JUDGE_LOOK, t);

    return e < 0 ? e : behalf_empty_path(r, t, name ? SYS_EMPTY_XATTR_GET : SYS_EMPTY_XATTR_LIST);
}

/* The descriptor's path ends at the object, also when that is a link. */
static struct verdict look_xattr(struct request *r, const struct target *t, const char *name,
                                 child_addr to, size_t size)
{
    _cleanup_free_ void *buf = malloc(size ? size : 1);
    char path[FD_PATH_MAX];
    ssize_t n;

    if (!buf)
        return verdict_errno(ENOMEM);
    fd_path(t->at.fd, path);
    n = name ? getxattr(path, name, buf, size) : listxattr(path, buf, size);
    return look_xattr_answer(r, n < 0 ? -errno : n, to, buf, size);
}

struct verdict behalf_xattr_get(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    char name[BEHALF_XATTR_NAME];
    child_addr to;
    size_t size;
    int e, wrong;

    e = look_xattr_buffer(r, &to, &size); /* before the flags, as the kernel */
    if (e == 0 && (r->call.at_flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)))
        e = -EINVAL;
    if (e < 0)
        return verdict_errno(e);
    wrong = behalf_read_xattr_name(r, call_addr(&r->call, 2), name);
    if (wrong < 0 && sys_name_is_first(SYS_EMPTY_XATTR_GET))
        return verdict_errno(wrong);
    e = look_xattr_target(r, name, &t);
    if (e == 0)
        e = wrong;
    return e < 0 ? verdict_errno(e) : look_xattr(r, &t, name, to, size);
}

struct verdict behalf_xattr_list(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    int e;

    if (r->call.at_flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return verdict_errno(EINVAL);
    e = look_xattr_target(r, NULL, &t);
    if (e < 0)
        return verdict_errno(e);
    return look_xattr(r, &t, NULL, call_addr(&r->call, 2),
                      (size_t)MIN(r->call.args[3], LOOK_XATTR_MAX));
}

struct verdict behalf_fileattr_get(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    uint8_t buf[BEHALF_STRUCT_MAX] = {0};
    uint64_t size = r->call.args[3];
    uint32_t flags = call_u32(&r->call, 4);
    char path[FD_PATH_MAX];
    int e;

    if ((flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) || size < LOOK_ATTR_MIN)
        return verdict_errno(EINVAL);
    if (size > BEHALF_STRUCT_MAX)
        return verdict_errno(E2BIG);
    e = target_judge(r, call_int(&r->call, 0), call_addr(&r->call, 1), look_walk(flags), JUDGE_LOOK,
                     &t);
    if (e == 0)
        e = behalf_empty_path(r, &t, SYS_EMPTY_FILEATTR);
    if (e < 0)
        return verdict_errno(e);
    fd_path(t.at.fd, path);
    e = sys_file_getattr(path, buf, size);
    if (e == 0)
        e = request_write(r, call_addr(&r->call, 2), buf, size);
    return verdict_result(e);
}

/* ---- places to stand, places to watch ---- */

struct verdict behalf_chdir(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    int e = target_judge(r, AT_FDCWD, call_addr(&r->call, 0), WALK_FOLLOW | WALK_DIRECTORY,
                         JUDGE_LOOK, &t);

    if (e < 0)
        return verdict_errno(e);
    if (supervisor_plan(r->sup)->root)
        return view_chdir(r, &t.at);
    return verdict_continue("a working directory gives no access: each later path is resolved from "
                            "/proc/<tid>/cwd and judged on the object it leads to");
}

struct verdict behalf_watch(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    _cleanup_close_ int inotify_fd = -1;
    uint32_t mask = call_u32(&r->call, 2);
    char path[FD_PATH_MAX];
    int e, wd;

    if (!mask)
        return verdict_errno(EINVAL);
    inotify_fd = request_fd(r, call_int(&r->call, 0));
    if (inotify_fd < 0) {
        e = inotify_fd;
        inotify_fd = -1;
        return verdict_errno(e);
    }
    e = target_judge(r, AT_FDCWD, call_addr(&r->call, 1), mask & IN_DONT_FOLLOW ? 0 : WALK_FOLLOW,
                     JUDGE_LOOK, &t);
    if (e == 0)
        e = staged_watch(r, &t.at);
    if (e < 0)
        return verdict_errno(e);
    fd_path(t.at.fd, path);
    wd = inotify_add_watch(inotify_fd, path, mask & ~(uint32_t)IN_DONT_FOLLOW);
    return wd < 0 ? verdict_errno(errno) : verdict_value(wd);
}
