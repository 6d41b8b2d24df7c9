/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating, removing and renaming on behalf, and truncate by path. Receiver threads. Everything is
 * done on (directory descriptor, one name).
 *
 * The name may be given to another object between the judgement and the act, but not to a denied
 * one: a denied object gets a name only by link or rename, and those are refused for it and for
 * every directory above it.
 */
#include <errno.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "fs/behalf.h"
#include "fs/deny.h"
#include "fs/fs.h"
#include "fs/staged.h"
#include "fs/view.h"
#include "plan/plan.h"
#include "sys/uapi.h"

static struct verdict names_result(int r)
{
    return r < 0 ? verdict_errno(errno) : verdict_value(0);
}

/* Resolves a name about to be created; an object that is already there is judged, so that a denied
 * one says EACCES and any other lets the kernel say EEXIST. walk: WALK_ANSWER where behalf_umask() follows,
 * which looks whether the caller still waits. */
static int names_new(struct request *r, unsigned dirfd_arg, bool dir, unsigned walk,
                     struct target *t, char name[ENTRY_NAME_MAX])
{
    int e = target_resolve(r, call_int(&r->call, dirfd_arg), call_addr(&r->call, dirfd_arg + 1),
                           WALK_PARENT | walk, t);

    if (e == 0 && t->at.fd >= 0)
        e = behalf_judge(r, &t->at, JUDGE_LOOK, t->path);
    if (e == 0)
        e = behalf_judge_name(r, &t->at, t->path);
    if (e == 0 && t->at.mounted)
        e = -EEXIST; /* beneath the mount the name may be free */
    if (e == 0 && t->at.fd < 0)
        e = t->at.trailing_slash && !dir ? -ENOENT : view_writable(r, &t->at, t->path);
    return e < 0 ? e : target_entry(t, name);
}

/* One side of a rename. Whether the caller still waits is looked at after both are resolved. */
static int names_moved(struct request *r, unsigned dirfd_arg, struct target *t,
                       char name[ENTRY_NAME_MAX])
{
    int e = target_resolve(r, call_int(&r->call, dirfd_arg), call_addr(&r->call, dirfd_arg + 1),
                           WALK_PARENT | (dirfd_arg ? 0 : WALK_ANSWER), t);

    if (e == 0)
        e = behalf_judge_move(r, &t->at, t->path);
    return e < 0 ? e : target_entry(t, name);
}

/* unlink("name/"), which the layer takes for a name without the slash. */
static int names_slash(const struct target *t)
{
    if (!t->at.trailing_slash)
        return 0;
    return t->at.fd < 0 ? -ENOENT : S_ISDIR(t->at.id.mode) ? -EISDIR : -ENOTDIR;
}

static int names_unlink_staged(struct request *r, const struct target *t, struct cow_pos *pos,
                               bool as_dir)
{
    int e;

    if (as_dir)
        return cow_rmdir(staged_layer(r), pos, t->at.name);
    e = names_slash(t);
    return e < 0 ? e : cow_unlink(staged_layer(r), pos, t->at.name);
}

struct verdict behalf_unlink(struct request *r)
{
    _cleanup_cow_pos_ struct cow_pos pos = COW_POS_INIT;
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    uint32_t flags = call_u32(&r->call, 2);
    char name[ENTRY_NAME_MAX];
    int e, dir_fd;

    if (flags & ~(uint32_t)AT_REMOVEDIR)
        return verdict_errno(EINVAL);
    e = target_resolve(r, call_int(&r->call, 0), call_addr(&r->call, 1), WALK_PARENT, &t);
    if (e == 0)
        e = behalf_judge_remove(r, &t.at, t.path);
    if (e == 0)
        e = view_removable(r, &t.at, flags & AT_REMOVEDIR, t.path);
    if (e == 0)
        e = staged_name(r, &t.at, &pos);
    if (e != 0)
        return verdict_result(e < 0 ? e : names_unlink_staged(r, &t, &pos, flags & AT_REMOVEDIR));
    dir_fd = target_entry(&t, name);
    return names_result(unlinkat(dir_fd, name, (int)flags));
}

struct verdict behalf_mkdir(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    char name[ENTRY_NAME_MAX];
    _cleanup_cow_pos_ struct cow_pos pos = COW_POS_INIT;
    int e, dir_fd = names_new(r, 0, true, WALK_ANSWER, &t, name);

    if (dir_fd < 0)
        return verdict_errno(dir_fd);
    e = behalf_umask(r);
    if (e == 0)
        e = staged_name(r, &t.at, &pos);
    if (e < 0)
        return verdict_errno(e);
    if (e > 0)
        return verdict_result((t.at.fd < 0 ? cow_mkdir_new : cow_mkdir)(
            staged_layer(r), &pos, t.at.name, call_u32(&r->call, 2)));
    return names_result(mkdirat(dir_fd, name, call_u32(&r->call, 2)));
}

