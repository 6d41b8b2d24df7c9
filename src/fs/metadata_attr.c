/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes and file attributes under FG-03. Receiver threads. Names, values and sizes are
 * the child's: checked in the kernel's order and bounded before anything is allocated.
 */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#include "fs/metadata.h"
#include "fs/staged.h"

#define ATTR_VALUE_MAX 65536u /* XATTR_SIZE_MAX */
#define ATTR_FILE_MIN 24u     /* FILE_ATTR_SIZE_VER0 */

/* A value to set, copied from the child. */
struct attr_value {
    char name[BEHALF_XATTR_NAME];
    void *data;
    size_t size;
    int flags;
};
static void attr_value_fini(struct attr_value *v)
{
    free(v->data);
}
#define _cleanup_attr_value_ _cleanup_(attr_value_fini)

static int attr_read_value(const struct request *r, child_addr name, child_addr value,
                           uint64_t size, uint32_t flags, struct attr_value *v)
{
    int e;

    if (flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
        return -EINVAL;
    e = behalf_read_xattr_name(r, name, v->name);
    if (e < 0)
        return e;
    if (size > ATTR_VALUE_MAX)
        return -E2BIG;
    v->size = (size_t)size;
    v->flags = (int)flags;
    if (!size)
        return 0;
    v->data = malloc(v->size);
    if (!v->data)
        return -ENOMEM;
    return request_read(r, value, v->data, v->size);
}

/* struct xattr_args of setxattrat(2), before whose flags it is looked at. */
static int attr_read_args(const struct request *r, int walk, struct attr_value *v)
{
    struct xattr_args_copy args;
    int e = behalf_read_xattr_args(r, &args);

    if (e < 0 || walk < 0)
        return e < 0 ? e : walk;
    return attr_read_value(r, call_addr(&r->call, 2), args.value, args.size, args.flags, v);
}

/* By /proc/self/fd, which ends at the descriptor's object, also when that is a link. */
static struct verdict attr_set(const struct target *t, const struct attr_value *v)
{
    char path[FD_PATH_MAX];

    fd_path(t->at.fd, path);
    return verdict_result(setxattr(path, v->name, v->data, v->size, v->flags) < 0 ? -errno : 0);
}

static struct verdict attr_remove(const struct target *t, const char *name)
{
    char path[FD_PATH_MAX];

    fd_path(t->at.fd, path);
    return verdict_result(removexattr(path, name) < 0 ? -errno : 0);
}

struct verdict metadata_xattr_set(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    _cleanup_attr_value_ struct attr_value v = {.data = NULL};
    int e, wrong, walk = metadata_walk(r->call.at_flags);

    wrong = r->call.variant == VARIANT_STRUCT
                ? attr_read_args(r, walk, &v)
                : attr_read_value(r, call_addr(&r->call, 2), call_addr(&r->call, 3),
                                  r->call.args[4], call_u32(&r->call, 5), &v);
    if (wrong < 0 && sys_name_is_first(SYS_EMPTY_XATTR_SET))
        return verdict_errno(wrong);
    e = metadata_path(r, call_int(&r->call, 0), call_addr(&r->call, 1), (unsigned)walk, &t);
    if (e == 0)
        e = wrong;
    if (e == 0)
        e = behalf_empty_path(r, &t, SYS_EMPTY_XATTR_SET);
    return e < 0 ? verdict_errno(e) : attr_set(&t, &v);
}

struct verdict metadata_fxattr_set(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    _cleanup_attr_value_ struct attr_value v = {.data = NULL};
    int e = attr_read_value(r, call_addr(&r->call, 1), call_addr(&r->call, 2), r->call.args[3],
                            call_u32(&r->call, 4), &v);

    if (e == 0)
        e = metadata_fd(r, call_int(&r->call, 0), &t);
    return e < 0 ? verdict_errno(e) : attr_set(&t, &v);
}

struct verdict metadata_xattr_remove(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    char name[BEHALF_XATTR_NAME];
    int e, wrong, walk = metadata_walk(r->call.at_flags);

    if (walk < 0)
        return verdict_errno(walk);
    wrong = behalf_read_xattr_name(r, call_addr(&r->call, 2), name);
    if (wrong < 0 && sys_name_is_first(SYS_EMPTY_XATTR_REMOVE))
        return verdict_errno(wrong);
    e = metadata_path(r, call_int(&r->call, 0), call_addr(&r->call, 1), (unsigned)walk, &t);
    if (e == 0)
        e = wrong;
    if (e == 0)
        e = behalf_empty_path(r, &t, SYS_EMPTY_XATTR_REMOVE);
    return e < 0 ? verdict_errno(e) : attr_remove(&t, name);
}

struct verdict metadata_fxattr_remove(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    char name[BEHALF_XATTR_NAME];
    int e = behalf_read_xattr_name(r, call_addr(&r->call, 1), name);

    if (e == 0)
        e = metadata_fd(r, call_int(&r->call, 0), &t);
    return e < 0 ? verdict_errno(e) : attr_remove(&t, name);
}

/* ---- file attributes ---- */

/* What the kernel has against the structure itself, which it looks at before it looks for a file. */
static int attr_check_file(const void *attr, size_t size)
{
    int e = sys_file_setattr("", attr, size);

    return e == -ENOENT ? 0 : e;
}

struct verdict metadata_fileattr_set(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    uint64_t size = r->call.args[3];
    uint8_t buf[BEHALF_STRUCT_MAX];
    char path[FD_PATH_MAX];
    int e, walk = metadata_walk(call_u32(&r->call, 4));

    if (walk < 0 || size < ATTR_FILE_MIN)
        return verdict_errno(EINVAL);
    if (size > BEHALF_STRUCT_MAX)
        return verdict_errno(E2BIG);
    e = request_read(r, call_addr(&r->call, 2), buf, (size_t)size);
    if (e == 0)
        e = attr_check_file(buf, (size_t)size);
    if (e == 0)
        e = metadata_path(r, call_int(&r->call, 0), call_addr(&r->call, 1), (unsigned)walk, &t);
    if (e == 0)
        e = behalf_empty_path(r, &t, SYS_EMPTY_FILEATTR);
    if (e == 0 && staged_holds(r, t.at.fd))
        e = -EOPNOTSUPP; /* flags are not committed */
    if (e < 0)
        return verdict_errno(e);
    fd_path(t.at.fd, path);
    return verdict_result(sys_file_setattr(path, buf, (size_t)size));
}

/* The same attributes by ioctl; numbers and sizes are equal on both machines. */
#define ATTR_IOCTL(request)                                                      \
    {                                                                            \
        {{.arg = 1, .cmp = CMP_EQ, .mask = 0xffffffffu, .value = (request)}}, 1, \
            SECCOMP_RET_USER_NOTIF                                               \
    }
const struct filter_clause metadata_ioctl_when[METADATA_IOCTLS] = {
    ATTR_IOCTL(FS_IOC_SETFLAGS),
    ATTR_IOCTL(FS_IOC_FSSETXATTR),
    ATTR_IOCTL(FS_IOC_SETVERSION),
};

struct verdict metadata_ioctl(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    uint32_t request = call_u32(&r->call, 1);
    /* The kernel reads an int for all but one, whatever the number says. */
    size_t size = request == FS_IOC_FSSETXATTR ? sizeof(struct fsxattr) : sizeof(int);
    union {
        struct fsxattr attr;
        int flags;
    } arg = {0};
    _cleanup_close_ int fd = -1;
    char path[FD_PATH_MAX];
    int e;

    if (request != FS_IOC_SETFLAGS && request != FS_IOC_FSSETXATTR && request != FS_IOC_SETVERSION)
        return verdict_pass();
    e = metadata_fd(r, call_int(&r->call, 0), &t);
    if (e == 0)
        e = request_read(r, call_addr(&r->call, 2), &arg, size);
    if (e == 0 && staged_holds(r, t.at.fd))
        e = -EOPNOTSUPP; /* flags are not committed */
    if (e < 0)
        return verdict_errno(e);
    if (!S_ISREG(t.at.id.mode) && !S_ISDIR(t.at.id.mode))
        return verdict_errno(ENOTTY);
    /* Through a description of our own: the object is the one that was judged. */
    fd_path(t.at.fd, path);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return verdict_errno(errno);
    return verdict_result(ioctl(fd, (int)request, &arg) < 0 ? -errno : 0);
}
