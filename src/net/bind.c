/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind on behalf: under --fs-deny a socket's name may not appear below a denied directory, under
 * --net-deny-bind a port may not be taken (NB-02). Performed on the duplicate, with the copied address
 * and a path through the resolved parent. Runs in receiver threads inside the command's outer Landlock
 * domain, so that MAKE_SOCK and, without denied ports, the TCP bind rules are the kernel's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "fs/resolve.h"
#include "fs/staged.h"
#include "fs/view.h"
#include "net/rules.h"

/* The socket's node gets the umask of the thread that binds; threads on behalf own theirs. */
static int bind_with_umask(int fd, const struct net_addr *a, mode_t mask)
{
    mode_t old = umask(mask);
    int rc = bind(fd, &a->u.sa, a->len) ? -errno : 0;

    umask(old);
    return rc;
}

static struct verdict bind_path(struct request *r, int fd, const char *path)
{
    _cleanup_resolved_ struct resolved at = RESOLVED_INIT;
    struct net_addr a = {.u.un.sun_family = AF_UNIX};
    char parent[FD_PATH_MAX];
    mode_t mask;
    pid_t tgid;
    _cleanup_cow_pos_ struct cow_pos pos = COW_POS_INIT;
    int rc, staged;

    rc = resolve_path(r, AT_FDCWD, path, WALK_PARENT, &at);
    if (rc < 0)
        return verdict_errno(rc);
    if (at.fd >= 0)
        return verdict_errno(EADDRINUSE);
    if (at.parent_fd < 0 || !at.name[0] || at.trailing_slash)
        return verdict_errno(ENOENT);
    rc = request_status(r, &tgid, &mask);
    if (rc < 0 || !request_alive(r))
        return verdict_gone();
    if (fs_deny_covers(r, -1, at.parent_fd, at.name)) {
        request_explain(r, path, EACCES, "denied by --fs-deny", NULL);
        return verdict_errno(EACCES);
    }
    rc = view_writable(r, &at, path);
    if (rc < 0)
        return verdict_errno(rc);
    staged = staged_name(r, &at, &pos);
    rc = staged > 0 ? cow_writable_dir(staged_layer(r), &pos) : staged;
    if (rc < 0)
        return verdict_errno(rc);
    fd_path(staged ? pos.upper_fd : at.parent_fd, parent);
    rc = snprintf(a.u.un.sun_path, sizeof(a.u.un.sun_path), "%s/%s", parent, at.name);
    if (rc < 0 || (size_t)rc >= sizeof(a.u.un.sun_path))
        return verdict_errno(ENAMETOOLONG);
    a.len = sizeof(a.u.un);
    rc = bind_with_umask(fd, &a, mask);
    if (rc == 0 && staged)
        rc = cow_named(staged_layer(r), &pos, at.name);
    if (rc == -EACCES)
        request_explain(r, path, EACCES, "no write grant for the socket's directory", "-w");
    return verdict_result(rc);
}

static struct verdict bind_refuse(struct request *r, const struct net_addr *a, const char *rule)
{
    char text[NET_TEXT_MAX], hint[48];

    net_addr_text(a, text);
    snprintf(hint, sizeof(hint), "--net-allow-bind %d", net_addr_port(a));
    request_explain(r, text, EACCES, rule, hint);
    return verdict_errno(EACCES);
}

#define EPHEMERAL_FIRST 32768 /* the kernel's default range */
#define EPHEMERAL_COUNT 28232
#define EPHEMERAL_TRIES 128

/* "Any free port" where some are denied: what the kernel chose could not be given back. */
int net_bind_any_port(int fd, struct net_addr *a, const struct policy *p)
{
    in_port_t *port = a->u.sa.sa_family == AF_INET ? &a->u.in.sin_port : &a->u.in6.sin6_port;
    uint16_t random = 0;

    if (p->net_deny_bind.any)
        return -EACCES;
    for (int i = 0; i < EPHEMERAL_TRIES; i++) {
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
            return -EIO;
        random = (uint16_t)(EPHEMERAL_FIRST + random % EPHEMERAL_COUNT);
        *port = htons(random);
        if (port_set_has(&p->net_deny_bind, random))
            continue;
        if (!bind(fd, &a->u.sa, a->len))
            return 0;
        if (errno != EADDRINUSE)
            return -errno;
    }
    return -EADDRINUSE;
}

static struct verdict bind_inet(struct request *r, int fd, int domain, struct net_addr *a)
{
    const struct policy *p = supervisor_policy(r->sup);
    bool tcp = net_socket_proto(fd) == NET_TCP;
    int port, rc;

    /* An old form of INADDR_ANY (inet_bind). */
    if (domain == AF_INET && a->len >= sizeof(a->u.in) && a->u.sa.sa_family == AF_UNSPEC &&
        a->u.in.sin_addr.s_addr == htonl(INADDR_ANY))
        a->u.sa.sa_family = AF_INET;
    port = net_addr_port(a);
    if (port < 0)
        return verdict_errno(a->len < sizeof(a->u.in) ? EINVAL : EAFNOSUPPORT);
    if (port_set_has(&p->net_deny_bind, (uint16_t)port) && port)
        return bind_refuse(r, a, "denied by --net-deny-bind");
    /* The ports to be allowed are TCP's; sockets of other kinds exist where a rule lets them. */
    if (tcp && !policy_bind_allowed(p, (uint16_t)port))
        return bind_refuse(r, a, "TCP port not allowed for binding");
    if (p->port_remap)
        return verdict_result(net_remap_bind(r, fd, a));
    rc = port ? (bind(fd, &a->u.sa, a->len) ? -errno : 0) : net_bind_any_port(fd, a, p);
    return verdict_result(rc);
}

struct verdict net_bind(struct request *r)
{
    char path[NET_PATH_MAX];
    int domain = 0, rc;
    _cleanup_close_ int fd = net_socket_dup(r, &domain);
    struct net_addr a;

    if (fd < 0) {
        if (fd == -EACCES)
            request_explain(r, "socket", EACCES, "the socket cannot be duplicated for checking",
                            NULL);
        return verdict_errno(fd);
    }
    rc = net_addr_read(r, call_addr(&r->call, 1), r->call.args[2], &a);
    if (rc < 0)
        return verdict_errno(rc);
    if (!request_alive(r))
        return verdict_gone();
    if (domain == AF_UNIX && net_addr_unix_name(&a, path) == NET_NAME_PATH)
        return bind_path(r, fd, path);
    if (domain == AF_UNIX && a.len > sizeof(struct sockaddr_un))
        return verdict_errno(EINVAL);
    if ((domain == AF_INET || domain == AF_INET6) &&
        policy_bind_mediated(supervisor_policy(r->sup)))
        return bind_inet(r, fd, domain, &a);
    rc = bind(fd, &a.u.sa, a.len) ? -errno : 0;
    return rc == -EACCES ? bind_refuse(r, &a, "TCP port not allowed for binding")
                         : verdict_result(rc);
}

static bool rules_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return !p->no_supervisor && policy_bind_mediated(p);
}

static const struct feature_call rules_calls[] = {
    {OP_BIND, net_bind, NULL, 0},
};

const struct feature net_bind_rules_feature = {
    .name = "bind-rules",
    .wanted = rules_wanted,
    .calls = rules_calls,
    .ncalls = ARRAY_SIZE(rules_calls),
    .behalf = true,
};