struct verdict behalf_mknod(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    _cleanup_cow_pos_ struct cow_pos pos = COW_POS_INIT;
    uint32_t mode = call_u32(&r->call, 2), type = mode & S_IFMT;
    char name[ENTRY_NAME_MAX];
    int e, dir_fd;

    if (type == S_IFDIR)
        return verdict_errno(EPERM);
    if (type && type != S_IFREG && type != S_IFCHR && type != S_IFBLK && type != S_IFIFO &&
        type != S_IFSOCK)
        return verdict_errno(EINVAL);
    dir_fd = names_new(r, 0, false, WALK_ANSWER, &t, name);
    if (dir_fd < 0)
        return verdict_errno(dir_fd);
    e = behalf_umask(r);
    if (e == 0)
        e = staged_name(r, &t.at, &pos);
    if (e < 0)
        return verdict_errno(e);
    if (e > 0)
        return verdict_result(cow_mknod(staged_layer(r), &pos, t.at.name, mode));
    /* The kernel reads the device number as 32 bits. */
    return names_result(mknodat(dir_fd, name, mode, call_u32(&r->call, 3)));
}

struct verdict behalf_symlink(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    char name[ENTRY_NAME_MAX], text[PATH_MAX];
    _cleanup_cow_pos_ struct cow_pos pos = COW_POS_INIT;
    ssize_t n = request_read_path(r, call_addr(&r->call, 0), text);
    int dir_fd, e;

    if (n <= 0)
        return verdict_errno(n < 0 ? (int)n : -ENOENT);
    dir_fd = names_new(r, 1, false, 0, &t, name);
    if (dir_fd < 0)
        return verdict_errno(dir_fd);
    e = staged_name(r, &t.at, &pos);
    if (e < 0)
        return verdict_errno(e);
    if (e > 0)
        return verdict_result(cow_symlink(staged_layer(r), text, &pos, t.at.name));
    return names_result(symlinkat(text, dir_fd, name));
}

struct verdict behalf_link(struct request *r)
{
    _cleanup_target_ struct target from = {.at = RESOLVED_INIT}, to = {.at = RESOLVED_INIT};
    uint32_t flags = call_u32(&r->call, 4);
    _cleanup_cow_pos_ struct cow_pos pos = COW_POS_INIT;
    char name[ENTRY_NAME_MAX], path[FD_PATH_MAX];
    int e, dir_fd;

    if (flags & ~(uint32_t)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
        return verdict_errno(EINVAL);
    e = target_judge(r, call_int(&r->call, 0), call_addr(&r->call, 1),
                     (flags & AT_SYMLINK_FOLLOW ? WALK_FOLLOW : 0) |
                         (flags & AT_EMPTY_PATH ? WALK_EMPTY_OK : 0),
                     JUDGE_OPEN, &from);
    if (e < 0)
        return verdict_errno(e);
    dir_fd = names_new(r, 2, false, 0, &to, name);
    if (dir_fd < 0)
        return verdict_errno(dir_fd);
    e = to.at.fd >= 0 ? -EEXIST : view_same_mount(r, &from.at, &to.at, true);
    if (e == 0)
        e = view_writable(r, &from.at, from.path);
    /* Landlock, which knows other mounts, would say EXDEV. */
    if (e == 0 && supervisor_plan(r->sup)->root && S_ISDIR(from.at.id.mode)) {
        e = sys_access_fd(dir_fd, W_OK | X_OK, AT_EACCESS);
        e = e < 0 ? e : -EPERM;
    }
    if (e == 0)
        e = staged_name(r, &to.at, &pos);
    if (e >= 0 && (e > 0) != (from.at.staged || staged_holds(r, from.at.fd)))
        e = -EXDEV;
    if (e < 0)
        return verdict_errno(e);
    if (e > 0)
        return verdict_result(cow_link_fd(staged_layer(r), from.at.fd, &pos, to.at.name));
    /* The very object that was judged, whatever its name leads to now; a link stays a link. */
    fd_path(from.at.fd, path);
    return names_result(linkat(AT_FDCWD, path, dir_fd, name, AT_SYMLINK_FOLLOW));
}

/* What only a tree of the command's own refuses, in the kernel's order. 1: there is nothing to do. */
static int names_rename_view(struct request *r, const struct target *from, const struct target *to,
                             uint32_t flags)
{
    int e = view_same_mount(r, &from->at, &to->at, false);

    if (e < 0 || !supervisor_plan(r->sup)->root)
        return e;
    if (from->at.dots[0] || (to->at.dots[0] && !(flags & RENAME_NOREPLACE)))
        return -EBUSY;
    if (to->at.dots[0])
        return -EEXIST;
    e = view_writable(r, &from->at, from->path);
    if (e < 0 || from->at.fd < 0)
        return e;
    if ((flags & RENAME_NOREPLACE) && to->at.fd >= 0)
        return -EEXIST;
    if ((flags & RENAME_EXCHANGE) && to->at.fd < 0)
        return -ENOENT;
    if ((!S_ISDIR(from->at.id.mode) &&
         (from->at.trailing_slash || (to->at.trailing_slash && !(flags & RENAME_EXCHANGE)))) ||
        (to->at.trailing_slash && to->at.fd >= 0 && !S_ISDIR(to->at.id.mode)))
        return -ENOTDIR;
    if (from->at.mounted && to->at.mounted && sys_ident_same(&from->at.id, &to->at.id))
        return 1;
    if (!(flags & RENAME_EXCHANGE) && to->at.fd >= 0 && (from->at.mounted || to->at.mounted) &&
        S_ISDIR(from->at.id.mode) != S_ISDIR(to->at.id.mode))
        return S_ISDIR(from->at.id.mode) ? -ENOTDIR : -EISDIR;
    e = view_movable(r, &from->at);
    return e < 0 ? e : view_movable(r, &to->at);
}

/* -ENODATA: neither name is of the layer. */
static int names_rename_staged(const struct request *r, const struct resolved *from,
                               const struct resolved *to, uint32_t flags)
{
    _cleanup_cow_pos_ struct cow_pos old = COW_POS_INIT, new = COW_POS_INIT;
    int e = staged_name(r, from, &old), to_e = staged_name(r, to, &new);

    if (e < 0 || to_e < 0)
        return e < 0 ? e : to_e;
    if (e != to_e)
        return -EXDEV;
    return e ? cow_rename(staged_layer(r), &old, from->name, &new, to->name, flags) : -ENODATA;
}

struct verdict behalf_rename(struct request *r)
{
    _cleanup_target_ struct target from = {.at = RESOLVED_INIT}, to = {.at = RESOLVED_INIT};
    struct deny *d = supervisor_state(r->sup, &fs_deny_feature);
    char old[ENTRY_NAME_MAX], new[ENTRY_NAME_MAX];
    uint32_t flags = call_u32(&r->call, 4);
    int from_fd, to_fd, e;
    bool moves;

