/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk by hand (PR-03, PR-04). Receiver threads. Each component is opened O_PATH|O_NOFOLLOW in
 * the directory before it, so that permissions, mounts and errors are the kernel's; only links are
 * followed here. Path and link texts are hostile; they are bounded, never interpreted as anything
 * but names.
 */
#include "fs/walk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/place.h"
#include "fs/procfs.h"
#include "fs/protect.h"
#include "fs/staged.h"
#include "fs/view.h"
#include "plan/plan.h"
#include "plan/root.h"

#define WALK_MAX_LINKS 40 /* MAXSYMLINKS of the kernel */
#define WALK_TEXT (4 * PATH_MAX)

struct walk {
    const struct request *r;
    const struct root *root; /* the command's tree, NULL: the host's */
    int scope_fd;            /* WALK_SCOPED: where the walk began; borrowed */
    struct sys_ident scope;
    uint64_t mnt;  /* WALK_NO_XDEV: the mount it began on, */
    bool on_mount; /* whether that is one of ours, */
    bool rooted;   /* and whether the kernel would have looked for the root yet */
    unsigned flags;
    int cur_fd;              /* where we are: always a directory when a component is looked up */
    struct cow_layer *layer; /* of --workdir, or NULL */
    bool staged;             /* cur_fd is of the layer's view, there: */
    struct cow_pos pos;
    uint64_t scope_ino; /* WALK_SCOPED: the walk began there in the view; 0: elsewhere */
    unsigned links;
    size_t off;
    size_t len;
    char text[WALK_TEXT]; /* what is left to walk: text[off..len) */
};

struct component {
    char name[NAME_MAX + 1]; /* "" at the end of the path */
    bool last;
    bool slash; /* followed by slashes and nothing else */
};

