/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listings of the merged view (BD-12): one pass over each side, no stat, a snapshot for each open
 * description. Names are lower's and the child's: bytes, bounded by the kernel.
 */
#include <dirent.h>
#include <stddef.h>

#include "fs/cow/internal.h"
#include "sys/uapi.h"

#include "fs/cow/fault.h"

#define LIST_CHUNK (64u << 10)

static bool is_dots(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

int cow_each_name(int dir_fd, cow_each_name_fn *each, void *arg)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), e = 0;
    _cleanup_free_ char *chunk = NULL;
    ssize_t n = 0;

    if (fd < 0)
        return -errno;
    chunk = malloc(LIST_CHUNK);
    if (!chunk)
        e = -ENOMEM;
    while (e == 0 && (n = sys_getdents64(fd, chunk, LIST_CHUNK)) > 0) {
        for (ssize_t at = 0; at < n && e == 0;) {
            struct uapi_dirent *d = (struct uapi_dirent *)(chunk + at);

            if (!is_dots(d->name))
                e = each(d->name, d->type, d->ino, arg);
            at += d->len;
        }
    }
    if (e == 0 && n < 0)
        e = (int)n;
    util_close(fd);
    return e;
}

/* ---- the merge ---- */

struct cow_list {
    struct cow_layer *l;
    struct cow_pos pos;
    struct buf entries; /* struct uapi_dirent one after the other, off = its own place */
    bool filled;
};

static void list_put(struct cow_list *s, const char *name, unsigned char type, uint64_t ino)
{
    size_t n = offsetof(struct uapi_dirent, name) + strlen(name) + 1;
    struct uapi_dirent d = {.ino = ino, .type = type};
    static const char zero[8];

    d.len = (uint16_t)((n + 7) & ~(size_t)7);
    d.off = (int64_t)(s->entries.len + d.len);
    buf_add(&s->entries, &d, offsetof(struct uapi_dirent, name));
    buf_add(&s->entries, name, strlen(name) + 1);
    buf_add(&s->entries, zero, d.len - n);
}

static int list_upper(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct cow_list *s = arg;
    struct cow_node *n = NULL;

    if (s->l->any_placed)
        n = cow_node_by_upper(s->l, s->l->storage.dev, ino);
    list_put(s, name, type, n ? n->origin.ino : cow_show_ino(s->l, ino));
    return buf_error(&s->entries);
}

static int list_lower(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct cow_list *s = arg;

    if (ino == s->l->holder.ino && s->l->holder.dev == s->l->lower.dev)
        return 0;
    if (s->pos.node && cow_name_flags(s->l, s->pos.node, name))
        return 0; /* gone, or new above */
    list_put(s, name, type, ino);
    return buf_error(&s->entries);
}

static void list_dots(struct cow_list *s)
{
    struct cow_pos up = COW_POS_INIT;
    struct cow_stat st;
    uint64_t here = 1, above;

    if (cow_stat_pos(s->l, &s->pos, &st) == 0)
        here = st.st.st_ino;
    above = here;
    if (cow_parent(s->l, &s->pos, &up) == 0) {
        if (cow_stat_pos(s->l, &up, &st) == 0)
            above = st.st.st_ino;
        cow_pos_fini(&up);
    }
    list_put(s, ".", DT_DIR, here);
    list_put(s, "..", DT_DIR, above);
}

static int list_fill(struct cow_list *s)
{
    int e = cow_pos_update(s->l, &s->pos);

    buf_fini(&s->entries);
    s->filled = false;
    if (e < 0)
        return e;
    if (s->pos.node && s->pos.node->dead) {
        s->filled = true; /* as a removed directory lists: nothing */
        return 0;
    }
    pthread_mutex_lock(cow_dir_lock(s->l, &s->pos));
    list_dots(s);
    if (s->pos.upper_fd >= 0)
        e = cow_each_name(s->pos.upper_fd, list_upper, s);
    if (e == 0 && s->pos.lower_fd >= 0)
        e = cow_each_name(s->pos.lower_fd, list_lower, s);
    pthread_mutex_unlock(cow_dir_lock(s->l, &s->pos));
    if (e == 0)
        e = buf_error(&s->entries);
    s->filled = e == 0;
    return e;
}

int cow_list_new(struct cow_layer *l, struct cow_pos *dir, struct cow_list **ret)
{
    struct cow_list *s = calloc(1, sizeof(*s));
    int e;

    if (!s)
        return -ENOMEM;
    s->l = l;
    s->pos = (struct cow_pos)COW_POS_INIT;
    e = cow_pos_copy(dir, &s->pos);
    if (e < 0) {
        free(s);
        return e;
    }
    *ret = s;
    return 0;
}

void cow_list_free(struct cow_list *s)
{
    if (!s)
        return;
    cow_pos_fini(&s->pos);
    buf_fini(&s->entries);
    free(s);
}

ssize_t cow_list_read(struct cow_list *s, void *buf, size_t size, uint64_t *offset)
{
    size_t done = 0, at;
    int e = *offset == 0 || !s->filled ? list_fill(s) : 0;

    if (e < 0)
        return e;
    /* Offsets that we never gave out end the listing, as they do on real file systems. */
    at = *offset % 8 == 0 && *offset <= s->entries.len ? (size_t)*offset : s->entries.len;
    while (at < s->entries.len) {
        const struct uapi_dirent *d = (const struct uapi_dirent *)(s->entries.data + at);

        if (d->len < 24 || d->len > s->entries.len - at)
            break; /* an offset into the middle of an entry */
        if (d->len > size - done) {
            if (!done)
                return -EINVAL;
            break;
        }
        memcpy((char *)buf + done, d, d->len);
        done += d->len;
        at += d->len;
        *offset = at;
    }
    return (ssize_t)done;
}

/* ---- emptiness ---- */

static int full_upper(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    (void)name, (void)type, (void)ino, (void)arg;
    return -ENOTEMPTY;
}

static int full_lower(const char *name, unsigned char type, uint64_t ino, void *arg)
{
    struct cow_list *s = arg;

    (void)type, (void)ino;
    return s->pos.node && cow_name_flags(s->l, s->pos.node, name) & NAME_WHITEOUT ? 0 : -ENOTEMPTY;
}

int cow_is_empty(struct cow_layer *l, struct cow_pos *dir)
{
    struct cow_list s = {.l = l, .pos = *dir};
    int e = 0;

    if (dir->upper_fd >= 0)
        e = cow_each_name(dir->upper_fd, full_upper, NULL);
    if (e == 0 && dir->lower_fd >= 0)
        e = cow_each_name(dir->lower_fd, full_lower, &s);
    return e;
}
