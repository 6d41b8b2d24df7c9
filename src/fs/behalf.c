/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge and the steps that every operation on behalf begins with. Receiver threads; paths are
 * the child's, everything decided here is about descriptors.
 */
#include "fs/behalf.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/deny.h"
#include "fs/fs.h"
#include "fs/grants.h"
#include "fs/procfs.h"
#include "fs/procview.h"

static struct deny *behalf_deny(const struct request *r)
{
    return supervisor_state(r->sup, &fs_deny_feature);
}

static const struct procview *behalf_procview(const struct request *r)
{
    return supervisor_state(r->sup, &fs_procview_feature);
}

static int behalf_denied(const struct request *r, const char *path)
{
    request_explain(r, path, EACCES, "--fs-deny", "remove the path from --fs-deny");
    return -EACCES;
}

/* The receivers may read all of /proc, for their own book-keeping; the command only what was
 * granted. So nothing on a procfs is opened for it unless proc-view, which knows the grants, says
 * yes. */
static int behalf_judge_proc(const struct request *r, const struct resolved *o, enum judge_for what,
                             const char *path)
{
    const struct procview *v = behalf_procview(r);
    int e;

    if (v) {
        e = procview_judge(r, v, o->fd, &o->id, o->on_proc,
                           what == JUDGE_WRITE  ? GRANT_READ | GRANT_WRITE
                           : what == JUDGE_OPEN ? GRANT_READ
                                                : 0);
        if (e < 0)
            request_explain(r, path, -e, "virtual /proc",
                            "processes outside the sandbox and host secrets are never shown");
        return e;
    }
    if (o->on_proc && what != JUDGE_LOOK) {
        request_explain(r, path, EACCES, "no read grant", "add --fs-read /proc");
        return -EACCES;
    }
    return 0;
}

int behalf_judge(const struct request *r, const struct resolved *o, enum judge_for what,
                 const char *path)
{
    struct deny *d = behalf_deny(r);

    if (d && deny_object(d, o->fd, &o->id, o->parent_fd, o->name))
        return behalf_denied(r, path);
    return behalf_judge_proc(r, o, what, path);
}

/* Is the directory one in which nothing may be seen? */
static int behalf_judge_dir(const struct request *r, int dir_fd, const char *path)
{
    struct resolved dir = RESOLVED_INIT;
    int e;

    dir.fd = dir_fd; /* borrowed */
    e = sys_identify(dir_fd, &dir.id);
    if (e < 0)
        return e;
    if (major(dir.id.dev) == 0)
        dir.on_proc = procfs_is(dir_fd, &dir.id);
    return behalf_judge(r, &dir, JUDGE_LOOK, path);
}

int behalf_judge_name(const struct request *r, const struct resolved *o, const char *path)
{
    struct deny *d = behalf_deny(r);

    if (d && o->parent_fd >= 0 && o->name[0] && deny_name(d, o->parent_fd, o->name))
        return behalf_denied(r, path);
    return o->parent_fd >= 0 && behalf_procview(r) ? behalf_judge_dir(r, o->parent_fd, path) : 0;
}

static int behalf_judge_entry(const struct request *r, const struct resolved *o, bool moves,
                              const char *path)
{
    struct deny *d = behalf_deny(r);
    int e;

    if (o->fd >= 0) {
        e = behalf_judge(r, o, JUDGE_LOOK, path);
        if (e < 0)
            return e;
        /* ".", ".." and "/" can be neither: the kernel says so. */
        if (d && S_ISDIR(o->id.mode) && !o->dots[0] &&
            (moves ? deny_is_above(d, o->fd) : deny_keeps(d, o->fd, &o->id)))
            return behalf_denied(r, path);
    }
    return behalf_judge_name(r, o, path);
}

int behalf_judge_move(const struct request *r, const struct resolved *o, const char *path)
{
    return behalf_judge_entry(r, o, true, path);
}

int behalf_judge_remove(const struct request *r, const struct resolved *o, const char *path)
{
    return behalf_judge_entry(r, o, false, path);
}

