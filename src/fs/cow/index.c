/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of touched things (BD-3): nodes by lower and upper inode, names that are new or gone, and
 * the directories of lower with something touched beneath. In memory, any thread; lookups are one
 * hash access under a read lock.
 */
#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

struct cow_node *cow_node_by_lower(struct cow_layer *l, const struct cow_attr *a)
{
    struct cow_node *n;

    if (!l->any || a->dev != l->lower.dev)
        return NULL;
    pthread_rwlock_rdlock(&l->lock);
    n = cow_map_get(&l->by_lower, a->ino);
    if (n && !cow_attr_same(&n->origin, a))
        n = NULL;
    pthread_rwlock_unlock(&l->lock);
    return n;
}

struct cow_node *cow_node_by_upper(struct cow_layer *l, uint64_t dev, uint64_t ino)
{
    struct cow_node *n;

    if (!l->any || dev != l->storage.dev)
        return NULL;
    pthread_rwlock_rdlock(&l->lock);
    n = cow_map_get(&l->by_upper, ino);
    pthread_rwlock_unlock(&l->lock);
    return n;
}

static struct cow_node *node_new(const struct cow_attr *a, const char *path)
{
    struct cow_node *n = calloc(1, sizeof(*n));

    if (!n)
        return NULL;
    n->path = strdup(path);
    if (!n->path) {
        free(n);
        return NULL;
    }
    n->origin = *a;
    n->fd = -1;
    pthread_mutex_init(&n->latch, NULL);
    return n;
}

static void node_free(struct cow_node *n)
{
    if (!n)
        return;
    if (n->fd >= 0)
        util_close(n->fd);
    pthread_mutex_destroy(&n->latch);
    free(n->path);
    free(n->final);
    free(n);
}

int cow_node_get(struct cow_layer *l, const struct cow_attr *a, const char *path,
                 struct cow_node **ret)
{
    struct cow_node *fresh = node_new(a, path), *n;
    int e = 0;

    if (!fresh)
        return -ENOMEM;
    pthread_rwlock_wrlock(&l->lock);
    n = cow_map_get(&l->by_lower, a->ino);
    if (!n || !cow_attr_same(&n->origin, a)) {
        /* Another inode under the number of one that others have removed: the old node stays in
         * the list, where the commit finds the conflict. */
        e = cow_map_put(&l->by_lower, a->ino, fresh);
        if (e == 0) {
            n = STEAL_PTR(fresh);
            n->id = ++l->next_id;
            n->next_all = l->all;
            l->all = n;
            l->any = true;
        }
    }
    pthread_rwlock_unlock(&l->lock);
    node_free(fresh);
    if (e == 0)
        *ret = n;
    return e;
}

int cow_node_staged(struct cow_layer *l, struct cow_node *n, uint64_t upper_ino)
{
    int e;

    pthread_rwlock_wrlock(&l->lock);
    e = cow_map_put(&l->by_upper, upper_ino, n);
    if (e == 0) {
        n->upper_ino = upper_ino;
        n->staged = true;
        l->any = true;
    }
    pthread_rwlock_unlock(&l->lock);
    return e;
}

void cow_node_dead(struct cow_layer *l, struct cow_node *n)
{
    pthread_rwlock_wrlock(&l->lock);
    n->dead = true;
    if (n->upper_ino && cow_map_get(&l->by_upper, n->upper_ino) == n)
        cow_map_put(&l->by_upper, n->upper_ino, NULL);
    if (n->fd >= 0)
        n->fd = util_close(n->fd);
    pthread_rwlock_unlock(&l->lock);
}

/* ---- names ---- */

static uint32_t name_hash(const struct cow_node *dir, const char *name)
{
    uint32_t h = 2166136261u ^ dir->id * 2654435761u;

    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return h ^ h >> 15;
}

static struct cow_name **name_find(struct cow_layer *l, const struct cow_node *dir,
                                   const char *name, uint32_t hash)
{
    struct cow_name **p = &l->names[hash & (l->names_room - 1)];

    while (*p && !((*p)->hash == hash && (*p)->dir == dir && strcmp((*p)->name, name) == 0))
        p = &(*p)->next;
    return p;
}

static int names_grow(struct cow_layer *l)
{
    size_t room = l->names_room ? l->names_room * 2 : 256;
    struct cow_name **v;

    if (l->n_names < l->names_room)
        return 0;
    v = calloc(room, sizeof(struct cow_name *));
    if (!v)
        return -ENOMEM;
    for (size_t i = 0; i < l->names_room; i++) {
        while (l->names[i]) {
            struct cow_name *n = l->names[i];

            l->names[i] = n->next;
            n->next = v[n->hash & (room - 1)];
            v[n->hash & (room - 1)] = n;
        }
    }
    free(l->names);
    l->names = v;
    l->names_room = room;
    return 0;
}

uint32_t cow_name_flags(struct cow_layer *l, struct cow_node *dir, const char *name)
{
    uint32_t hash = name_hash(dir, name), flags = 0;

    pthread_rwlock_rdlock(&l->lock);
    if (l->names_room) {
        struct cow_name *n = *name_find(l, dir, name, hash);

        flags = n ? n->flags : 0;
    }
    pthread_rwlock_unlock(&l->lock);
    return flags;
}

/* lower's inode has one visible name less, or one more again. */
static int gone_change(struct cow_layer *l, const struct cow_attr *hidden, int by)
{
    uintptr_t count;

    if (S_ISDIR(hidden->mode))
        return 0;
    count = (uintptr_t)cow_map_get(&l->gone, hidden->ino);
    return cow_map_put(&l->gone, hidden->ino, (void *)(count + (uintptr_t)by));
}

