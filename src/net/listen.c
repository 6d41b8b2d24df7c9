/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NB-01: listen on a TCP socket that was never bound takes a port past Landlock's bind rule. The call
 * is made here on the duplicate, between two looks at the port. Runs in receiver threads; the child
 * may change the socket meanwhile, but not what the kernel tells about it.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>

#include "net/rules.h"

#define ABI_NET_TCP 4

bool net_bind_is_governed(const struct policy *p, const struct kernel *k)
{
    if (policy_bind_mediated(p))
        return true;
    return policy_bind_governed(p) && k->landlock_abi >= ABI_NET_TCP &&
           p->protection[PROT_NET_TCP] != PROTECTION_DISABLED;
}

static bool listen_wanted(const struct policy *p, const struct kernel *k)
{
    return !p->no_supervisor && net_bind_is_governed(p, k);
}

/* The port as the rules name it: the command's own under --port-remap. `a` is the real one. */
static int local_port(const struct request *r, int fd, struct net_addr *a)
{
    int port;

    a->len = sizeof(a->u);
    if (getsockname(fd, &a->u.sa, &a->len))
        return -errno;
    port = net_addr_port(a);
    return port > 0 ? net_remap_seen(r->sup, NET_TCP, (uint16_t)port) : port;
}

static struct verdict listen_refuse(struct request *r, const char *rule)
{
    request_explain(r, "socket", EACCES, rule, "--net-allow-bind PORT");
    return verdict_errno(EACCES);
}

/*
 * getsockname may still tell the port of an earlier connection although the socket is unbound again.
 * Binding to the port it tells settles that: EINVAL from a socket that holds its port, success for
 * one that now holds an allowed one; both keep listen from choosing.
 */
static int listen_pin(int fd, const struct net_addr *a)
{
    if (!bind(fd, &a->u.sa, a->len) || errno == EINVAL)
        return 0;
    return -errno;
}

static struct verdict listen_tcp(struct request *r, int fd, int backlog)
{
    const struct policy *p = supervisor_policy(r->sup);
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    struct net_addr a;
    int port, rc;

    /* Only these states can listen; the kernel says EINVAL to all others. */
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) ||
        (info.tcpi_state != TCP_CLOSE && info.tcpi_state != TCP_LISTEN))
        return verdict_errno(EINVAL);
    port = local_port(r, fd, &a);
    if (!net_listen_allowed(p, port))
        return listen_refuse(r, port > 0 ? "TCP port not allowed for binding"
                                         : "listen on a socket that was never bound");
    /* Where any port will do, the one that listen may choose is looked at below; naming it to bind
     * would ask Landlock for a rule that `0` is not. */
    if (port > 0 && info.tcpi_state == TCP_CLOSE && !net_bind_is_free(p)) {
        rc = listen_pin(fd, &a);
        if (rc < 0)
            return verdict_errno(rc);
    }
    if (listen(fd, backlog))
        return verdict_errno(errno);
    port = local_port(r, fd, &a);
    if (net_listen_allowed(p, port))
        return verdict_value(0);
    (void)shutdown(fd, SHUT_RDWR);
    return listen_refuse(r, "TCP port not allowed for binding");
}

static struct verdict listen_handle(struct request *r)
{
    int backlog = call_int(&r->call, 1), domain = 0;
    _cleanup_close_ int fd = net_socket_dup(r, &domain);

    if (fd == -EACCES)
        return listen_refuse(r, "the socket cannot be duplicated for checking");
    if (fd < 0)
        return verdict_errno(fd);
    if (!request_alive(r))
        return verdict_gone();
    if ((domain == AF_INET || domain == AF_INET6) &&
        net_sockopt(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP)
        return listen_tcp(r, fd, backlog);
    /* Inherited sockets of other protocols that choose ports by themselves stay silent. */
    if (domain == AF_INET || domain == AF_INET6)
        return listen_refuse(r, "protocol not allowed");
    return listen(fd, backlog) ? verdict_errno(errno) : verdict_value(0);
}

static const struct feature_call listen_calls[] = {
    {OP_LISTEN, listen_handle, NULL, 0},
};

const struct feature net_listen_feature = {
    .name = "listen",
    .wanted = listen_wanted,
    .calls = listen_calls,
    .ncalls = ARRAY_SIZE(listen_calls),
};
