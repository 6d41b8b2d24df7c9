/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why the filter refuses a call by itself, told from the registers alone: for --explain. Pure; runs
 * in receivers. The values are the child's, and only numbers.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "supervisor/explain.h"

struct number_name {
    int number;
    const char *name;
};

static const struct number_name families[] = {
    {AF_UNIX, "AF_UNIX"},     {AF_INET, "AF_INET"},
    {AF_INET6, "AF_INET6"},   {AF_NETLINK, "AF_NETLINK"},
    {AF_PACKET, "AF_PACKET"}, {AF_ALG, "AF_ALG"},
    {AF_VSOCK, "AF_VSOCK"},   {AF_BLUETOOTH, "AF_BLUETOOTH"},
    {AF_CAN, "AF_CAN"},       {AF_NFC, "AF_NFC"},
    {AF_X25, "AF_X25"},       {AF_TIPC, "AF_TIPC"},
};
static const struct number_name types[] = {
    {SOCK_STREAM, "SOCK_STREAM"},
    {SOCK_DGRAM, "SOCK_DGRAM"},
    {SOCK_RAW, "SOCK_RAW"},
    {SOCK_SEQPACKET, "SOCK_SEQPACKET"},
};

static const char *name_of(const struct number_name *v, size_t n, int number, char buf[16])
{
    for (size_t i = 0; i < n; i++)
        if (v[i].number == number)
            return v[i].name;
    snprintf(buf, 16, "%d", number);
    return buf;
}

static void refusal_socket(const struct policy *p, const struct call *c,
                           struct explain_refusal *ret)
{
    int family = call_int(c, 0), type = call_int(c, 1) & 0xf, protocol = call_int(c, 2);
    char a[16], b[16];

    snprintf(ret->subject, sizeof(ret->subject), "%s %s %d",
             name_of(families, ARRAY_SIZE(families), family, a),
             name_of(types, ARRAY_SIZE(types), type, b), protocol);
    if (family == AF_INET || family == AF_INET6) {
        ret->rule = type == SOCK_STREAM ? "only plain TCP is allowed"
                                        : "UDP, ICMP and raw sockets are not allowed";
        if (type == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP))
            ret->hint = "--net-allow udp://HOST:PORT";
        else if (type == SOCK_DGRAM && (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6))
            ret->hint = "--net-allow icmp://HOST";
    } else if (family == AF_UNIX && !p->fs_write.n) {
        ret->rule = "the policy has no write grant";
        ret->hint = "-w DIRECTORY-OF-THE-SOCKET";
    } else if (family == AF_UNIX && type != SOCK_STREAM && type != SOCK_SEQPACKET) {
        ret->rule = "datagrams need a socket that is granted by its own name";
        ret->hint = "-w SOCKET";
    } else if (family == AF_UNIX) {
        ret->rule =
            "no directory or socket is granted for writing, or nobody can look at sockets here";
    } else {
        ret->rule = "address family not allowed";
    }
}

static bool is_metadata(const struct call *c)
{
    return c->info->classes & CLASS_META;
}

static bool group_has(const char *group, const struct call *c)
{
    const struct syscall_group *g = syscall_group_by_name(group);

    for (const uint16_t *id = g ? g->ids : NULL; id && *id != CALL_ID_COUNT; id++)
        if (*id == c->info->id)
            return true;
    return false;
}

void explain_refusal(const struct policy *p, const struct call *c, struct explain_refusal *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (call_set_has(&p->extra_deny, c->info->id)) {
        ret->rule = "--extra-deny-syscall";
        ret->hint = "remove it from --extra-deny-syscall";
        return;
    }
    if (c->op == OP_SOCKET || c->op == OP_SOCKETPAIR) {
        refusal_socket(p, c, ret);
        return;
    }
    if (is_metadata(c)) {
        ret->rule = "the policy has no write grant";
        ret->hint = c->info->classes & CLASS_PATH ? "-w" : "-w PATH";
        return;
    }
    if (group_has("sysv_ipc", c)) {
        ret->rule = "System V IPC is refused by default";
        ret->hint = "--extra-allow-syscall sysv_ipc";
        return;
    }
    ret->rule = group_has("default", c) ? "refused in every sandbox" : "argument not allowed";
    if (c->op == OP_LISTEN)
        ret->hint = "--net-allow-bind PORT";
}
