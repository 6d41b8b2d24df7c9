/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts about objects on procfs: is it one, and whose. Receiver threads; decides on descriptors and
 * on the kernel's spelling of their place, never on bytes from the child.
 */
#pragma once

#include "fs/resolve.h"

bool procfs_is(int fd, const struct sys_ident *id);

struct procfs_place {
    char buf[PATH_MAX];
    const char *rest; /* below the root of procfs, "" for the root itself */
    pid_t pid;        /* leading number of rest, or 0 */
    const char *leaf; /* rest behind the number and its slash */
};
/* Where the procfs object is below /proc. -EACCES when it lies on any other procfs mount: nothing
 * is known about whose numbers that shows, so nobody may have it. */
int procfs_place(int fd, const struct sys_ident *id, struct procfs_place *ret);
