/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FG-05 on kernels whose Landlock does not check UNIX socket paths (ABI < 9), and fs-deny for sockets
 * everywhere: which of the three modes holds, and the feature tables. Pure but for start and refuse.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fs/grants.h"
#include "net/net.h"
#include "net/rules.h"
#include "net/watch.h"

#define ABI_RESOLVE_UNIX 9

/* Where connect is performed on behalf anyway, it is for these sockets too. */
bool net_unix_is_native(const struct policy *p, const struct kernel *k)
{
    return k->landlock_abi >= ABI_RESOLVE_UNIX && !p->fs_deny.n && !policy_net_mediated(p) &&
           !policy_has_view(p);
}

/* A file or a device that is granted for writing holds no socket: `-w /dev/null` costs nothing. */
static bool can_hold_sockets(const struct policy *p)
{
    struct stat st;

    for (size_t i = 0; i < p->fs_write.n; i++) {
        if (stat(p->fs_write.v[i].path, &st) || S_ISDIR(st.st_mode) || S_ISSOCK(st.st_mode))
            return true;
    }
    return policy_has_view(p) && policy_has_write(p);
}

enum net_unix_mode net_unix_mode(const struct policy *p, const struct kernel *k)
{
    if (net_unix_is_native(p, k))
        return NET_UNIX_NATIVE;
    if (!can_hold_sockets(p) || p->no_supervisor)
        return NET_UNIX_CLOSED;
    return NET_UNIX_OPEN;
}

/* Is a socket granted, itself or by a link, and not only what it lies in? */
static bool grants_a_socket(const struct policy *p)
{
    char path[PATH_MAX];
    struct stat st;

    for (size_t i = 0; i < p->fs_write.n; i++) {
        int n =
            snprintf(path, sizeof(path), "%s%s", p->chroot ? p->chroot : "", p->fs_write.v[i].path);

        if (n < (int)sizeof(path) && stat(path, &st) == 0 && S_ISSOCK(st.st_mode))
            return true;
    }
    return false;
}

/*
 * Every message of a datagram socket may name a destination, which sendmsg keeps in memory, and a pair or
 * a stream cannot be told from one beforehand: all their messages would be notified as well. Only who
 * grants a socket by its name pays for that (/dev/log, $NOTIFY_SOCKET).
 */
bool net_unix_datagrams(const struct policy *p, const struct kernel *k)
{
    return net_unix_mode(p, k) == NET_UNIX_OPEN && k->pidfd_getfd && grants_a_socket(p);
}

static bool closed_wanted(const struct policy *p, const struct kernel *k)
{
    return net_unix_mode(p, k) == NET_UNIX_CLOSED;
}

static bool open_wanted(const struct policy *p, const struct kernel *k)
{
    return net_unix_mode(p, k) == NET_UNIX_OPEN;
}

static bool streams_wanted(const struct policy *p, const struct kernel *k)
{
    return net_unix_mode(p, k) == NET_UNIX_OPEN &&
           !(k->pidfd_getfd && net_sends_feature.wanted(p, k));
}

/* Under fs-deny a bind could create a name below a denied directory, which Landlock permits; under
 * --chroot its path means another place. */
static bool bind_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return (p->fs_deny.n || policy_has_view(p)) && !p->no_supervisor;
}

/* The filter refuses by itself; with --explain the dispatcher does, before any handler. */
static struct verdict unix_refuse(struct request *r)
{
    return call_int(&r->call, 0) == AF_UNIX ? verdict_errno(EACCES) : verdict_pass();
}

static struct verdict datagram_refuse(struct request *r)
{
    int kind = call_int(&r->call, 1) & 0xf;

    if (call_int(&r->call, 0) != AF_UNIX || (kind != SOCK_DGRAM && kind != SOCK_RAW))
        return verdict_pass();
    return verdict_errno(EACCES);
}

#define REFUSE (SECCOMP_RET_ERRNO | EACCES)

static const struct filter_clause closed_clauses[] = {
    {.test = {NET_UNIX_SOCKET}, .ntests = 1, .ret = REFUSE},
};

static const struct feature_call closed_calls[] = {
    {OP_SOCKET, unix_refuse, closed_clauses, ARRAY_SIZE(closed_clauses)},
    {OP_SOCKETPAIR, net_socketpair, net_pair_clauses, NET_PAIR_CLAUSES},
};
static const struct filter_clause streams_clauses[] = {
    {.test = {NET_UNIX_SOCKET, NET_TYPE_IS(SOCK_DGRAM)}, .ntests = 2, .ret = REFUSE},
    {.test = {NET_UNIX_SOCKET, NET_TYPE_IS(SOCK_RAW)}, .ntests = 2, .ret = REFUSE},
};
static const struct feature_call streams_calls[] = {
    {OP_SOCKET, datagram_refuse, streams_clauses, ARRAY_SIZE(streams_clauses)},
    {OP_SOCKETPAIR, net_socketpair, net_pair_clauses, NET_PAIR_CLAUSES},
};
static const struct feature_call open_calls[] = {
    {OP_CONNECT, net_connect, NULL, 0},
};
static const struct feature_call bind_calls[] = {
    {OP_BIND, net_bind, NULL, 0},
};

static void open_stop(void *state)
{
    struct net_open *o = state;

    if (!o)
        return;
    net_watch_free(o->watch);
    grants_free(o->grants);
    free(o);
}

static int open_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct net_open *o = calloc(1, sizeof(*o));
    int r = 0;

    if (o)
        o->watch = net_watch_new();
    if (!o || !o->watch)
        r = error_set(err, ERROR_SETUP, -ENOMEM, "unix", "%s", error_text(ENOMEM));
    if (r == 0)
        r = grants_new(supervisor_policy(s), &o->grants, err);
    if (r < 0) {
        open_stop(o);
        return r;
    }
    *ret_state = o;
    return 0;
}

const struct feature net_unix_closed_feature = {
    .name = "unix-closed",
    .wanted = closed_wanted,
    .calls = closed_calls,
    .ncalls = ARRAY_SIZE(closed_calls),
};

/* Streams alone. */
const struct feature net_unix_streams_feature = {
    .name = "unix-streams",
    .wanted = streams_wanted,
    .calls = streams_calls,
    .ncalls = ARRAY_SIZE(streams_calls),
};

/* behalf: connections are made by threads inside the command's Landlock domain, so that the kernel
 * applies the TCP port rules and the abstract-socket scope to them as to the command itself. */
const struct feature net_unix_open_feature = {
    .name = "unix",
    .wanted = open_wanted,
    .calls = open_calls,
    .ncalls = ARRAY_SIZE(open_calls),
    .behalf = true,
    .start = open_start,
    .stop = open_stop,
};

const struct feature net_unix_bind_feature = {
    .name = "unix-bind",
    .wanted = bind_wanted,
    .calls = bind_calls,
    .ncalls = ARRAY_SIZE(bind_calls),
    .behalf = true,
};
