/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard streams that are sockets (NP-07): one that could send where no rule allows is not handed
 * to the command. Caller's thread, before the command exists; asks about our own descriptors.
 */
#include <errno.h>
#include <sys/stat.h>

#include "net/rules.h"

/* What is wrong with this socket under this policy; NULL: nothing. */
static const char *inherited_problem(const struct policy *p, int fd)
{
    int domain = net_sockopt(fd, SOL_SOCKET, SO_DOMAIN);
    unsigned proto;

    if (domain == AF_UNIX)
        return NULL;
    if (domain != AF_INET && domain != AF_INET6)
        return "is a socket of a family that cannot be confined";
    proto = net_socket_proto(fd);
    /* TCP: an established connection is a gift, connect and listen are governed. */
    if (proto == NET_TCP || (policy_net_protos(p) & proto))
        return NULL;
    return "is a socket that could send to anybody: no rule allows its protocol";
}

int net_check_stream(const struct policy *p, int fd, struct error *err)
{
    static const char *const names[] = {"standard input", "standard output", "standard error"};
    struct stat st;
    const char *problem;

    if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
        return 0;
    problem = inherited_problem(p, fd);
    return problem ? error_set(err, ERROR_POLICY, -EACCES, names[fd], "%s", problem) : 0;
}
