/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of lower that go, and the objects that no name leads to any more. Any thread; a directory's names
 * change under its lock.
 */

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

int cow_whiteout(struct cow_layer *l, struct cow_pos *dir, const char *name)
{
    struct cow_attr a;
    int e = cow_attr_at(dir->lower_fd, name, &a);

    return e < 0 ? e : cow_whiteout_of(l, dir, name, &a);
}

int cow_whiteout_of(struct cow_layer *l, struct cow_pos *dir, const char *name,
                    const struct cow_attr *a)
{
    struct buf *b;
    int e = cow_name_add(l, dir->node, name, NAME_WHITEOUT, a);

    if (e < 0)
        return e;
    b = cow_log_begin(l);
    cow_put_u32(b, dir->node->id);
    cow_put_attr(b, a);
    cow_put_str(b, name);
    e = cow_log_end(l, REC_WHITEOUT);
    if (e < 0)
        cow_name_del(l, dir->node, name, NAME_WHITEOUT);
    return e;
}

void cow_unwhite(struct cow_layer *l, struct cow_pos *dir, const char *name)
{
    _cleanup_buf_ struct buf b = {0};

    cow_put_u32(&b, dir->node->id);
    cow_put_str(&b, name);
    /* A record that cannot be taken back: what is on disk is not what the run saw. */
    if (cow_log(l, REC_UNWHITE, &b) < 0)
        l->broken = true;
    cow_name_del(l, dir->node, name, NAME_WHITEOUT);
}

void cow_maybe_dead(struct cow_layer *l, struct cow_node *n)
{
    char name[COW_OBJECT_NAME_MAX];
    struct cow_attr a;
    int hold_fd;

    if (!n->staged || S_ISDIR(n->origin.mode))
        return;
    cow_object_name(n, name);
    pthread_mutex_lock(&n->latch);
    if (!n->dead && cow_attr_at(l->objects_fd, name, &a) == 0 && a.nlink == 1 &&
        cow_gone(l, n->origin.ino) >= n->origin.nlink) {
        cow_node_dead(l, n);
        hold_fd = cow_quota_hold(l, l->objects_fd, name, &a);
        if (unlinkat(l->objects_fd, name, 0) == 0)
            cow_quota_forget(l, &a, hold_fd);
        else
            util_closep(&hold_fd);
    }
    pthread_mutex_unlock(&n->latch);
}
