/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ancillary data of a send on behalf. The bytes are a copy of the child's and hostile; they are only
 * ever changed in place, never moved. Receiver and worker threads.
 */
#include <errno.h>
#include <string.h>

#include "net/net.h"
#include "net/send.h"

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#define OPT_UDP_SEGMENT 103
#define OPT_TXTIME 61

/* What may accompany a datagram: nothing that names a destination or a route (IP_RETOPTS and the
 * IPv6 routing header do). */
static bool inet_allowed(int level, int type)
{
    switch (level) {
    case SOL_SOCKET: return type == SO_TIMESTAMPING || type == OPT_TXTIME;
    case SOL_IP: return type == IP_PKTINFO || type == IP_TTL || type == IP_TOS;
    case SOL_IPV6:
        return type == IPV6_PKTINFO || type == IPV6_HOPLIMIT || type == IPV6_TCLASS ||
               type == IPV6_DONTFRAG;
    case SOL_UDP: return type == OPT_UDP_SEGMENT;
    default: return false;
    }
}

static int translate_rights(unsigned char *data, size_t size, net_dup dup, void *ctx,
                            struct net_rights *ret)
{
    for (size_t at = 0; at + sizeof(int) <= size; at += sizeof(int)) {
        int fd;

        if (ret->n == NET_RIGHTS_MAX)
            return -EINVAL;
        memcpy(&fd, data + at, sizeof(fd));
        fd = dup(ctx, fd);
        if (fd < 0)
            return fd;
        ret->fd[ret->n++] = fd;
        memcpy(data + at, &fd, sizeof(fd));
    }
    return 0;
}

static int translate_one(struct cmsghdr *c, unsigned char *data, size_t size, int domain,
                         net_dup dup, void *ctx, struct net_rights *ret)
{
    if (domain != AF_UNIX)
        return inet_allowed(c->cmsg_level, c->cmsg_type) ? 0 : -EPERM;
    if (c->cmsg_level != SOL_SOCKET)
        return 0; /* the kernel ignores it */
    if (c->cmsg_type == SCM_RIGHTS)
        return translate_rights(data, size, dup, ctx, ret);
    if (c->cmsg_type == SCM_CREDENTIALS) {
        struct ucred u;

        /* The kernel lets a process name itself only: the one that sends is us (README.md). */
        if (size != sizeof(u))
            return -EINVAL;
        memcpy(&u, data, sizeof(u));
        u.pid = getpid();
        memcpy(data, &u, sizeof(u));
        return 0;
    }
    return -EINVAL;
}

int net_control_translate(void *control, size_t len, int domain, net_dup dup, void *ctx,
                          struct net_rights *ret)
{
    size_t at = 0;

    ret->n = 0;
    while (len - at >= sizeof(struct cmsghdr)) {
        struct cmsghdr c;
        size_t size;
        int e;

        memcpy(&c, (char *)control + at, sizeof(c));
        size = c.cmsg_len;
        if (size < sizeof(c) || size > len - at)
            return -EINVAL;
        e = translate_one(&c, (unsigned char *)control + at + CMSG_ALIGN(sizeof(c)),
                          size - sizeof(c), domain, dup, ctx, ret);
        if (e < 0)
            return e;
        if (CMSG_ALIGN(size) >= len - at)
            return 0;
        at += CMSG_ALIGN(size);
    }
    return 0;
}

void net_rights_close(struct net_rights *r)
{
    for (unsigned i = 0; i < r->n; i++)
        util_close(r->fd[i]);
    r->n = 0;
}
