/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket addresses from the child: bounded copy, classification, text, and the pure port rules.
 * Runs in receiver threads; the bytes are hostile, nothing here trusts a length or a terminator.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/keep.h"
#include "net/net.h"

/* struct sockaddr_in6 without the scope id, the kernel's minimum (RFC 2133). */
#define IN6_MIN_LEN 24
#define UN_PATH_OFFSET offsetof(struct sockaddr_un, sun_path)

int net_addr_read(const struct request *r, child_addr addr, uint64_t len, struct net_addr *ret)
{
    /* The kernel takes an int. */
    int n = (int)(uint32_t)len;

    memset(ret, 0, sizeof(*ret));
    if (n < 0 || (size_t)n > sizeof(ret->u.storage))
        return -EINVAL;
    ret->len = (socklen_t)n;
    return n ? request_read(r, addr, &ret->u, (size_t)n) : 0;
}

enum net_name net_addr_unix_name(const struct net_addr *a, char path[NET_PATH_MAX])
{
    size_t n;

    path[0] = '\0';
    if (a->len <= UN_PATH_OFFSET || a->len > sizeof(struct sockaddr_un) ||
        a->u.sa.sa_family != AF_UNIX)
        return NET_NAME_OTHER;
    if (!a->u.un.sun_path[0])
        return NET_NAME_ABSTRACT;
    n = strnlen(a->u.un.sun_path, a->len - UN_PATH_OFFSET);
    memcpy(path, a->u.un.sun_path, n);
    path[n] = '\0';
    return NET_NAME_PATH;
}

int net_addr_port(const struct net_addr *a)
{
    if (a->u.sa.sa_family == AF_INET && a->len >= sizeof(struct sockaddr_in))
        return ntohs(a->u.in.sin_port);
    if (a->u.sa.sa_family == AF_INET6 && a->len >= IN6_MIN_LEN)
        return ntohs(a->u.in6.sin6_port);
    return -1;
}

void net_addr_text(const struct net_addr *a, char out[NET_TEXT_MAX])
{
    char path[NET_PATH_MAX], ip[INET6_ADDRSTRLEN] = "?";

    switch (a->len >= sizeof(sa_family_t) ? a->u.sa.sa_family : AF_UNSPEC) {
    case AF_INET:
        inet_ntop(AF_INET, &a->u.in.sin_addr, ip, sizeof(ip));
        snprintf(out, NET_TEXT_MAX, "%s:%u", ip, ntohs(a->u.in.sin_port));
        return;
    case AF_INET6:
        inet_ntop(AF_INET6, &a->u.in6.sin6_addr, ip, sizeof(ip));
        snprintf(out, NET_TEXT_MAX, "[%s]:%u", ip, ntohs(a->u.in6.sin6_port));
        return;
    case AF_UNIX:
        if (net_addr_unix_name(a, path) == NET_NAME_ABSTRACT)
            snprintf(out, NET_TEXT_MAX, "@%.*s", (int)(a->len - UN_PATH_OFFSET - 1),
                     a->u.un.sun_path + 1);
        else
            snprintf(out, NET_TEXT_MAX, "%s", path);
        return;
    default: snprintf(out, NET_TEXT_MAX, "address family %u", (unsigned)a->u.sa.sa_family);
    }
}

int net_connect_check(const struct port_set *ports, int domain, const struct net_addr *a)
{
    int family = a->u.sa.sa_family, port;

    if (a->len < sizeof(sa_family_t))
        return -EINVAL;
    if (family == AF_UNSPEC) /* disconnects; the kernel wants a whole sockaddr_in all the same */
        return a->len >= sizeof(struct sockaddr_in) ? 0 : -EINVAL;
    /* A socket refuses every family but its own (EINVAL or EAFNOSUPPORT, as the kernel says), with
     * one exception that must not slip through: an AF_INET6 socket takes AF_INET on no kernel. */
    if (family != domain)
        return -EINVAL;
    port = net_addr_port(a);
    if (port < 0)
        return -EINVAL;
    return ports->any || port_set_has(ports, (uint16_t)port) ? 0 : -EACCES;
}

bool net_listen_allowed(const struct policy *p, int port)
{
    if (port > 0 && port_set_has(&p->net_deny_bind, (uint16_t)port))
        return false;
    if (net_bind_is_free(p))
        return true;
    return port > 0 && port_set_has(&p->net_bind, (uint16_t)port);
}

bool net_bind_is_free(const struct policy *p)
{
    return policy_bind_allowed(p, 0);
}

int net_sockopt(int fd, int level, int option)
{
    int value = 0;
    socklen_t len = sizeof(value);

    return getsockopt(fd, level, option, &value, &len) ? -errno : value;
}

int net_socket_dup(const struct request *r, int *ret_domain)
{
    int fd = request_fd(r, call_int(&r->call, 0)), domain;

    if (fd == -EPERM || fd == -ENOSYS)
        fd = net_kept_dup(r, call_int(&r->call, 0));
    if (fd < 0)
        return fd;
    domain = net_sockopt(fd, SOL_SOCKET, SO_DOMAIN);
    if (domain < 0) { /* -ENOTSOCK, or -EBADF for an O_PATH descriptor */
        util_close(fd);
        return domain;
    }
    *ret_domain = domain;
    return fd;
}
