/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where pidfd_getfd is refused (Docker's default profile), the command's sockets are made
 * here and a duplicate of each is kept until it is connected, or nobody inside holds it any more
 * (NP-07). They are found again by their inode.
 */
#pragma once

#include "supervisor/supervisor.h"

extern const struct feature net_keep_feature;
extern const struct feature net_keep_unix_feature;

/* A duplicate of the kept socket behind the child's descriptor; -EISCONN for one that is connected and
 * kept no longer, -EACCES for one that was never ours, or what is wrong with the descriptor. */
int net_kept_dup(const struct request *r, int fd);
/* Tells that fd, of net_kept_dup(), is connected: the duplicate is given back where nothing needs it. */
void net_kept_connected(const struct request *r, int fd);
