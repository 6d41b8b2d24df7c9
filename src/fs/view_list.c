/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mount points in listings (CR-12): those whose name the directory itself does not have. Receiver threads;
 * names are our own user's. A feature of its own, since listings are not looked at otherwise.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "fs/procview.h"
#include "fs/view.h"
#include "plan/root.h"
#include "policy/policy.h"
#include "sys/uapi.h"

#define RECORD_NAME offsetof(struct uapi_dirent, name)

/* Appends a record, if there is room. */
static size_t record_add(uint8_t *buf, size_t at, size_t size, const struct sys_ident *id,
                         int64_t off, const char *name)
{
    struct uapi_dirent *e = (struct uapi_dirent *)(buf + at);
    size_t n = strlen(name) + 1, len = (RECORD_NAME + n + 7) & ~(size_t)7;

    if (at + len > size)
        return at;
    memset(e, 0, len);
    e->ino = id->ino;
    e->off = off;
    e->len = (uint16_t)len;
    e->type = IFTODT(id->mode);
    memcpy(e->name, name, n);
    return at + len;
}

size_t view_list(const struct request *r, const struct sys_ident *dir, int64_t off, uint8_t *buf,
                 size_t at, size_t size)
{
    const struct root *root = supervisor_plan(r->sup)->root;

    for (size_t i = 0; root && i < root->n; i++) {
        if (!root->v[i].hides && sys_ident_same(&root->v[i].parent, dir))
            at = record_add(buf, at, size, &root->v[i].id, off, root->v[i].name);
    }
    return at;
}

ssize_t view_list_made(const struct request *r, const struct sys_ident *dir, int fd, uint8_t *buf,
                       size_t size)
{
    const struct root *root = supervisor_plan(r->sup)->root;
    const struct root_mount *m = root ? root_mount_top(root, dir) : NULL;
    size_t n;

    if (!m || !m->made)
        return -ENODATA;
    /* Such a directory has no listing and so no positions: 0 is before everything, 1 behind. */
    if (lseek(fd, 0, SEEK_CUR) != 0)
        return 0;
    n = record_add(buf, 0, size, dir, 1, ".");
    n = record_add(buf, n, size, &m->parent, 1, "..");
    n = view_list(r, dir, 1, buf, n, size);
    return n == 0 ? -EINVAL : lseek(fd, 1, SEEK_SET) < 0 ? -errno : (ssize_t)n;
}

/* Where /proc may be listed the virtual /proc looks at every listing already. */
static bool list_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->fs_mount.n > 0 && !fs_grants_proc(p);
}

static const struct feature_call list_calls[] = {
    {OP_GETDENTS, procview_getdents, NULL, 0},
};

const struct feature fs_view_list_feature = {
    .name = "mount-list",
    .wanted = list_wanted,
    .calls = list_calls,
    .ncalls = ARRAY_SIZE(list_calls),
    .behalf = true,
};
