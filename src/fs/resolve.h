/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path resolution on behalf of a sandboxed task (spec filesystem.md §2). Runs in receiver threads;
 * path bytes are the child's. After resolution everything works on descriptors, never on a path
 * string (PR-11).
 */
#pragma once

#include "fs/cow/layer.h"
#include "supervisor/supervisor.h"
#include "sys/fs.h"

enum walk_flags {
    WALK_FOLLOW = 1u << 0,    /* follow a final symlink */
    WALK_PARENT = 1u << 1,    /* the last component may be missing; always fill parent and name */
    WALK_EMPTY_OK = 1u << 2,  /* AT_EMPTY_PATH: an empty path means dirfd itself */
    WALK_DIRECTORY = 1u << 3, /* the object must be a directory */
    /* As the RESOLVE_* flags of openat2(2) say. */
    WALK_NO_LINKS = 1u << 4,
    WALK_NO_MAGIC = 1u << 5,
    WALK_NO_XDEV = 1u << 6,
    WALK_BENEATH = 1u << 7,
    WALK_IN_ROOT = 1u << 8,
    /* The caller of target_resolve() only answers, so it need not know whether the notification is
     * alive: the kernel drops the answer to one that is not, whoever's path was read. */
    WALK_ANSWER = 1u << 9,
    WALK_ATTRIBUTES = 1u << 10, /* fill `attributes`, where that costs nothing */
    WALK_ALIVE = 1u << 11,      /* the caller looks at request_alive() itself before it acts */
};
#define WALK_SCOPED (WALK_BENEATH | WALK_IN_ROOT)
#define WALK_LIMITS (WALK_NO_LINKS | WALK_NO_MAGIC | WALK_NO_XDEV | WALK_SCOPED)

struct resolved {
    int parent_fd; /* O_PATH directory holding the last component, or -1 (not needed) */
    char name[NAME_MAX +
              1]; /* last component within parent, "" when there is none ("/", "..", fd) */
    int fd;       /* O_PATH descriptor of the object, -1 when it does not exist */
    bool trailing_slash;
    bool mounted;        /* it is what --fs-mount put on that name */
    bool magic;          /* reached by a /proc magic link: the object has no meaningful parent */
    char dots[3];        /* ".", ".." or "/" when that is the last component, else "" */
    bool on_proc;        /* the object lies on a procfs */
    bool staged;         /* of the layer's view: what follows is filled, and parent_fd is dir's */
    bool in_upper;       /* the object is the layer's own */
    struct cow_pos dir;  /* the directory, when parent_fd >= 0 */
    struct sys_ident id; /* of fd, when there is one */
    bool has_attributes;
    struct fs_statx attributes; /* of fd, STATX_BASIC_STATS; not what a layer shows */
};
#define RESOLVED_INIT                                  \
    {                                                  \
        .parent_fd = -1, .fd = -1, .dir = COW_POS_INIT \
    }
void resolved_fini(struct resolved *r);
#define _cleanup_resolved_ _cleanup_(resolved_fini)

/* Resolves (dirfd, path) as the calling task would. 0 or the kernel's negative errno. With
 * WALK_PARENT a missing last component is success with fd == -1. Magic links of /proc resolve to
 * the task's own objects, of sandbox members likewise, of anybody else never (-EACCES). *ret is
 * always initialised; after a failure its parent_fd is the directory in which the walk ended, or
 * -1. */
int resolve_path(const struct request *r, int dirfd, const char *path, unsigned flags,
                 struct resolved *ret);
/* The same, reading the path from the child first (EFAULT, ENAMETOOLONG, ENOENT for ""). The bytes
 * read are left in path[PATH_MAX] for explain. */
int resolve_child_path(const struct request *r, int dirfd, child_addr addr, unsigned flags,
                       char path[PATH_MAX], struct resolved *ret);

/* Opens an absolute path at once, with flags of open(2) that must not wait for anybody: 0 with a descriptor
 * that is not O_PATH in ret->fd, or -EAGAIN when the long way has to be gone. What was opened is not judged
 * yet; it is not on procfs. Only WALK_FOLLOW and WALK_DIRECTORY. */
int resolve_open(const struct request *r, const char *path, int how, unsigned flags,
                 struct resolved *ret);

/* "/proc/self/fd/N" for re-opening or acting through a descriptor of ours. */
#define FD_PATH_MAX 32
void fd_path(int fd, char buf[FD_PATH_MAX]);
/* Opens the object of an O_PATH descriptor of ours. Descriptor or -errno. */
int fd_reopen(int fd, int flags, mode_t mode);
/* Where the object is now, as the kernel spells it (readlink of /proc/self/fd/N): length or -errno.
 * Ends with " (deleted)" for unlinked objects: for messages and prefix checks only. */
ssize_t fd_location(int fd, char *buf, size_t size);
#define PLACE_MARK " (deleted)"
/* The length of such a text without the mark, or as it is. A name may end like that itself. */
size_t place_unmarked(const char *path, size_t len);