/* 0, or -ENAMETOOLONG. */
static int walk_next(struct walk *w, struct component *ret)
{
    size_t start, n;

    while (w->off < w->len && w->text[w->off] == '/')
        w->off++;
    start = w->off;
    while (w->off < w->len && w->text[w->off] != '/')
        w->off++;
    n = w->off - start;
    if (n > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(ret->name, w->text + start, n);
    ret->name[n] = '\0';
    ret->slash = w->off < w->len;
    while (w->off < w->len && w->text[w->off] == '/')
        w->off++;
    ret->last = w->off == w->len;
    ret->slash = ret->slash && ret->last;
    return 0;
}

/* ---- in the copy-on-write layer ---- */

static void walk_leave_layer(struct walk *w)
{
    if (w->staged)
        cow_pos_fini(&w->pos);
    w->staged = false;
}

/* cur_fd is another directory, reached by anything but a name. */
static int walk_find_layer(struct walk *w)
{
    int e;

    walk_leave_layer(w);
    if (!w->layer)
        return 0;
    e = cow_pos_of_fd(w->layer, w->cur_fd, &w->pos);
    w->staged = e == 0;
    return e == -EXDEV || e == -ENOTDIR ? 0 : e;
}

/* Goes to the directory of the view: cur_fd is the one of its sides that tells where it is. */
static int walk_take_pos(struct walk *w, struct cow_pos *pos)
{
    int fd = sys_dup(pos->upper_fd >= 0 ? pos->upper_fd : pos->lower_fd);

    if (fd < 0) {
        cow_pos_fini(pos);
        return fd;
    }
    util_close(w->cur_fd);
    w->cur_fd = fd;
    walk_leave_layer(w);
    w->pos = *pos;
    w->staged = true;
    return 0;
}

/* Staging a directory gives it another side: the scope is known by its number in the view. */
static bool walk_at_scope(const struct walk *w)
{
    return (w->flags & WALK_SCOPED) && w->staged && w->scope_ino == w->pos.ino;
}

/* The command's "/". */
static int walk_top(const struct walk *w)
{
    if (w->flags & WALK_IN_ROOT)
        return sys_dup(w->scope_fd);
    return w->root ? sys_dup(w->root->fd) : sys_open_path(AT_FDCWD, "/", O_DIRECTORY);
}

enum { WALK_AT_ROOT = 1, WALK_AT_MOUNT };

static int walk_is_top(int dir_fd, const struct sys_ident *id, void *arg)
{
    const struct root *root = arg;

    (void)dir_fd;
    return sys_ident_same(&root->id, id) ? WALK_AT_ROOT
           : root_mount_top(root, id)    ? WALK_AT_MOUNT
                                         : 0;
}

/* ".." in a tree of our own: the root's is the root, a mount's is the directory it is mounted in. A
 * directory that others moved out of the tree has the root above it. */
static int walk_up(const struct walk *w, int dir_fd)
{
    const struct root_mount *m;
    struct sys_ident id;
    int fd, e = sys_identify_at(dir_fd, ".", &id); /* needs the right to search, as ".." does */

    if (e < 0)
        return e;
    if ((w->flags & WALK_SCOPED) && sys_ident_same(&w->scope, &id))
        return w->flags & WALK_BENEATH ? -EXDEV : sys_dup(dir_fd);
    if (!w->root)
        return sys_open_path(dir_fd, "..", O_DIRECTORY);
    if (sys_ident_same(&w->root->id, &id))
        return sys_dup(dir_fd);
    m = root_mount_top(w->root, &id);
    if (m)
        return w->flags & WALK_NO_XDEV ? -EXDEV : sys_dup(m->parent_fd);
    fd = sys_open_path(dir_fd, "..", O_DIRECTORY);
    if (fd < 0)
        return fd;
    e = place_ascend(fd, walk_is_top, (void *)(uintptr_t)w->root);
    if (e > 0)
        return fd;
    util_close(fd);
    return e < 0 ? e : sys_dup(w->root->fd);
}

/* O_PATH descriptor of a component. */
static int walk_open_staged(struct walk *w, const char *name)
{
    struct cow_pos up = COW_POS_INIT;
    int fd, e;

    if (strcmp(name, ".") == 0)
        return sys_open_path(w->cur_fd, ".", O_DIRECTORY);
    if (strcmp(name, "..") != 0)
        return cow_open_path(w->layer, &w->pos, name);
    if (walk_at_scope(w))
        return w->flags & WALK_BENEATH ? -EXDEV : sys_dup(w->cur_fd);
    e = cow_parent(w->layer, &w->pos, &up);
    if (e == -EXDEV)
        return walk_up(w, w->pos.lower_fd);
    if (e < 0)
        return e;
    fd = sys_dup(up.upper_fd >= 0 ? up.upper_fd : up.lower_fd);
    cow_pos_fini(&up);
    return fd;
}

/* From cur_fd into the directory that was opened as this component. */
static int walk_enter(struct walk *w, const char *name, bool mounted, int *fd,
                      const struct sys_ident *id)
{
    bool up = strcmp(name, "..") == 0;
    struct cow_pos next = COW_POS_INIT;
    int e;

    if (w->staged && (strcmp(name, ".") == 0 || (up && walk_at_scope(w))))
        return 0;
    if (w->staged && up)
        e = cow_parent(w->layer, &w->pos, &next);
    else if (w->staged && !mounted)
        e = cow_enter(w->layer, &w->pos, name, &next);
    else
        e = w->layer && cow_is_top(w->layer, id) ? cow_root(w->layer, &next) : -EXDEV;
    if (e == 0)
        return walk_take_pos(w, &next);
    if (e != -EXDEV)
        return e;
    util_close(w->cur_fd);
    w->cur_fd = steal_fd(fd);
    walk_leave_layer(w);
    /* Out of a mount that lies in the view; or the view's top is the command's root. */
    if (up && w->layer && (w->root->n || cow_is_top(w->layer, &w->root->id)))
        return walk_find_layer(w);
    return 0;
}

/* The mount on this name where we are: 1, 0, or -errno. Mounts are known by lower's directories. */
static int walk_find_mount(const struct walk *w, const char *name, const struct root_mount **ret)
{
    struct sys_ident id;
    int e;

    if (!w->root || !root_has_name(w->root, name))
        return 0;
    e = sys_identify_at(w->cur_fd, ".", &id); /* needs the right to search, as the name does */
    if (e == 0 && w->staged)
        e = w->pos.lower_fd < 0 ? -ENODATA : sys_identify(w->pos.lower_fd, &id);
    if (e < 0)
        return e == -ENODATA ? 0 : e;
    *ret = root_mount_on(w->root, &id, name);
    return *ret ? 1 : 0;
}

/* Opens the component in cur_fd; a link stays a link. */
static int walk_open(struct walk *w, const char *name, bool *ret_mounted)
{
    const struct root_mount *m;
    int e = walk_find_mount(w, name, &m);

    *ret_mounted = e > 0;
    if (e < 0)
        return e;
    if (e > 0)
        return w->flags & WALK_NO_XDEV ? -EXDEV : sys_dup(m->fd);
    if (w->staged)
        return walk_open_staged(w, name);
    if ((w->root || (w->flags & WALK_SCOPED)) && strcmp(name, "..") == 0)
        return walk_up(w, w->cur_fd);
    return sys_open_path(w->cur_fd, name, O_NOFOLLOW);
}

/* Puts a link's text before what is left. A slash that ended the path is kept: it still demands a
 * directory of the link's target. */
static int walk_splice(struct walk *w, const char *text, size_t n, const struct component *c)
{
    size_t left = w->len - w->off;

    if (n + 1 + left >= sizeof(w->text))
        return -ENAMETOOLONG;
    memmove(w->text + n + 1, w->text + w->off, left);
    memcpy(w->text, text, n);
    w->text[n] = '/';
    w->off = 0;
    w->len = c->last && !c->slash ? n : n + 1 + left;
    if (text[0] == '/') {
        /* Before it has, the kernel takes every root for one on another mount (nd_jump_root). */
        if ((w->flags & WALK_BENEATH) || ((w->flags & WALK_NO_XDEV) && (w->on_mount || !w->rooted)))
            return -EXDEV;
        util_close(w->cur_fd);
        w->cur_fd = walk_top(w);
        if (w->cur_fd < 0)
            return w->cur_fd;
        return walk_find_layer(w);
    }
    return 0;
}

/* A link on procfs. 0: its text was spliced. 1: a magic link of a member, *ret_fd is its object. */
static int walk_proc_link(struct walk *w, int link_fd, const struct sys_ident *id,
                          const struct component *c, int *ret_fd)
{
    struct procfs_place place;
    char text[PATH_MAX];
    pid_t tgid;
    ssize_t n;
    int e = procfs_place(link_fd, id, &place);

    if (e < 0)
        return e;
    if (place.pid) {
        /* The descriptor of the directory pins the process it belongs to: if the number was given
         * to a member in between, the old process is dead and its links lead nowhere. */
        if (!supervisor_is_member(w->r->sup, place.pid))
            return -EACCES;
        if (w->flags & (WALK_NO_MAGIC | WALK_SCOPED))
            return w->flags & WALK_NO_MAGIC ? -ELOOP : -EXDEV;
        *ret_fd = view_proc_link(w->r, w->cur_fd, c->name);
        if (*ret_fd == -ENODATA)
            *ret_fd = sys_open_path(w->cur_fd, c->name, 0);
        return *ret_fd < 0 ? *ret_fd : 1;
    }
    if (strcmp(place.rest, "self") == 0 || strcmp(place.rest, "thread-self") == 0) {
        e = request_status(w->r, &tgid, NULL);
        if (e < 0)
            return e;
        n = place.rest[0] == 's'
                ? snprintf(text, sizeof(text), "%d", (int)tgid)
                : snprintf(text, sizeof(text), "%d/task/%d", (int)tgid, (int)w->r->tid);
    } else {
        n = readlinkat(link_fd, "", text, sizeof(text));
        if (n < 0)
            return -errno;
        if (n == 0 || (size_t)n >= sizeof(text))
            return n == 0 ? -ENOENT : -ENAMETOOLONG;
    }
    return walk_splice(w, text, (size_t)n, c);
}

/* As walk_proc_link() for any link. */
static int walk_link(struct walk *w, int link_fd, const struct sys_ident *id,
                     const struct component *c, int *ret_fd)
{
    char text[PATH_MAX];
    ssize_t n;
    int e;

    if (++w->links > WALK_MAX_LINKS || (w->flags & WALK_NO_LINKS))
        return -ELOOP;
    if (procfs_is(link_fd, id))
        return walk_proc_link(w, link_fd, id, c, ret_fd);
    if (c->last) {
        e = protect_link(w->cur_fd, id);
        if (e < 0)
            return e;
    }
    n = readlinkat(link_fd, "", text, sizeof(text));
    if (n < 0)
        return -errno;
    if (n == 0 || (size_t)n >= sizeof(text))
        return n == 0 ? -ENOENT : -ENAMETOOLONG;
    return walk_splice(w, text, (size_t)n, c);
}

/* The walk is over: fd is the object (or -1: missing), cur_fd the directory that holds it. */
static int walk_finish(struct walk *w, const struct component *c, int fd,
                       const struct sys_ident *id, struct resolved *ret)
{
    bool dots = !c->name[0] || strcmp(c->name, ".") == 0 || strcmp(c->name, "..") == 0;

    ret->trailing_slash = c->slash;
    if (fd >= 0) {
        ret->fd = fd;
        ret->id = *id;
        ret->on_proc = procfs_is(fd, id);
        if (!S_ISDIR(id->mode) &&
            ((w->flags & WALK_DIRECTORY) || (c->slash && !(w->flags & WALK_PARENT))))
            return -ENOTDIR;
    }
    if (ret->magic)
        return 0;
    if (dots)
        memcpy(ret->dots, c->name[0] ? c->name : "/", strlen(c->name[0] ? c->name : "/") + 1);
    else
        memcpy(ret->name, c->name, strlen(c->name) + 1);
    ret->parent_fd = steal_fd(&w->cur_fd);
    return 0;
}

/* Is the link gone through? A name to be made that ends in a slash is refused before it is looked at, the
 * slash being the caller's or a link's. */
static bool walk_follows(const struct walk *w, const struct component *c)
{
    if (!c->last)
        return true;
    return c->slash ? !(w->flags & WALK_PARENT) : w->flags & WALK_FOLLOW;
}

/* One component. 1: finished, 0: go on, or -errno. */
static int walk_step(struct walk *w, struct resolved *ret)
{
    _cleanup_close_ int fd = -1, object_fd = -1;
    struct component c;
    struct sys_ident id = {0};
    bool mounted, followed = false;
    int e = walk_next(w, &c);

    if (e < 0)
        return e;
    w->rooted |= strcmp(c.name, "..") == 0;
    fd = walk_open(w, c.name[0] ? c.name : ".", &mounted);
    if (fd < 0) {
        e = fd;
        fd = -1;
        if (e != -ENOENT || !c.last || !(w->flags & WALK_PARENT))
            return e;
        e = walk_finish(w, &c, -1, NULL, ret);
        return e < 0 ? e : 1;
    }
    e = sys_identify(fd, &id);
    if (e == 0 && w->layer && cow_is_storage(w->layer, &id))
        e = -ENOENT; /* where changes are stored: only the view shows them */
    if (e < 0)
        return e;
    if (S_ISLNK(id.mode) && walk_follows(w, &c)) {
        e = walk_link(w, fd, &id, &c, &object_fd);
        if (e <= 0)
            return e;
        e = sys_identify(object_fd, &id);
        if (e < 0)
            return e;
        util_close(fd);
        fd = steal_fd(&object_fd);
        ret->magic = c.last;
        followed = true;
    }
    /* The two sides of the view are one file system. */
    if ((w->flags & WALK_NO_XDEV) && !w->staged && id.mnt != w->mnt)
        return -EXDEV;
    ret->mounted = mounted && c.last;
    if (c.last) {
        e = walk_finish(w, &c, fd, &id, ret);
        fd = -1; /* now owned by *ret, also after a failure */
        return e < 0 ? e : 1;
    }
    if (!S_ISDIR(id.mode))
        return -ENOTDIR;
    if (!followed)
        return walk_enter(w, c.name, mounted, &fd, &id);
    util_close(w->cur_fd);
    w->cur_fd = steal_fd(&fd);
    return walk_find_layer(w);
}

int walk_path(const struct request *r, int start_fd, const char *path, unsigned flags,
              struct resolved *ret)
{
    struct walk w; /* the text is filled as far as it is used */
    int e;

    w.r = r;
    w.root = supervisor_plan(r->sup)->root;
    w.flags = flags;
    w.layer = w.root ? w.root->layer : NULL;
    w.staged = false;
    w.links = 0;
    w.off = 0;
    w.len = strlen(path);
    if (w.len >= sizeof(w.text))
        return -ENAMETOOLONG;
    memcpy(w.text, path, w.len);
    w.scope_fd = start_fd;
    w.on_mount = false;
    w.rooted = *path == '/' || (flags & WALK_SCOPED);
    if ((flags & WALK_SCOPED) && sys_identify(start_fd, &w.scope) < 0)
        return -EIO;
    w.cur_fd = start_fd < 0 || *path == '/' ? walk_top(&w) : sys_dup(start_fd);
    if (w.cur_fd < 0)
        return w.cur_fd;
    e = walk_find_layer(&w);
    w.scope_ino = w.staged ? w.pos.ino : 0;
    if (flags & WALK_NO_XDEV) {
        struct sys_ident id;

        w.mnt = w.staged ? cow_mount(w.layer) : sys_identify(w.cur_fd, &id) < 0 ? 0 : id.mnt;
        w.on_mount = w.root && place_ascend(w.cur_fd, walk_is_top, (void *)(uintptr_t)w.root) ==
                                   WALK_AT_MOUNT;
    }
    while (e == 0)
        e = walk_step(&w, ret);
    walk_leave_layer(&w);
    if (e < 0) {
        resolved_fini(ret);
        ret->magic = false;
        ret->parent_fd = steal_fd(&w.cur_fd);
        return e;
    }
    util_close(w.cur_fd);
    return 0;
}
