/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --explain for what Landlock refuses: the calls are notified, looked at and continued. Last in the
 * dispatch order, active with the option alone. Receiver threads; paths and addresses are hostile,
 * and a wrong guess about them costs a wrong line, never a right.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/grants.h"
#include "fs/resolve.h"
#include "net/net.h"
#include "supervisor/explain.h"
#include "sys/uapi.h"

#define READ_ANY (GRANT_READ | GRANT_WRITE)

/*
 * Nothing here allows or refuses: Landlock checks whatever the kernel then does. But while a closed
 * feature is active its handlers are the only ones that may let a call through, so that one nobody
 * took is refused as without --explain.
 */
static struct verdict observed(const struct request *r)
{
    const struct plan *p = supervisor_plan(r->sup);

    for (size_t i = 0; i < p->nfeatures; i++)
        if (p->features[i]->closed)
            return verdict_pass();
    return verdict_continue("observation only: Landlock checks again what the kernel does, and no "
                            "mediating feature handles this call");
}

static const struct grants *grants_of(const struct request *r)
{
    return supervisor_state(r->sup, &explain_feature);
}

/* The object's grants if it has a place in the file system, else all: pipes and memfds are free. */
static int object_grants(const struct request *r, const struct resolved *at, char *where,
                         size_t size)
{
    ssize_t n = fd_location(at->fd, where, size);
    struct stat st;
    int g;

    if (n <= 0 || (size_t)n >= size || where[0] != '/' || fstat(at->fd, &st))
        return READ_ANY;
    g = S_ISDIR(st.st_mode) ? grants_of_dir(grants_of(r), at->fd)
                            : grants_of_object(grants_of(r), at->fd, at->parent_fd, at->name);
    return g < 0 ? 0 : g;
}

static void report_read(const struct request *r, const char *where, int grants)
{
    if (!(grants & READ_ANY))
        request_explain(r, where, EACCES, "no grant", "-r");
}

/* Names are changed under a write grant on the directory. */
static void report_name(const struct request *r, const struct resolved *at)
{
    char dir[PATH_MAX], path[PATH_MAX + NAME_MAX + 2], hint[PATH_MAX + 8];
    int g;

    if (at->parent_fd < 0 || fd_location(at->parent_fd, dir, sizeof(dir)) <= 0 || dir[0] != '/')
        return;
    g = grants_of_dir(grants_of(r), at->parent_fd);
    if (g > 0 && (g & GRANT_WRITE))
        return;
    snprintf(path, sizeof(path), "%s/%s", strcmp(dir, "/") ? dir : "", at->name);
    snprintf(hint, sizeof(hint), "-w %s", dir);
    request_explain(r, path, EACCES, g > 0 ? "read-only grant" : "no grant", hint);
}

/* Flags of either form; false when they cannot be read. */
static bool open_flags(const struct request *r, uint64_t *ret)
{
    if (r->call.form != CALL_openat2) {
        *ret = call_u32(&r->call, 2);
        return true;
    }
    return request_read(r, call_addr(&r->call, 2), ret, sizeof(*ret)) == 0;
}

static struct verdict explain_open(struct request *r)
{
    _cleanup_resolved_ struct resolved at = RESOLVED_INIT;
    char path[PATH_MAX], where[PATH_MAX];
    uint64_t flags;
    bool writes;
    int g;

    if (!open_flags(r, &flags) || (flags & O_PATH) ||
        resolve_child_path(r, call_int(&r->call, 0), call_addr(&r->call, 1),
                           WALK_PARENT | (flags & O_NOFOLLOW ? 0 : WALK_FOLLOW), path, &at) < 0)
        return observed(r);
    if (at.fd < 0) {
        if (flags & O_CREAT)
            report_name(r, &at);
        return observed(r);
    }
    writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
    g = object_grants(r, &at, where, sizeof(where));
    if (writes && !(g & GRANT_WRITE))
        request_explain(r, where, EACCES, g & GRANT_READ ? "read-only grant" : "no grant", "-w");
    else
        report_read(r, where, g);
    return observed(r);
}

static struct verdict explain_exec(struct request *r)
{
    _cleanup_resolved_ struct resolved at = RESOLVED_INIT;
    char path[PATH_MAX], where[PATH_MAX];

    if (resolve_child_path(r, call_int(&r->call, 0), call_addr(&r->call, 1),
                           WALK_FOLLOW | WALK_PARENT, path, &at) == 0 &&
        at.fd >= 0)
        report_read(r, where, object_grants(r, &at, where, sizeof(where)));
    return observed(r);
}

static struct verdict explain_name(struct request *r, unsigned dirfd, unsigned path_arg)
{
    _cleanup_resolved_ struct resolved at = RESOLVED_INIT;
    char path[PATH_MAX];

