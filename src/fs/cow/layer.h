/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy-on-write layer (spec filesystem.md §4): every change below a work directory ("lower") is
 * staged in a private storage directory, then committed, dropped or kept. A library: no seccomp, no
 * path strings of the child. Every operation is (directory position, one name). Any thread.
 *
 * ---- What is on disk ----
 * STORAGE/<id>/            0700, ours; <id> is 16 hex digits
 *   lock                   flock while the run lives: liveness, never a pid
 *   index                  append-only records, each with length and CRC: what lower has become
 *   objects/<n>            the staged self of one lower inode: a file, or a directory that holds what
 *                          is *new* in that lower directory
 *   limbo/                 things under way during a commit
 *   journal                the plan of a commit, complete and synced before anything happens
 *   commit                 exists: the commit goes forward, whatever happens (see commit.c)
 *
 * ---- The model ----
 * A staged change belongs to a lower *inode* (a "node"), not to a path: all hard links of a file see
 * it, a descriptor leads to it as well as a name, and nothing above it needs a copy. A node is
 *   - a file's copy: whole, or "light": the attributes and the size, while the bytes are still lower's
 *     (chmod, chown, utimens, setxattr and rename of a 1 GB file copy nothing; the first open for
 *     writing completes the copy in place), or
 *   - a directory: its attributes, and its new names. New directories are plain directories in there.
 * A name of lower that is gone has a whiteout record (directory node, name). A name visible in the
 * upper directory always wins, and where lower has the name too there is a whiteout as well.
 * Renaming something of lower "places" its object under the new name in an upper directory (a hard
 * link for files, a rename for directories) and leaves a whiteout: no data moves, however large.
 *
 * Not layered: other file systems mounted below the work directory (EROFS for changes), lower paths
 * longer than PATH_MAX (ENAMETOOLONG for changes), devices (EPERM) and sockets of lower.
 */
#pragma once

#include <limits.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/error.h"
#include "sys/fs.h"

struct cow_layer;
struct cow_node; /* lives as long as its layer */

/* ---- making, opening, ending ---- */

/* What takes long: `what` is static; done == of at its end, which errors do not reach. Any thread. */
typedef void cow_progress(void *arg, const char *what, uint64_t done, uint64_t of);

struct cow_config {
    const char *storage; /* NULL: beside the work directory, else below $XDG_STATE_HOME */
    uint64_t max_bytes;  /* 0: no quota; allocated blocks plus COW_NAME_COST a name */
    const char *command; /* for `recover` to show; may be NULL */
    int commit_wait_ms;  /* for another commit on the same work directory; 0: 30 s */
    bool never_commit;   /* lower is shared: cow_commit() and recovery refuse this layer */
    bool keep_orphan;    /* should its run be killed, nobody removes it */
    bool backup; /* a commit keeps what it replaces until it is done: COW_RECOVER_ROLLBACK */
    bool
        in_place; /* a commit writes into lower's files instead of replacing them; not with `backup` */
};
#define COW_NAME_COST 4096u

/* Also removes what killed runs left in the storage and nobody asked to keep (ST-04).
 * Takes no ownership of lower_fd (any descriptor of the directory). The work directory may not
 * contain the storage, unless it hides nothing: the storage is then invisible in the merged view. */
int cow_create(int lower_fd, const struct cow_config *config, struct cow_layer **ret,
               struct error *err);
/* An existing layer that nobody holds. -EBUSY while its owner lives. */
int cow_open_existing(int storage_fd, const char *id, struct cow_layer **ret, struct error *err);
/* Releases memory and the lock; what is on disk stays. */
void cow_free(struct cow_layer *l);

/* Of copies of large files; before the layer is used. */
void cow_set_progress(struct cow_layer *l, cow_progress *progress, void *arg);

const char *cow_id(const struct cow_layer *l);
const char *cow_storage_path(const struct cow_layer *l); /* of this layer, for people */

/* ---- places ---- */

