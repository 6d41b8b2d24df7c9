/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of the copy-on-write layer that its files share; the model is explained in layer.h.
 *
 * Locks, in this order: moves (renames of directories), dirs[] (a directory's names, by its `ino`),
 * a node's latch (its copy is being made), lock (maps; a leaf, never held over a call that waits),
 * log (the index file; a leaf), dir_lock (known directories; a leaf).
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "fs/cow/layer.h"

/* Whom to tell about work that takes long. */
struct cow_telling {
    cow_progress *progress;
    void *arg;
};

/* ---- attributes ---- */

struct cow_attr {
    uint64_t dev, ino, mnt, size, blocks;
    int64_t atime, mtime, ctime, btime; /* ns; btime 0 where the file system has none */
    uint32_t mode, nlink, uid, gid, blksize;
    uint64_t rdev;
};
int cow_attr_at(int dir_fd, const char *name, struct cow_attr *ret);
int cow_attr_fd(int fd, struct cow_attr *ret);
int cow_attr_path(const char *path, struct cow_attr *ret); /* of what it leads to */
/* The same object, not one that got its number later. */
bool cow_attr_same(const struct cow_attr *a, const struct cow_attr *b);
/* The same object with the same content and attributes, as far as lower's clock tells. */
bool cow_attr_unchanged(const struct cow_attr *then, const struct cow_attr *now);
struct sys_ident cow_attr_ident(const struct cow_attr *a);
struct timespec cow_time(int64_t ns);

/* ---- maps ---- */

struct cow_map {
    struct cow_slot {
        uint64_t key; /* never 0 */
        void *value;
    } * slots;
    size_t n, room;
};
void *cow_map_get(const struct cow_map *m, uint64_t key);
int cow_map_put(struct cow_map *m, uint64_t key, void *value); /* value NULL: forget */
int cow_map_reserve(struct cow_map *m);                        /* the next put cannot fail */
void cow_map_fini(struct cow_map *m);

enum {
    NAME_UPPER = 1u << 0,
    NAME_WHITEOUT = 1u << 1,
};
struct cow_name {
    struct cow_name *next;
    struct cow_node *dir;
    uint32_t hash, flags;
    struct cow_attr hidden; /* NAME_WHITEOUT: what lower has there */
    char name[];
};

/* What is atomic is read without a lock. Who has seen `staged` may read what was written before it:
 * origin, upper_ino. */
struct cow_node {
    uint32_t id;
    _Atomic bool staged; /* the object exists and its record is written */
    _Atomic bool light;  /* a file whose bytes are still lower's */
    _Atomic bool moved;  /* a directory whose object has a name in an upper directory; fd is held */
    _Atomic bool dead;   /* no name leads to it any more */
    bool has_names;      /* under lock. A directory: something in it changed */
    _Atomic bool attrs;  /* its attributes were changed on purpose */
    _Atomic bool has_owner; /* the owner to show is here, not in the object */
    _Atomic uid_t uid;
    _Atomic gid_t gid;
    uint64_t upper_ino;
    struct cow_attr origin; /* lower's self when it was staged; until then under lock */
    char *path;             /* in lower, relative to its root; "" is the root */
    int fd;                 /* under lock. moved: O_PATH */
    pthread_mutex_t latch;
    struct cow_node *next_all;
    char *final; /* commit: the path in the new tree, NULL when there is none */
};

#define COW_DIR_LOCKS 64
#define COW_KNOWN_DIRS 128 /* a power of two; two descriptors each */
struct cow_layer {
    int lower_fd, storage_fd /* of this layer */, parent_fd /* holds storage */, objects_fd,
        index_fd, lock_fd;
    off_t index_room;                       /* allocated up to there */
    off_t index_end;                        /* where records end; 0: not looked yet */
    struct buf record;                      /* under log */
    struct cow_attr lower, storage, holder; /* holder: the directory of all layers */
    char id[17];
    char *storage_path, *lower_path, *command, *reason;
    uint64_t created;
    int commit_wait_ms;
    struct cow_telling telling;
    bool kept, loaded, header_only;
    _Atomic bool broken; /* the index misses something that happened: never to be committed */
    bool inside;   /* the storage lies in the work directory: names must be compared with it */
    bool same_fs;  /* storage and lower: objects can be linked and renamed into lower */
    bool backup;   /* a commit keeps what it replaces, for a rollback */
    bool in_place; /* or writes into lower's files (CM-04) */

    pthread_mutex_t moves, dirs[COW_DIR_LOCKS], log, dir_lock;
    struct cow_dir *known[COW_KNOWN_DIRS]; /* under dir_lock */
    bool remembers;                        /* descriptors suffice for that */
    pthread_rwlock_t lock;
    struct cow_map by_lower, by_upper, beneath, gone;
    struct cow_node *all;
    uint32_t next_id;
    struct cow_name **names;
    size_t n_names, names_room;
    _Atomic bool any, any_placed;
    _Atomic bool no_clone; /* no reflinks from lower into the storage */

    uint64_t max_bytes;
    _Atomic int64_t used;
    _Atomic uint64_t quota_refused, quota_peak;
    _Atomic bool quota_stirred; /* something may have grown since the last sample */
    _Atomic bool quota_blind;   /* the last sample failed: nothing may grow until one succeeds */
    pthread_mutex_t quota;      /* of what follows */
    struct cow_map open;        /* upper inode -> struct cow_open */
    struct cow_open *gone_files;
    size_t n_gone_files;
    int64_t index_counted;
};

/* ---- layer.c ---- */
/* An empty file in the storage whose being there says something; synced: when this returns 0 it is on the disk. */
int cow_mark(struct cow_layer *l, const char *name, bool synced);
bool cow_has_mark(const struct cow_layer *l, const char *name);

/* ---- index.c: memory ---- */
struct cow_node *cow_node_by_lower(struct cow_layer *l, const struct cow_attr *a);
struct cow_node *cow_node_by_upper(struct cow_layer *l, uint64_t dev, uint64_t ino);
/* Made, or found: for this lower object. */
int cow_node_get(struct cow_layer *l, const struct cow_attr *a, const char *path,
                 struct cow_node **ret);
int cow_node_staged(struct cow_layer *l, struct cow_node *n, uint64_t upper_ino);
void cow_node_dead(struct cow_layer *l, struct cow_node *n);
uint32_t cow_name_flags(struct cow_layer *l, struct cow_node *dir, const char *name);
/* hidden may be NULL for NAME_UPPER. */
int cow_name_add(struct cow_layer *l, struct cow_node *dir, const char *name, uint32_t flag,
                 const struct cow_attr *hidden);
/* Memory for a name, so that adding it cannot fail. */
int cow_name_prepare(struct cow_layer *l, struct cow_node *dir, const char *name);
void cow_name_del(struct cow_layer *l, struct cow_node *dir, const char *name, uint32_t flag);
/* When nobody changes anything any more. */
const struct cow_attr *cow_name_hidden(struct cow_layer *l, const struct cow_node *dir,
                                       const char *name);
int cow_names_each(struct cow_layer *l, int (*each)(const struct cow_name *n, void *arg),
                   void *arg);
int cow_beneath_add(struct cow_layer *l, uint64_t ino, bool *ret_new);
bool cow_beneath_has(struct cow_layer *l, uint64_t ino);
uint32_t cow_gone(struct cow_layer *l, uint64_t ino);
void cow_index_fini(struct cow_layer *l);

/* ---- record.c: the index file ---- */
enum cow_record {
    REC_HEADER = 1,
    REC_NODE,
    REC_FULL,
    REC_WHITEOUT,
    REC_UNWHITE,
    REC_KEPT = 7, /* 6 was never written */
    REC_STEP,     /* journal */
    REC_END,
};
void cow_put_u32(struct buf *b, uint32_t v);
void cow_put_u64(struct buf *b, uint64_t v);
void cow_put_attr(struct buf *b, const struct cow_attr *a);
void cow_put_str(struct buf *b, const char *s);
struct cow_get {
    const char *p, *end;
    bool bad;
};
uint32_t cow_get_u32(struct cow_get *g);
uint64_t cow_get_u64(struct cow_get *g);
void cow_get_attr(struct cow_get *g, struct cow_attr *ret);
const char *cow_get_str(struct cow_get *g); /* never NULL */
void cow_frame(struct buf *out, enum cow_record type, const struct buf *payload);
int cow_write_all(int fd, const void *data, size_t n);
/* Calls each for every record: a torn last one is dropped, another damage is -EBADMSG. */
int cow_read_records(int fd, int (*each)(enum cow_record type, struct cow_get *g, void *arg),
                     void *arg);
int cow_log(struct cow_layer *l, enum cow_record type, struct buf *payload);
/* The same without a buffer of one's own: the payload is put into what begin returns, and nothing is done in
 * between but that. With the lock of the index. */
struct buf *cow_log_begin(struct cow_layer *l);
int cow_log_end(struct cow_layer *l, enum cow_record type);
/* Room for what must be written after something that cannot be undone. */
int cow_log_reserve(struct cow_layer *l);
int cow_log_header(struct cow_layer *l);
int cow_log_node(struct cow_layer *l, const struct cow_node *n);
int cow_load(struct cow_layer *l);

/* ---- copy.c ---- */
/* no_clone, or NULL: remembers that there are no reflinks between these file systems. */
int cow_copy_data(int from_fd, int to_fd, uint64_t size, _Atomic bool *no_clone,
                  const struct cow_telling *t);
/* Into a file that others may have open: it is at no time shorter than both what it was and will be. */
int cow_copy_over(int from_fd, int to_fd, uint64_t size);
/* Of few bytes without holes into a new file. */
int cow_copy_small(int from_fd, int to_fd, uint64_t size, _Atomic bool *no_clone);
/* Owner (as far as rights allow: *ret_owner tells), xattrs, mode, times. Both O_PATH or open. A fresh
 * object has no xattrs of its own that must go. */
int cow_copy_attrs(int from_fd, const struct cow_attr *a, int to_fd, bool fresh, bool *ret_owner);
/* With the attributes of to_fd known. */
int cow_copy_attrs_to(int from_fd, const struct cow_attr *a, int to_fd, const struct cow_attr *now,
                      bool fresh, bool *ret_owner);
int cow_set_times(int fd, const struct cow_attr *a);
bool cow_xattrs_same(int a_fd, int b_fd);
/* 1 when the bytes are the same, 0 when not, or -errno. */
int cow_same_content(int a_fd, int b_fd);

/* ---- sides.c: an object of lower, and its object in the storage ---- */
/* "a/b" of an object of lower: the directory's path, plus name unless NULL. */
int cow_lower_name(struct cow_layer *l, int dir_fd, const char *name, char path[PATH_MAX]);
int cow_lower_open_path(struct cow_layer *l, const char *path, int flags); /* whatever is there */
/* The path of the directory that holds it, "" for the work directory. */
void cow_parent_path(const char *path, char dir[PATH_MAX]);
int cow_lower_open(struct cow_layer *l, const struct cow_node *n, int flags);
bool cow_is_layered(const struct cow_layer *l, const struct cow_attr *a);
#define COW_OBJECT_NAME_MAX 12
/* In objects/, unless the object was moved. */
void cow_object_name(const struct cow_node *n, char name[COW_OBJECT_NAME_MAX]);
int cow_object_open(struct cow_layer *l, const struct cow_node *n, int flags);

/* ---- stage.c, whole.c: copy-up ---- */
/* Makes the object of what lower_fd (O_PATH) is. Light for files. dir_ino: its directory, or 0. */
int cow_stage(struct cow_layer *l, int lower_fd, const struct cow_attr *a, uint64_t dir_ino,
              const char *path, struct cow_node **ret);
/* The bytes too, unless they will be cut off anyway. */
int cow_complete(struct cow_layer *l, struct cow_node *n, bool truncate);
int cow_stage_name(struct cow_layer *l, struct cow_pos *dir, const char *name,
                   struct cow_node **ret);
/* The same with what the name led to, and its attributes, at hand. */
int cow_stage_found(struct cow_layer *l, struct cow_pos *dir, const char *name, int fd,
                    const struct cow_attr *a, struct cow_node **ret);
/* The same by an open object of lower: -EXDEV when it is none. */
int cow_stage_fd(struct cow_layer *l, int fd, struct cow_node **ret);
/* The first write to a small file of lower in one step: a descriptor of its complete object. `id`: what was
 * found there, and is held open. -EAGAIN: nothing happened, to be done step by step. */
int cow_stage_whole(struct cow_layer *l, struct cow_pos *dir, const char *name,
                    const struct sys_ident *id, int flags);

/* ---- whiteout.c ---- */
int cow_whiteout(struct cow_layer *l, struct cow_pos *dir, const char *name);
/* The same of what was just found there. */
int cow_whiteout_of(struct cow_layer *l, struct cow_pos *dir, const char *name,
                    const struct cow_attr *a);
void cow_unwhite(struct cow_layer *l, struct cow_pos *dir, const char *name);
/* Of a file a name of which went, on either side: the object goes with the last. */
void cow_maybe_dead(struct cow_layer *l, struct cow_node *n);

/* ---- pos.c ---- */
pthread_mutex_t *cow_dir_lock(struct cow_layer *l, const struct cow_pos *p);
int cow_pos_update(struct cow_layer *l, struct cow_pos *p);
bool cow_pos_is_root(const struct cow_layer *l, const struct cow_pos *p);
/* Of a directory that was opened by its name on that side. Takes fd over. */
int cow_pos_of(struct cow_layer *l, int fd, bool in_upper, struct cow_pos *ret);
bool cow_fd_is_ours(struct cow_layer *l, int fd);
struct cow_node *cow_node_of(struct cow_layer *l,
                             const struct cow_attr *a); /* staged, either side */
/* For a new name, which the kernel will refuse by itself where the upper directory does. */
int cow_may_create(struct cow_layer *l, struct cow_pos *dir);
/* The object of somebody else's file is ours: as he may not change its mode, lower's own counts, too. 0 for any
 * other node. */
int cow_node_may(struct cow_layer *l, const struct cow_node *n, int mode, int at_flags);
int cow_may_write_dir(struct cow_layer *l, struct cow_pos *dir);
int cow_touch(struct cow_pos *dir);

/* ---- rename.c ---- */
/* Several directories' locks, each once and in one order. */
struct cow_locks {
    pthread_mutex_t *v[4];
    size_t n;
};
void cow_locks_add(struct cow_locks *k, pthread_mutex_t *m);
void cow_locks_take(const struct cow_locks *k);
void cow_locks_drop(const struct cow_locks *k);

/* ---- look.c ---- */
/* Is it one component? 0, -EINVAL, -ENAMETOOLONG. */
int cow_name_check(const char *name);
static inline bool cow_exists(const struct cow_entry *en)
{
    return en->where != COW_NONE && en->where != COW_WHITEOUT;
}
/* cow_lookup() of what must be there: else -ENOENT. */
int cow_find(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_entry *ret);
/* What the name leads to, with an O_PATH descriptor of the object that shows (-1: there is none). */
int cow_look(struct cow_layer *l, struct cow_pos *dir, const char *name, struct cow_entry *ret,
             struct cow_attr *a, int *ret_fd);
/* The number under which an object of the upper side shows. */
uint64_t cow_show_ino(const struct cow_layer *l, uint64_t upper_ino);

/* ---- dir.c ---- */
/* The position of a directory that was met already, by the attributes of either side: 1, 0, or -EXDEV:
 * it is not of the view. */
int cow_dir_find(struct cow_layer *l, const struct cow_attr *a, struct cow_pos *ret);
/* Remembers it under the attributes of one of its sides: its descriptors are shared from now on. */
void cow_dir_add(struct cow_layer *l, const struct cow_attr *a, struct cow_pos *p);
/* Takes fd over. */
void cow_dir_add_outside(struct cow_layer *l, const struct cow_attr *a, int fd);
/* The position has got its upper side. Takes upper_fd over. */
void cow_dir_staged(struct cow_layer *l, struct cow_pos *p, int upper_fd);
void cow_dir_ref(struct cow_dir *d);
void cow_dir_unref(struct cow_dir *d);
void cow_dirs_fini(struct cow_layer *l);

/* ---- quota.c ---- */
/* Before the name of a file goes: a descriptor that tells whether it is written to afterwards, or -1. */
int cow_quota_hold(struct cow_layer *l, int dir_fd, const char *name, const struct cow_attr *a);
/* A name of the layer went: what it and, with the last one, its blocks were counted for. Takes hold_fd. */
void cow_quota_forget(struct cow_layer *l, const struct cow_attr *a, int hold_fd);
void cow_quota_fini(struct cow_layer *l);

/* ---- names.c ---- */
/* Before a new name: the right to it, an upper directory, and COW_NAME_COST, which the caller gives back when
 * there is no name after all. */
int cow_may_name(struct cow_layer *l, struct cow_pos *dir);
int cow_may_remove(struct cow_layer *l, struct cow_pos *dir, const struct cow_entry *en);
/* The same after cow_may_write_dir() has allowed changes of that directory. */
int cow_may_remove_name(struct cow_layer *l, struct cow_pos *dir, const struct cow_entry *en);
int cow_bury(struct cow_layer *l, struct cow_pos *gone);

/* ---- list.c ---- */
/* Names of one directory without dots: a non-zero result of each ends it and is returned. */
typedef int cow_each_name_fn(const char *name, unsigned char type, uint64_t ino, void *arg);
int cow_each_name(int dir_fd, cow_each_name_fn *each, void *arg);
/* 0, -ENOTEMPTY */
int cow_is_empty(struct cow_layer *l, struct cow_pos *dir);

/* ---- tree.c ---- */
int cow_remove_tree(int dir_fd, const char *name); /* 0 when there is none */
int cow_remove_layer(struct cow_layer *l);
int cow_copy_tree_entry(int from_dir, const char *name, int to_dir, const char *to);
int cow_copy_link(int path_fd, int to_dir, const char *to); /* O_PATH of a symlink */
/* Of the layer, when the run is over: what the command closed to its owner, who is us, is open meanwhile.
 * Killed in between, such a directory or file stays open to its owner. */
int cow_each_closed_name(int dir_fd, cow_each_name_fn *each, void *arg);
int cow_open_closed(int path_fd, int flags, mode_t right);

/* ---- final.c: what the tree shall be ---- */
enum cow_item_kind {
    ITEM_UPPER,   /* a name in an upper directory */
    ITEM_CHANGED, /* something of lower at its own name, with an object */
    ITEM_GONE,    /* a name of lower with a whiteout and nothing in its place */
};
struct cow_item {
    enum cow_item_kind kind;
    const char *path;              /* in the new tree, relative to the work directory; "" is it */
    const char *source;            /* of the object, relative to the layer's directory */
    const struct cow_attr *attr;   /* of the object */
    struct cow_node *node;         /* NULL: new */
    bool renamed;                  /* UPPER: from node->path; GONE: it is told at another name */
    const struct cow_attr *hidden; /* what lower has there: replaced, or gone */
    const char *lower;             /* CHANGED, GONE: its path in lower */
    int dir_fd;                    /* UPPER: where the name is */
    const char *name;
};
/* In no order. A positive result for a new directory: do not go into it. Sets every node's `final`. */
int cow_each_item(struct cow_layer *l, int (*each)(const struct cow_item *i, void *arg), void *arg);

/* ---- plan.c: steps from the old tree to the new one ---- */
enum cow_op {
    STEP_KEEP = 1, /* link a renamed file of lower into the limbo */
    STEP_OUT,      /* move a renamed directory of lower into the limbo */
    STEP_ASIDE,    /* what is in the way */
    STEP_MKDIR,
    STEP_PLACE, /* a file: link and rename over */
    STEP_TAKE,  /* rename into place: a file's last name, a directory */
    STEP_REMOVE,
    STEP_ATTRS, /* from source to path */
    STEP_TIMES, /* as they were */
    STEP_WRITE, /* the bytes of source into the file that is at path */
};
struct cow_step {
    enum cow_op op;
    char base;            /* of source: 'S' the layer's directory, 'L' lower, 'X' the limbo */
    char *source;         /* may be NULL */
    char *path;           /* in lower, or in the limbo for KEEP, OUT, ASIDE (where they put it) */
    struct cow_attr attr; /* which object is meant, and TIMES */
    char *lower;          /* with a backup: ATTRS, TIMES: where it was in lower, NULL: it is new */
    struct cow_attr old;  /* and what it was */
    bool has_owner;
    uid_t uid;
    gid_t gid;
    size_t seq;
};
struct cow_plan {
    struct cow_layer *l;
    struct cow_step *v;
    size_t n, room;
    size_t n_copies;
    struct cow_map copies; /* upper inode -> name in the limbo, or number of its STEP_WRITE, + 1 */
    uint64_t needs;        /* bytes that files of lower will grow by */
    struct cow_report *report;
};
int cow_plan_make(struct cow_layer *l, struct cow_report *report, struct cow_plan *ret);
void cow_plan_fini(struct cow_plan *p);
int cow_plan_room(const struct cow_plan *p); /* 0, -ENOSPC */
/* Where in the tree: a step that puts something into the limbo belongs to where it comes from. */
const char *cow_step_at(const struct cow_step *s);
struct cow_step *cow_plan_add(struct cow_plan *p, enum cow_op op, char base, const char *source,
                              const char *path);
bool cow_node_unchanged(struct cow_layer *l, struct cow_node *n, const struct cow_attr *now);

/* ---- recover.c ---- */
/* Orphans go, as far as that needs no waiting. */
void cow_clean_storage(int storage_fd);

/* ---- layer.c ---- */
bool cow_is_shared(const struct cow_layer *l);
int cow_open_header(int storage_fd, const char *id, struct cow_layer **ret);

/* ---- conflict.c ---- */
int cow_conflicts(struct cow_layer *l, struct cow_report *report);

/* ---- journal.c, apply.c ---- */
int cow_journal_write(struct cow_plan *p, const char *coordinator, struct cow_layer *const *layers,
                      size_t n_layers);
struct cow_journal {
    struct cow_plan plan;
    char *coordinator;
    char *participants; /* storage paths, each ended by NUL, then an empty one */
    size_t participants_len;
    struct cow_attr root; /* lower's root before anything happened */
    size_t n_participants;
};
int cow_journal_read(struct cow_layer *l, struct cow_journal *ret);
void cow_journal_fini(struct cow_journal *j);
/* The only layer of a commit, with a backup: what it names is going, and nothing leads back any more. */
int cow_journal_done(struct cow_layer *l);
/* Takes the steps back, in the reverse order: the tree as it was. Repeatable. Of a journal with a backup. */
int cow_undo(struct cow_journal *j, struct cow_report *report);
/* Bodies into the limbo, where storage and lower are different file systems. */
int cow_stage_bodies(struct cow_plan *p);
int cow_apply(struct cow_plan *p, struct cow_report *report);
/* Directories of the layer that were opened for that have their modes again. */
int cow_close_sources(struct cow_plan *p);
/* -1: not there. */
int cow_limbo_open(struct cow_layer *l, bool make);
int cow_limbo_remove(struct cow_layer *l);

/* ---- commit.c ---- */
int cow_lower_lock(struct cow_layer *l, int wait_ms);
int cow_journal_undo(struct cow_layer *l);
/* alone: it is the only layer of its commit. */
int cow_finish(struct cow_plan *p, int lower_fd, bool alone, struct cow_report *report);
