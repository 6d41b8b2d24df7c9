/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Granted objects by identity. Built in the caller before the child exists, read by receivers.
 * Input: the user's own paths; the objects asked about are found by resolve_path().
 */
#include "fs/grants.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fs/place.h"
#include "plan/root.h"

struct grant {
    dev_t dev;
    ino_t ino;
    int bits;
    int fd; /* keeps the inode, so that its number cannot come back as something else; or -1 */
};

/* Descriptors kept at most: a policy may have thousands of grants. Beyond it a granted object that
 * is deleted may lend its number to a new one; Landlock is not concerned, metadata changes are. */
#define GRANTS_MAX_KEPT 128

struct grants {
    size_t n;
    struct grant v[]; /* sorted by (dev, ino), one entry an object */
};

static int grant_compare(const void *a, const void *b)
{
    const struct grant *x = a, *y = b;

    if (x->dev != y->dev)
        return x->dev < y->dev ? -1 : 1;
    if (x->ino != y->ino)
        return x->ino < y->ino ? -1 : 1;
    return 0;
}

static int grants_lookup(const struct grants *g, const struct sys_ident *id)
{
    struct grant key = {.dev = id->dev, .ino = id->ino};
    const struct grant *found;

    if (g->n == 0)
        return 0;
    found = bsearch(&key, g->v, g->n, sizeof(g->v[0]), grant_compare);
    return found ? found->bits : 0;
}

static int grants_add(const struct root_grant *grant, void *arg, struct error *err)
{
    struct grants *g = arg;
    struct sys_ident id;
    int fd = -1, e = sys_identify(grant->fd, &id);

    if (e < 0)
        return error_set(err, ERROR_SETUP, e, grant->flag, "%s: %s", grant->path, error_text(e));
    if (g->n < GRANTS_MAX_KEPT)
        fd = fcntl(grant->fd, F_DUPFD_CLOEXEC, 0);
    g->v[g->n++] = (struct grant){.dev = id.dev,
                                  .ino = id.ino,
                                  .bits = GRANT_READ | (grant->write ? GRANT_WRITE : 0),
                                  .fd = fd < 0 ? -1 : fd};
    return 0;
}

/* Entries of one object become one with the union of their bits. */
static void grants_merge(struct grants *g)
{
    size_t n = 0;

    qsort(g->v, g->n, sizeof(g->v[0]), grant_compare);
    for (size_t i = 0; i < g->n; i++) {
        if (n > 0 && grant_compare(&g->v[n - 1], &g->v[i]) == 0) {
            g->v[n - 1].bits |= g->v[i].bits;
            util_close(g->v[i].fd);
        } else {
            g->v[n++] = g->v[i];
        }
    }
    g->n = n;
}

int grants_new(const struct policy *p, struct grants **ret, struct error *err)
{
    struct grants *g = NULL;
    struct root *root;
    int e = root_new(p, &root, err);

    if (e < 0)
        return e;
    g = malloc(sizeof(*g) +
               (p->fs_read.n + p->fs_write.n + (root ? root->n + 1 : 0)) * sizeof(g->v[0]));
    if (!g) {
        root_free(root);
        return error_set(err, ERROR_SETUP, -ENOMEM, "grants", "out of memory");
    }
    g->n = 0;
    e = root_each_grant(root, p, grants_add, g, err);
    root_free(root);
    if (e < 0) {
        grants_free(g);
        return e;
    }
    grants_merge(g);
    *ret = g;
    return 0;
}

void grants_free(struct grants *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n; i++)
        util_close(g->v[i].fd);
    free(g);
}

static bool grants_list_reaches(const struct fs_grants *list, const char *real)
{
    char top[PATH_MAX];

    for (size_t i = 0; i < list->n; i++) {
        size_t n;

        if (!realpath(list->v[i].path, top))
            continue;
        n = strlen(top);
        if (n == 1 || (strncmp(real, top, n) == 0 && (real[n] == '\0' || real[n] == '/')))
            return true;
    }
    return false;
}

bool grants_reach(const struct policy *p, const char *path)
{
    char real[PATH_MAX];

    return realpath(path, real) &&
           (grants_list_reaches(&p->fs_read, real) || grants_list_reaches(&p->fs_write, real));
}

struct grants_walk {
    const struct grants *g;
    int bits;
};

static int grants_visit(int dir_fd, const struct sys_ident *id, void *arg)
{
    struct grants_walk *w = arg;

    (void)dir_fd;
    w->bits |= grants_lookup(w->g, id);
    return w->bits == (GRANT_READ | GRANT_WRITE) ? 1 : 0;
}

int grants_of_dir(const struct grants *g, int dir_fd)
{
    struct grants_walk w = {.g = g};
    int e = place_ascend(dir_fd, grants_visit, &w);

    return e < 0 ? e : w.bits;
}

int grants_of_object(const struct grants *g, int fd, int parent_fd, const char *name)
{
    _cleanup_close_ int found_fd = -1;
    struct sys_ident id, there;
    int bits, above, e = sys_identify(fd, &id);

    if (e < 0)
        return e;
    bits = grants_lookup(g, &id);
    if (bits == (GRANT_READ | GRANT_WRITE))
        return bits;
    if (parent_fd >= 0 && (!name || !*name || sys_identify_at(parent_fd, name, &there) < 0 ||
                           !sys_ident_same(&there, &id)))
        parent_fd = -1; /* moved since it was resolved */
    if (parent_fd < 0) {
        found_fd = place_parent(fd, &id);
        if (found_fd < 0) {
            found_fd = -1;
            /* The root, or a directory moved meanwhile: it still has its "..". */
            return S_ISDIR(id.mode) ? grants_of_dir(g, fd) : bits;
        }
        parent_fd = found_fd;
    }
    /* Not from a directory itself: ".." needs the right to search it, changing its mode does not. */
    above = grants_of_dir(g, parent_fd);
    return above < 0 ? bits : bits | above;
}
