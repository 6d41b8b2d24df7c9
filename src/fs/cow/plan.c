/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan of a commit: steps that turn lower into the new tree, each of which can be repeated. What a
 * step works on is named by path and inode; when that inode is not there any more, the step was done.
 * Order: renamed things of lower leave their places (files by a second link), what is new is built from
 * the top down, removals follow, then what is written in place; attributes of directories come last. One
 * thread.
 */
#include <stdio.h>
#include <sys/statvfs.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

struct cow_step *cow_plan_add(struct cow_plan *p, enum cow_op op, char base, const char *source,
                              const char *path)
{
    struct cow_step *v = util_grow(p->v, p->n, &p->room, sizeof(*v)), *s;

    if (!v)
        return NULL;
    p->v = v;
    s = &p->v[p->n];
    *s = (struct cow_step){.op = op, .base = base, .seq = p->n};
    s->path = strdup(path);
    s->source = source ? strdup(source) : NULL;
    if (!s->path || (source && !s->source)) {
        free(s->path);
        free(s->source);
        return NULL;
    }
    p->n++;
    return s;
}

void cow_plan_fini(struct cow_plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->v[i].source);
        free(p->v[i].path);
        free(p->v[i].lower);
    }
    free(p->v);
    cow_map_fini(&p->copies);
    *p = (struct cow_plan){0};
}

/* ---- what did not change after all ---- */

bool cow_node_unchanged(struct cow_layer *l, struct cow_node *n, const struct cow_attr *now)
{
    const struct cow_attr *o = &n->origin;
    int upper_fd, lower_fd = -1;
    bool same = now->mode == o->mode && now->mtime == o->mtime && now->size == o->size;

    if (S_ISDIR(o->mode))
        same = now->mode == o->mode && now->mtime == o->mtime;
    if (n->has_owner)
        same = same && n->uid == o->uid && n->gid == o->gid;
    else
        same = same && now->uid == o->uid && now->gid == o->gid;
    if (!same || S_ISLNK(o->mode))
        return same;
    upper_fd = cow_object_open(l, n, O_PATH);
    if (upper_fd >= 0)
        lower_fd = cow_lower_open(l, n, O_PATH);
    same = lower_fd >= 0 && cow_xattrs_same(upper_fd, lower_fd);
    if (lower_fd >= 0)
        util_close(lower_fd);
    if (upper_fd >= 0)
        util_close(upper_fd);
    return same;
}

/* ---- bodies ---- */

/* Where a file's new self is taken from: the layer itself, or the copy of it that the limbo gets when
 * lower is another file system. One copy for all names of an inode. */
static struct cow_step *plan_body(struct cow_plan *p, enum cow_op op, const char *source,
                                  const struct cow_attr *a, const char *path)
{
    char name[24];
    size_t id;

    if (p->l->backup) /* a link: whose object is at the path can be told afterwards */
        op = STEP_PLACE;
    if (p->l->same_fs)
        return cow_plan_add(p, op, 'S', source, path);
    id = (size_t)(uintptr_t)cow_map_get(&p->copies, a->ino);
    if (!id) {
        id = ++p->n_copies;
        if (cow_map_put(&p->copies, a->ino, (void *)(uintptr_t)id) < 0)
            return NULL;
        snprintf(name, sizeof(name), "c%zu", id);
        /* Copied before the point of no return: cow_stage_bodies(). */
        if (!cow_plan_add(p, STEP_KEEP, 'S', source, name))
            return NULL;
    }
    snprintf(name, sizeof(name), "c%zu", id);
    return cow_plan_add(p, a->nlink > 1 ? STEP_PLACE : op, 'X', name, path);
}

static int plan_aside(struct cow_plan *p, const struct cow_item *i)
{
    struct cow_step *s;
    char name[24];

    /* A file over a file is one rename. */
    if (!i->hidden || (!S_ISDIR(i->hidden->mode) && !S_ISDIR(i->attr->mode)))
        return 0;
    snprintf(name, sizeof(name), "x%zu", p->n);
    s = cow_plan_add(p, STEP_ASIDE, 'L', i->path, name);
    if (!s)
        return -ENOMEM;
    s->attr = *i->hidden;
    return 0;
}

/* What the attributes of something of lower were, for a rollback. */
static int plan_was(struct cow_plan *p, struct cow_step *s, const char *lower,
                    const struct cow_attr *a)
{
    if (!p->l->backup)
        return 0;
    s->old = *a;
    s->lower = strdup(lower);
    return s->lower ? 0 : -ENOMEM;
}