    if (resolve_child_path(r, call_int(&r->call, dirfd), call_addr(&r->call, path_arg), WALK_PARENT,
                           path, &at) == 0)
        report_name(r, &at);
    return observed(r);
}

/* unlinkat, mkdirat, mknodat */
static struct verdict explain_first_name(struct request *r)
{
    return explain_name(r, 0, 1);
}

/* symlinkat(target, dirfd, path) */
static struct verdict explain_symlink(struct request *r)
{
    return explain_name(r, 1, 2);
}

/* linkat and renameat2 name two; the first is left to the kernel's answer about both. */
static struct verdict explain_two_names(struct request *r)
{
    if (r->call.op == OP_RENAME)
        (void)explain_name(r, 0, 1);
    return explain_name(r, 2, 3);
}

static struct verdict explain_truncate(struct request *r)
{
    _cleanup_resolved_ struct resolved at = RESOLVED_INIT;
    char path[PATH_MAX], where[PATH_MAX];
    int g;

    if (resolve_child_path(r, AT_FDCWD, call_addr(&r->call, 0), WALK_FOLLOW | WALK_PARENT, path,
                           &at) == 0 &&
        at.fd >= 0) {
        g = object_grants(r, &at, where, sizeof(where));
        if (!(g & GRANT_WRITE))
            request_explain(r, where, EACCES, g & GRANT_READ ? "read-only grant" : "no grant",
                            "-w");
    }
    return observed(r);
}

/* bind and connect share everything but the set of ports. */
static struct verdict explain_port(struct request *r, const struct port_set *ports, uint64_t right,
                                   const char *option, const char *rule)
{
    char text[NET_TEXT_MAX], hint[64];
    struct net_addr a;
    int port;

    if (!(supervisor_plan(r->sup)->handled_net & right) ||
        net_addr_read(r, call_addr(&r->call, 1), r->call.args[2], &a) < 0)
        return observed(r);
    port = net_addr_port(&a);
    if (port >= 0 && !ports->any && !port_set_has(ports, (uint16_t)port)) {
        net_addr_text(&a, text);
        snprintf(hint, sizeof(hint), "%s%d", option, port);
        request_explain(r, text, EACCES, rule, hint);
    }
    return observed(r);
}

/* Where Landlock checks the paths of UNIX sockets itself (ABI 9). */
static void report_unix(const struct request *r, const char *path)
{
    _cleanup_resolved_ struct resolved at = RESOLVED_INIT;
    char where[PATH_MAX];

    if (resolve_path(r, AT_FDCWD, path, WALK_FOLLOW | WALK_PARENT, &at) == 0 && at.fd >= 0 &&
        !(object_grants(r, &at, where, sizeof(where)) & GRANT_WRITE))
        request_explain(r, where, EACCES, "unix socket outside the write grants", "-w");
}

static struct verdict explain_connect(struct request *r)
{
    char path[NET_PATH_MAX];
    struct net_addr a;

    if (net_addr_read(r, call_addr(&r->call, 1), r->call.args[2], &a) == 0 &&
        net_addr_unix_name(&a, path) == NET_NAME_PATH)
        report_unix(r, path);
    return explain_port(r, &supervisor_policy(r->sup)->net_connect, LANDLOCK_ACCESS_NET_CONNECT_TCP,
                        "--net-allow :", "TCP port not allowed");
}

static struct verdict explain_bind(struct request *r)
{
    return explain_port(r, &supervisor_policy(r->sup)->net_bind, LANDLOCK_ACCESS_NET_BIND_TCP,
                        "--net-allow-bind ", "TCP port not allowed for binding");
}

static const struct feature_call explain_calls[] = {
    {OP_OPEN, explain_open, NULL, 0},         {OP_EXEC, explain_exec, NULL, 0},
    {OP_UNLINK, explain_first_name, NULL, 0}, {OP_MKDIR, explain_first_name, NULL, 0},
    {OP_MKNOD, explain_first_name, NULL, 0},  {OP_SYMLINK, explain_symlink, NULL, 0},
    {OP_LINK, explain_two_names, NULL, 0},    {OP_RENAME, explain_two_names, NULL, 0},
    {OP_TRUNCATE, explain_truncate, NULL, 0}, {OP_CONNECT, explain_connect, NULL, 0},
    {OP_BIND, explain_bind, NULL, 0},
};

static bool explain_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->explain && !p->no_supervisor;
}

static int explain_feature_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct grants *g = NULL;
    int r = grants_new(supervisor_policy(s), &g, err);

    if (r == 0)
        *ret_state = g;
    return r;
}

static void explain_feature_stop(void *state)
{
    grants_free(state);
}

const struct feature explain_feature = {
    .name = "explain",
    .wanted = explain_wanted,
    .calls = explain_calls,
    .ncalls = ARRAY_SIZE(explain_calls),
    .start = explain_feature_start,
    .stop = explain_feature_stop,
};