    if ((flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) ||
        ((flags & RENAME_EXCHANGE) && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT))))
        return verdict_errno(EINVAL);
    from_fd = names_moved(r, 0, &from, old);
    if (from_fd < 0)
        return verdict_errno(from_fd);
    to_fd = names_moved(r, 2, &to, new);
    if (to_fd < 0)
        return verdict_errno(to_fd);
    e = names_rename_view(r, &from, &to, flags);
    if (e != 0)
        return verdict_result(e < 0 ? e : 0);
    e = names_rename_staged(r, &from.at, &to.at, flags);
    if (e != -ENODATA)
        return verdict_result(e);
    moves = d && ((from.at.fd >= 0 && S_ISDIR(from.at.id.mode)) ||
                  (to.at.fd >= 0 && S_ISDIR(to.at.id.mode)));
    if (moves)
        deny_rename_begin(d);
    e = sys_renameat2(from_fd, old, to_fd, new, flags);
    if (moves)
        deny_rename_end(d);
    return verdict_result(e);
}

/* May what cannot be opened for writing be truncated all the same? Before Landlock 3, or when the policy
 * waives that protection; never in a layer, where the object at hand may be the real one. */
static bool truncates_without_grant(const struct request *r)
{
    return !(supervisor_plan(r->sup)->handled_fs & LANDLOCK_ACCESS_FS_TRUNCATE) && !staged_layer(r);
}

struct verdict behalf_truncate(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    int64_t length = (int64_t)r->call.args[1];
    _cleanup_close_ int fd = -1;
    char path[FD_PATH_MAX];
    int e;

    if (length < 0)
        return verdict_errno(EINVAL);
    e = target_judge(r, AT_FDCWD, call_addr(&r->call, 0), WALK_FOLLOW, JUDGE_OPEN, &t);
    if (e == 0)
        e = view_writable(r, &t.at, t.path);
    if (e < 0)
        return verdict_errno(e);
    /* The caller's limit, not ours (PR-12); the signal that goes with it is left out. */
    if ((uint64_t)length > sys_rlimit_of(r->tid, RLIMIT_FSIZE))
        return verdict_errno(EFBIG);
    if (S_ISREG(t.at.id.mode)) {
        fd = behalf_reopen_file(r, &t.at, O_WRONLY);
        if (fd == -EAGAIN)
            return behalf_truncate_later(r, &t.at, length);
        if (fd >= 0)
            return names_result(ftruncate(fd, length));
        e = fd;
        fd = -1;
        if (e != -EACCES || !truncates_without_grant(r))
            return verdict_errno(e);
    }
    fd_path(t.at.fd, path);
    return names_result(truncate(path, length));
}
