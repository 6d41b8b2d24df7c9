/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind under --fs-deny: a socket's name may not appear below a denied directory. Performed on the
 * duplicate with a path through the resolved parent. Runs in receiver threads inside the command's
 * Landlock domain, so that MAKE_SOCK and the TCP bind rules are the kernel's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "fs/resolve.h"
#include "fs/view.h"
#include "net/net.h"

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
    int rc;

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
    fd_path(at.parent_fd, parent);
    rc = snprintf(a.u.un.sun_path, sizeof(a.u.un.sun_path), "%s/%s", parent, at.name);
    if (rc < 0 || (size_t)rc >= sizeof(a.u.un.sun_path))
        return verdict_errno(ENAMETOOLONG);
    a.len = sizeof(a.u.un);
    rc = bind_with_umask(fd, &a, mask);
    if (rc == -EACCES)
        request_explain(r, path, EACCES, "no write grant for the socket's directory", "-w");
    return verdict_result(rc);
}

struct verdict net_bind(struct request *r)
{
    char path[NET_PATH_MAX], text[NET_TEXT_MAX], hint[48];
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
    rc = bind(fd, &a.u.sa, a.len) ? -errno : 0;
    if (rc == -EACCES) {
        net_addr_text(&a, text);
        snprintf(hint, sizeof(hint), "--net-allow-bind %d", net_addr_port(&a));
        request_explain(r, text, EACCES, "TCP port not allowed for binding", hint);
    }
    return verdict_result(rc);
}
