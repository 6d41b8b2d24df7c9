/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places in the command's own tree. Receiver threads. An object's mount is found by walking up from
 * its directory until a mount's top or the root is met: by identity, whatever path led there.
 */
#include "fs/view.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/place.h"
#include "fs/staged.h"
#include "plan/root.h"

#define VIEW_TRIES 4 /* others move things */

static const struct root *view_root(const struct request *r)
{
    return supervisor_plan(r->sup)->root;
}

/* ---- which mount ---- */

struct view_ascent {
    const struct root *root;
    const struct root_mount *mount; /* NULL: the root itself */
};

static int view_ascend(int dir_fd, const struct sys_ident *id, void *arg)
{
    struct view_ascent *a = arg;

    (void)dir_fd;
    if (sys_ident_same(&a->root->id, id))
        return 1;
    a->mount = root_mount_top(a->root, id);
    return a->mount ? 1 : 0;
}

/* Does anything lead to the object but descriptors? */
static bool view_has_place(const struct resolved *o)
{
    char place[PATH_MAX];

    return o->id.nlink != 0 && (fd_location(o->fd, place, sizeof(place)) < 0 || place[0] == '/');
}

/* The directory that holds it. -ENOENT: none. -ESTALE: not found, though it has a place; others may be
 * moving it, or it is too deep for a path, or we are out of descriptors. */
static int view_parent(const struct resolved *o)
{
    int fd;

    for (unsigned i = 0; i < VIEW_TRIES; i++) {
        fd = place_parent(o->fd, &o->id);
        if (fd >= 0)
            return fd;
    }
    return view_has_place(o) ? -ESTALE : -ENOENT;
}

/* Of the layer: the two sides of a name have no mounts of their own. */
static bool view_is_staged(const struct root *root, const struct resolved *o)
{
    int fd = o->fd >= 0 ? o->fd : o->parent_fd;

    return root->layer && fd >= 0 && cow_holds(root->layer, fd);
}

/* The mount of an object. 0, -ENOENT when it lies outside the tree or has no place, or -errno: it could
 * not be found out. */
static int view_mount(const struct root *root, const struct resolved *o,
                      const struct root_mount **ret)
{
    struct view_ascent a = {.root = root};
    _cleanup_close_ int found_fd = -1;
    int e, dir_fd = o->parent_fd;

    if (o->fd >= 0) {
        *ret = root_mount_top(root, &o->id);
        if (*ret)
            return 0;
    }
    if (view_is_staged(root, o)) {
        *ret = root->layer_mount;
        return 0;
    }
    if (o->fd >= 0) {
        if (S_ISDIR(o->id.mode))
            dir_fd = o->fd;
        else if (dir_fd < 0)
            dir_fd = found_fd = view_parent(o);
    }
    if (dir_fd < 0) {
        e = o->fd < 0 ? -ENOENT : dir_fd;
        found_fd = -1;
        return e;
    }
    e = place_ascend(dir_fd, view_ascend, &a);
    if (e == -EACCES && dir_fd == o->fd && o->fd >= 0) { /* ".." needs the right to search */
        found_fd = view_parent(o);
        e = found_fd < 0 ? found_fd : place_ascend(found_fd, view_ascend, &a);
        found_fd = found_fd < 0 ? -1 : found_fd;
    }
    *ret = a.mount;
    return e < 0 ? e : e > 0 ? 0 : -ENOENT;
}

bool view_is_read_only(const struct request *r, const struct resolved *o)
{
    const struct root *root = view_root(r);
    const struct root_mount *m;

    int e;

    if (!root || !root->any_read_only || view_is_staged(root, o))
        return false; /* a mount is not changed by what the layer stages */
    /* What lies outside or has no place is no mount's. What cannot be found out is not changed: the
     * command can make its own supervisor run out of descriptors, and a path longer than any. */
    e = view_mount(root, o, &m);
    return e == 0 ? m && m->read_only : e != -ENOENT;
}

int view_writable(const struct request *r, const struct resolved *o, const char *path)
{
    if (!view_is_read_only(r, o))
        return 0;
    request_explain(r, path, EROFS, "read-only mount", "drop :ro from --fs-mount");
    return -EROFS;
}

/* The mount on which the name is: a mounted object lies on another. */
static int view_name_mount(const struct root *root, const struct resolved *o,
                           const struct root_mount **ret)
{
    struct resolved dir = *o;

    if (o->parent_fd >= 0)
        dir.fd = -1;
    return view_mount(root, &dir, ret);
}

/* The same for a temporary file, which never had a name: by what the kernel says of the directory it was made
 * in. A wrong answer allows no more than the grants do: whose directory is read-only, in it none is made. */
static int view_nameless_mount(const struct root *root, const struct resolved *o,
                               const struct root_mount **ret)
{
    _cleanup_close_ int dir_fd = -1;
    struct view_ascent a = {.root = root};
    char place[PATH_MAX], *slash;
    ssize_t n = fd_location(o->fd, place, sizeof(place));

    slash = n > 0 && place[0] == '/' ? strrchr(place, '/') : NULL;
    if (!slash)
        return -ENOENT;
    slash[slash == place] = '\0';
    dir_fd = sys_open_path(AT_FDCWD, place, O_DIRECTORY);
    if (dir_fd < 0)
        return dir_fd;
    if (place_ascend(dir_fd, view_ascend, &a) <= 0)
        return -ENOENT;
    *ret = a.mount;
    return 0;
}

