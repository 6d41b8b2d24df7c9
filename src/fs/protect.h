/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protections of /proc/sys/fs for directories that others may write to (PR-12): the kernel applies
 * them to paths it walks itself, and here paths are walked on behalf. Receiver threads.
 */
#pragma once

#include "sys/fs.h"

/* protected_symlinks, of the last link of a path: may the link in this directory be followed? 0 or -errno. */
int protect_link(int dir_fd, const struct sys_ident *link);
/* protected_fifos and protected_regular: may O_CREAT open this object, which exists? dir_fd may be -1. */
int protect_create(int dir_fd, const struct sys_ident *id);
