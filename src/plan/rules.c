/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refused forms of calls that are otherwise allowed, as rows. The kernel truncates commands, flags,
 * levels and families to 32 bits, so these rows compare 32 bits. Pure data.
 */
#include "plan/rules.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/util.h"
#include "sys/uapi.h"

/* Every namespace flag that clone() reads from its flag word. CLONE_NEWTIME is not among them:
 * there the low eight bits are the exit signal; unshare and clone3 know it, and are refused. */
#define NAMESPACE_FLAGS                                                                           \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
     CLONE_NEWNET)

#define OPT_TCP_FASTOPEN_CONNECT 30
#define OPT_TCP_ULP 31
#define OPT_IPV6_2292RTHDR 5
#define OPT_IPV6_2292PKTOPTIONS 6
#define OPT_IPV6_FLOWLABEL_MGR 32
#define FLOWLABEL_REQUEST_SIZE 32 /* struct in6_flowlabel_req; options may follow */
#define FASTOPEN_FLAG 0x20000000u

/* ioctl commands as (type, number); size and direction vary with the word size of the caller. */
#define IOCTL_LOW(type, nr) RULE_MASKED(1, 0xffffu, (uint32_t)(type) << 8 | (nr))
#define IOCTL_TYPE(type) RULE_MASKED(1, 0xff00u, (uint32_t)(type) << 8)
#define IOCTL_NOT_NR(nr) RULE_NOT_MASKED(1, 0xffu, (nr))

#define PRIO_WHICH_USER 2
#define IOPRIO_WHICH_USER 3

/* The shape of a row: ROW(call, errno, tests...). */
#define COUNT(...) (sizeof((struct arg_test[]){__VA_ARGS__}) / sizeof(struct arg_test))
#define ROW(call, e, ...)                                                             \
    {                                                                                 \
        CALL_##call,                                                                  \
        {                                                                             \
            .test = {__VA_ARGS__}, .ntests = COUNT(__VA_ARGS__), .ret = RULE_ERRNO(e) \
        }                                                                             \
    }
#define ROW_ALL(call, e)                      \
    {                                         \
        CALL_##call,                          \
        {                                     \
            .ntests = 0, .ret = RULE_ERRNO(e) \
        }                                     \
    }

/* clang-format off */
static const struct deny_rule always[] = {
    /* Terminal: pushing input, the console's selection and redirection, line disciplines. */
    ROW(ioctl, EPERM, RULE_EQ(1, TIOCSTI)),
    ROW(ioctl, EPERM, RULE_EQ(1, TIOCLINUX)),
    ROW(ioctl, EPERM, RULE_EQ(1, TIOCSETD)),
    ROW(ioctl, EPERM, RULE_EQ(1, TIOCCONS)),
    /* Encryption policies and verity, through a descriptor opened for reading (FG-03). */
    ROW(ioctl, EPERM, IOCTL_LOW('f', 19)),
    ROW(ioctl, EPERM, IOCTL_LOW('f', 133)),
    /* Attributes of FAT and exFAT, "read-only" among them, likewise. */
    ROW(ioctl, EPERM, IOCTL_LOW('r', 17)),
    /* btrfs makes and removes subvolumes on a directory opened for reading, past Landlock's hooks.
     * Its type is shared by the clone and dedupe calls that every file system has; those stay. */
    ROW(ioctl, EPERM, IOCTL_TYPE(0x94), IOCTL_NOT_NR(9), IOCTL_NOT_NR(13), IOCTL_NOT_NR(54)),

    /* Families: UNIX, IPv4, IPv6; netlink is decided behind the features (see `last`). */
    ROW(socket, EAFNOSUPPORT, RULE_NE(0, AF_UNIX), RULE_NE(0, AF_NETLINK),
        RULE_NOT_MASKED(0, INET_MASK, AF_INET)),
    /* Of the internet's streams only TCP (NR-04: MPTCP, SCTP); other types: deny_datagrams(). */
    ROW(socket, EACCES, RULE_MASKED(0, INET_MASK, AF_INET),
        RULE_MASKED(1, SOCKET_TYPE_MASK, SOCK_STREAM), RULE_NE(2, 0), RULE_NE(2, IPPROTO_TCP)),
    ROW(socketpair, EAFNOSUPPORT, RULE_NE(0, AF_UNIX)),
    /* Fast open connects inside a send, past Landlock's connect hook (NR-05). */
    ROW(sendto, EOPNOTSUPP, RULE_ANY(3, FASTOPEN_FLAG)),
    ROW(sendmsg, EOPNOTSUPP, RULE_ANY(2, FASTOPEN_FLAG)),
    ROW(sendmmsg, EOPNOTSUPP, RULE_ANY(3, FASTOPEN_FLAG)),
    ROW(setsockopt, EOPNOTSUPP, RULE_EQ(1, IPPROTO_TCP), RULE_EQ(2, OPT_TCP_FASTOPEN_CONNECT)),
    /* Upper layer protocols (espintcp, smc, tls) are loadable kernel code nobody here needs. */
    ROW(setsockopt, ENOPROTOOPT, RULE_EQ(1, IPPROTO_TCP), RULE_EQ(2, OPT_TCP_ULP)),
};

/* Where destinations are looked at: options that send a packet somewhere else first, or announce the
 * machine to a group. */
