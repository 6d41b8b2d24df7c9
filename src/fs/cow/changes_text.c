/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of changes as lines (BA-02): A, M and D with a path each. What was moved is a D and an A, and a
 * directory that was moved is an A for everything in it, as if it had been copied and removed. One
 * thread, the run is over.
 */
#include <dirent.h>
#include <stdio.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

#define DEPTH_MAX 2048 /* directories below a moved one: more than a path can name */

struct line {
    char *path;
    char kind;
};

struct lines {
    struct cow_layer *l;
    const struct cow_changes *c;
    const struct cow_change **from; /* the moved ones, in the order of where they were */
    size_t n_from;
    struct line *v;
    size_t n, room;
};

/* Inside a moved directory that is walked. */
struct inside {
    struct lines *t;
    int dir_fd; /* of lower */
    const char *was, *is;
    unsigned depth;
};

static int line_add(struct lines *t, char kind, const char *path)
{
    struct line *v = util_grow(t->v, t->n, &t->room, sizeof(*v));

    if (!v)
        return -ENOMEM;
    t->v = v;
    t->v[t->n] = (struct line){strdup(path), kind};
    return t->v[t->n++].path ? 0 : -ENOMEM;
}

static int by_from(const void *a, const void *b)
{
    const struct cow_change *x = *(const struct cow_change *const *)a,
                            *y = *(const struct cow_change *const *)b;

    return strcmp(x->from, y->from);
}

/* The change that took this name of lower away; NULL: it is still in its directory. */
static const struct cow_change *moved_from(const struct lines *t, const char *was)
{
    struct cow_change key = {.from = (char *)(uintptr_t)was};
    const struct cow_change *k = &key, **found;

    found =
        t->n_from ? bsearch(&k, t->from, t->n_from, sizeof(struct cow_change *), by_from) : NULL;
    return found ? *found : NULL;
}

static int by_path(const void *key, const void *c)
{
    return strcmp(key, ((const struct cow_change *)c)->path);
}

static const struct cow_change *told_at(const struct lines *t, const char *is)
{
    return t->c->n ? bsearch(is, t->c->v, t->c->n, sizeof(*t->c->v), by_path) : NULL;
}

/* Does it lie below a directory that was moved, by the new name or by the old one? */
static bool below_moved(const struct lines *t, const char *path, bool old)
{
    for (size_t i = 0; i < t->n_from; i++) {
        const char *top = old ? t->from[i]->from : t->from[i]->path;
        size_t n = strlen(top);

        if (S_ISDIR(t->from[i]->before.mode) && strncmp(path, top, n) == 0 && path[n] == '/')
            return true;
    }
    return false;
}

/* A directory that is gone is one line. */
static bool below_gone(const struct lines *t, const char *was)
{
    char top[PATH_MAX];

    for (const char *s = strchr(was, '/'); s; s = strchr(s + 1, '/')) {
        const struct cow_change *c;

        if ((size_t)(s - was) >= sizeof(top))
            return false;
        memcpy(top, was, (size_t)(s - was));
        top[s - was] = '\0';
        c = told_at(t, top);
        if (c && (c->kind == COW_DELETED || c->kind == COW_RETYPED))
            return true;
    }
    return false;
}

static int add_inside(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    const struct inside *in = arg;
    _cleanup_free_ char *was = NULL, *is = NULL;
    const struct cow_change *c;
    struct inside down = *in;
    int e;

    (void)ino;
    if (asprintf(&was, "%s/%s", in->was, name) < 0) {
        was = NULL;
        return -ENOMEM;
    }
    if (asprintf(&is, "%s/%s", in->is, name) < 0) {
        is = NULL;
        return -ENOMEM;
    }
    if (moved_from(in->t, was))
        return 0;
    c = told_at(in->t, is);
    if (c && c->kind != COW_MODIFIED) /* gone, or another object */
        return 0;
    e = c ? 0 : line_add(in->t, COW_ADDED, is);
    if (e < 0)
        return e;
    if (type != DT_DIR || in->depth >= DEPTH_MAX)
        return 0;
    down.was = was;
    down.is = is;
    down.depth++;
    down.dir_fd = sys_open_path(in->dir_fd, name, O_DIRECTORY | O_NOFOLLOW);
    if (down.dir_fd < 0)
        return down.dir_fd;
    e = cow_each_name(down.dir_fd, add_inside, &down);
    util_close(down.dir_fd);
    return e;
}