static int plan_old(struct cow_plan *p, struct cow_step *s, const struct cow_node *n)
{
    struct cow_attr a;
    int fd, e;

    if (!p->l->backup || !n)
        return 0;
    fd = cow_lower_open(p->l, n, O_PATH);
    if (fd < 0)
        return fd;
    e = cow_attr_fd(fd, &a);
    util_close(fd);
    return e < 0 ? e : plan_was(p, s, n->path, &a);
}

static int plan_attrs(struct cow_plan *p, const struct cow_item *i, const char *path)
{
    struct cow_step *s = cow_plan_add(p, STEP_ATTRS, 'S', i->source, path);

    if (!s)
        return -ENOMEM;
    s->attr = *i->attr;
    if (i->node && i->node->has_owner) {
        s->has_owner = true;
        s->uid = i->node->uid;
        s->gid = i->node->gid;
    }
    return plan_old(p, s, i->node);
}

/* ---- new directories as a whole ---- */

struct plain {
    struct cow_layer *l;
    int dir_fd;
    unsigned depth;
};

/* 1: something in it needs a step of its own. */
static int not_plain(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct plain *d = arg, down = {.l = d->l, .depth = d->depth + 1};
    struct cow_attr a;
    int e;

    (void)type, (void)ino;
    e = cow_attr_at(d->dir_fd, name, &a);
    if (e < 0)
        return e;
    if (S_ISSOCK(a.mode) || cow_node_by_upper(d->l, a.dev, a.ino))
        return 1;
    if (!S_ISDIR(a.mode))
        return 0;
    down.dir_fd = sys_open_path(d->dir_fd, name, O_DIRECTORY | O_NOFOLLOW);
    if (down.dir_fd < 0)
        return down.dir_fd;
    e = cow_each_name(down.dir_fd, not_plain, &down);
    util_close(down.dir_fd);
    return e == -EACCES ? 1 : e; /* closed by its own mode */
}

/* ---- items ---- */

static int plan_dir(struct cow_plan *p, const struct cow_item *i)
{
    struct plain d = {.l = p->l, .dir_fd = i->dir_fd};
    struct cow_step *s;
    char name[24];
    int e = 1;

    if (i->node) {
        snprintf(name, sizeof(name), "m%u", i->node->id);
        s = cow_plan_add(p, STEP_OUT, 'L', i->node->path, name);
        if (!s)
            return -ENOMEM;
        s->attr = i->node->origin;
        s = cow_plan_add(p, STEP_TAKE, 'X', name, i->path);
        if (!s)
            return -ENOMEM;
        s->attr = i->node->origin;
        return plan_attrs(p, i, i->path);
    }
    /* To rename a directory into another one its own owner must be able to write to it. */
    if (p->l->same_fs && i->attr->mode & 0200 && !p->l->backup) {
        e = not_plain(i->name, 0, 0, &d);
        if (e < 0)
            return e;
    }
    if (e == 0)
        return cow_plan_add(p, STEP_TAKE, 'S', i->source, i->path) ? 1 : -ENOMEM;
    if (!cow_plan_add(p, STEP_MKDIR, 0, NULL, i->path))
        return -ENOMEM;
    return plan_attrs(p, i, i->path);
}

/* By a rename. A directory of the user's own is opened for it, if need be. */
static int may_replace(const struct cow_plan *p, const struct cow_node *n)
{
    _cleanup_close_ int fd = -1;
    struct cow_attr dir;
    char path[PATH_MAX];
    int e;

    cow_parent_path(n->path, path);
    fd = cow_lower_open_path(p->l, path, O_PATH | O_DIRECTORY);
    e = fd < 0 ? fd : cow_attr_fd(fd, &dir);
    if (e < 0 || dir.uid == geteuid())
        return e < 0 ? e : 1;
    e = sys_access_fd(fd, W_OK | X_OK, AT_EACCESS);
    if (e < 0)
        return e == -EACCES ? 0 : e;
    return !(dir.mode & S_ISVTX) || n->origin.uid == geteuid();
}

/* Do changed bytes of a file of lower go into that file? Where it was asked for, and where it cannot be replaced. Once,
 * whatever its names are. */
static int writes_through(struct cow_plan *p, const struct cow_node *n)
{
    int e;

    if (!n || n->light || !S_ISREG(n->origin.mode))
        return 0;
    e = p->l->in_place ? 0 : may_replace(p, n);
    if (e != 0)
        return e < 0 && e != -ENOENT ? e : 0;
    if (!p->l->backup)
        return 1;
    buf_add_quoted(&p->report->notes, "", n->path);
    buf_adds(&p->report->notes,
             ": may be written to but not replaced, of which there is no backup\n");
    return -EACCES;
}

