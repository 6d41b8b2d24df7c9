/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree that the command sees (--chroot, --fs-mount): a root directory and a table of mounts, all
 * held by descriptors from before the child exists until the end. Nothing of the kernel's mount table
 * changes; src/fs walks with this one. Made from our own user's paths, immutable afterwards.
 */
#pragma once

#include "policy/policy.h"
#include "sys/fs.h"

/* A mount covers one name in one directory: it stays there when a directory above is renamed, as the
 * kernel's do. */
struct root_mount {
    char *place;             /* its path inside: for showing and for the user's own paths */
    char *name;              /* last component of place */
    int parent_fd;           /* the directory that holds the name */
    struct sys_ident parent; /* of parent_fd */
    int fd;                  /* O_PATH: what is mounted */
    struct sys_ident id;     /* of fd */
    struct sys_ident hidden; /* what lies beneath, when there is something */
    bool hides;
    bool read_only;
    bool made; /* a directory that exists only to hold mounts: empty, read-only */
    bool proc; /* the procfs that a root without one gets */
};

struct cow_layer;

struct root {
    int fd; /* O_PATH */
    struct sys_ident id;
    bool plain; /* the kernel's own walk cannot pass through anything hidden */
    /* Of a file system whose content is the same for everybody: not procfs, not sysfs. */
    bool ordinary;
    bool any_read_only;
    size_t n, room;
    struct root_mount *v;
    char *workdir;           /* --workdir, as the kernel spells it on the host; or NULL */
    int workdir_fd;          /* O_PATH */
    char *workdir_seen[2];   /* its names in the tree; NULL: none */
    struct cow_layer *layer; /* what lies below it is looked up there: from root_stage() on */
    bool layer_lent;         /* it is somebody else's, who decides about it */
    const struct root_mount *layer_mount; /* on which the work directory lies; NULL: the root */
    bool layer_shared;                    /* it is of an image's cache: never committed */
};

/* *ret is NULL when the policy shows the host's tree as it is. */
int root_new(const struct policy *p, struct root **ret, struct error *err);
/* Finds --workdir, a path inside, and refuses mounts that would be a second way to it. Of root_new(). */
int root_workdir(struct root *r, const struct policy *p, struct error *err);
/* Makes the layer of --workdir: where changes go. No layer, no run (CW-13). */
int root_stage(struct root *r, const struct policy *p, struct error *err);
/* The layer that a run before this one left, of the same work directory: it is lent. */
int root_stage_on(struct root *r, const struct policy *p, struct cow_layer *layer,
                  struct error *err);
/* A layer that is still there was never decided about: it is dropped. */
void root_free(struct root *r);

/* O_PATH descriptor of a path of the policy, inside. Also for r == NULL. Or -errno. */
int root_open(const struct root *r, const char *path, int flags);

/* Can a path without links on its way not meet the work directory? Text only, for a shortcut. */
bool root_passes_beside(const struct root *r, const char *path);

/* The mount that covers this name in this directory, or NULL. */
const struct root_mount *root_mount_on(const struct root *r, const struct sys_ident *dir,
                                       const char *name);
/* Cheap: could the name be one that is covered? */
bool root_has_name(const struct root *r, const char *name);
/* The mount whose top this object is, or NULL. */
const struct root_mount *root_mount_top(const struct root *r, const struct sys_ident *id);
/* Certainly not on procfs or sysfs: on the root's own mount, whose number is not given to another one
 * while the root is open. */
static inline bool root_holds(const struct root *r, const struct sys_ident *id)
{
    return r && r->ordinary && id->mnt != 0 && id->mnt == r->id.mnt;
}
/* Is this what lies beneath a mount? */
bool root_is_hidden(const struct root *r, const struct sys_ident *id);

/* Every object that the policy grants: -r, -w and the mounts. fn gets a borrowed O_PATH descriptor, and
 * a negative result ends the enumeration. */
struct root_grant {
    int fd;
    bool write;
    const char *flag, *path; /* as the user gave them */
};
/* Nobody may write to lower, whoever grants it (CW-02): a grant of something in the work directory is
 * what the layer gives anyway, and from a larger one nothing can be taken. 0, or -errno with the reason. */
int root_carve(const struct root *r, struct root_grant *g, struct error *err);
int root_each_grant(const struct root *r, const struct policy *p,
                    int (*fn)(const struct root_grant *g, void *arg, struct error *err), void *arg,
                    struct error *err);
