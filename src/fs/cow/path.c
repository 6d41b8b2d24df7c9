/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths without links in the merged view, in few calls. Any thread; the text is the child's, made of
 * names only: what it says otherwise ("..", a link, a mount, a directory that is not one) is left to the
 * walk by hand, which asks for each component again.
 *
 * Beneath a directory in which nothing is staged, and beneath a new one, the view is one side alone, and
 * the kernel resolves the rest at once. "Nothing is staged beneath" is in memory: whoever stages
 * something marks all directories above it first (stage.c).
 */
#include <linux/openat2.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

#define PATH_RESOLVE \
    (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)

/* The side that alone tells what is beneath, or -1. */
static int path_only_side(struct cow_layer *l, const struct cow_pos *p)
{
    if (p->foreign || (p->node && p->node->dead))
        return -1;
    if (p->lower_fd < 0)
        return l->any_placed ? -1 : p->upper_fd;
    return p->upper_fd < 0 && !p->node && !cow_beneath_has(l, p->ino) ? p->lower_fd : -1;
}

/* 1, 0: not decided, or -errno. Takes fd over. */
static int path_found(struct cow_layer *l, struct cow_path *w, int fd, bool in_upper)
{
    struct cow_attr a;
    int e = cow_attr_fd(fd, &a);

    /* Another name of the inode may have been changed. */
    if (e == 0 && !in_upper && (!cow_is_layered(l, &a) || cow_node_by_lower(l, &a))) {
        util_close(fd);
        return 0;
    }
    if (e < 0) {
        util_close(fd);
        return e;
    }
    w->fd = fd;
    w->id = cow_attr_ident(&a);
    w->in_upper = in_upper;
    return 1;
}

/* The rest in one call of the kernel. */
static int path_rest(struct cow_layer *l, struct cow_path *w, int side, const char *rest,
                     unsigned flags)
{
    int fd = sys_openat2(side, rest,
                         O_PATH | O_CLOEXEC | (flags & COW_PATH_FOLLOW ? 0 : O_NOFOLLOW) |
                             (flags & COW_PATH_DIRECTORY ? O_DIRECTORY : 0),
                         0, PATH_RESOLVE);

    if (fd < 0)
        return fd == -ENOENT ? fd : 0;
    return path_found(l, w, fd, side == w->dir.upper_fd);
}

/* Into a directory. Its side follows from memory: nobody else puts names into the upper one. */
static int path_enter(struct cow_layer *l, struct cow_path *w, const char *name)
{
    struct cow_pos next = COW_POS_INIT, *p = &w->dir;
    uint32_t flags = p->node ? cow_name_flags(l, p->node, name) : 0;
    bool in_upper = p->upper_fd >= 0 && (!p->node || flags & NAME_UPPER);
    int fd;

    if (p->foreign || (p->node && (p->node->dead || (!in_upper && p->node->attrs))))
        return 0;
    if (!in_upper && (p->lower_fd < 0 || flags & NAME_WHITEOUT))
        return -ENOENT;
    fd = sys_open_path(in_upper ? p->upper_fd : p->lower_fd, name, O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0)
        return fd == -ENOENT && !in_upper ? fd : 0;
    if (cow_pos_of(l, fd, in_upper, &next) < 0)
        return 0;
    cow_pos_fini(p);
    *p = next;
    return 1;
}

/* All directories of the path: text[..end). */
static int path_enter_rest(struct cow_layer *l, struct cow_path *w, int side, const char *text,
                           size_t end)
{
    struct cow_pos next = COW_POS_INIT;
    char dirs[PATH_MAX];
    int fd, e;

    memcpy(dirs, text, end);
    dirs[end] = '\0';
    fd = sys_openat2(side, dirs, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, PATH_RESOLVE);
    if (fd < 0)
        return fd == -ENOENT ? fd : 0;
    e = cow_pos_of(l, fd, side == w->dir.upper_fd, &next);
    if (e < 0)
        return 0;
    cow_pos_fini(&w->dir);
    w->dir = next;
    return 1;
}

static int path_last(struct cow_layer *l, struct cow_path *w, const char *name, unsigned flags)
{
    struct cow_entry en;
    struct cow_attr a = {0};
    int fd, e = w->dir.foreign ? -EXDEV : cow_look(l, &w->dir, name, &en, &a, &fd);

    if (e < 0)
        return 0;
    memcpy(w->name, name, strlen(name) + 1);
    if (fd < 0)
        return flags & COW_PATH_PARENT ? 1 : -ENOENT;
    if ((S_ISLNK(a.mode) && flags & COW_PATH_FOLLOW) ||
        (en.where == COW_LOWER && !cow_is_layered(l, &a)) ||
        (flags & COW_PATH_DIRECTORY && !S_ISDIR(a.mode))) {
        util_close(fd);
        return 0;
    }
    w->fd = fd;
    w->id = cow_attr_ident(&a);
    w->in_upper = en.in_upper;
    return 1;
}

/* ".", "..", "": left to others. */
static bool path_is_odd(const char *name, size_t n)
{
    return n == 0 || n > NAME_MAX || (name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.')));
}

int cow_path(struct cow_layer *l, const char *text, unsigned flags, struct cow_path *w)
{
    size_t len = strlen(text), last = len, at = 0, n;
    char name[NAME_MAX + 1];
    int side, e;

    w->fd = -1;
    w->name[0] = '\0';
    if (l->inside || len >= PATH_MAX)
        return 0;
    while (last > 0 && text[last - 1] != '/')
        last--;
    if (path_is_odd(text + last, len - last))
        return 0;
    while (at < last) {
        n = strcspn(text + at, "/");
        if (n == 0 || (n == 1 && text[at] == '.')) {
            at += n + 1;
            continue;
        }
        if (path_is_odd(text + at, n))
            return 0;
        side = path_only_side(l, &w->dir);
        if (side >= 0 && !(flags & COW_PATH_PARENT))
            break;
        if (side >= 0) {
            e = path_enter_rest(l, w, side, text + at, last - at);
            at = last;
        } else {
            memcpy(name, text + at, n);
            name[n] = '\0';
            e = path_enter(l, w, name);
            at += n + 1;
        }
        if (e <= 0)
            return e;
    }
    side = path_only_side(l, &w->dir);
    if (side >= 0 && !(flags & COW_PATH_PARENT))
        return path_rest(l, w, side, text + at, flags);
    return path_last(l, w, text + last, flags);
}