/* A directory of the merged view. Opaque (nothing of lower shows): lower_fd == -1. Nothing staged:
 * upper_fd == -1. Both are O_PATH. Operations bring a position up to date (another task may have
 * staged the directory meanwhile), so a position belongs to one thread: copy shared ones. */
struct cow_pos {
    int lower_fd, upper_fd;
    struct cow_node *node;  /* NULL: a new directory, or an untouched one of lower */
    uint64_t ino;           /* names the directory for locks: lower's inode, else upper's */
    bool foreign;           /* on a file system mounted below the work directory: not layered */
    struct cow_dir *shared; /* whose the descriptors are; NULL: the position's own */
};
#define COW_POS_INIT                   \
    {                                  \
        .lower_fd = -1, .upper_fd = -1 \
    }
void cow_pos_fini(struct cow_pos *p);
#define _cleanup_cow_pos_ _cleanup_(cow_pos_fini)
int cow_pos_copy(const struct cow_pos *from, struct cow_pos *ret);

enum cow_where {
    COW_NONE = 0, /* no such name */
    COW_WHITEOUT, /* no such name; lower has it */
    COW_LOWER,    /* lower's object, untouched */
    COW_STAGED,   /* lower's object, changed: ret->node */
    COW_UPPER,    /* new in the layer */
};

struct cow_entry {
    enum cow_where where;
    struct cow_node *node; /* COW_STAGED */
    struct sys_ident id;   /* of the object whose attributes show: upper's when there is one */
    bool in_upper;         /* the *name* is in the upper directory */
};

/* The work directory itself. */
int cow_root(struct cow_layer *l, struct cow_pos *ret);
/* 0 also when there is no such name (ret->where). A name is one component: "", ".", ".." and what has
 * a slash are -EINVAL everywhere. */
int cow_lookup(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_entry *ret);
/* -ENOENT, -ENOTDIR (also for links: following them is the walker's), -EACCES. */
int cow_enter(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_pos *ret);
/* ".." of a position: -EXDEV at the top. */
int cow_parent(struct cow_layer *l, struct cow_pos *dir, struct cow_pos *ret);
/* The position of an open directory, lower's or upper's. -EXDEV when it is not of this layer. */
int cow_pos_of_fd(struct cow_layer *l, int fd, struct cow_pos *ret);
/* The same for what the path leads to now, if it was met already: 1, or 0 for anything else. */
int cow_pos_known(struct cow_layer *l, const char *path, struct cow_pos *ret);
/* The staged self of an open object of lower, or the node of an object of ours; NULL: untouched. */
struct cow_node *cow_node_of_fd(struct cow_layer *l, int fd);
/* access(2) of an open object of the view. */
int cow_access(struct cow_layer *l, int fd, int mode, int at_flags);
/* O_PATH descriptor of what an entry leads to (attributes, type; for a light copy its data are not
 * there: open with cow_open()). */
int cow_open_path(struct cow_layer *l, struct cow_pos *dir, const char *name);

/* A path from a directory of the view, if it has nothing but names: 1, 0 when it must be walked by
 * hand, or -errno. On entry `dir` is where it begins; it moves on, also when nothing is decided. */
enum {
    COW_PATH_FOLLOW = 1u << 0,    /* a final link is the walker's */
    COW_PATH_PARENT = 1u << 1,    /* the last name may be missing; `dir` and `name` are filled */
    COW_PATH_DIRECTORY = 1u << 2, /* it must be a directory */
};
struct cow_path {
    struct cow_pos dir;      /* owned by the caller */
    char name[NAME_MAX + 1]; /* in dir; "" without COW_PATH_PARENT where nobody asked for it */
    int fd;                  /* O_PATH, -1: missing */
    struct sys_ident id;
    bool in_upper;
};
int cow_path(struct cow_layer *l, const char *text, unsigned flags, struct cow_path *w);

/* Is nothing staged at all? No call. */
bool cow_is_clean(struct cow_layer *l);
/* Is what the kernel itself says about the object (not which names it has) what the view shows? */
bool cow_is_plain(struct cow_layer *l, const struct sys_ident *id);

