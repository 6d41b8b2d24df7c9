/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building the command's tree from the policy, and the questions asked of it. Building: caller's
 * thread, before the child exists; asking: any thread, the table does not change. Input: our own
 * user's paths, but the tree they lead into may be hostile (FG-09): no link leads out of it.
 */
#include "plan/root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fs/cow/layer.h"
#include "fs/resolve.h"

static void mount_fini(struct root_mount *m)
{
    free(m->place);
    free(m->name);
    util_close(m->parent_fd);
    util_close(m->fd);
}

void root_free(struct root *r)
{
    if (!r)
        return;
    if (r->layer && !r->layer_lent) {
        (void)cow_abort(r->layer, NULL);
        cow_free(r->layer);
    }
    for (size_t i = 0; i < r->n; i++)
        mount_fini(&r->v[i]);
    free(r->v);
    free(r->workdir);
    free(r->workdir_seen[0]);
    free(r->workdir_seen[1]);
    util_close(r->workdir_fd);
    util_close(r->fd);
    free(r);
}

/* ---- questions ---- */

const struct root_mount *root_mount_on(const struct root *r, const struct sys_ident *dir,
                                       const char *name)
{
    for (size_t i = 0; i < r->n; i++) {
        if (sys_ident_same(&r->v[i].parent, dir) && strcmp(r->v[i].name, name) == 0)
            return &r->v[i];
    }
    return NULL;
}

bool root_has_name(const struct root *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->v[i].name, name) == 0)
            return true;
    }
    return false;
}

const struct root_mount *root_mount_top(const struct root *r, const struct sys_ident *id)
{
    for (size_t i = 0; i < r->n; i++) {
        if (sys_ident_same(&r->v[i].id, id))
            return &r->v[i];
    }
    return NULL;
}

bool root_is_hidden(const struct root *r, const struct sys_ident *id)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->v[i].hides && sys_ident_same(&r->v[i].hidden, id))
            return true;
    }
    return false;
}

/* ---- the user's own paths ---- */

/* The rest of path below the mount's place, or NULL when it does not lie there. */
static const char *mount_rest(const struct root_mount *m, const char *path)
{
    size_t n = strlen(m->place);

    if (strncmp(path, m->place, n) != 0 || (path[n] != '/' && path[n] != '\0'))
        return NULL;
    return path + n + strspn(path + n, "/");
}

/* Relative to the longest mount that the path names. Links inside a mount may not leave it: where
 * that would be is not known here. */
static int root_open_inside(const struct root *r, const char *path, int flags)
{
    uint64_t how = (uint64_t)(O_PATH | O_CLOEXEC | flags), resolve = RESOLVE_IN_ROOT;
    const char *rest = path;
    size_t best = 0;
    int base_fd = r->fd;

    for (size_t i = 0; i < r->n; i++) {
        const char *below = mount_rest(&r->v[i], path);

        if (below && strlen(r->v[i].place) > best) {
            best = strlen(r->v[i].place);
            rest = below;
            base_fd = r->v[i].fd;
            resolve = RESOLVE_BENEATH;
        }
    }
    if (!*rest) {
        int fd = fcntl(base_fd, F_DUPFD_CLOEXEC, 0);

        return fd < 0 ? -errno : fd;
    }
    return sys_openat2(base_fd, rest, how, 0, resolve | RESOLVE_NO_MAGICLINKS);
}

int root_open(const struct root *r, const char *path, int flags)
{
    _cleanup_free_ char *copy = NULL;

    if (!r)
        return sys_open_path(AT_FDCWD, path, flags);
    copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    path_squeeze(copy);
    return root_open_inside(r, copy, flags);
}

/* ---- building ---- */

/* A directory that the kernel's walk may meet without harm: nothing in it can lead anywhere, or (procfs)
 * whatever is found in it is walked again by hand. */