/* The bytes once. Other names get what is at the first, if that had to be replaced after all. */
static int plan_write(struct cow_plan *p, const struct cow_item *i)
{
    size_t first = (size_t)(uintptr_t)cow_map_get(&p->copies, i->attr->ino);
    const struct cow_attr *was = &i->node->origin;
    struct cow_step *s;

    if (first)
        return cow_plan_add(p, STEP_PLACE, 'L', p->v[first - 1].path, i->path) ? 0 : -ENOMEM;
    s = cow_plan_add(p, STEP_WRITE, 'S', i->source, i->path);
    if (!s)
        return -ENOMEM;
    s->attr = *was;
    if (cow_map_put(&p->copies, i->attr->ino, (void *)(uintptr_t)p->n) < 0)
        return -ENOMEM;
    if (i->attr->blocks > was->blocks)
        p->needs += (i->attr->blocks - was->blocks) * 512;
    return plan_attrs(p, i, i->path);
}

static int plan_light(struct cow_plan *p, const struct cow_item *i)
{
    struct cow_step *s;
    char name[24];

    snprintf(name, sizeof(name), "f%u", i->node->id);
    s = cow_plan_add(p, STEP_KEEP, 'L', i->node->path, name);
    if (!s)
        return -ENOMEM;
    s->attr = i->node->origin;
    s = cow_plan_add(p, STEP_PLACE, 'X', name, i->path);
    if (!s)
        return -ENOMEM;
    s->attr = i->node->origin;
    if (!i->node->light)
        return plan_write(p, i);
    return cow_node_unchanged(p->l, i->node, i->attr) ? 0 : plan_attrs(p, i, i->path);
}

static int plan_upper(struct cow_plan *p, const struct cow_item *i)
{
    struct cow_step *s;
    int e;

    if (S_ISSOCK(i->attr->mode)) {
        buf_add_quoted(&p->report->notes, "", i->path);
        buf_adds(&p->report->notes, ": a socket is not committed\n");
        return i->hidden && cow_plan_add(p, STEP_REMOVE, 0, NULL, i->path)
                   ? (p->v[p->n - 1].attr = *i->hidden, 0)
                   : 0;
    }
    e = plan_aside(p, i);
    if (e < 0)
        return e;
    if (S_ISDIR(i->attr->mode))
        return plan_dir(p, i);
    e = writes_through(p, i->node);
    if (e < 0)
        return e;
    if (e > 0 || (i->node && i->node->light))
        return plan_light(p, i);
    s = plan_body(p, STEP_TAKE, i->source, i->attr, i->path);
    if (!s)
        return -ENOMEM;
    if (i->node && i->node->has_owner) {
        s->has_owner = true;
        s->uid = i->node->uid;
        s->gid = i->node->gid;
    }
    return 0;
}

/* The directory of a file that is replaced keeps its times, unless it has an object that knows them. */
static int plan_parent_times(struct cow_plan *p, const char *old, const char *path)
{
    char dir[PATH_MAX], lower[PATH_MAX];
    struct cow_node *n;
    struct cow_step *s;
    struct cow_attr a;
    int fd, e;

    cow_parent_path(path, dir);
    cow_parent_path(old, lower);
    fd = sys_openat2(p->l->lower_fd, *lower ? lower : ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);
    if (fd < 0)
        return fd;
    e = cow_attr_fd(fd, &a);
    util_close(fd);
    if (e < 0)
        return e;
    n = cow_node_by_lower(p->l, &a);
    if (n && n->staged && n->has_names)
        return 0;
    s = cow_plan_add(p, STEP_TIMES, 0, NULL, dir);
    if (!s)
        return -ENOMEM;
    s->attr = a;
    return plan_was(p, s, lower, &a);
}

static bool plan_same_bytes(struct cow_layer *l, struct cow_node *n)
{
    int a = cow_object_open(l, n, O_RDONLY | O_NONBLOCK), b = -1, e = 0;

    if (!S_ISREG(n->origin.mode)) {
        util_closep(&a);
        return true; /* links and FIFOs have nothing that can be rewritten */
    }
    if (a >= 0)
        b = cow_lower_open(l, n, O_RDONLY | O_NONBLOCK);
    if (b >= 0)
        e = cow_same_content(a, b);
    util_closep(&a);
    util_closep(&b);
    return e > 0;
}

