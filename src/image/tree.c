/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing trees by descriptor, and the set of inodes that a layer has made. The names are an image's.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "image/image.h"
#include "sys/fs.h"

static bool is_dots(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

int tree_clear(int dir_fd, const struct inode_set *keep)
{
    DIR *d = fdopendir(dir_fd);
    struct dirent *e;
    int r = 0;

    if (!d) {
        r = -errno;
        util_close(dir_fd);
        return r;
    }
    while (r == 0 && (errno = 0, e = readdir(d))) {
        int sub_fd;

        if (is_dots(e->d_name))
            continue;
        if (!keep || !inode_set_has(keep, e->d_ino)) {
            r = tree_remove(dirfd(d), e->d_name);
            continue;
        }
        /* Made or kept by this layer: what lower layers put beneath goes. */
        sub_fd = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub_fd >= 0)
            r = tree_clear(sub_fd, keep);
        else if (errno != ENOTDIR && errno != ELOOP)
            r = -errno;
    }
    if (r == 0 && errno)
        r = -errno;
    closedir(d);
    return r;
}

int tree_remove(int dir_fd, const char *name)
{
    _cleanup_close_ int fd = -1;
    int inner_fd, r;

    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    (void)sys_chmod_fd(fd, 0700); /* an image may close a directory to its owner */
    inner_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = inner_fd < 0 ? -errno : tree_clear(inner_fd, NULL);
    if (r < 0)
        return r;
    return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* ---- inodes ---- */

static size_t inode_slot(const struct inode_set *s, uint64_t ino)
{
    size_t i = (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15)) & (s->capacity - 1);

    while (s->slots[i] && s->slots[i] != ino)
        i = (i + 1) & (s->capacity - 1);
    return i;
}

static int inode_set_grow(struct inode_set *s)
{
    struct inode_set bigger = {.n = s->n, .capacity = s->capacity ? s->capacity * 2 : 1024};

    bigger.slots = calloc(bigger.capacity, sizeof(*bigger.slots));
    if (!bigger.slots)
        return -ENOMEM;
    for (size_t i = 0; i < s->capacity; i++) {
        if (s->slots[i])
            bigger.slots[inode_slot(&bigger, s->slots[i])] = s->slots[i];
    }
    free(s->slots);
    *s = bigger;
    return 0;
}

int inode_set_add(struct inode_set *s, uint64_t ino)
{
    size_t i;

    if (2 * s->n >= s->capacity) {
        int r = inode_set_grow(s);

        if (r < 0)
            return r;
    }
    i = inode_slot(s, ino);
    s->n += !s->slots[i];
    s->slots[i] = ino;
    return 0;
}

bool inode_set_has(const struct inode_set *s, uint64_t ino)
{
    return s->capacity && s->slots[inode_slot(s, ino)] == ino;
}

void inode_set_fini(struct inode_set *s)
{
    free(s->slots);
    *s = (struct inode_set){0};
}