static const struct deny_rule routed[] = {
    ROW(setsockopt, EPERM, RULE_EQ(1, IPPROTO_IP), RULE_EQ(2, IP_OPTIONS)),
    ROW(setsockopt, EPERM, RULE_EQ(1, IPPROTO_IP), RULE_EQ(2, IP_ADD_MEMBERSHIP)),
    ROW(setsockopt, EPERM, RULE_EQ(1, IPPROTO_IP), RULE_EQ(2, IP_ADD_SOURCE_MEMBERSHIP)),
    ROW(setsockopt, EPERM, RULE_EQ(2, MCAST_JOIN_GROUP), RULE_NE(1, SOL_SOCKET),
        RULE_NE(1, IPPROTO_TCP)),
    ROW(setsockopt, EPERM, RULE_EQ(2, MCAST_JOIN_SOURCE_GROUP), RULE_NE(1, SOL_SOCKET),
        RULE_NE(1, IPPROTO_TCP)),
    ROW(setsockopt, EPERM, RULE_EQ(1, IPPROTO_IPV6), RULE_EQ(2, IPV6_JOIN_GROUP)),
    ROW(setsockopt, EPERM, RULE_EQ(1, IPPROTO_IPV6), RULE_EQ(2, IPV6_JOIN_ANYCAST)),
    ROW(setsockopt, EPERM, RULE_EQ(1, IPPROTO_IPV6), RULE_EQ(2, IPV6_RTHDR)),
    ROW(setsockopt, EPERM, RULE_EQ(1, IPPROTO_IPV6), RULE_EQ(2, OPT_IPV6_2292PKTOPTIONS)),
    ROW(setsockopt, EPERM, RULE_EQ(1, IPPROTO_IPV6), RULE_EQ(2, OPT_IPV6_2292RTHDR)),
    /* A flow label brings a routing header to every datagram that names it. */
    ROW(setsockopt, EPERM, RULE_EQ(1, IPPROTO_IPV6), RULE_EQ(2, OPT_IPV6_FLOWLABEL_MGR),
        RULE_NE(4, FLOWLABEL_REQUEST_SIZE)),
};

static const struct deny_rule supervised[] = {
    ROW(clone, EPERM, RULE_ANY(0, NAMESPACE_FLAGS)),
    /* Its flags lie in memory, where a filter cannot read them; libc falls back to clone. */
    ROW_ALL(clone3, ENOSYS),
    ROW(personality, EPERM, RULE_NE(0, 0xffffffffu)),
    /* 1 is what every process has: asking for it again changes nothing. */
    ROW(prctl, EPERM, RULE_EQ(0, PR_SET_DUMPABLE), RULE_WIDE_NE(1, 1)),
    ROW(prctl, EPERM, RULE_EQ(0, PR_SET_PTRACER)),
    ROW(prctl, EPERM, RULE_EQ(0, PR_SET_SECUREBITS)),
    ROW(prctl, EPERM, RULE_EQ(0, PR_SET_MM)),
    /* Other processes of the same user: Landlock has no hook for limits and priorities. */
    ROW(prlimit64, EPERM, RULE_NE(0, 0), RULE_WIDE_NE(2, 0)),
    ROW(setpriority, EPERM, RULE_EQ(0, PRIO_WHICH_USER)),
    ROW(ioprio_set, EPERM, RULE_EQ(0, IOPRIO_WHICH_USER)),
    /* The host's mounts and namespaces. */
    ROW_ALL(statmount, EPERM),
    ROW_ALL(listmount, EPERM),
    ROW_ALL(listns, EPERM),
};

/* Behind the features' clauses: what they do not take is refused. */
static const struct deny_rule supervised_last[] = {
    /* Socket commands 0x8908 to 0x89ff: interfaces, routes, ARP, bridges, private ones. What lies
     * below belongs to the socket itself (owner, urgent mark, time stamps). The answer is the one
     * for an interface that does not exist. */
    ROW(ioctl, ENODEV, RULE_MASKED(1, 0xffffff00u, 0x8900), RULE_ANY(1, 0xf8)),
};
static const struct deny_rule last[] = {
    ROW(socket, EAFNOSUPPORT, RULE_EQ(0, AF_NETLINK)),
    /* File attributes through a descriptor opened for reading (FG-03): flags, generation, extended
     * attributes, in every size. */
    ROW(ioctl, EPERM, IOCTL_LOW('f', 2)),
    ROW(ioctl, EPERM, IOCTL_LOW('f', 4)),
    ROW(ioctl, EPERM, IOCTL_LOW('v', 2)),
    ROW(ioctl, EPERM, IOCTL_LOW('X', 32)),
};
/* clang-format on */

const struct deny_rules rules_last = {last, ARRAY_SIZE(last)};
const struct deny_rules rules_always = {always, ARRAY_SIZE(always)};
const struct deny_rules rules_routed = {routed, ARRAY_SIZE(routed)};
const struct deny_rules rules_supervised = {supervised, ARRAY_SIZE(supervised)};
const struct deny_rules rules_supervised_last = {supervised_last, ARRAY_SIZE(supervised_last)};

const uint16_t rules_meta_ops[] = {
    OP_CHMOD,     OP_FCHMOD,     OP_CHOWN,        OP_FCHOWN,        OP_TIMES,
    OP_XATTR_SET, OP_FXATTR_SET, OP_XATTR_REMOVE, OP_FXATTR_REMOVE, OP_FILEATTR_SET,
};
const size_t rules_meta_op_count = ARRAY_SIZE(rules_meta_ops);
