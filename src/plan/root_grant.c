/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the policy grants, object by object: Landlock's rules and the receivers' own sets are made of it.
 * Caller's thread, before the child exists. Input: our own user's paths, in the command's tree.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "plan/root.h"

struct grant_walk {
    const struct root *root;
    int (*fn)(const struct root_grant *g, void *arg, struct error *err);
    void *arg;
};

static int grant_give(const struct grant_walk *w, struct root_grant *g, struct error *err)
{
    int e = root_carve(w->root, g, err);

    return e < 0 ? e : w->fn(g, w->arg, err);
}

static int each_of(const struct grant_walk *w, const struct fs_grants *list, bool write,
                   const char *flag, struct error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct fs_grant *from = &list->v[i];
        struct root_grant g = {.write = write, .flag = flag, .path = from->path};
        int e;

        g.fd = root_open(w->root, from->path, 0);
        if ((g.fd == -ENOENT || g.fd == -ENOTDIR) && from->optional)
            continue;
        if (g.fd < 0)
            return error_set(err, ERROR_POLICY, g.fd, flag, "%s: %s", from->path, error_text(g.fd));
        e = grant_give(w, &g, err);
        util_close(g.fd);
        if (e < 0)
            return e;
    }
    return 0;
}

static bool grants_all(const struct policy *p)
{
    const struct fs_grants *lists[] = {&p->fs_read, &p->fs_write};

    for (size_t k = 0; k < ARRAY_SIZE(lists); k++) {
        for (size_t i = 0; i < lists[k]->n; i++) {
            if (lists[k]->v[i].path[strspn(lists[k]->v[i].path, "/.")] == '\0')
                return true;
        }
    }
    return false;
}

/* A mount is its own grant: it was named for being used. The procfs that came by itself is covered by
 * a grant of the whole tree. */
static int each_mount(const struct grant_walk *w, const struct policy *p, struct error *err)
{
    int e = 0;

    for (size_t i = 0; e == 0 && i < w->root->n; i++) {
        const struct root_mount *m = &w->root->v[i];
        struct root_grant g = {.fd = m->fd, .flag = "--fs-mount", .path = m->place};

        g.write = !m->read_only && !m->proc;
        if (!m->proc || grants_all(p))
            e = grant_give(w, &g, err);
    }
    return e;
}

/* To read: what is written goes to the layer. */
static int grant_workdir(const struct grant_walk *w, const struct policy *p, struct error *err)
{
    struct root_grant g = {.fd = w->root->workdir_fd, .flag = "--workdir", .path = p->workdir};

    return w->fn(&g, w->arg, err);
}

int root_each_grant(const struct root *r, const struct policy *p,
                    int (*fn)(const struct root_grant *g, void *arg, struct error *err), void *arg,
                    struct error *err)
{
    struct grant_walk w = {.root = r, .fn = fn, .arg = arg};
    int e = each_of(&w, &p->fs_read, false, "--fs-read", err);

    if (e == 0)
        e = each_of(&w, &p->fs_write, true, "--fs-write", err);
    if (e == 0 && r && r->workdir)
        e = grant_workdir(&w, p, err);
    return e == 0 && r ? each_mount(&w, p, err) : e;
}
