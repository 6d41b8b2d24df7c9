/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the layer to the new tree: which path everything staged has in the end. Directories of lower
 * that were renamed take what is beneath them along; what lies beneath a removed one has no path. One
 * thread, the run is over.
 */
#include <dirent.h>
#include <stdio.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

struct final {
    struct cow_layer *l;
    int (*each)(const struct cow_item *i, void *arg);
    void *arg;
    struct path_set {
        struct path_of {
            char *path;
            struct cow_node *node;
        } * v;
        size_t n, room;
    } hidden, moved; /* paths of lower, sorted */
};

/* Takes path over; NULL: there was no memory for it. */
static int set_add(struct path_set *s, char *path, struct cow_node *node)
{
    struct path_of *v = path ? util_grow(s->v, s->n, &s->room, sizeof(*v)) : NULL;

    if (!v) {
        free(path);
        return -ENOMEM;
    }
    s->v = v;
    s->v[s->n++] = (struct path_of){path, node};
    return 0;
}

static void set_fini(struct path_set *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i].path);
    free(s->v);
}

static int by_path(const void *a, const void *b)
{
    const struct path_of *x = a, *y = b;

    return strcmp(x->path, y->path);
}

static void set_sort(struct path_set *s)
{
    util_sort(s->v, s->n, sizeof(*s->v), by_path);
}

