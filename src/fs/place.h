/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an object to the directories above it, by descriptors. Receiver threads. The kernel's spelling
 * of a place is only used to find a candidate, which is then compared by identity.
 */
#pragma once

#include "sys/fs.h"

/* Calls visit for the directory and each ancestor up to the root, crossing mounts as ".." does. A
 * non-zero result of visit ends the walk and is returned; 0 after the root; -errno when the walk
 * cannot go on (callers then refuse). */
int place_ascend(int dir_fd, int (*visit)(int dir_fd, const struct sys_ident *id, void *arg),
                 void *arg);
/* O_PATH descriptor of the directory in which the object has a name now, or -ENOENT (unlinked,
 * anonymous, moved meanwhile). */
int place_parent(int fd, const struct sys_ident *id);