/* Is the open object of the merged view: lower's, or the layer's own? */
bool cow_holds(struct cow_layer *l, int fd);
/* Is it the work directory; is it where this layer, or all layers, are stored? */
bool cow_is_top(const struct cow_layer *l, const struct sys_ident *id);
bool cow_is_storage(struct cow_layer *l, const struct sys_ident *id);
/* Is the object complete in the layer: new, or a file with its bytes? Whatever changes it, changes this. */
bool cow_is_whole(struct cow_layer *l, int fd, const struct sys_ident *id);
/* Does the object lie in the storage? */
bool cow_stores(struct cow_layer *l, int fd, const struct sys_ident *id);
/* The path of an open object as the command knows it: length; -EXDEV when the kernel's own spelling is
 * right, because it is not of the layer or nothing is staged. */
ssize_t cow_place(struct cow_layer *l, int fd, char *out, size_t size);
uint64_t cow_mount(const struct cow_layer *l); /* of lower: what the view shows itself as */
/* Directories that a Landlock domain must let those write, or execute from, who use the layer: borrowed. */
int cow_storage_fd(const struct cow_layer *l);
int cow_objects_fd(const struct cow_layer *l);

/* ---- looking ---- */

/* statx with what the layer keeps besides: lower's inode number, device and owner, the link count of
 * the merged view, blocks of light copies. */
struct cow_stat {
    struct stat st;
    struct timespec btime;
};
/* Of an open object (lower's or upper's), CW-21. */
int cow_stat_fd(struct cow_layer *l, int fd, struct cow_stat *ret);
/* Of the directory itself. */
int cow_stat_pos(struct cow_layer *l, struct cow_pos *dir, struct cow_stat *ret);

/* A snapshot of a directory's names, one for each open description: offsets are places in it and stay
 * valid; reading at 0 takes a new one. Fills struct linux_dirent64. */
struct cow_list;
int cow_list_new(struct cow_layer *l, struct cow_pos *dir, struct cow_list **ret);
void cow_list_free(struct cow_list *s);
/* Bytes filled, 0 at the end, -EINVAL when not even one entry fits. *offset moves on. */
ssize_t cow_list_read(struct cow_list *s, void *buf, size_t size, uint64_t *offset);

/* ---- changing ---- */

/* Opens as open(2) does, never following a final link (-ELOOP) and never blocking on data. O_CREAT
 * without O_EXCL, O_TRUNC, O_APPEND, O_TMPFILE (name ignored) included. A descriptor that can write
 * is always of the layer. FIFOs, sockets and devices: -ENXIO; the caller opens cow_open_path(). */
int cow_open(struct cow_layer *l, struct cow_pos *dir, const char *name, int flags, mode_t mode);
/* Makes a file of a name that was looked up and is free; -EEXIST when it is not any more. */
int cow_open_new(struct cow_layer *l, struct cow_pos *dir, const char *name, int flags,
                 mode_t mode);
/* The same by an open object: /proc/self/fd/N, AT_EMPTY_PATH. */
int cow_open_fd(struct cow_layer *l, int fd, int flags);
/* The same of what cow_path() found at that name: quicker for the first write to a file of lower. */
int cow_open_found(struct cow_layer *l, struct cow_pos *dir, const char *name, int fd,
                   const struct sys_ident *id, int flags);
/* Of a new file of the layer. */
int cow_open_own(struct cow_layer *l, int fd, int flags);

