/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of denied objects (--fs-deny). Built in the caller, asked by receivers in parallel.
 */
#pragma once

#include "base/strv.h"
#include "fs/resolve.h"

struct cow_layer;
struct deny;

int deny_new(const struct strv *paths, struct deny **ret, struct error *err);
void deny_free(struct deny *d);
/* Places are those of the layer's view from now on. Before anything is asked; borrowed, may be NULL. */
void deny_set_layer(struct deny *d, struct cow_layer *layer);
/* 1: denied, or not decidable; 0: not denied. parent_fd (-1) and name help to find the place. */
int deny_object(struct deny *d, int fd, const struct sys_ident *id, int parent_fd,
                const char *name);
/* The same for a name that does not exist (yet) in the directory parent_fd. */
int deny_name(struct deny *d, int parent_fd, const char *name);
/* 1 when the directory contains something denied: moving it would move the denied thing. */
int deny_is_above(struct deny *d, int dir_fd);
/* 1 when an entry is told by its place in this directory, which therefore may not be removed (an
 * empty one can hold nothing denied yet). */
int deny_keeps(struct deny *d, int dir_fd, const struct sys_ident *dir);
/* Brackets a rename of a directory: places are read anew while one is under way. */
void deny_rename_begin(struct deny *d);
void deny_rename_end(struct deny *d);

/* The exec hook: is what was loaded denied (behalf_exec.c)? */
int fs_deny_exec(const struct request *r, pid_t pid);
