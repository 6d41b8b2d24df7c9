/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on behalf of a task: resolve, judge the object, act on descriptors. Shared by fs-deny
 * and proc-view, whose rules the judge joins, and by fs-metadata. Receiver threads under the
 * command's own Landlock domain, capabilities and umask of their own: the kernel checks every real
 * open made here against the policy's grants.
 */
#pragma once

#include <sys/stat.h>

#include "fs/resolve.h"

enum judge_for {
    JUDGE_LOOK,  /* attributes, names, a place to stand */
    JUDGE_OPEN,  /* content, or a descriptor that leads to it */
    JUDGE_WRITE, /* a descriptor that changes it */
};

/* 0 or the negative errno with which the object is refused; says why through request_explain(). */
int behalf_judge(const struct request *r, const struct resolved *o, enum judge_for what,
                 const char *path);
/* The same for a new name in o->parent_fd. */
int behalf_judge_name(const struct request *r, const struct resolved *o, const char *path);
/* For a name that is renamed or replaced: the object there and, when it is a directory, what lies
 * beneath it. */
int behalf_judge_move(const struct request *r, const struct resolved *o, const char *path);
/* For a name that is removed. */
int behalf_judge_remove(const struct request *r, const struct resolved *o, const char *path);

/* A path argument: its bytes and what it led to. */
struct target {
    struct resolved at;
    char path[PATH_MAX];
};
static inline void target_fini(struct target *t)
{
    resolved_fini(&t->at);
}
#define _cleanup_target_ _cleanup_(target_fini)
/* Reads, resolves, makes sure that the caller still waits (not so with WALK_ANSWER). Always initialises *ret. A failure below
 * a refused directory is reported as the refusal: existence there is nobody's business. */
int target_resolve(const struct request *r, int dirfd, child_addr path, unsigned walk,
                   struct target *ret);
/* The same and judges the object. */
int target_judge(const struct request *r, int dirfd, child_addr path, unsigned walk,
                 enum judge_for what, struct target *ret);
/* Resolves t->path again (after a race). */
int target_again(const struct request *r, int dirfd, unsigned walk, struct target *t);

/* (directory, name) as the kernel wants them for create, remove, rename: the name with its trailing
 * slash, or ".", "..", "/", so that errors are the kernel's. */
#define ENTRY_NAME_MAX (NAME_MAX + 2)
int target_entry(const struct target *t, char name[ENTRY_NAME_MAX]);

/* Sets this thread's umask to the task's. 0 or -errno. */
int behalf_umask(const struct request *r);

/* Opens the object of an O_PATH descriptor with the caller's flags. Descriptor or -errno. */
int behalf_reopen(int fd, uint64_t flags, mode_t mode);
/* The same for a regular file, of a layer too, without waiting for the holder of a lease on it: -EAGAIN then. */
int behalf_reopen_file(const struct request *r, const struct resolved *o, uint64_t flags);
/* On a worker that looks again and again for what it cannot wait for in the kernel: a moment later, longer each
 * time (*ns: 0 at first). False: the caller is gone. */
bool behalf_nap(const struct request *r, long *ns);
/* behalf_reopen() on a worker, for opens that wait for somebody (PR-16): behind a device, at the other end of a
 * FIFO, with a lease (fcntl(2), F_SETLEASE). Takes o->fd over. */
enum open_wait { WAIT_DEVICE, WAIT_FIFO, WAIT_LEASE };
struct verdict behalf_open_later(const struct request *r, struct resolved *o, uint64_t flags,
                                 enum open_wait wait);
/* truncate(2) of a regular file where somebody has a lease on it, likewise. */
struct verdict behalf_truncate_later(const struct request *r, struct resolved *o, int64_t length);

/* The struct xattr_args of getxattrat(2) and setxattrat(2), arguments 3 and 4. 0 or -errno. */
struct xattr_args_copy {
    child_addr value;
    uint32_t size, flags;
};
int behalf_read_xattr_args(const struct request *r, struct xattr_args_copy *ret);
/* The name of an attribute. 0, -ERANGE for one that is empty or too long, as the kernel says, or -errno. */
#define BEHALF_XATTR_NAME 256 /* XATTR_NAME_MAX and its NUL */
int behalf_read_xattr_name(const struct request *r, child_addr from, char name[BEHALF_XATTR_NAME]);
/* The longest structure of a kernel to come: a page. */
#define BEHALF_STRUCT_MAX 4096u
/* Calls and kernels differ in whether with an empty path argument 0 may be AT_FDCWD or an O_PATH descriptor: the
 * kernel is asked by such a call of ours. 0 or -EBADF. */
int behalf_empty_path(const struct request *r, const struct target *t, enum sys_empty call);

/* Attributes as the command sees them: owners (ids.h) and times (determinism.h). */
void behalf_show_stat(const struct request *r, struct stat *st);

/* Handlers. */
struct verdict behalf_open(struct request *r);
struct verdict behalf_stat(struct request *r);
struct verdict behalf_statx(struct request *r);
struct verdict behalf_access(struct request *r);
struct verdict behalf_readlink(struct request *r);
struct verdict behalf_statfs(struct request *r);
struct verdict behalf_xattr_get(struct request *r);
struct verdict behalf_xattr_list(struct request *r);
struct verdict behalf_fileattr_get(struct request *r);
struct verdict behalf_chdir(struct request *r);
struct verdict behalf_watch(struct request *r);
struct verdict behalf_unlink(struct request *r);
struct verdict behalf_mkdir(struct request *r);
struct verdict behalf_mknod(struct request *r);
struct verdict behalf_symlink(struct request *r);
struct verdict behalf_link(struct request *r);
struct verdict behalf_rename(struct request *r);
struct verdict behalf_truncate(struct request *r);
struct verdict behalf_exec(struct request *r);

/* Rows of a feature's call table that fs-deny and proc-view share. */
#define BEHALF_CALLS                                                                            \
    {OP_OPEN, behalf_open, NULL, 0}, {OP_STAT, behalf_stat, NULL, 0},                           \
        {OP_STATX, behalf_statx, NULL, 0}, {OP_ACCESS, behalf_access, NULL, 0},                 \
        {OP_READLINK, behalf_readlink, NULL, 0}, {OP_STATFS, behalf_statfs, NULL, 0},           \
        {OP_XATTR_GET, behalf_xattr_get, NULL, 0}, {OP_XATTR_LIST, behalf_xattr_list, NULL, 0}, \
        {OP_FILEATTR_GET, behalf_fileattr_get, NULL, 0}, {OP_CHDIR, behalf_chdir, NULL, 0},     \
        {OP_WATCH, behalf_watch, NULL, 0}, {OP_UNLINK, behalf_unlink, NULL, 0},                 \
        {OP_MKDIR, behalf_mkdir, NULL, 0}, {OP_MKNOD, behalf_mknod, NULL, 0},                   \
        {OP_SYMLINK, behalf_symlink, NULL, 0}, {OP_LINK, behalf_link, NULL, 0},                 \
        {OP_RENAME, behalf_rename, NULL, 0}, {OP_TRUNCATE, behalf_truncate, NULL, 0},           \
    {                                                                                           \
        OP_EXEC, behalf_exec, NULL, 0                                                           \
    }