/* The path given by its first n bytes, or NULL. */
static const struct path_of *set_find(const struct path_set *s, const char *path, size_t n)
{
    size_t lo = 0, hi = s->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strncmp(path, s->v[mid].path, n);

        if (c == 0)
            c = s->v[mid].path[n] ? -1 : 0;
        if (c == 0)
            return &s->v[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static char *join(const char *dir, const char *name)
{
    char *path = NULL;

    if (asprintf(&path, "%s%s%s", dir, *dir && *name ? "/" : "", name) < 0)
        return NULL;
    return path;
}

/* ---- paths ---- */

static int collect_hidden(const struct cow_name *n, void *arg)
{
    struct final *f = arg;

    return n->flags & NAME_WHITEOUT ? set_add(&f->hidden, join(n->dir->path, n->name), NULL) : 0;
}

static int collect_moved(struct final *f)
{
    int e = 0;

    for (struct cow_node *n = f->l->all; n && e == 0; n = n->next_all) {
        free(n->final);
        n->final = NULL;
        if (n->moved && !n->dead)
            e = set_add(&f->moved, strdup(n->path), n);
    }
    return e;
}

/* *ret: the path in the new tree of something of lower that keeps its name, NULL when it is gone or
 * (returns -EAGAIN) when that is not known yet. */
static int final_path(struct final *f, const char *path, bool skip_self, char **ret)
{
    size_t n = strlen(path), all = n;

    *ret = NULL;
    while (n > 0) {
        const struct path_of *moved = n < all ? set_find(&f->moved, path, n) : NULL;

        if (moved) {
            if (!moved->node->final)
                return -EAGAIN;
            *ret = join(moved->node->final, path + n + 1);
            return *ret ? 0 : -ENOMEM;
        }
        if (!(skip_self && n == all) && set_find(&f->hidden, path, n))
            return 0;
        while (n > 0 && path[n - 1] != '/')
            n--;
        n -= n > 0;
    }
    *ret = strdup(path);
    return *ret ? 0 : -ENOMEM;
}

/* ---- upper trees ---- */

struct branch {
    struct final *f;
    struct cow_node *node; /* whose names these are, or NULL */
    const char *path;      /* final */
    const char *source;
    int dir_fd;
};

static int walk_branch(struct branch *b);

static int walk_into(struct branch *b, const struct cow_item *i)
{
    struct branch down = {.f = b->f, .node = i->node, .path = i->path, .source = i->source};
    int e;

    down.dir_fd = sys_open_path(b->dir_fd, i->name, O_DIRECTORY | O_NOFOLLOW);
    if (down.dir_fd < 0)
        return down.dir_fd;
    if (i->node) {
        free(i->node->final);
        i->node->final = strdup(i->path);
    }
    e = i->node && !i->node->final ? -ENOMEM : walk_branch(&down);
    util_close(down.dir_fd);
    return e;
}

static int walk_name(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct branch *b = arg;
    _cleanup_free_ char *path = join(b->path, name), *source = join(b->source, name);
    struct cow_attr a;
    struct cow_item i = {.kind = ITEM_UPPER,
                         .path = path,
                         .source = source,
                         .attr = &a,
                         .dir_fd = b->dir_fd,
                         .name = name};
    int e;

    (void)type, (void)ino;
    if (!path || !source)
        return -ENOMEM;
    e = cow_attr_at(b->dir_fd, name, &a);
    if (e < 0)
        return e;
    i.node = cow_node_by_upper(b->f->l, a.dev, a.ino);
    i.renamed = i.node && set_find(&b->f->hidden, i.node->path, strlen(i.node->path));
    i.hidden = b->node ? cow_name_hidden(b->f->l, b->node, name) : NULL;
    e = b->f->each(&i, b->f->arg);
    if (e != 0 || !S_ISDIR(a.mode))
        return e < 0 ? e : 0;
    return walk_into(b, &i);
}

static int walk_branch(struct branch *b)
{
    return cow_each_closed_name(b->dir_fd, walk_name, b);
}

/* An object that keeps lower's name. */
static int walk_object(struct final *f, struct cow_node *n, const char *lower)
{
    char source[32];
    struct branch b = {.f = f, .node = n, .path = n->final, .source = source};
    struct cow_attr a;
    struct cow_item i = {.kind = ITEM_CHANGED,
                         .path = n->final,
                         .source = source,
                         .attr = &a,
                         .node = n,
                         .lower = lower};
    int e;

    snprintf(source, sizeof(source), "objects/%u", n->id);
    b.dir_fd = cow_object_open(f->l, n, O_PATH);
    if (b.dir_fd < 0)
        return b.dir_fd;
    e = cow_attr_fd(b.dir_fd, &a);
    if (e == 0)
        e = f->each(&i, f->arg);
    if (e == 0 && S_ISDIR(a.mode))
        e = walk_branch(&b);
    util_close(b.dir_fd);
    return e < 0 ? e : 0;
}

/* ---- files of lower with several names ---- */

static bool has_more_names(const struct cow_node *n)
{
    return !S_ISDIR(n->origin.mode) && n->origin.nlink > 1;
}

struct links {
    struct final *f;
    const char *path;
    int dir_fd;
};

static int links_in(struct final *f, int dir_fd, const char *path);

static int links_name(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct links *k = arg;
    struct cow_node *n = cow_map_get(&k->f->l->by_lower, ino);
    _cleanup_free_ char *path = NULL;
    char *at;
    int e = 0, fd;

    if (type != DT_DIR && type != DT_UNKNOWN && !n)
        return 0;
    path = join(k->path, name);
    if (!path)
        return -ENOMEM;
    fd = sys_open_path(k->dir_fd, name, O_NOFOLLOW);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    if (n && n->staged && !n->dead && has_more_names(n)) {
        e = final_path(k->f, path, false, &at);
        if (e == 0 && at) {
            free(n->final);
            n->final = at;
            e = walk_object(k->f, n, path);
        }
    } else {
        struct cow_attr a;

        e = cow_attr_fd(fd, &a);
        if (e == 0 && S_ISDIR(a.mode) && cow_is_layered(k->f->l, &a) &&
            a.ino != k->f->l->holder.ino)
            e = links_in(k->f, fd, path);
    }
    util_close(fd);
    return e == -EACCES ? 0 : e;
}

static int links_in(struct final *f, int dir_fd, const char *path)
{
    struct links k = {.f = f, .path = path, .dir_fd = dir_fd};

    return cow_each_name(dir_fd, links_name, &k);
}

/* Only when one of them was changed is lower searched for the other names. */
static int walk_links(struct final *f)
{
    for (struct cow_node *n = f->l->all; n; n = n->next_all) {
        if (n->staged && !n->dead && has_more_names(n) &&
            cow_gone(f->l, n->origin.ino) < n->origin.nlink)
            return links_in(f, f->l->lower_fd, "");
    }
    return 0;
}

/* Directories first, in as many rounds as renamed ones lie in each other; then files, which have no
 * names beneath. */
static int walk_nodes(struct final *f, bool dirs)
{
    bool again = true;
    int e = 0;

    while (again && e == 0) {
        again = false;
        for (struct cow_node *n = f->l->all; n && e == 0; n = n->next_all) {
            if (!n->staged || n->dead || n->moved || n->final || S_ISDIR(n->origin.mode) != dirs ||
                has_more_names(n))
                continue;
            e = final_path(f, n->path, false, &n->final);
            if (e == -EAGAIN)
                e = 0;
            else if (e == 0 && n->final) {
                e = walk_object(f, n, n->path);
                again = true;
            }
        }
    }
    return e;
}

/* Does what has left this name of lower live on under another one? */
static bool is_renamed(struct final *f, const struct cow_attr *hidden, const char *lower)
{
    struct cow_node *n = cow_node_by_lower(f->l, hidden);
    struct cow_attr a;
    int fd, e;

    if (!n || !n->staged || n->dead || strcmp(n->path, lower) != 0)
        return false;
    if (S_ISDIR(hidden->mode))
        return n->moved;
    fd = cow_object_open(f->l, n, O_PATH);
    if (fd < 0)
        return false;
    e = cow_attr_fd(fd, &a);
    util_close(fd);
    return e == 0 && a.nlink > 1;
}

static int gone_name(const struct cow_name *n, void *arg)
{
    struct final *f = arg;
    _cleanup_free_ char *path = NULL, *lower = NULL;
    struct cow_item i = {.kind = ITEM_GONE, .hidden = &n->hidden, .name = n->name, .dir_fd = -1};
    int e;

    if (!(n->flags & NAME_WHITEOUT) || n->flags & NAME_UPPER || !n->dir->final || n->dir->dead)
        return 0;
    path = join(n->dir->final, n->name);
    lower = join(n->dir->path, n->name);
    if (!path || !lower)
        return -ENOMEM;
    i.path = path;
    i.lower = lower;
    i.renamed = is_renamed(f, &n->hidden, lower);
    e = f->each(&i, f->arg);
    return e < 0 ? e : 0;
}

int cow_each_item(struct cow_layer *l, int (*each)(const struct cow_item *i, void *arg), void *arg)
{
    struct final f = {.l = l, .each = each, .arg = arg};
    int e = cow_names_each(l, collect_hidden, &f);

    if (e == 0)
        e = collect_moved(&f);
    if (e == 0) {
        set_sort(&f.hidden);
        set_sort(&f.moved);
        e = walk_nodes(&f, true);
    }
    if (e == 0)
        e = walk_nodes(&f, false);
    if (e == 0)
        e = walk_links(&f);
    if (e == 0)
        e = cow_names_each(l, gone_name, &f);
    set_fini(&f.hidden);
    set_fini(&f.moved);
    return e;
}