static int plan_replace(struct cow_plan *p, const struct cow_item *i)
{
    const struct cow_node *n = i->node;
    struct cow_step *s =
        plan_body(p, n->origin.nlink > 1 ? STEP_PLACE : STEP_TAKE, i->source, i->attr, i->path);

    if (!s)
        return -ENOMEM;
    s->has_owner = n->has_owner;
    s->uid = n->uid;
    s->gid = n->gid;
    return 0;
}

static int plan_changed(struct cow_plan *p, const struct cow_item *i)
{
    struct cow_node *n = i->node;
    bool same;
    int e;

    same = cow_node_unchanged(p->l, n, i->attr);
    if (S_ISDIR(i->attr->mode))
        return same && !n->has_names ? 0 : plan_attrs(p, i, i->path);
    if (n->light)
        return same ? 0 : plan_attrs(p, i, i->path);
    /* Opened only, or written and the time set back? New names of it need its object at this one
     * too. */
    if (same && i->attr->nlink == 1) {
        same = plan_same_bytes(p->l, n);
        if (same)
            return 0;
    }
    e = writes_through(p, n);
    if (e > 0)
        e = plan_write(p, i);
    else if (e == 0)
        e = plan_replace(p, i);
    return e < 0 ? e : plan_parent_times(p, i->lower, i->path);
}

static int plan_item(const struct cow_item *i, void *arg)
{
    struct cow_plan *p = arg;
    struct cow_step *s;

    switch (i->kind) {
    case ITEM_UPPER: return plan_upper(p, i);
    case ITEM_CHANGED: return plan_changed(p, i);
    default:
        s = cow_plan_add(p, STEP_REMOVE, 0, NULL, i->path);
        if (!s)
            return -ENOMEM;
        s->attr = *i->hidden;
        return 0;
    }
}

/* Where the limbo lies in lower's root, the root's times are to be put back. */
static int plan_root_times(struct cow_plan *p)
{
    struct cow_step *s;
    int e;

    if (p->l->same_fs || !p->n)
        return 0;
    for (size_t i = 0; i < p->n; i++) {
        if ((p->v[i].op == STEP_ATTRS || p->v[i].op == STEP_TIMES) && !*p->v[i].path)
            return 0;
    }
    s = cow_plan_add(p, STEP_TIMES, 0, NULL, "");
    if (!s)
        return -ENOMEM;
    e = cow_attr_fd(p->l->lower_fd, &s->attr);
    return e < 0 ? e : plan_was(p, s, "", &s->attr);
}

/* What writing in place will take up, as far as can be said before: a commit shall not find that out in its
 * middle. */
int cow_plan_room(const struct cow_plan *p)
{
    struct statvfs fs;

    if (!p->needs)
        return 0;
    if (fstatvfs(p->l->lower_fd, &fs) < 0)
        return -errno;
    return p->needs / fs.f_frsize > fs.f_bavail ? -ENOSPC : 0;
}

/* ---- order ---- */

static int step_phase(const struct cow_step *s)
{
    switch (s->op) {
    case STEP_KEEP: return 1;
    case STEP_OUT: return 2;
    case STEP_ASIDE:
    case STEP_MKDIR:
    case STEP_TAKE: return 3;
    case STEP_PLACE: return s->base == 'L' ? 6 : 3;
    case STEP_REMOVE: return 4;
    case STEP_WRITE: return 5;
    default: return 7;
    }
}

const char *cow_step_at(const struct cow_step *s)
{
    return s->op == STEP_KEEP || s->op == STEP_OUT || s->op == STEP_ASIDE ? s->source : s->path;
}

static int step_order(const void *x, const void *y)
{
    const struct cow_step *a = x, *b = y;
    int phase = step_phase(a), c = phase - step_phase(b);

    if (c != 0)
        return c;
    c = strcmp(cow_step_at(a), cow_step_at(b));
    if (c != 0)
        return phase == 3 ? c : -c; /* from the top down, or from the bottom up */
    if ((a->op == STEP_ASIDE) != (b->op == STEP_ASIDE))
        return a->op == STEP_ASIDE ? -1 : 1;
    if ((a->op == STEP_TIMES) != (b->op == STEP_TIMES))
        return a->op == STEP_TIMES ? -1 : 1; /* the staged attributes know better */
    return a->seq < b->seq ? -1 : 1;
}

int cow_plan_make(struct cow_layer *l, struct cow_report *report, struct cow_plan *ret)
{
    struct cow_plan p = {.l = l, .report = report};
    int e = cow_each_item(l, plan_item, &p);

    if (e == 0)
        e = plan_root_times(&p);
    if (e < 0) {
        cow_plan_fini(&p);
        return e;
    }
    util_sort(p.v, p.n, sizeof(*p.v), step_order);
    *ret = p;
    return 0;
}