int cow_mkdir(struct cow_layer *l, struct cow_pos *dir, const char *name, mode_t mode);
/* Of a name that was looked up and is free, as cow_open_new(). */
int cow_mkdir_new(struct cow_layer *l, struct cow_pos *dir, const char *name, mode_t mode);
int cow_mknod(struct cow_layer *l, struct cow_pos *dir, const char *name, mode_t mode);
int cow_symlink(struct cow_layer *l, const char *target, struct cow_pos *dir, const char *name);
/* An O_TMPFILE, or any open file of lower or the layer that still may be linked. */
int cow_link_fd(struct cow_layer *l, int fd, struct cow_pos *dir, const char *name);
int cow_unlink(struct cow_layer *l, struct cow_pos *dir, const char *name);
int cow_rmdir(struct cow_layer *l, struct cow_pos *dir, const char *name);
/* RENAME_NOREPLACE, RENAME_EXCHANGE; RENAME_WHITEOUT is -EINVAL. */
int cow_rename(struct cow_layer *l, struct cow_pos *from, const char *old, struct cow_pos *to,
               const char *new, unsigned flags);

/* Changes of attributes: copies what is needed (never data) and returns an O_PATH descriptor of the
 * staged object, on which the caller acts (chmod, chown, utimensat, setxattr through
 * /proc/self/fd/N, or fchmodat2 and the like with AT_EMPTY_PATH). `need` says which right lower must
 * give, because the staged object is ours whatever lower's owner is. */
enum cow_need {
    COW_NEED_NONE = 0,
    COW_NEED_OWNER, /* chmod, utimens with times, ACLs */
    COW_NEED_WRITE, /* utimens to now, user.* attributes */
};
int cow_change_fd(struct cow_layer *l, int fd, enum cow_need need);
/* A position that has its upper directory: for AF_UNIX bind on (upper_fd, name) and the like. The
 * name must be looked up and be absent first; cow_named() tells the layer afterwards. */
int cow_writable_dir(struct cow_layer *l, struct cow_pos *dir);
int cow_named(struct cow_layer *l, struct cow_pos *dir, const char *name);

/* ---- quota (RD-01, QT-01) ----
 * Copies and names are reserved before and given back on failure. Calls by descriptor are the caller's
 * to ask about, before they happen: cow_quota_grow(). Nobody tells when they have ended, so what was let
 * go counts as done; of several calls at once to one file only the last counts until the next look.
 * cow_quota_sample() looks at the whole layer, O(its names): what is really there, and corrects the counts. */
uint64_t cow_quota_used(struct cow_layer *l);
uint64_t cow_quota_room(struct cow_layer *l); /* UINT64_MAX without a quota */
uint64_t cow_quota_refused(struct cow_layer *l);
uint64_t cow_quota_peak(struct cow_layer *l); /* counted, never above the quota by much */
/* For each descriptor that can write. */
int cow_quota_open(struct cow_layer *l, int fd);
enum cow_grow {
    COW_GROW_WRITE,  /* len bytes at `at`, also by fallocate or a copy */
    COW_GROW_RESIZE, /* to `at` bytes */
    COW_GROW_MAP,    /* shared: from now on pages appear without a call, so holes count as filled */
};
/* 0 also for what is no file of the layer; -ENOSPC. */
int cow_quota_grow(struct cow_layer *l, int fd, enum cow_grow how, uint64_t at, uint64_t len);
/* Did anything happen since the last time it was asked? */
bool cow_quota_stirred(struct cow_layer *l);
int64_t cow_quota_sample(struct cow_layer *l);              /* bytes, or -errno */
int cow_quota_reserve(struct cow_layer *l, uint64_t bytes); /* 0 or -ENOSPC */
void cow_quota_release(struct cow_layer *l, uint64_t bytes);

/* ---- outcome: only when no member of the sandbox is left ---- */

