/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What copy-up step by step (stage.c) and at once (whole.c) share. With the node's latch, but for stage_path().
 */
#pragma once

#include "fs/cow/internal.h"

/* Where a directory of lower that has a node was when it was staged is where its changes are committed. The
 * work directory is where the descriptor is from which the path is walked. */
int stage_path(struct cow_layer *l, const struct cow_pos *dir, const char *name,
               char path[PATH_MAX]);
/* Marks all directories of lower above the path: something is staged beneath. */
int stage_mark_beneath(struct cow_layer *l, const char *path);
/* What lower's object is now. */
void stage_origin(struct cow_layer *l, struct cow_node *n, const struct cow_attr *a);
/* The object is there: the node becomes staged. */
int stage_done(struct cow_layer *l, struct cow_node *n, const struct cow_attr *made, bool light,
               bool owner);
void stage_drop_object(struct cow_layer *l, const struct cow_attr *a, const char *name);
