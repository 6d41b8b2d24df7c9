/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy-on-write layer (cow/layer.h) as the operations see it: is this object, or this name, of the
 * merged view below --workdir, and then how it is changed. Receiver threads. Without a layer every
 * question costs a comparison with NULL.
 */
#pragma once

#include <sys/stat.h>

#include "fs/cow/layer.h"
#include "fs/resolve.h"

/* NULL without --workdir. */
struct cow_layer *staged_layer(const struct request *r);
/* resolve_path() for a path without links in the view. 1, 0 when it must be walked by hand, or -errno.
 * base_fd: where a relative path begins. */
int staged_resolve(const struct request *r, int base_fd, const char *path, unsigned flags,
                   struct resolved *ret);
/* The same for a relative path that begins in a directory which was met already: one look at it instead of
 * opening it. 0: not so. With WALK_ALIVE request_alive() is left to the caller. */
int staged_resolve_known(const struct request *r, int dirfd, const char *path, unsigned flags,
                         struct resolved *ret);
/* Is the object of the merged view? */
bool staged_holds(const struct request *r, int fd);
/* Is it one that only the layer has: made, or changed, by the command? */
bool staged_is_own(const struct request *r, const struct resolved *o);
/* Is the name? 1, with the position of its directory; 0, or -errno. */
int staged_name(const struct request *r, const struct resolved *o, struct cow_pos *ret);
/* May it be watched (CW-23)? 0, or -EOPNOTSUPP: changes would happen elsewhere. */
int staged_watch(const struct request *r, const struct resolved *o);
/* Opens an object of the view as behalf_reopen() does others. -ENODATA: it is another. */
int staged_reopen(const struct request *r, const struct resolved *o, uint64_t flags, mode_t mode);
/* Puts in place of an object of the view the descriptor on which its attributes may be changed. */
int staged_change(const struct request *r, struct resolved *o, enum cow_need need);

/* access(2) of an object, whether it is of the view or not. */
int staged_access(const struct request *r, int fd, int mode, int at_flags);
/* fstat(2) of an object, which `id` identifies. 0 or -errno. */
int staged_stat(const struct request *r, int fd, const struct sys_ident *id, struct stat *st);
/* Corrects what statx(2) said: SYS_STATX_SIZE bytes. */
int staged_show_statx(const struct request *r, int fd, const struct sys_ident *id, uint8_t *statx);

extern const struct feature fs_staged_feature;
