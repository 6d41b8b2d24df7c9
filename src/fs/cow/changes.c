/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the run changed (CW-09, BA-02): a list in the order of the bytes of the paths, as text and as
 * JSON. Taken from the plan's own view of the new tree, so that the list and a commit cannot differ. One
 * thread, the run is over.
 */
#include <stdio.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

struct telling {
    struct cow_layer *l;
    struct cow_changes c;
};

static char *link_target(int dir_fd, const char *name)
{
    char text[PATH_MAX];
    ssize_t n = readlinkat(dir_fd, name, text, sizeof(text) - 1);

    if (n < 0)
        return NULL;
    text[n] = '\0';
    return strdup(text);
}

static struct cow_side side_of(const struct cow_attr *a, const struct cow_node *n)
{
    return (struct cow_side){.mode = a->mode,
                             .size = S_ISDIR(a->mode) ? 0 : a->size,
                             .uid = n && n->has_owner ? n->uid : a->uid,
                             .gid = n && n->has_owner ? n->gid : a->gid,
                             .mtime = cow_time(a->mtime)};
}

static void change_fini(struct cow_change *c)
{
    free(c->path);
    free(c->from);
    free(c->body);
    free(c->before.link);
    free(c->after.link);
    free(c->replaced.link);
}

static struct cow_change *tell(struct telling *t, enum cow_kind kind, const char *path)
{
    struct cow_changes *c = &t->c;
    struct cow_change *v = util_grow(c->v, c->n, &c->room, sizeof(*v));

    if (!v)
        return NULL;
    c->v = v;
    c->v[c->n] =
        (struct cow_change){.kind = kind, .path = strdup(path), .storage_fd = t->l->storage_fd};
    return c->v[c->n].path ? &c->v[c->n++] : NULL;
}

/* ---- one change ---- */

static int fill_after(struct telling *t, struct cow_change *c, const struct cow_item *i)
{
    c->after = side_of(i->attr, i->node);
    if (i->node && i->node->light) { /* the bytes are lower's */
        c->storage_fd = t->l->lower_fd;
        c->body = strdup(i->node->path);
        return c->body ? 0 : -ENOMEM;
    }
    c->body = strdup(i->source);
    if (S_ISLNK(i->attr->mode))
        c->after.link = link_target(t->l->storage_fd, i->source);
    return c->body && (!S_ISLNK(i->attr->mode) || c->after.link) ? 0 : -ENOMEM;
}

static int fill_side(struct telling *t, struct cow_side *side, const struct cow_attr *a,
                     const char *path)
{
    *side = side_of(a, NULL);
    if (!S_ISLNK(a->mode))
        return 0;
    /* In a directory that was moved the path may be another one: then the target is not told. */
    errno = 0;
    side->link = link_target(t->l->lower_fd, path);
    return side->link || errno != ENOMEM ? 0 : -ENOMEM;
}

static int fill_before(struct telling *t, struct cow_change *c, const struct cow_attr *a,
                       const char *path)
{
    return fill_side(t, &c->before, a, path);
}

