/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the set of denied objects.
 *
 * Each entry has three faces. Its identity catches hard links and bind mounts of the object. Its
 * place (the directory that held it, live, plus its name) catches what is put there later: a file
 * replaced by rename, a path that did not exist at the start, everything beneath a directory. The
 * walk by ".." catches the tree below a denied directory seen through another mount.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "fs/deny.h"

#define DENY_MOUNTS 32

struct deny_entry {
    struct sys_ident id;   /* of the object, when obj_fd >= 0 */
    struct sys_ident link; /* of the link of that name, when it was one: link_fd >= 0 */
    struct sys_ident dir;  /* of dir_fd */
    int obj_fd, link_fd;   /* kept open: a number in use cannot be given to another object */
    char *path;            /* as given, squeezed */
    int dir_fd;            /* deepest directory above the path that existed */
    char *rest;            /* the path below dir_fd */
    char *place[2];        /* where that is now, and where the object itself is (it may have been
                              renamed by others); guarded by deny.lock */
};

struct deny_mount {
    uint64_t mnt;
    dev_t dev;
    uint64_t until;
};

struct deny {
    pthread_rwlock_t lock; /* dir, dir_fd, rest and place of the entries; mounts */
    _Atomic uint64_t places_until;
    pthread_mutex_t rename_lock;
    _Atomic unsigned moves; /* odd while a directory is being renamed */
    struct deny_mount mounts[DENY_MOUNTS];
    unsigned next_mount;
    struct cow_layer *layer; /* of --workdir, or NULL */
    size_t n;
    struct deny_entry v[];
};

/* Opens the deepest existing directory above the absolute, squeezed path into e->dir_fd and tells
 * where the rest of the path begins. */
int deny_open_dir(struct deny_entry *e, const char *path, size_t *ret_off);