int view_same_mount(const struct request *r, const struct resolved *a, const struct resolved *b,
                    bool object)
{
    const struct root *root = view_root(r);
    const struct root_mount *of_a, *of_b;
    int e;

    if (!root || root->n == 0)
        return 0;
    e = object && (a->mounted || a->dots[0]) ? view_mount(root, a, &of_a)
                                             : view_name_mount(root, a, &of_a);
    if (e < 0 && object && a->fd >= 0 && a->id.nlink == 0)
        e = view_nameless_mount(root, a, &of_a);
    if (e < 0 || view_name_mount(root, b, &of_b) < 0)
        return -EXDEV;
    return of_a == of_b ? 0 : -EXDEV;
}

static int view_is_it(int dir_fd, const struct sys_ident *id, void *arg)
{
    (void)dir_fd;
    return sys_ident_same(id, arg);
}

/* Mounts are known by lower's directories. */
static int view_lower_ident(const struct root *root, int dir_fd, struct sys_ident *id)
{
    _cleanup_cow_pos_ struct cow_pos p = COW_POS_INIT;
    int e = root->layer ? cow_pos_of_fd(root->layer, dir_fd, &p) : -EXDEV;

    if (e == 0 && p.lower_fd >= 0)
        e = sys_identify(p.lower_fd, id);
    return e == -EXDEV ? 0 : e;
}

int view_movable(const struct request *r, const struct resolved *o)
{
    const struct root *root = view_root(r);
    struct sys_ident id = o->id;
    int e;

    if (o->mounted)
        return -EBUSY;
    if (!root || o->fd < 0 || !S_ISDIR(id.mode) || o->dots[0])
        return 0;
    e = root->n ? view_lower_ident(root, o->fd, &id) : 0;
    if (e < 0)
        return e;
    for (size_t i = 0; i < root->n; i++) {
        if (place_ascend(root->v[i].parent_fd, view_is_it, &id) != 0)
            return -EBUSY;
    }
    return 0;
}

int view_removable(const struct request *r, const struct resolved *o, bool as_dir, const char *path)
{
    struct resolved name = *o;
    int e;

    if (o->mounted)
        name.fd = -1; /* the name lies in the directory above */
    e = view_writable(r, &name, path);
    if (e == 0 && o->mounted && S_ISDIR(o->id.mode) != as_dir)
        return as_dir ? -ENOTDIR : -EISDIR;
    return e < 0 ? e : view_movable(r, o);
}

/* ---- names ---- */

/* The rest of the place below a directory's place, or NULL. */
static const char *view_below(int top_fd, const char *place)
{
    char top[PATH_MAX];
    ssize_t n = fd_location(top_fd, top, sizeof(top));

    if (n < 0)
        return NULL;
    if (n == 1)
        return place; /* "/" */
    if (strncmp(place, top, (size_t)n) != 0 || (place[n] != '/' && place[n] != '\0'))
        return NULL;
    return place + n;
}

ssize_t view_name(const struct root *root, int fd, char *buf, size_t size)
{
    char place[PATH_MAX];
    ssize_t n = root->layer ? cow_place(root->layer, fd, place, sizeof(place)) : -EXDEV;

    if (n == -EXDEV)
        n = fd_location(fd, place, sizeof(place));
    if (n < 0)
        return n == -ESTALE ? -ENOENT : n;
    return view_name_of(root, place, buf, size);
}

ssize_t view_name_of(const struct root *root, const char *place, char *buf, size_t size)
{
    const char *above = "", *rest, *found = NULL;
    size_t deepest = 0;
    ssize_t n;

    if (place[0] != '/')
        return -ENOENT;
    found = view_below(root->fd, place);
    deepest = found ? (size_t)(found - place) : 0;
    for (size_t i = 0; i < root->n; i++) {
        rest = view_below(root->v[i].fd, place);
        if (!rest || (found && (size_t)(rest - place) < deepest))
            continue;
        found = rest;
        above = root->v[i].place;
        deepest = (size_t)(rest - place);
    }
    if (!found)
        return -ENOENT;
    if (!*above && !*found)
        found = "/";
    n = (ssize_t)(strlen(above) + strlen(found));
    if ((size_t)n >= size)
        return -ENAMETOOLONG;
    memcpy(buf, above, strlen(above));
    memcpy(buf + strlen(above), found, strlen(found) + 1);
    return n;
}

ssize_t view_show(const struct root *root, int fd, char *buf, size_t size)
{
    static const char nowhere[] = "(unreachable)";
    ssize_t n = view_name(root, fd, buf, size);
    struct sys_ident id;

    if (n != -ENOENT)
        return n;
    if (sys_identify(fd, &id) == 0 && S_ISCHR(id.mode))
        return fd_location(fd, buf, size);
    memcpy(buf, nowhere, sizeof(nowhere));
    return sizeof(nowhere) - 1;
}

int view_proc_link(const struct request *r, int dir_fd, const char *leaf)
{
    const struct root *root = view_root(r);
    struct sys_ident id;
    int fd, original;

    if (!root)
        return -ENODATA;
    if (strcmp(leaf, "root") == 0) {
        fd = fcntl(root->fd, F_DUPFD_CLOEXEC, 0);
        return fd < 0 ? -errno : fd;
    }
    if (strcmp(leaf, "exe") != 0)
        return -ENODATA;
    fd = sys_open_path(dir_fd, leaf, 0);
    if (fd < 0)
        return fd;
    original = sys_identify(fd, &id) < 0 ? -ENODATA : view_program_of(r, &id);
    if (original == -ENODATA)
        return fd;
    util_close(fd);
    return original;
}