static int add_moved(struct lines *t, const struct cow_change *c)
{
    struct inside in = {.t = t, .was = c->from, .is = c->path};
    bool told = below_moved(t, c->from, true) || below_gone(t, c->from);
    int e = told ? 0 : line_add(t, COW_DELETED, c->from);

    /* In place of something: changed, as far as a path can tell. */
    if (e == 0 && c->replaced.mode && !below_moved(t, c->path, false)) {
        if ((c->replaced.mode & S_IFMT) == (c->after.mode & S_IFMT) && !S_ISDIR(c->after.mode))
            return line_add(t, COW_MODIFIED, c->path);
        e = line_add(t, COW_DELETED, c->path);
    }
    if (e == 0)
        e = line_add(t, COW_ADDED, c->path);
    if (e < 0 || !S_ISDIR(c->before.mode))
        return e;
    in.dir_fd = cow_lower_open_path(t->l, c->from, O_PATH | O_DIRECTORY);
    if (in.dir_fd == -ENOENT || in.dir_fd == -ENOTDIR || in.dir_fd == -ELOOP)
        return 0; /* others removed or replaced it: a conflict, but what the run did can be told */
    if (in.dir_fd < 0)
        return in.dir_fd;
    e = cow_each_name(in.dir_fd, add_inside, &in);
    util_close(in.dir_fd);
    return e;
}

static int add_change(struct lines *t, const struct cow_change *c)
{
    bool inside = t->n_from && below_moved(t, c->path, false);
    int e = 0;

    switch (c->kind) {
    case COW_RENAMED: return add_moved(t, c);
    case COW_DELETED: return inside ? 0 : line_add(t, COW_DELETED, c->path);
    case COW_RETYPED:
        if (!inside)
            e = line_add(t, COW_DELETED, c->path);
        return e < 0 ? e : line_add(t, COW_ADDED, c->path);
    case COW_MODIFIED: return line_add(t, inside ? COW_ADDED : COW_MODIFIED, c->path);
    case COW_ADDED:
    default: return line_add(t, COW_ADDED, c->path);
    }
}

static int by_line(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int c = strcmp(x->path, y->path);

    return c ? c : y->kind - x->kind; /* D before A */
}

static int lines_make(struct lines *t)
{
    int e = 0;

    t->from = calloc(t->c->n + 1, sizeof(struct cow_change *));
    if (!t->from)
        return -ENOMEM;
    for (size_t i = 0; i < t->c->n; i++) {
        if (t->c->v[i].from)
            t->from[t->n_from++] = &t->c->v[i];
    }
    qsort(t->from, t->n_from, sizeof(struct cow_change *), by_from);
    for (size_t i = 0; i < t->c->n && e == 0; i++)
        e = add_change(t, &t->c->v[i]);
    if (e == 0)
        util_sort(t->v, t->n, sizeof(*t->v), by_line);
    return e;
}

int cow_changes_text(struct cow_layer *l, const struct cow_changes *c, struct buf *out)
{
    struct lines t = {.l = l, .c = c};
    int e = lines_make(&t);

    for (size_t i = 0; i < t.n; i++) {
        if (e == 0) {
            buf_addf(out, "%c  ", t.v[i].kind);
            buf_add_quoted(out, "", t.v[i].path);
            buf_addc(out, '\n');
        }
        free(t.v[i].path);
    }
    free(t.v);
    free(t.from);
    return e < 0 ? e : buf_error(out);
}