static bool dir_is_harmless(int parent_fd, const char *name)
{
    int fd = sys_openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    bool empty = fd >= 0 && sys_fs_magic(fd) == PROC_SUPER_MAGIC;
    DIR *d;

    if (empty) {
        util_close(fd);
        return true;
    }
    empty = true;
    d = fd < 0 ? NULL : fdopendir(fd);

    if (!d) {
        util_close(fd);
        return false;
    }
    for (const struct dirent *e = readdir(d); e && empty; e = readdir(d))
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    closedir(d);
    return empty;
}

/* Takes m->fd and m->parent_fd over, in every case. */
static int root_add(struct root *r, struct root_mount *m, const char *place)
{
    struct root_mount *v = util_grow(r->v, r->n, &r->room, sizeof(*v));
    int e = 0;

    if (v)
        r->v = v;
    m->place = strdup(place);
    m->name = strdup(strrchr(place, '/') + 1);
    if (!v || !m->place || !m->name)
        e = -ENOMEM;
    if (e == 0)
        e = sys_identify(m->fd, &m->id);
    if (e == 0)
        e = sys_identify(m->parent_fd, &m->parent);
    if (e < 0) {
        mount_fini(m);
        return e;
    }
    m->hides = sys_identify_at(m->parent_fd, m->name, &m->hidden) == 0;
    if (m->hides && (S_ISLNK(m->hidden.mode) ||
                     (S_ISDIR(m->hidden.mode) && !dir_is_harmless(m->parent_fd, m->name))))
        r->plain = false;
    r->any_read_only |= m->read_only;
    r->v[r->n++] = *m;
    return 0;
}

/* An empty directory that nobody else can reach: it has no name any more. */
static int made_directory(void)
{
    const char *tmp = getenv("TMPDIR");
    char path[PATH_MAX];
    int fd;

    if ((size_t)snprintf(path, sizeof(path), "%s/sandlock-dir.XXXXXX",
                         tmp && *tmp == '/' ? tmp : "/tmp") >= sizeof(path))
        return -ENAMETOOLONG;
    if (!mkdtemp(path))
        return -errno;
    if (chmod(path, 0555) < 0) {
        fd = -errno;
        rmdir(path);
        return fd;
    }
    fd = sys_open_path(AT_FDCWD, path, O_DIRECTORY | O_NOFOLLOW);
    rmdir(path);
    return fd;
}

/* The directory in which a mount's name is; directories above it that do not exist are made up. */
static int root_place_parent(struct root *r, const char *place)
{
    struct root_mount m = {.fd = -1, .parent_fd = -1, .made = true, .read_only = true};
    _cleanup_free_ char *dir = strdup(place);
    char *slash;
    int fd, e;

    if (!dir)
        return -ENOMEM;
    slash = strrchr(dir, '/');
    slash[slash == dir] = '\0';
    fd = root_open_inside(r, dir, O_DIRECTORY);
    if (fd != -ENOENT)
        return fd;
    m.parent_fd = root_place_parent(r, dir);
    if (m.parent_fd < 0)
        return m.parent_fd;
    m.fd = made_directory();
    if (m.fd < 0) {
        e = m.fd;
        util_close(m.parent_fd);
        return e;
    }
    e = root_add(r, &m, dir);
    return e < 0 ? e : root_open_inside(r, dir, O_DIRECTORY);
}

static int root_mount(struct root *r, const char *place, const char *source, bool read_only,
                      bool proc, struct error *err)
{
    struct root_mount m = {.fd = -1, .parent_fd = -1, .read_only = read_only, .proc = proc};
    int e;

    m.fd = sys_open_path(AT_FDCWD, source, 0);
    if (m.fd < 0)
        return error_set(err, ERROR_POLICY, m.fd, "--fs-mount", "%s: %s", source, error_text(m.fd));
    m.parent_fd = root_place_parent(r, place);
    if (m.parent_fd < 0) {
        e = m.parent_fd;
        util_close(m.fd);
        return error_set(err, ERROR_POLICY, e, "--fs-mount", "%s cannot be a place for a mount: %s",
                         place, error_text(e));
    }
    e = root_add(r, &m, place);
    return e < 0 ? error_set(err, ERROR_SETUP, e, "--fs-mount", "%s: %s", place, error_text(e)) : 0;
}

