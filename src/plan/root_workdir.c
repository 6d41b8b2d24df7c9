/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the work directory lies in the command's tree, and what no grant may give there. Caller's thread,
 * before the child exists; only root_passes_beside() is asked later. Input: our own user's paths.
 *
 * The layer knows its objects by identity, so there may be one way to them: the work directory is a
 * directory of the root, or what a mount shows, and no other mount shows a part of it or contains it.
 */
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fs/cow/layer.h"
#include "fs/place.h"
#include "fs/resolve.h"
#include "plan/root.h"

#define WORKDIR "--workdir"

/* Does the first place lie in the second, or is it the same? */
static bool place_in(const char *place, const char *dir)
{
    size_t n = strcmp(dir, "/") == 0 ? 0 : strlen(dir);

    return strncmp(place, dir, n) == 0 && (place[n] == '/' || place[n] == '\0');
}

/* ---- where it lies ---- */

struct workdir_ascent {
    const struct root *root;
    const struct root_mount *mount;
};

static int workdir_ascend(int dir_fd, const struct sys_ident *id, void *arg)
{
    struct workdir_ascent *a = arg;

    (void)dir_fd;
    a->mount = root_mount_top(a->root, id);
    return a->mount || sys_ident_same(&a->root->id, id);
}

static int workdir_refuse(struct error *err, const struct root_mount *m, const char *why)
{
    return error_set(err, ERROR_POLICY, -EINVAL, "--fs-mount", "%s %s", m->place, why);
}

static int workdir_check_mount(const struct root *r, const struct root_mount *m, struct error *err)
{
    char source[PATH_MAX];
    ssize_t n;

    if (m->made || m == r->layer_mount)
        return 0;
    n = fd_location(m->fd, source, sizeof(source));
    if (n < 0)
        return workdir_refuse(err, m, error_text((int)n));
    if (place_in(source, r->workdir))
        return workdir_refuse(err, m,
                              "shows a part of the work directory, which is staged at one place "
                              "only (accepted: this mount as the work directory)");
    if (place_in(r->workdir, source))
        return workdir_refuse(err, m,
                              "contains the work directory, which is staged at one place only");
    return 0;
}

/* The names of it in the tree: below the root, and below a mount. */
static int workdir_names(struct root *r)
{
    const struct root_mount *m = r->layer_mount;
    char top[PATH_MAX];
    ssize_t n = fd_location(r->fd, top, sizeof(top));
    const char *rest;

    if (n < 0)
        return (int)n;
    if (place_in(r->workdir, top)) {
        rest = r->workdir + (n == 1 ? 0 : n);
        r->workdir_seen[0] = strdup(*rest ? rest : "/");
        if (!r->workdir_seen[0])
            return -ENOMEM;
    }
    if (!m)
        return 0;
    n = fd_location(m->fd, top, sizeof(top));
    if (n < 0)
        return (int)n;
    if (asprintf(&r->workdir_seen[1], "%s%s", m->place, r->workdir + (n == 1 ? 0 : n)) >= 0)
        return 0;
    r->workdir_seen[1] = NULL;
    return -ENOMEM;
}

static int workdir_find(struct root *r, const struct policy *p)
{
    struct workdir_ascent a = {.root = r};
    char place[PATH_MAX];
    ssize_t n;
    int e;

    r->workdir_fd = root_open(r, p->workdir, O_DIRECTORY);
    if (r->workdir_fd < 0) {
        e = r->workdir_fd;
        r->workdir_fd = -1;
        return e;
    }
    n = fd_location(r->workdir_fd, place, sizeof(place));
    if (n < 0)
        return (int)n;
    r->workdir = strdup(place);
    if (!r->workdir)
        return -ENOMEM;
    e = place_ascend(r->workdir_fd, workdir_ascend, &a);
    r->layer_mount = a.mount;
    return e < 0 ? e : workdir_names(r);
}

/* The kernel's own file systems: what is written there acts at once, and their files have no content to
 * stage. */
