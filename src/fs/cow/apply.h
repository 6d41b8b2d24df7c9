/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What carrying out a plan (apply.c) and taking it back (undo.c) share: places in lower, in the layer and in
 * the limbo, reached beneath their roots without following a link. One thread.
 */
#pragma once

#include "fs/cow/internal.h"

struct apply {
    struct cow_plan *p;
    struct cow_report *report;
    int limbo_fd;
    char dir[PATH_MAX]; /* lower's directory that is open */
    int dir_fd;
};

/* A name in an open directory. */
struct place {
    int fd;
    const char *name;
};
static inline void place_fini(struct place *p)
{
    if (p->fd >= 0)
        util_close(p->fd);
}
#define _cleanup_place_ _cleanup_(place_fini)

/* base: 'L' lower, 'S' the layer's directory, 'X' the limbo. */
int apply_place(struct apply *a, char base, const char *path, struct place *ret);
/* O_PATH, of lower; "" is its root. */
int apply_object(struct apply *a, const char *path);
/* Directories that are closed to their owner, from the top down to the one that holds the path: of lower,
 * where their modes come at the end; of the layer, where the plan knows them. */
int apply_open_up(struct apply *a, char base, const char *path);
/* Renames of directories make what is remembered about paths wrong. */
void apply_forget(struct apply *a);
/* To move a directory its owner must be able to write to it, too: its mode comes at the end. */
int apply_move(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
void apply_note_owner(struct apply *a, const char *path, uid_t uid, gid_t gid);
/* What a commit with a backup keeps in the limbo, by the number of the step. */
void apply_backup_name(char kind, const struct cow_step *s, const struct cow_plan *p,
                       char name[24]);
