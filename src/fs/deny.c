/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "fs-deny" (FG-04): paths that stay closed inside a grant. Set up in the caller; the
 * handlers run in receivers, see behalf.h.
 */
#include "fs/deny.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/behalf.h"
#include "fs/fs.h"
#include "fs/resolve.h"
#include "plan/root.h"
#include "policy/policy.h"

static bool deny_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->fs_deny.n > 0;
}

/* ---- in a tree of the command's own ---- */

/* Where the path inside is on the host: the deepest directory above it that exists, as the kernel spells
 * it, and the rest. */
static int deny_locate(const struct root *root, const char *path, struct strv *ret)
{
    _cleanup_free_ char *dir = strdup(path);
    char place[PATH_MAX], *full;
    size_t end = strlen(path);
    int fd;
    ssize_t n;

    if (!dir)
        return -ENOMEM;
    do {
        while (end > 0 && dir[end - 1] != '/')
            end--;
        dir[end] = '\0';
        fd = root_open(root, end ? dir : "/", O_DIRECTORY);
    } while (fd == -ENOENT && end-- > 1);
    if (fd < 0)
        return fd;
    n = fd_location(fd, place, sizeof(place));
    util_close(fd);
    if (n < 0)
        return (int)n;
    return asprintf(&full, "%s/%s", place, path + end) < 0 ? -ENOMEM : strv_take(ret, full);
}

/* What a link there leads to, by the command's root: on the host it would be something else. */
static int deny_locate_target(const struct root *root, const char *path, struct strv *ret)
{
    _cleanup_close_ int fd = root_open(root, path, 0);
    char place[PATH_MAX];
    ssize_t n;

    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    n = fd_location(fd, place, sizeof(place));
    return n < 0 ? (int)n : strv_add(ret, place);
}

static int deny_translate(const struct root *root, const struct strv *paths, struct strv *ret,
                          struct error *err)
{
    int e = 0;

    for (size_t i = 0; e == 0 && i < paths->n; i++) {
        path_squeeze(paths->v[i]);
        e = strstr(paths->v[i], "/..") ? -EINVAL : deny_locate(root, paths->v[i], ret);
        if (e == 0)
            e = deny_locate_target(root, paths->v[i], ret);
        if (e < 0)
            error_set(err, ERROR_SETUP, e, "--fs-deny", "%s: %s", paths->v[i], error_text(e));
    }
    return e;
}

/* ---- the feature ---- */

static int deny_start(struct supervisor *s, void **ret_state, struct error *err)
{
    const struct root *root = supervisor_plan(s)->root;
    struct strv paths = {0};
    struct deny *d;
    int e;

    e = root ? deny_translate(root, &supervisor_policy(s)->fs_deny, &paths, err) : 0;
    if (e == 0)
        e = deny_new(root ? &paths : &supervisor_policy(s)->fs_deny, &d, err);
    strv_fini(&paths);
    if (e < 0)
        return e;
    deny_set_layer(d, root ? root->layer : NULL);
    *ret_state = d;
    return 0;
}

static void deny_stop(void *state)
{
    deny_free(state);
}

static const struct feature_call deny_calls[] = {BEHALF_CALLS};

const struct feature fs_deny_feature = {
    .name = "fs-deny",
    .wanted = deny_wanted,
    .calls = deny_calls,
    .ncalls = sizeof(deny_calls) / sizeof(deny_calls[0]),
    .closed = true,
    .behalf = true,
    .start = deny_start,
    .stop = deny_stop,
    .exec = fs_deny_exec,
};
