/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name of a UNIX socket as a destination, of connect and of the sending calls: a path is resolved
 * once, judged by the object it leads to, and given to the kernel by descriptor (FG-05). Receiver and
 * worker threads; the name is a copy of the child's and hostile.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "fs/grants.h"
#include "fs/resolve.h"
#include "fs/staged.h"
#include "net/net.h"
#include "sys/uapi.h"

static int name_refuse(const struct request *r, const char *subject, const char *rule,
                       const char *hint)
{
    request_explain(r, subject, EACCES, rule, hint);
    return -EACCES;
}

static int settle_path(const struct request *r, const struct net_open *open, const char *path,
                       struct net_addr *a, int *ret_object_fd)
{
    _cleanup_resolved_ struct resolved at = RESOLVED_INIT;
    struct sockaddr_un *un = &a->u.un;
    int rc;

    rc = resolve_path(r, AT_FDCWD, path, WALK_FOLLOW | WALK_PARENT, &at);
    if (rc < 0)
        return rc;
    if (at.fd < 0)
        return -ENOENT;
    if (at.trailing_slash && !S_ISDIR(at.id.mode))
        return -ENOTDIR;
    if (!request_alive(r))
        return -ESRCH;
    if (fs_deny_covers(r, at.fd, at.parent_fd, at.name))
        return name_refuse(r, path, "denied by --fs-deny", NULL);
    /* A socket that the layer has, somebody of the sandbox bound there. */
    rc = staged_is_own(r, &at) ? GRANT_WRITE
                               : grants_of_object(open->grants, at.fd, at.parent_fd, at.name);
    if (rc < 0 || !(rc & GRANT_WRITE)) {
        char where[PATH_MAX]; /* a grant on the path as given would be one on a link */
        bool known = fd_location(at.fd, where, sizeof(where)) > 0;

        return name_refuse(r, known ? where : path, "unix socket outside the write grants", "-w");
    }
    memset(a, 0, sizeof(*a));
    un->sun_family = AF_UNIX;
    _Static_assert(sizeof(un->sun_path) >= FD_PATH_MAX, "descriptor path fits");
    fd_path(at.fd, un->sun_path);
    a->len = sizeof(*un);
    *ret_object_fd = steal_fd(&at.fd);
    return 0;
}

int net_unix_settle(const struct request *r, struct net_addr *a, int *ret_object_fd)
{
    const struct net_open *open = supervisor_state(r->sup, &net_unix_open_feature);
    const struct plan *plan = supervisor_plan(r->sup);
    char path[NET_PATH_MAX], text[NET_TEXT_MAX];

    /* None can be made under this policy (unix.c): an inherited or received one. */
    if (!open)
        return name_refuse(r, "unix socket", "unix socket without a write grant", "-w");
    switch (net_addr_unix_name(a, path)) {
    case NET_NAME_PATH: return settle_path(r, open, path, a, ret_object_fd);
    case NET_NAME_ABSTRACT:
        /* The scope is the kernel's check on the calling thread's domain: outside of the domain we
         * would reach what the command may not. */
        if (!(plan->scoped & LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET) || plan->behalf)
            return 0;
        net_addr_text(a, text);
        request_explain(r, text, EPERM, "abstract socket, cannot be checked here", NULL);
        return -EPERM;
    case NET_NAME_OTHER:
    default:
        /* Longer than the structure never names anything, but must not reach past our zeroes. */
        return a->len > sizeof(struct sockaddr_un) ? -EINVAL : 0;
    }
}

void net_unix_explain_scope(const struct request *r, const struct net_addr *a)
{
    char path[NET_PATH_MAX], text[NET_TEXT_MAX];

    if (net_addr_unix_name(a, path) != NET_NAME_ABSTRACT)
        return;
    net_addr_text(a, text);
    request_explain(r, text, EPERM, "abstract socket of a process outside the sandbox",
                    "--disable abstract-unix-socket-scope");
}
