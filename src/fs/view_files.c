/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of /proc/<pid> that would show the host's tree to a command that has one of its own: its mounts
 * instead of the host's, and names inside instead of the host's paths (CR-03, CR-04). Receiver threads.
 * What is rewritten comes from the kernel; names in it may have been chosen by the command.
 */
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fs/view.h"
#include "fs/virtual.h"
#include "plan/root.h"

#define FILE_MAX_BYTES (16u << 20) /* of one such file */

static bool files_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return policy_has_view(p);
}

/* A layer mounts nothing. */
static bool mounts_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->chroot || p->fs_mount.n > 0;
}

/* ---- mounts ---- */

static const char *type_name(int fd)
{
    switch (sys_fs_magic(fd)) {
    case EXT4_SUPER_MAGIC: return "ext4";
    case BTRFS_SUPER_MAGIC: return "btrfs";
    case XFS_SUPER_MAGIC: return "xfs";
    case TMPFS_MAGIC: return "tmpfs";
    case OVERLAYFS_SUPER_MAGIC: return "overlay";
    case PROC_SUPER_MAGIC: return "proc";
    case SYSFS_MAGIC: return "sysfs";
    case DEVPTS_SUPER_MAGIC: return "devpts";
    case NFS_SUPER_MAGIC: return "nfs";
    case SQUASHFS_MAGIC: return "squashfs";
    case V9FS_MAGIC: return "9p";
    default: return "none";
    }
}

/* As the kernel writes paths in these files (mangle_path). */
static void add_escaped(struct buf *out, const char *path)
{
    for (; *path; path++) {
        if (strchr(" \t\n\\#", *path))
            buf_addf(out, "\\%03o", (unsigned char)*path);
        else
            buf_addc(out, *path);
    }
}

struct mount_line {
    const char *place;
    int fd;
    bool read_only;
    dev_t dev;
    size_t id, parent;
};

static int each_mount_line(const struct request *r, struct buf *out,
                           void (*line)(const struct mount_line *m, struct buf *out))
{
    const struct root *root = supervisor_plan(r->sup)->root;
    struct mount_line m = {.place = "/", .fd = root->fd, .dev = root->id.dev, .id = 1, .parent = 1};

    line(&m, out);
    for (size_t i = 0; i < root->n; i++) {
        m = (struct mount_line){.place = root->v[i].place,
                                .fd = root->v[i].fd,
                                .read_only = root->v[i].read_only,
                                .dev = root->v[i].id.dev,
                                .id = i + 2,
                                .parent = 1};
        line(&m, out);
    }
    return 0;
}

static void mounts_line(const struct mount_line *m, struct buf *out)
{
    buf_adds(out, "sandlock ");
    add_escaped(out, m->place);
    buf_addf(out, " %s %s 0 0\n", type_name(m->fd), m->read_only ? "ro" : "rw");
}

static void mountinfo_line(const struct mount_line *m, struct buf *out)
{
    buf_addf(out, "%zu %zu %u:%u / ", m->id, m->parent, major(m->dev), minor(m->dev));
    add_escaped(out, m->place);
    buf_addf(out, " %s - %s sandlock rw\n", m->read_only ? "ro" : "rw", type_name(m->fd));
}

static void mountstats_line(const struct mount_line *m, struct buf *out)
{
    buf_adds(out, "device sandlock mounted on ");
    add_escaped(out, m->place);
    buf_addf(out, " with fstype %s\n", type_name(m->fd));
}

static int mounts_render(const struct request *r, int host_fd, struct buf *out)
{
    (void)host_fd;
    return each_mount_line(r, out, mounts_line);
}

static int mountinfo_render(const struct request *r, int host_fd, struct buf *out)
{
    (void)host_fd;
    return each_mount_line(r, out, mountinfo_line);
}

static int mountstats_render(const struct request *r, int host_fd, struct buf *out)
{
    (void)host_fd;
    return each_mount_line(r, out, mountstats_line);
}

/* ---- maps ---- */

static int read_whole(int host_fd, struct buf *to)
{
    _cleanup_close_ int fd = fd_reopen(host_fd, O_RDONLY, 0);
    char chunk[8192];
    ssize_t n;

    if (fd < 0)
        return fd;
    while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
        buf_add(to, chunk, (size_t)n);
        if (to->len > FILE_MAX_BYTES)
            return -EFBIG;
    }
    return n < 0 ? -errno : buf_error(to);
}

/* "start-end perms offset major:minor inode   /path": where the path begins, or NULL. */
static char *maps_path(char *line, struct sys_ident *ret)
{
    unsigned maj, min;
    unsigned long long ino;
    int at = 0;

    if (sscanf(line, "%*x-%*x %*s %*x %x:%x %llu %n", &maj, &min, &ino, &at) != 3 || !at ||
        line[at] != '/')
        return NULL;
    ret->dev = makedev(maj, min);
    ret->ino = ino;
    return line + at;
}

static void maps_line(const struct request *r, char *line, struct buf *out)
{
    const struct root *root = supervisor_plan(r->sup)->root;
    struct sys_ident id = {0};
    char *path = maps_path(line, &id), name[PATH_MAX];
    ssize_t n = -ENOENT;

    if (path) {
        int fd = view_program_of(r, &id);

        if (fd < 0 && root->layer) /* it may lie in the storage */
            fd = sys_open_path(AT_FDCWD, path, O_NOFOLLOW);
        if (fd >= 0) {
            n = view_name(root, fd, name, sizeof(name));
            util_close(fd);
        } else {
            n = view_name_of(root, path, name, sizeof(name));
        }
        buf_add(out, line, (size_t)(path - line));
        buf_adds(out, n < 0 ? "(unreachable)" : name);
    } else {
        buf_adds(out, line);
    }
    buf_addc(out, '\n');
}

static int maps_render(const struct request *r, int host_fd, struct buf *out)
{
    _cleanup_buf_ struct buf text = {0};
    int e = read_whole(host_fd, &text);
    char *save = NULL, *line;

    if (e < 0)
        return e;
    if (!text.len)
        return 0;
    buf_addc(&text, '\0');
    if (buf_error(&text) < 0)
        return buf_error(&text);
    for (line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        maps_line(r, line, out);
    return 0;
}

static int closed_open(const struct request *r, int host_fd, uint64_t flags)
{
    (void)r, (void)host_fd, (void)flags;
    return -EACCES;
}

#define PROCESS_FILE(id, when, file)               \
    const struct virtual_file view_##id##_file = { \
        .proc = #id, .per_process = true, .wanted = when, file}
PROCESS_FILE(mounts, mounts_wanted, .render = mounts_render);
PROCESS_FILE(mountinfo, mounts_wanted, .render = mountinfo_render);
PROCESS_FILE(mountstats, mounts_wanted, .render = mountstats_render);
PROCESS_FILE(maps, files_wanted, .render = maps_render);
PROCESS_FILE(smaps, files_wanted, .render = maps_render);
/* Host paths in a form of its own; and the registers of a call, which may be the supervisor's. */
PROCESS_FILE(numa_maps, files_wanted, .open = closed_open);
PROCESS_FILE(syscall, files_wanted, .open = closed_open);
