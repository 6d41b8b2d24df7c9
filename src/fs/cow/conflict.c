/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others did to lower while the run went on (CW-10). Everything the layer touched is compared with
 * what was recorded then; nothing is changed here. One thread.
 */
#include <linux/openat2.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

struct check {
    struct cow_layer *l;
    struct cow_report *report;
    struct cow_node *dir; /* whose names are looked at */
    int dir_fd;           /* its self in lower */
};

static void conflict(struct check *c, const char *dir, const char *name, const char *what)
{
    _cleanup_buf_ struct buf path = {0};

    buf_addf(&path, "%s%s%s", dir, *dir && *name ? "/" : "", name);
    c->report->n_conflicts++;
    buf_add_quoted(&c->report->conflicts, "", buf_cstr(&path));
    buf_addf(&c->report->conflicts, ": %s\n", what);
}

static int check_node(struct check *c, struct cow_node *n)
{
    struct cow_attr now;
    int fd = cow_lower_open(c->l, n, O_PATH), e;

    if (fd == -ENOENT || fd == -ESTALE || fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV) {
        conflict(c, n->path, "", "removed or replaced meanwhile");
        return 0;
    }
    if (fd < 0)
        return fd;
    e = cow_attr_fd(fd, &now);
    util_close(fd);
    /* Other names in a directory are nobody's concern; its own attributes are. */
    if (e == 0 && S_ISDIR(now.mode))
        now.mtime = n->origin.mtime, now.ctime = n->origin.ctime, now.size = n->origin.size;
    if (e == 0 && !cow_attr_unchanged(&n->origin, &now))
        conflict(c, n->path, "", "changed meanwhile");
    return e;
}

static int check_name(const struct cow_name *n, void *arg)
{
    struct check *c = arg;
    struct cow_attr now;
    int e;

    if (n->dir != c->dir || !n->flags)
        return 0;
    e = cow_attr_at(c->dir_fd, n->name, &now);
    if (e < 0 && e != -ENOENT)
        return e;
    if (!(n->flags & NAME_WHITEOUT)) {
        if (e == 0)
            conflict(c, n->dir->path, n->name, "created meanwhile");
        return 0;
    }
    if (e == -ENOENT) {
        conflict(c, n->dir->path, n->name, "removed meanwhile");
        return 0;
    }
    if (S_ISDIR(now.mode)) {
        struct cow_node *moved = cow_node_by_lower(c->l, &now);

        if (moved && moved->moved && !moved->dead) {
            now.mtime = n->hidden.mtime; /* goes as it is, with what others put into it */
            now.ctime = n->hidden.ctime;
            now.size = n->hidden.size;
        }
    }
    if (!cow_attr_unchanged(&n->hidden, &now))
        conflict(c, n->dir->path, n->name, "changed meanwhile");
    return 0;
}

/* Names by directory: the table is not sorted by it, so all of it is put into one order first. */
struct order {
    const struct cow_name **v;
    size_t n;
};

static int order_add(const struct cow_name *n, void *arg)
{
    struct order *o = arg;

    o->v[o->n++] = n;
    return 0;
}

static int order_by_dir(const void *a, const void *b)
{
    const struct cow_name *x = *(const struct cow_name *const *)a,
                          *y = *(const struct cow_name *const *)b;

    if (x->dir != y->dir)
        return x->dir->id < y->dir->id ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int check_names(struct check *c)
{
    struct order o = {.v = calloc(c->l->n_names + 1, sizeof(*o.v))};
    int e = 0;

    if (!o.v)
        return -ENOMEM;
    cow_names_each(c->l, order_add, &o);
    qsort(o.v, o.n, sizeof(*o.v), order_by_dir);
    for (size_t i = 0; i < o.n && e == 0; i++) {
        if (o.v[i]->dir != c->dir) {
            if (c->dir_fd >= 0)
                util_close(c->dir_fd);
            c->dir = o.v[i]->dir;
            c->dir_fd = cow_lower_open(c->l, c->dir, O_PATH | O_DIRECTORY);
        }
        /* Without its directory: reported for the directory. */
        if (c->dir_fd >= 0)
            e = check_name(o.v[i], c);
    }
    if (c->dir_fd >= 0)
        util_close(c->dir_fd);
    free(o.v);
    return e;
}

int cow_conflicts(struct cow_layer *l, struct cow_report *report)
{
    struct check c = {.l = l, .report = report, .dir_fd = -1};
    int e = 0;

    for (struct cow_node *n = l->all; n && e == 0; n = n->next_all) {
        if (n->staged && !n->dead)
            e = check_node(&c, n);
    }
    if (e == 0)
        e = check_names(&c);
    return e < 0 ? e : buf_error(&report->conflicts);
}