enum cow_kind {
    COW_ADDED = 'A',
    COW_MODIFIED = 'M',
    COW_DELETED = 'D',
    COW_RENAMED = 'R',
    COW_RETYPED = 'T'
};
struct cow_side {
    mode_t mode; /* 0: nothing there */
    uint64_t size;
    uid_t uid;
    gid_t gid;
    struct timespec mtime;
    char *link; /* target of a symlink */
};
struct cow_change {
    enum cow_kind kind;
    bool content; /* M: the bytes differ, not only the attributes */
    char *path;   /* relative to the work directory, bytes */
    char *from;   /* R: the old path */
    struct cow_side before, after;
    struct cow_side replaced; /* R: what lower had at `path` */
    int storage_fd;           /* what the next member is relative to: borrowed from the layer */
    char *body;               /* where the new bytes or the link are */
};
struct cow_changes {
    struct cow_change *v;
    size_t n, room;
};
/* Sorted bytewise by path. A file written with the bytes it had is not in it, one whose times were set is. */
int cow_changes(struct cow_layer *l, struct cow_changes *ret);
void cow_changes_fini(struct cow_changes *c);
/* "A  path\n" (BA-02): A, M and D only, a rename and a change of type are a D and an A. */
int cow_changes_text(struct cow_layer *l, const struct cow_changes *c, struct buf *out);
void cow_changes_json(const struct cow_changes *c, struct buf *out);
#define COW_DIFF_MAX (1u << 20) /* bytes of a file that is compared line by line */
/* Takes what was written so far and empties the buffer: 0 or -errno. */
typedef int cow_flush(struct buf *out);
/* Unified diff of text files up to max_bytes each; the others are named with one line. flush, or NULL: is
 * called now and then, so that not all of it is in memory. */
int cow_changes_diff(struct cow_layer *l, const struct cow_changes *c, size_t max_bytes,
                     cow_flush *flush, struct buf *out);

struct cow_report {
    struct buf conflicts; /* one line a path and why; nothing was committed */
    size_t n_conflicts;
    struct buf notes;       /* what could not be kept: owners, sockets */
    cow_progress *progress; /* or NULL */
    void *progress_arg;
    bool ours; /* --on-conflict ours: commit over them */
};
void cow_report_fini(struct cow_report *r);

/* All of the layers or none (TX-04), each of another work directory. 0; -EBUSY: another commit holds a work
 * directory too long; -ESTALE: conflicts, nothing was touched; any other error: nothing was touched, or (report says
 * "recover") the commit is past its point of no return and recover finishes it. The storage of a
 * committed layer is removed; the objects must still be freed. */
int cow_commit(struct cow_layer *const *layers, size_t n, struct cow_report *report,
               struct error *err);
/* Removes the storage. */
int cow_abort(struct cow_layer *l, struct error *err);
/* Synced and marked, so that nobody cleans it up. */
int cow_keep(struct cow_layer *l, const char *reason, struct error *err);

/* ---- `sandlock recover` ---- */

enum cow_state {
    COW_LIVE = 0,    /* its run goes on */
    COW_ORPHAN,      /* the run died; lower is untouched */
    COW_KEPT,        /* lower is untouched */
    COW_INTERRUPTED, /* in the middle of a commit: cow_recover() finishes it */
    COW_BROKEN,      /* the index is damaged: only dropping is possible */
};
struct cow_info {
    char id[17];
    enum cow_state state;
    char *lower, *command, *reason;
    uint64_t created; /* seconds */
    uint64_t bytes;
};
/* The storage directory as cow_create() would choose it, opened and checked (owner, mode, no link). */
int cow_storage_open(int lower_fd, const char *storage, bool make, struct error *err);
int cow_storage_list(int storage_fd, int (*each)(const struct cow_info *i, void *arg), void *arg);
enum cow_recover_what {
    COW_RECOVER_AUTO, /* finish what is past its point of no return, undo what is not; drop orphans */
    COW_RECOVER_COMMIT,   /* a kept or orphaned layer too */
    COW_RECOVER_DROP,     /* what is not committing */
    COW_RECOVER_ROLLBACK, /* a commit that has begun, with a backup: the tree as it was, no layer */
};
int cow_recover(int storage_fd, const char *id, enum cow_recover_what what,
                struct cow_report *report, struct error *err);
/* What an ended run left, in one of the forms above; not of a commit that has begun. */
enum cow_show { COW_SHOW_LIST, COW_SHOW_DIFF, COW_SHOW_JSON };
int cow_show(int storage_fd, const char *id, enum cow_show how, cow_flush *flush, struct buf *out,
             struct error *err);