static int target_finish(const struct request *r, int e, unsigned walk, struct target *t)
{
    int refused;

    /* A failure is only answered, too. */
    if (!(walk & WALK_ANSWER) && !(e < 0 && t->at.parent_fd < 0) && !request_alive(r))
        return -ESRCH;
    if (e == 0 || t->at.parent_fd < 0)
        return e;
    refused = behalf_judge_dir(r, t->at.parent_fd, t->path);
    return refused < 0 ? refused : e;
}

int target_resolve(const struct request *r, int dirfd, child_addr path, unsigned walk,
                   struct target *ret)
{
    int e = resolve_child_path(r, dirfd, path, walk | WALK_ALIVE, ret->path, &ret->at);

    return target_finish(r, e, walk, ret);
}

int target_judge(const struct request *r, int dirfd, child_addr path, unsigned walk,
                 enum judge_for what, struct target *ret)
{
    int e = target_resolve(r, dirfd, path, walk, ret);

    return e < 0 ? e : behalf_judge(r, &ret->at, what, ret->path);
}

int target_again(const struct request *r, int dirfd, unsigned walk, struct target *t)
{
    resolved_fini(&t->at);
    return target_finish(r, resolve_path(r, dirfd, t->path, walk | WALK_ALIVE, &t->at), walk, t);
}

int target_entry(const struct target *t, char name[ENTRY_NAME_MAX])
{
    size_t n = strlen(t->at.name);

    if (t->at.dots[0]) {
        memcpy(name, t->at.dots, sizeof(t->at.dots));
        return t->at.parent_fd;
    }
    memcpy(name, t->at.name, n + 1);
    if (t->at.trailing_slash)
        memcpy(name + n, "/", 2);
    return t->at.parent_fd;
}

int behalf_umask(const struct request *r)
{
    pid_t tgid;
    mode_t mask;
    int e = request_status(r, &tgid, &mask); /* looks whether the caller still waits, too */

    if (e == 0)
        umask(mask);
    return e;
}

int behalf_read_xattr_args(const struct request *r, struct xattr_args_copy *ret)
{
    struct {
        uint64_t value;
        uint32_t size, flags;
        uint8_t behind[BEHALF_STRUCT_MAX - 16];
    } args;
    uint64_t size = r->call.args[4];
    int e;

    if (size < offsetof(typeof(args), behind))
        return -EINVAL;
    if (size > sizeof(args))
        return -E2BIG;
    e = request_read(r, call_addr(&r->call, 3), &args, (size_t)size);
    if (e < 0)
        return e;
    /* Longer ones are of kernels to come, and mean the same as long as nothing is in them. */
    for (size_t i = 0; i < size - offsetof(typeof(args), behind); i++) {
        if (args.behind[i])
            return -E2BIG;
    }
    *ret = (struct xattr_args_copy){{args.value}, args.size, args.flags};
    return 0;
}

int behalf_read_xattr_name(const struct request *r, child_addr from, char name[BEHALF_XATTR_NAME])
{
    ssize_t n = request_read_string(r, from, name, BEHALF_XATTR_NAME);

    if (n == 0 || n == -ENAMETOOLONG)
        return -ERANGE;
    return n < 0 ? (int)n : 0;
}

int behalf_empty_path(const struct request *r, const struct target *t, enum sys_empty call)
{
    int fd = call_int(&r->call, 0), flags;

    if (t->path[0])
        return 0;
    if (fd == AT_FDCWD)
        return sys_empty_path(call, AT_FDCWD) == -EBADF ? -EBADF : 0;
    flags = request_fd_flags(r, fd);
    if (flags < 0 || !(flags & O_PATH))
        return flags < 0 ? flags : 0;
    return sys_empty_path(call, t->at.fd) == -EBADF ? -EBADF : 0;
}

bool fs_deny_covers(const struct request *r, int fd, int parent_fd, const char *name)
{
    struct deny *d = behalf_deny(r);
    struct sys_ident id;

    if (!d)
        return false;
    if (fd < 0)
        return parent_fd < 0 || !name || deny_name(d, parent_fd, name);
    if (sys_identify(fd, &id) < 0)
        return true;
    return deny_object(d, fd, &id, parent_fd, name);
}
