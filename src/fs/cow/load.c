/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the index on disk back to the index in memory, for layers whose run is over. One thread.
 */
#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

static struct cow_node *load_find(struct cow_layer *l, uint32_t id)
{
    struct cow_node *n = l->all;

    while (n && n->id != id)
        n = n->next_all;
    return n;
}

/* The work directory by its path, which must still be the same one. Device and mount numbers are of
 * this boot; inode numbers and birth times stay. */
static int load_lower(struct cow_layer *l)
{
    struct cow_attr now;
    int e;

    l->lower_fd = sys_open_path(AT_FDCWD, l->lower_path, O_DIRECTORY);
    if (l->lower_fd < 0)
        return l->lower_fd;
    e = cow_attr_fd(l->lower_fd, &now);
    if (e < 0)
        return e;
    if (now.ino != l->lower.ino || now.btime != l->lower.btime)
        return -ESTALE;
    l->lower = now;
    return 0;
}

static int load_header(struct cow_layer *l, struct cow_get *g)
{
    if (cow_get_u32(g) != 1)
        return -EPROTONOSUPPORT;
    cow_get_attr(g, &l->lower);
    l->lower_path = strdup(cow_get_str(g));
    l->command = strdup(cow_get_str(g));
    l->created = cow_get_u64(g);
    l->max_bytes = cow_get_u64(g);
    return l->lower_path && l->command ? load_lower(l) : -ENOMEM;
}

static int load_node(struct cow_layer *l, struct cow_get *g)
{
    uint32_t id = cow_get_u32(g);
    struct cow_attr origin;
    struct cow_node *n;
    uint64_t upper_ino;
    bool light, has_owner;
    uint32_t uid, gid;
    int e;

    cow_get_attr(g, &origin);
    origin.dev = l->lower.dev;
    upper_ino = cow_get_u64(g);
    light = cow_get_u32(g);
    has_owner = cow_get_u32(g);
    uid = cow_get_u32(g);
    gid = cow_get_u32(g);
    l->next_id = id ? id - 1 : 0;
    e = cow_node_get(l, &origin, cow_get_str(g), &n);
    if (e < 0 || n->id != id)
        return e < 0 ? e : -EBADMSG;
    n->light = light;
    n->has_owner = has_owner;
    n->uid = uid;
    n->gid = gid;
    return cow_node_staged(l, n, upper_ino);
}

static int load_name(struct cow_layer *l, enum cow_record type, struct cow_get *g)
{
    struct cow_node *dir = load_find(l, cow_get_u32(g));
    struct cow_attr hidden;

    if (!dir)
        return -EBADMSG;
    if (type == REC_UNWHITE) {
        cow_name_del(l, dir, cow_get_str(g), NAME_WHITEOUT);
        return 0;
    }
    cow_get_attr(g, &hidden);
    hidden.dev = l->lower.dev;
    return cow_name_add(l, dir, cow_get_str(g), NAME_WHITEOUT, &hidden);
}

static int load_full(struct cow_layer *l, struct cow_get *g)
{
    struct cow_node *n = load_find(l, cow_get_u32(g));

    if (!n)
        return -EBADMSG;
    n->light = false;
    return 0;
}

static int load_record(enum cow_record type, struct cow_get *g, void *arg)
{
    struct cow_layer *l = arg;

    if ((type == REC_HEADER) == (l->lower_path != NULL))
        return -EBADMSG;
    if (l->header_only && type != REC_HEADER && type != REC_KEPT) {
        g->bad = false;
        return 0;
    }
    switch (type) {
    case REC_HEADER: return load_header(l, g);
    case REC_NODE: return load_node(l, g);
    case REC_WHITEOUT:
    case REC_UNWHITE: return load_name(l, type, g);
    case REC_FULL: return load_full(l, g);
    case REC_KEPT:
        l->kept = true;
        free(l->reason);
        l->reason = strdup(cow_get_str(g));
        return l->reason ? 0 : -ENOMEM;
    default: return -EBADMSG;
    }
}

struct load_dir {
    struct cow_layer *l;
    struct cow_node *node; /* names here are of this node; NULL: in a new directory */
    int dir_fd;
};

static int load_names(struct cow_layer *l, struct cow_node *node, int dir_fd);

static int load_one_name(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct load_dir *d = arg;
    struct cow_node *n = cow_node_by_upper(d->l, d->l->storage.dev, ino);
    int e = d->node ? cow_name_add(d->l, d->node, name, NAME_UPPER, NULL) : 0;
    int fd;

    (void)type;
    if (e < 0)
        return e;
    if (n)
        d->l->any_placed = true;
    fd = sys_open_path(d->dir_fd, name, O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0)
        return fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
    if (n) {
        n->moved = true;
        n->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (n->fd < 0)
            e = -errno;
    }
    if (e == 0)
        e = load_names(d->l, n, fd);
    util_close(fd);
    return e;
}

static int load_names(struct cow_layer *l, struct cow_node *node, int dir_fd)
{
    struct load_dir d = {.l = l, .node = node, .dir_fd = dir_fd};

    return cow_each_closed_name(dir_fd, load_one_name, &d);
}

/* Objects whose names are gone are dead; directories that lie elsewhere were moved and are met while
 * the others are read. */
static int load_objects(struct cow_layer *l)
{
    int e = 0;

    for (struct cow_node *n = l->all; n && e == 0; n = n->next_all) {
        struct cow_attr a;
        int fd = cow_object_open(l, n, O_PATH);

        if (fd < 0 && fd != -ENOENT)
            return fd;
        if (fd >= 0)
            e = cow_attr_fd(fd, &a);
        if (e == 0 && fd >= 0 && a.ino != n->upper_ino)
            e = -EBADMSG;
        if (e == 0 && fd >= 0 && S_ISDIR(n->origin.mode))
            e = load_names(l, n, fd);
        util_close(fd);
        /* Whether its times were set is not stored: those of directories follow from their names. */
        n->attrs = fd >= 0 && !S_ISDIR(n->origin.mode);
        n->dead = fd < 0;
    }
    for (struct cow_node *n = l->all; n; n = n->next_all)
        n->dead = n->dead && !n->moved;
    return e;
}

static int any_name(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    (void)name, (void)type, (void)ino, (void)arg;
    return 1;
}

static bool has_objects(struct cow_layer *l)
{
    return l->objects_fd >= 0 && cow_each_name(l->objects_fd, any_name, NULL) != 0;
}

/* -ENODATA: not even the header was written, nothing ever used it. */
int cow_load(struct cow_layer *l)
{
    int e = cow_read_records(l->index_fd, load_record, l);

    if (e == 0 && !l->lower_path)
        e = has_objects(l) ? -EBADMSG : -ENODATA; /* it was being made */
    if (e == 0 && !l->header_only)
        e = load_objects(l);
    l->loaded = true;
    return e;
}