/* Only the procfs at the host's /proc is known (fs/procfs.h), and programs find their descriptors in
 * /proc: so it is mounted there, unless the root is the host's. It stays closed for reading without a
 * grant, as everything is. */
static int root_mount_proc(struct root *r, const struct policy *p, struct error *err)
{
    _cleanup_close_ int host_fd = sys_open_path(AT_FDCWD, "/proc", O_DIRECTORY), fd = -1;
    struct sys_ident host, there;

    for (size_t i = 0; i < p->fs_mount.n; i++) {
        if (strcmp(p->fs_mount.v[i].place, "/proc") == 0)
            return 0;
    }
    if (host_fd < 0 || sys_fs_magic(host_fd) != PROC_SUPER_MAGIC)
        return 0; /* the host has none */
    fd = root_open_inside(r, "/proc", 0);
    if (fd >= 0 && sys_identify(fd, &there) == 0 && sys_identify(host_fd, &host) == 0 &&
        sys_ident_same(&there, &host) && there.mnt == host.mnt)
        return 0;
    return root_mount(r, "/proc", "/proc", false, true, err);
}

/* What is open tells its place, not the way to it: a directory cannot be writable by one name and
 * read-only by another. */
static int root_check_modes(const struct root *r, struct error *err)
{
    for (size_t i = 0; i < r->n; i++) {
        for (size_t k = 0; k < i; k++) {
            const struct root_mount *a = &r->v[i], *b = &r->v[k];

            if (!sys_ident_same(&a->id, &b->id) || a->read_only == b->read_only || a->proc ||
                b->proc)
                continue;
            return error_set(err, ERROR_POLICY, -EINVAL, "--fs-mount",
                             "%s and %s show the same object of the host, one of them read-only: "
                             "make it both or none",
                             b->place, a->place);
        }
    }
    return 0;
}

static int compare_depth(const void *a, const void *b)
{
    const struct fs_mount *const *x = a, *const *y = b;

    return strcmp((*x)->place, (*y)->place); /* "/a" comes before "/a/b" */
}

static int root_mount_all(struct root *r, const struct policy *p, struct error *err)
{
    _cleanup_free_ const struct fs_mount **order = calloc(p->fs_mount.n + 1, sizeof(*order));
    int e = 0;

    if (!order)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--fs-mount", "out of memory");
    for (size_t i = 0; i < p->fs_mount.n; i++)
        order[i] = &p->fs_mount.v[i];
    qsort(order, p->fs_mount.n, sizeof(*order), compare_depth);
    for (size_t i = 0; e == 0 && i < p->fs_mount.n; i++)
        e = root_mount(r, order[i]->place, order[i]->source, order[i]->read_only, false, err);
    return e;
}

int root_new(const struct policy *p, struct root **ret, struct error *err)
{
    struct root *r;
    int e;

    *ret = NULL;
    if (!policy_has_view(p))
        return 0;
    r = calloc(1, sizeof(*r));
    if (!r)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--chroot", "out of memory");
    r->plain = true;
    r->workdir_fd = -1;
    r->fd = sys_open_path(AT_FDCWD, p->chroot ? p->chroot : "/", O_DIRECTORY);
    e = r->fd < 0 ? r->fd : sys_identify(r->fd, &r->id);
    if (e < 0)
        error_set(err, ERROR_POLICY, e, "--chroot", "%s: %s", p->chroot ? p->chroot : "/",
                  error_text(e));
    if (e == 0) {
        uint64_t magic = sys_fs_magic(r->fd);

        r->ordinary = magic != 0 && magic != PROC_SUPER_MAGIC && magic != SYSFS_MAGIC;
    }
    if (e == 0 && p->chroot)
        e = root_mount_proc(r, p, err);
    if (e == 0)
        e = root_mount_all(r, p, err);
    if (e == 0)
        e = root_check_modes(r, err);
    if (e == 0 && p->workdir)
        e = root_workdir(r, p, err);
    if (e < 0) {
        root_free(r);
        return e;
    }
    *ret = r;
    return 0;
}
