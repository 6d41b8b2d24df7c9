/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socketpair(AF_UNIX, SOCK_DGRAM) answered with a SOCK_SEQPACKET pair: the same message boundaries,
 * but the kernel ignores a destination name on it, so that neither end reaches anybody else. Runs in
 * receiver threads; only registers and one result address come from the child.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "net/net.h"

/* A datagram end can name any destination in sendto and sendmsg, which the filter cannot read. The
 * kernel turns SOCK_RAW into SOCK_DGRAM for this family. */
const struct filter_clause net_pair_clauses[NET_PAIR_CLAUSES] = {
    {.test = {NET_UNIX_SOCKET, NET_TYPE_IS(SOCK_DGRAM)},
     .ntests = 2,
     .ret = SECCOMP_RET_USER_NOTIF},
    {.test = {NET_UNIX_SOCKET, NET_TYPE_IS(SOCK_RAW)}, .ntests = 2, .ret = SECCOMP_RET_USER_NOTIF},
};

struct verdict net_socketpair(struct request *r)
{
    int type = call_int(&r->call, 1), protocol = call_int(&r->call, 2), sv[2], number[2] = {-1, -1};
    int flags = type & ~0xf, kind = type & 0xf;
    child_addr out = call_addr(&r->call, 3);
    uint32_t cloexec = flags & SOCK_CLOEXEC ? O_CLOEXEC : 0;
    int rc, i;

    if (call_int(&r->call, 0) != AF_UNIX || (kind != SOCK_DGRAM && kind != SOCK_RAW))
        return verdict_pass();
    if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
        return verdict_errno(EINVAL);
    if (protocol && protocol != PF_UNIX)
        return verdict_errno(EPROTONOSUPPORT);
    /* As the kernel: find out whether the numbers can be delivered before making any. */
    rc = request_write(r, out, number, sizeof(number));
    if (rc < 0)
        return verdict_errno(rc);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | (flags & SOCK_NONBLOCK), 0, sv))
        return verdict_errno(errno);
    for (i = 0, rc = 0; i < 2 && rc >= 0; i++)
        rc = number[i] = request_addfd(r, sv[i], cloexec);
    util_close(sv[0]);
    util_close(sv[1]);
    /* A failure past this point can only be the caller's death or its own munmap: a number that was
     * installed and not reported stays its own. */
    if (rc < 0)
        return verdict_errno(rc);
    return verdict_result(request_write(r, out, number, sizeof(number)));
}
