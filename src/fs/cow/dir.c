/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories that were met, with their descriptors: a position of one that is known costs no call.
 * Any thread; a leaf lock.
 *
 * Why nothing here grows old. An entry is found by the identity of an object that was just looked at,
 * and holds a descriptor of that object, so its number cannot be given to another one. Which side of
 * the view it is follows from where the object lies, and nothing leaves the storage or enters it but
 * by us. What changes in time is read anew by cow_pos_update(): the upper side once the directory is
 * staged, and the node, which says whether it is gone. What others do to lower meanwhile (moving a
 * directory out of it) is not looked at again: commit compares, and until then nothing writes there.
 * The same for what lies outside: a directory that others move into lower stays the host's, on which the
 * receivers have the rights that the policy grants and no more.
 */
#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

struct cow_dir {
    struct cow_layer *l;
    unsigned refs;                /* under dir_lock */
    uint64_t dev, mnt, found_ino; /* of the side it is found by */
    bool outside;                 /* not of the view at all */
    uint64_t ino;                 /* as in struct cow_pos */
    struct cow_node *node;
    int lower_fd;
    int upper_fd; /* set once, under dir_lock */
};

static struct cow_dir **dir_slot(struct cow_layer *l, uint64_t ino)
{
    return &l->known[(ino * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & (COW_KNOWN_DIRS - 1)];
}

static void dir_drop_locked(struct cow_dir *d)
{
    if (!d || --d->refs > 0)
        return;
    util_close(d->lower_fd);
    util_close(d->upper_fd);
    free(d);
}

static void dir_show(struct cow_dir *d, struct cow_pos *ret)
{
    d->refs++;
    *ret = (struct cow_pos){.lower_fd = d->lower_fd,
                            .upper_fd = d->upper_fd,
                            .node = d->node,
                            .ino = d->ino,
                            .shared = d};
}

static struct cow_dir *dir_find_locked(struct cow_layer *l, const struct cow_attr *a)
{
    struct cow_dir *d = *dir_slot(l, a->ino);

    return d && d->found_ino == a->ino && d->dev == a->dev && d->mnt == a->mnt ? d : NULL;
}

int cow_dir_find(struct cow_layer *l, const struct cow_attr *a, struct cow_pos *ret)
{
    struct cow_dir *d;
    int found = 0;

    pthread_mutex_lock(&l->dir_lock);
    d = dir_find_locked(l, a);
    if (d && d->outside)
        found = -EXDEV;
    else if (d)
        found = 1;
    if (found > 0)
        dir_show(d, ret);
    pthread_mutex_unlock(&l->dir_lock);
    return found;
}

static struct cow_dir *dir_add(struct cow_layer *l, const struct cow_attr *a, struct cow_dir d,
                               struct cow_pos *show)
{
    struct cow_dir *kept = l->remembers ? malloc(sizeof(*kept)) : NULL, **at;

    if (!kept)
        return NULL; /* only slower */
    d.l = l;
    d.refs = 1;
    d.dev = a->dev;
    d.mnt = a->mnt;
    d.found_ino = a->ino;
    *kept = d;
    pthread_mutex_lock(&l->dir_lock);
    at = dir_slot(l, a->ino);
    dir_drop_locked(*at);
    *at = kept;
    if (show)
        dir_show(kept, show);
    pthread_mutex_unlock(&l->dir_lock);
    return kept;
}

void cow_dir_add(struct cow_layer *l, const struct cow_attr *a, struct cow_pos *p)
{
    if (p->shared || p->foreign || (p->node && p->node->dead))
        return;
    (void)dir_add(
        l, a,
        (struct cow_dir){
            .ino = p->ino, .node = p->node, .lower_fd = p->lower_fd, .upper_fd = p->upper_fd},
        p);
}

void cow_dir_add_outside(struct cow_layer *l, const struct cow_attr *a, int fd)
{
    if (!dir_add(l, a, (struct cow_dir){.outside = true, .lower_fd = fd, .upper_fd = -1}, NULL))
        util_close(fd);
}

void cow_dir_staged(struct cow_layer *l, struct cow_pos *p, int upper_fd)
{
    struct cow_dir *d = p->shared;

    if (!d) {
        p->upper_fd = upper_fd;
        return;
    }
    pthread_mutex_lock(&l->dir_lock);
    if (d->upper_fd >= 0)
        util_close(upper_fd);
    else
        d->upper_fd = upper_fd;
    d->node = p->node;
    p->upper_fd = d->upper_fd;
    pthread_mutex_unlock(&l->dir_lock);
}

void cow_dir_ref(struct cow_dir *d)
{
    pthread_mutex_lock(&d->l->dir_lock);
    d->refs++;
    pthread_mutex_unlock(&d->l->dir_lock);
}

void cow_dir_unref(struct cow_dir *d)
{
    pthread_mutex_t *lock = &d->l->dir_lock;

    pthread_mutex_lock(lock);
    dir_drop_locked(d);
    pthread_mutex_unlock(lock);
}

void cow_dirs_fini(struct cow_layer *l)
{
    for (size_t i = 0; i < COW_KNOWN_DIRS; i++)
        dir_drop_locked(l->known[i]);
    memset(l->known, 0, sizeof(l->known));
}
