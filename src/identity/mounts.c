/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PV-04: mounts, mountinfo and mountstats of every process show the mounts that the policy has to do with: the
 * root's, those that hold a granted object, and those beneath a granted directory; none at or beneath a
 * denied path. Receiver threads. The command shares our mount namespace: no call that changes it is allowed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "fs/fs.h"
#include "fs/mount_table.h"
#include "identity/identity.h"
#include "policy/policy.h"
#include "sys/fs.h"

#define MOUNTS_MAX (16u << 20) /* bytes of mountinfo; a host with 100,000 mounts */

static int mounts_read(struct buf *text)
{
    _cleanup_close_ int fd =
        sys_openat(AT_FDCWD, "/proc/thread-self/mountinfo", O_RDONLY | O_CLOEXEC, 0);
    char chunk[16384];
    ssize_t n;

    if (fd < 0)
        return fd;
    while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
        buf_add(text, chunk, (size_t)n);
        if (text->len > MOUNTS_MAX)
            return -EOVERFLOW;
    }
    return n < 0 ? -errno : buf_error(text);
}

static void mounts_show(struct mount_table *t, const char *path, bool beneath)
{
    _cleanup_close_ int fd = sys_open_path(AT_FDCWD, path, 0);
    struct sys_ident id;
    char real[PATH_MAX];

    if (fd < 0 || sys_identify(fd, &id) < 0)
        return; /* an optional grant of something that is not there */
    mount_table_show(t, (unsigned)id.mnt);
    if (beneath && realpath(path, real))
        mount_table_show_beneath(t, real);
}

static void mounts_select(struct mount_table *t, const struct policy *p)
{
    char real[PATH_MAX];

    mounts_show(t, "/", false);
    for (size_t i = 0; i < p->fs_read.n; i++)
        mounts_show(t, p->fs_read.v[i].path, true);
    for (size_t i = 0; i < p->fs_write.n; i++)
        mounts_show(t, p->fs_write.v[i].path, true);
    for (size_t i = 0; i < p->fs_deny.n; i++)
        mount_table_hide_beneath(t, realpath(p->fs_deny.v[i], real) ? real : p->fs_deny.v[i]);
}

static int mounts_render(const struct request *r, enum mount_format format, struct buf *out)
{
    _cleanup_mount_table_ struct mount_table t = {0};
    _cleanup_buf_ struct buf text = {0};
    int e = mounts_read(&text);

    if (e < 0)
        return e;
    mount_table_parse(&t, text.data);
    mounts_select(&t, supervisor_policy(r->sup));
    return mount_table_render(&t, format, out);
}

static int mounts_render_mounts(const struct request *r, int host_fd, struct buf *out)
{
    (void)host_fd;
    return mounts_render(r, MOUNTS, out);
}

static int mounts_render_info(const struct request *r, int host_fd, struct buf *out)
{
    (void)host_fd;
    return mounts_render(r, MOUNTINFO, out);
}

static int mounts_render_stats(const struct request *r, int host_fd, struct buf *out)
{
    (void)host_fd;
    return mounts_render(r, MOUNTSTATS, out);
}

const struct virtual_file identity_mounts_file = {
    .proc = "mounts",
    .per_process = true,
    .render = mounts_render_mounts,
};
const struct virtual_file identity_mountinfo_file = {
    .proc = "mountinfo",
    .per_process = true,
    .render = mounts_render_info,
};
const struct virtual_file identity_mountstats_file = {
    .proc = "mountstats",
    .per_process = true,
    .render = mounts_render_stats,
};
