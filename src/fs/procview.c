/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "proc-view" (PV-01, PV-02, PV-03, PV-05): active when the policy grants a path that
 * contains /proc or lies in it. Receiver threads. Everything is decided on the object that a path led
 * to and on its place as the kernel spells it.
 */
#include "fs/procview.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "fs/behalf.h"
#include "fs/fs.h"
#include "fs/grants.h"
#include "fs/procfs.h"
#include "policy/policy.h"

struct procview {
    struct grants *grants;
    bool can_list; /* the root of /proc may be listed: its listing can be filtered */
};

/* Below /proc, whatever the rights: the host's memory, log, symbols and keys (PV-03). */
static const char *const secret_proc[] = {
    "kcore", "kmsg", "kallsyms", "keys", "key-users", "sysrq-trigger",
};
static const char *const secret_sys[] = {
    "/sys/firmware",
    "/sys/kernel/security",
    "/sys/class/net",
};

static bool procview_beneath(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* ---- judging ---- */

/* Network interfaces live below /sys/devices/<where>/net; /sys/class/net only links there. */
static bool procview_sys_secret(int fd, const struct sys_ident *id)
{
    char path[PATH_MAX];
    const char *net;

    if (major(id->dev) != 0 || fd_location(fd, path, sizeof(path)) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(secret_sys); i++) {
        if (procview_beneath(path, secret_sys[i]))
            return true;
    }
    if (!procview_beneath(path, "/sys/devices"))
        return false;
    net = strstr(path, "/net");
    return net && (net[4] == '\0' || net[4] == '/');
}

/* Opened by us, the memory of every member would be open to every other, also where the system
 * (Yama) or the filter, which refuses ptrace, keeps them apart. */
static bool procview_is_memory(const char *leaf)
{
    const char *slash = strrchr(leaf, '/');

    return strcmp(slash ? slash + 1 : leaf, "mem") == 0;
}

static bool procview_is_own(const struct request *r, pid_t pid)
{
    pid_t tgid;

    return pid == r->tid || (request_status(r, &tgid, NULL) == 0 && pid == tgid);
}

static int procview_judge_proc(const struct request *r, const struct procview *v, int fd,
                               const struct sys_ident *id, int need)
{
    struct procfs_place place;
    int bits, e = procfs_place(fd, id, &place);

    if (e < 0)
        return e;
    if (place.pid && !supervisor_is_member(r->sup, place.pid))
        return -ENOENT;
    for (size_t i = 0; i < ARRAY_SIZE(secret_proc); i++) {
        if (strcmp(place.rest, secret_proc[i]) == 0)
            return -EACCES;
    }
    if (!need)
        return 0;
    if (place.pid && procview_is_memory(place.leaf) && !procview_is_own(r, place.pid))
        return -EACCES;
    if (!*place.rest && !v->can_list)
        return -EACCES;
    /* The receivers may read, some also write, all of /proc; the command what was granted. */
    bits = grants_of_object(v->grants, fd, -1, NULL);
    return bits > 0 && (bits & need) == need ? 0 : -EACCES;
}

int procview_judge(const struct request *r, const struct procview *v, int fd,
                   const struct sys_ident *id, bool on_proc, int need)
{
    if (on_proc)
        return procview_judge_proc(r, v, fd, id, need);
    return procview_sys_secret(fd, id) ? -EACCES : 0;
}

bool procview_can_list(const struct procview *v)
{
    return v->can_list;
}

/* ---- the feature ---- */

static bool procview_path_meets(const char *given)
{
    char path[PATH_MAX];
    struct statfs fs;

    if (!realpath(given, path))
        return procview_beneath(given, "/proc") || strcmp(given, "/") == 0;
    if (strcmp(path, "/") == 0 || procview_beneath(path, "/proc"))
        return true;
    return statfs(path, &fs) == 0 && (unsigned long)fs.f_type == PROC_SUPER_MAGIC;
}

/* In another root /proc is where it is expected, whatever the host's tree has at the path. */
static bool procview_grant_meets(const struct policy *p, const struct fs_grant *g)
{
    _cleanup_free_ char *path = p->chroot ? strdup(g->path) : NULL;

    if (!path)
        return procview_path_meets(g->path);
    path_squeeze(path);
    return procview_beneath(path, "/proc") || strcmp(path, "/") == 0 || strstr(path, "/..");
}

bool fs_grants_proc(const struct policy *p)
{
    for (size_t i = 0; i < p->fs_mount.n; i++) {
        if (procview_path_meets(p->fs_mount.v[i].source))
            return true;
    }
    for (size_t i = 0; i < p->fs_read.n; i++) {
        if (procview_grant_meets(p, &p->fs_read.v[i]))
            return true;
    }
    for (size_t i = 0; i < p->fs_write.n; i++) {
        if (procview_grant_meets(p, &p->fs_write.v[i]))
            return true;
    }
    return false;
}

static bool procview_grant_holds(const struct fs_grant *g, const char *file)
{
    char path[PATH_MAX];

    return realpath(g->path, path) && (strcmp(path, "/") == 0 || procview_beneath(file, path));
}

bool fs_grants_path(const struct policy *p, const char *file)
{
    for (size_t i = 0; i < p->fs_read.n; i++) {
        if (procview_grant_holds(&p->fs_read.v[i], file))
            return true;
    }
    for (size_t i = 0; i < p->fs_write.n; i++) {
        if (procview_grant_holds(&p->fs_write.v[i], file))
            return true;
    }
    return false;
}

static bool procview_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return fs_grants_proc(p);
}

static int procview_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct procview *v = calloc(1, sizeof(*v));
    int e;

    if (!v)
        return error_set(err, ERROR_SETUP, -ENOMEM, "virtual /proc", "out of memory");
    e = grants_new(supervisor_policy(s), &v->grants, err);
    if (e < 0) {
        free(v);
        return e;
    }
    v->can_list = kernel_can_getfd();
    *ret_state = v;
    return 0;
}

static void procview_stop(void *state)
{
    struct procview *v = state;

    if (!v)
        return;
    grants_free(v->grants);
    free(v);
}

static const struct feature_call procview_calls[] = {
    BEHALF_CALLS,
    {OP_GETDENTS, procview_getdents, NULL, 0},
};

const struct feature fs_procview_feature = {
    .name = "proc-view",
    .wanted = procview_wanted,
    .calls = procview_calls,
    .ncalls = ARRAY_SIZE(procview_calls),
    .closed = true,
    .behalf = true,
    .start = procview_start,
    .stop = procview_stop,
};
