/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-up at once: the first write to a small file makes its object with all its bytes, by the descriptor
 * that is handed out. Any thread; what does not fit here is done step by step (stage.c).
 */

#include "fs/cow/stage.h"

#include "fs/cow/fault.h"

#define WHOLE_MAX (64u << 10)
/* What the descriptor that wrote the copy may have. */
#define WHOLE_FLAGS                                                                            \
    (O_ACCMODE | O_TRUNC | O_CREAT | O_EXCL | O_NOCTTY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | \
     O_APPEND | SYS_O_EITHER)

static bool whole_can(struct cow_layer *l, const struct cow_attr *a, int flags)
{
    /* A hole would be filled. Set-id bits go when somebody writes: by the kernel, step by step. */
    return S_ISREG(a->mode) && !(a->mode & 06000) && a->nlink > 0 && cow_is_layered(l, a) &&
           (flags & O_TRUNC || (a->size <= WHOLE_MAX && a->blocks * 512 >= a->size));
}

/* Descriptor of the object, complete and with the attributes of n->origin. */
static int whole_make(struct cow_layer *l, struct cow_node *n, int from_fd, const char *name,
                      int flags)
{
    bool cut = flags & O_TRUNC, owner;
    struct cow_attr as = n->origin, made;
    int e, fd = openat(l->objects_fd, name,
                       (flags & ~(O_TRUNC | O_NOFOLLOW)) | O_CREAT | O_EXCL | O_CLOEXEC,
                       as.mode & 0777);

    if (fd < 0)
        return -errno;
    e = cut ? 0 : cow_copy_small(from_fd, fd, as.size, &l->no_clone);
    if (e == 0)
        e = cow_attr_fd(fd, &made);
    if (e == 0) {
        /* To cut sets the time. */
        as.mtime = cut ? made.mtime : as.mtime;
        e = cow_copy_attrs_to(from_fd, &as, fd, &made, true, &owner);
    }
    if (e == 0)
        e = stage_done(l, n, &made, false, owner);
    if (e < 0) {
        util_close(fd);
        stage_drop_object(l, &n->origin, name);
        return e;
    }
    return fd;
}

static int whole_locked(struct cow_layer *l, struct cow_node *n, int from_fd,
                        const struct cow_attr *now, int flags)
{
    uint64_t bytes = flags & O_TRUNC ? 0 : now->blocks * 512;
    char name[COW_OBJECT_NAME_MAX];
    int fd;

    if (n->dead || n->staged)
        return -EAGAIN;
    stage_origin(l, n, now);
    if (cow_quota_reserve(l, COW_NAME_COST + bytes) < 0)
        return -ENOSPC;
    cow_object_name(n, name);
    fd = whole_make(l, n, from_fd, name, flags);
    /* What it really took is counted where the descriptor is handed out. */
    cow_quota_release(l, fd < 0 ? COW_NAME_COST + bytes : bytes);
    return fd == -EEXIST ? -EAGAIN : fd; /* left by an attempt that could not even clean up */
}

int cow_stage_whole(struct cow_layer *l, struct cow_pos *dir, const char *name,
                    const struct sys_ident *id, int flags)
{
    char path[PATH_MAX];
    struct cow_attr now;
    struct cow_node *n;
    int from_fd, e;

    /* For neither reading nor writing (3) asks for both rights: there would be no descriptor to copy with. */
    if (flags & ~WHOLE_FLAGS || (flags & O_ACCMODE) == O_ACCMODE || !S_ISREG(id->mode) ||
        stage_path(l, dir, name, path) < 0)
        return -EAGAIN;
    /* By the path that is recorded, as the commit will look for it. What cannot be read, or is under
     * somebody's lease, is done step by step. */
    from_fd = cow_lower_open_path(l, path, flags & O_TRUNC ? O_PATH : O_RDONLY | O_NONBLOCK);
    if (from_fd < 0)
        return -EAGAIN;
    e = cow_attr_fd(from_fd, &now);
    /* Held open, so the number is still that object's. */
    if (e == 0 && (now.ino != id->ino || now.dev != id->dev || !whole_can(l, &now, flags)))
        e = -EAGAIN;
    if (e == 0)
        e = cow_node_get(l, &now, path, &n);
    if (e == 0) {
        pthread_mutex_lock(&n->latch);
        e = cow_beneath_has(l, dir->ino) ? 0 : stage_mark_beneath(l, path);
        if (e == 0)
            e = whole_locked(l, n, from_fd, &now, flags);
        pthread_mutex_unlock(&n->latch);
    }
    util_close(from_fd);
    return e;
}
