/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sendto, sendmsg and sendmmsg on behalf, where datagrams may leave (NP-03). Receivers; workers wait.
 */
#pragma once

#include "supervisor/supervisor.h"

struct verdict net_sendto(struct request *r);
struct verdict net_sendmsg(struct request *r);
struct verdict net_sendmmsg(struct request *r);

/*
 * One message's ancillary data as the child wrote it, made fit to be sent by us: descriptors become
 * duplicates (returned in fds, to be closed), a sender's identity ours. Pure but for `dup`, which
 * duplicates one descriptor of the child or fails with a negative errno. 0 or a negative errno.
 */
#define NET_RIGHTS_MAX 253 /* SCM_MAX_FD */
struct net_rights {
    int fd[NET_RIGHTS_MAX];
    unsigned n;
};
typedef int (*net_dup)(void *ctx, int fd);
int net_control_translate(void *control, size_t len, int domain, net_dup dup, void *ctx,
                          struct net_rights *ret);
void net_rights_close(struct net_rights *r);