static bool same_bytes(struct telling *t, const struct cow_item *i, const char *lower)
{
    int a, b, e = 0;

    if (i->node && i->node->light)
        return strcmp(i->node->path, lower) == 0;
    if (!S_ISREG(i->attr->mode))
        return !S_ISLNK(i->attr->mode); /* links are compared by their texts */
    a = openat(t->l->storage_fd, i->source, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    b = cow_lower_open_path(t->l, lower, O_RDONLY | O_NONBLOCK);
    if (a >= 0 && b >= 0)
        e = cow_same_content(a, b);
    util_closep(&a);
    if (b >= 0)
        util_close(b);
    return e > 0;
}

static bool same_xattrs(struct telling *t, const struct cow_item *i, const char *lower)
{
    int a = openat(t->l->storage_fd, i->source, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int b = cow_lower_open_path(t->l, lower, O_PATH);
    bool same = a >= 0 && b >= 0 && (S_ISLNK(i->attr->mode) || cow_xattrs_same(a, b));

    util_closep(&a);
    if (b >= 0)
        util_close(b);
    return same;
}

/* Times alone count when they were set, not when they follow from writing what was there. */
static bool times_set(const struct cow_item *i, const struct cow_attr *before)
{
    return i->node && (i->node->attrs || i->node->light) && before->mtime != i->attr->mtime;
}

/* The same kind of object at the same path: is there anything to tell? A file that was written with
 * the bytes it had is none, and neither is a directory in which names changed. */
static int tell_modified(struct telling *t, const struct cow_item *i, const struct cow_attr *before)
{
    struct cow_side was = side_of(before, NULL), is = side_of(i->attr, i->node);
    _cleanup_free_ char *old = NULL, *new = NULL;
    const char *lower = i->lower ? i->lower : i->path;
    bool content = !same_bytes(t, i, lower);
    struct cow_change *c;
    int e;

    if (S_ISLNK(i->attr->mode)) {
        old = link_target(t->l->lower_fd, lower);
        new = link_target(t->l->storage_fd, i->source);
        content = !old || !new || strcmp(old, new) != 0;
    }
    if (!content && was.mode == is.mode && was.uid == is.uid && was.gid == is.gid &&
        same_xattrs(t, i, lower) && !times_set(i, before))
        return 0;
    c = tell(t, COW_MODIFIED, *i->path ? i->path : ".");
    if (!c)
        return -ENOMEM;
    c->content = content;
    e = fill_before(t, c, before, lower);
    return e < 0 ? e : fill_after(t, c, i);
}

static int tell_gone(struct telling *t, const struct cow_attr *was, const char *path,
                     const char *lower)
{
    struct cow_change *c = tell(t, COW_DELETED, path);

    return c ? fill_before(t, c, was, lower) : -ENOMEM;
}

/* Something with a name in an upper directory; `hidden` is what lower had there. */
static int tell_upper(struct telling *t, const struct cow_item *i)
{
    const struct cow_attr *was = i->renamed ? &i->node->origin : i->hidden;
    bool same_kind = i->hidden && (i->hidden->mode & S_IFMT) == (i->attr->mode & S_IFMT);
    enum cow_kind kind = i->renamed ? COW_RENAMED : i->hidden ? COW_RETYPED : COW_ADDED;
    struct cow_change *c;
    int e = 0;

    if (!i->renamed && same_kind) {
        if (!S_ISDIR(i->attr->mode))
            return tell_modified(t, i, i->hidden);
        /* Removed with all that was in it, and made anew. */
        e = tell_gone(t, i->hidden, i->path, i->path);
        kind = COW_ADDED;
        was = NULL;
    }
    c = e < 0 ? NULL : tell(t, kind, i->path);
    if (!c)
        return e < 0 ? e : -ENOMEM;
    if (i->renamed) {
        c->from = strdup(i->node->path);
        if (!c->from)
            return -ENOMEM;
        c->content = S_ISREG(i->attr->mode) && !i->node->light && !same_bytes(t, i, i->node->path);
    }
    if (was)
        e = fill_before(t, c, was, i->renamed ? c->from : i->path);
    if (e == 0 && i->renamed && i->hidden)
        e = fill_side(t, &c->replaced, i->hidden, i->lower ? i->lower : i->path);
    return e < 0 ? e : fill_after(t, c, i);
}

static int tell_item(const struct cow_item *i, void *arg)
{
    struct telling *t = arg;

    switch (i->kind) {
    case ITEM_GONE: return i->renamed ? 0 : tell_gone(t, i->hidden, i->path, i->lower);
    case ITEM_CHANGED: return tell_modified(t, i, &i->node->origin);
    default: return tell_upper(t, i);
    }
}

static int by_path(const void *a, const void *b)
{
    const struct cow_change *x = a, *y = b;
    int c = strcmp(x->path, y->path);

    return c ? c : (int)x->kind - (int)y->kind;
}

int cow_changes(struct cow_layer *l, struct cow_changes *ret)
{
    struct telling t = {.l = l};
    int e = cow_each_item(l, tell_item, &t);

    if (e < 0) {
        cow_changes_fini(&t.c);
        return e;
    }
    util_sort(t.c.v, t.c.n, sizeof(*t.c.v), by_path);
    *ret = t.c;
    return 0;
}

void cow_changes_fini(struct cow_changes *c)
{
    for (size_t i = 0; i < c->n; i++)
        change_fini(&c->v[i]);
    free(c->v);
    *c = (struct cow_changes){0};
}

/* ---- output ---- */

static const char *kind_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR: return "directory";
    case S_IFLNK: return "symlink";
    case S_IFREG: return "file";
    case S_IFIFO: return "fifo";
    case S_IFSOCK: return "socket";
    default: return "device";
    }
}

/* "KEY": text, and where it is none, "KEY_hex" with the bytes. */
static void add_text(struct buf *out, const char *key, const char *s)
{
    buf_addf(out, ",\"%s\":", key);
    if (buf_add_json(out, s, strlen(s)))
        return;
    buf_addf(out, ",\"%s_hex\":\"", key);
    for (; *s; s++)
        buf_addf(out, "%02x", (unsigned char)*s);
    buf_addc(out, '"');
}

static void add_side(struct buf *out, const char *key, const struct cow_side *s)
{
    if (!s->mode)
        return;
    buf_addf(out, ",\"%s\":{\"kind\":\"%s\",\"mode\":\"%04o\",\"size\":%llu,\"uid\":%u,\"gid\":%u",
             key, kind_name(s->mode), (unsigned)s->mode & 07777, (unsigned long long)s->size,
             s->uid, s->gid);
    buf_addf(out, ",\"mtime\":%lld.%09ld", (long long)s->mtime.tv_sec, s->mtime.tv_nsec);
    if (s->link)
        add_text(out, "target", s->link);
    buf_addc(out, '}');
}

void cow_changes_json(const struct cow_changes *c, struct buf *out)
{
    buf_addc(out, '[');
    for (size_t i = 0; i < c->n; i++) {
        const struct cow_change *v = &c->v[i];

        buf_addf(out, "%s\n{\"change\":\"%c\"", i ? "," : "", v->kind);
        add_text(out, "path", v->path);
        if (v->from)
            add_text(out, "from", v->from);
        if (v->kind == COW_MODIFIED || v->kind == COW_RENAMED)
            buf_addf(out, ",\"content\":%s", v->content ? "true" : "false");
        add_side(out, "before", &v->before);
        add_side(out, "after", &v->after);
        buf_addc(out, '}');
    }
    buf_adds(out, "]\n");
}