static bool workdir_is_kernels(int fd)
{
    static const uint64_t magics[] = {
        PROC_SUPER_MAGIC,        SYSFS_MAGIC,    CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
        DEBUGFS_MAGIC,           TRACEFS_MAGIC,  SECURITYFS_MAGIC,   BPF_FS_MAGIC,
        DEVPTS_SUPER_MAGIC,      EFIVARFS_MAGIC, SELINUX_MAGIC,      0x62656570 /* configfs */,
        0x19800202 /* mqueue */,
    };
    uint64_t magic = sys_fs_magic(fd);

    for (size_t i = 0; i < sizeof(magics) / sizeof(*magics); i++) {
        if (magic == magics[i])
            return true;
    }
    return false;
}

int root_workdir(struct root *r, const struct policy *p, struct error *err)
{
    const struct root_mount *m;
    int e = workdir_find(r, p);

    if (e < 0)
        return error_set(err, ERROR_POLICY, e, WORKDIR, "%s: %s", p->workdir, error_text(e));
    m = r->layer_mount;
    if ((m && m->made) || workdir_is_kernels(r->workdir_fd))
        return error_set(err, ERROR_POLICY, -EINVAL, WORKDIR, "%s: there is no directory to change",
                         p->workdir);
    for (size_t i = 0; e == 0 && i < r->n; i++)
        e = workdir_check_mount(r, &r->v[i], err);
    r->layer_shared = p->chroot_shared && !m;
    if (e == 0 && r->layer_shared && (p->on_exit == STAGE_COMMIT || p->on_error == STAGE_COMMIT))
        return error_set(err, ERROR_POLICY, -EINVAL,
                         p->on_exit == STAGE_COMMIT ? "--on-exit" : "--on-error",
                         "an image is shared between runs and never written to (accepted: abort, "
                         "keep)");
    return e;
}

int root_stage(struct root *r, const struct policy *p, struct error *err)
{
    struct cow_config config = {.storage = p->fs_storage,
                                .command = p->name,
                                .max_bytes = p->max_disk,
                                .never_commit = r->layer_shared,
                                .backup = p->commit_backup,
                                .in_place = p->commit_in_place,
                                .keep_orphan = !p->dry_run && p->on_error == STAGE_KEEP};

    return cow_create(r->workdir_fd, &config, &r->layer, err);
}

int root_stage_on(struct root *r, const struct policy *p, struct cow_layer *layer,
                  struct error *err)
{
    struct sys_ident id;
    int e = sys_identify(r->workdir_fd, &id);

    if (e == 0 && !cow_is_top(layer, &id))
        e = -ESTALE;
    if (e < 0)
        return error_set(err, ERROR_SETUP, e, WORKDIR, "%s is another directory now", p->workdir);
    r->layer = layer;
    r->layer_lent = true;
    return 0;
}

/* ---- questions ---- */

bool root_passes_beside(const struct root *r, const char *path)
{
    if (*path != '/' || strstr(path, "//") || strstr(path, "/."))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(r->workdir_seen); i++) {
        if (r->workdir_seen[i] && place_in(path, r->workdir_seen[i]))
            return false;
    }
    return true;
}

/* Not staged, though its place is below the work directory: another file system, and what is behind a
 * node, which is no file of anybody's. (Not another mount of the same one: there Landlock's rule would
 * be one about lower's own directories.) */
static bool grant_is_beside(const struct root *r, int fd)
{
    struct sys_ident id, lower;

    if (sys_identify(fd, &id) < 0 || sys_identify(r->workdir_fd, &lower) < 0)
        return false;
    return !(S_ISREG(id.mode) || S_ISDIR(id.mode)) || id.dev != lower.dev;
}

int root_carve(const struct root *r, struct root_grant *g, struct error *err)
{
    char place[PATH_MAX];
    ssize_t n;

    if (!r || !r->workdir || !g->write)
        return 0;
    n = fd_location(g->fd, place, sizeof(place));
    if (n < 0)
        return error_set(err, ERROR_POLICY, (int)n, g->flag, "%s: %s", g->path, error_text((int)n));
    if (place_in(place, r->workdir)) {
        g->write = grant_is_beside(r, g->fd);
        return 0;
    }
    if (place_in(r->workdir, place) || (r->layer && place_in(cow_storage_path(r->layer), place)))
        return error_set(err, ERROR_POLICY, -EINVAL, g->flag,
                         "%s contains the work directory or the storage of its changes: name the "
                         "directories beside them",
                         g->path);
    return 0;
}