static int name_add_locked(struct cow_layer *l, struct cow_node *dir, const char *name,
                           uint32_t flag, const struct cow_attr *hidden)
{
    uint32_t hash = name_hash(dir, name);
    struct cow_name *n, **at;
    int e = names_grow(l);

    if (e < 0)
        return e;
    at = name_find(l, dir, name, hash);
    n = *at;
    if (n && (n->flags & flag) == flag)
        return 0;
    if (hidden) {
        e = gone_change(l, hidden, 1);
        if (e < 0)
            return e;
    }
    if (!n) {
        n = calloc(1, sizeof(*n) + strlen(name) + 1);
        if (!n) {
            if (hidden)
                gone_change(l, hidden, -1);
            return -ENOMEM;
        }
        strcpy(n->name, name);
        n->dir = dir;
        n->hash = hash;
        *at = n;
        l->n_names++;
    }
    n->flags |= flag;
    dir->has_names = dir->has_names || flag;
    if (hidden)
        n->hidden = *hidden;
    return 0;
}

int cow_name_add(struct cow_layer *l, struct cow_node *dir, const char *name, uint32_t flag,
                 const struct cow_attr *hidden)
{
    int e;

    pthread_rwlock_wrlock(&l->lock);
    e = name_add_locked(l, dir, name, flag, hidden);
    pthread_rwlock_unlock(&l->lock);
    return e;
}

int cow_name_prepare(struct cow_layer *l, struct cow_node *dir, const char *name)
{
    int e;

    pthread_rwlock_wrlock(&l->lock);
    e = name_add_locked(l, dir, name, 0, NULL);
    if (e == 0)
        e = cow_map_reserve(&l->gone);
    pthread_rwlock_unlock(&l->lock);
    return e;
}

void cow_name_del(struct cow_layer *l, struct cow_node *dir, const char *name, uint32_t flag)
{
    struct cow_name *n, **at;

    pthread_rwlock_wrlock(&l->lock);
    if (!l->names_room)
        goto out;
    at = name_find(l, dir, name, name_hash(dir, name));
    n = *at;
    if (!n || !(n->flags & flag))
        goto out;
    n->flags &= ~flag;
    if (flag & NAME_WHITEOUT)
        gone_change(l, &n->hidden, -1);
    if (!n->flags) {
        *at = n->next;
        l->n_names--;
        free(n);
    }
out:
    pthread_rwlock_unlock(&l->lock);
}

const struct cow_attr *cow_name_hidden(struct cow_layer *l, const struct cow_node *dir,
                                       const char *name)
{
    struct cow_name *n = l->names_room ? *name_find(l, dir, name, name_hash(dir, name)) : NULL;

    return n && n->flags & NAME_WHITEOUT ? &n->hidden : NULL;
}

int cow_names_each(struct cow_layer *l, int (*each)(const struct cow_name *n, void *arg), void *arg)
{
    int e = 0;

    for (size_t i = 0; i < l->names_room && e == 0; i++) {
        for (const struct cow_name *n = l->names[i]; n && e == 0; n = n->next)
            e = each(n, arg);
    }
    return e;
}

uint32_t cow_gone(struct cow_layer *l, uint64_t ino)
{
    uint32_t n;

    pthread_rwlock_rdlock(&l->lock);
    n = (uint32_t)(uintptr_t)cow_map_get(&l->gone, ino);
    pthread_rwlock_unlock(&l->lock);
    return n;
}

/* ---- beneath ---- */

int cow_beneath_add(struct cow_layer *l, uint64_t ino, bool *ret_new)
{
    int e = 0;

    pthread_rwlock_wrlock(&l->lock);
    *ret_new = !cow_map_get(&l->beneath, ino);
    if (*ret_new)
        e = cow_map_put(&l->beneath, ino, l);
    pthread_rwlock_unlock(&l->lock);
    return e;
}

bool cow_beneath_has(struct cow_layer *l, uint64_t ino)
{
    bool has;

    pthread_rwlock_rdlock(&l->lock);
    has = cow_map_get(&l->beneath, ino);
    pthread_rwlock_unlock(&l->lock);
    return has;
}

/* ---- questions from outside ---- */

bool cow_is_clean(struct cow_layer *l)
{
    return !l->any;
}

bool cow_is_plain(struct cow_layer *l, const struct sys_ident *id)
{
    bool plain = true;

    if (!l->any || (id->dev != l->lower.dev && id->dev != l->storage.dev))
        return true;
    if (id->dev != l->lower.dev)
        return false; /* its numbers are shown as others */
    pthread_rwlock_rdlock(&l->lock);
    plain = !cow_map_get(&l->by_lower, id->ino) && !cow_map_get(&l->gone, id->ino) &&
            !cow_map_get(&l->by_upper, id->ino);
    pthread_rwlock_unlock(&l->lock);
    return plain;
}

void cow_index_fini(struct cow_layer *l)
{
    for (size_t i = 0; i < l->names_room; i++) {
        while (l->names[i]) {
            struct cow_name *n = l->names[i];

            l->names[i] = n->next;
            free(n);
        }
    }
    free(l->names);
    while (l->all) {
        struct cow_node *n = l->all;

        l->all = n->next_all;
        node_free(n);
    }
    cow_map_fini(&l->by_lower);
    cow_map_fini(&l->by_upper);
    cow_map_fini(&l->beneath);
    cow_map_fini(&l->gone);
}
