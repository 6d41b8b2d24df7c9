/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "virtual-files". Receiver threads. What is compared is the object that a path led to, by
 * its place on procfs as the kernel spells it or by its identity: nothing of the child's is trusted.
 */
#include "fs/virtual.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fs/behalf.h"
#include "fs/fs.h"
#include "fs/grants.h"
#include "fs/procfs.h"
#include "plan/kernel.h"
#include "policy/policy.h"

struct virtual_entry {
    const struct virtual_file *file;
    struct sys_ident id; /* of file->path */
    pthread_mutex_t lock;
    struct buf content; /* of the last copy */
    int copy_fd;        /* that copy, or -1 */
};

struct virtual_state {
    struct grants *grants;
    size_t n;
    struct virtual_entry v[];
};

int virtual_memory_file(const char *name, const void *data, size_t n)
{
    const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    _cleanup_close_ int mem_fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const char *p = data;
    int fd;

    if (mem_fd < 0)
        return -EIO;
    for (size_t done = 0; done < n;) {
        ssize_t k = write(mem_fd, p + done, n - done);

        if (k <= 0)
            return -EIO;
        done += (size_t)k;
    }
    if (fcntl(mem_fd, F_ADD_SEALS, seals) < 0)
        return -EIO;
    fd = fd_reopen(mem_fd, O_RDONLY | O_CLOEXEC, 0); /* at the beginning, and for reading only */
    return fd < 0 ? -EIO : fd;
}

static bool virtual_same(const struct sys_ident *a, const struct sys_ident *b)
{
    if ((S_ISCHR(a->mode) || S_ISBLK(a->mode)) && (a->mode & S_IFMT) == (b->mode & S_IFMT))
        return a->rdev == b->rdev;
    return a->dev == b->dev && a->ino == b->ino;
}

/* The part of a place below /proc/<pid> or /proc/<pid>/task/<tid>. */
static const char *virtual_leaf(const struct procfs_place *place)
{
    const char *leaf = place->leaf, *p;

    if (strncmp(leaf, "task/", 5) != 0)
        return leaf;
    p = leaf + 5;
    p += strspn(p, "0123456789");
    return p > leaf + 5 && *p == '/' ? p + 1 : leaf;
}

/* The kernel drops the entries of /proc/<pid>/net from its cache at once, and then calls what is open
 * deleted (proc_net_d_revalidate). */
static void virtual_undelete(struct procfs_place *place)
{
    if (strncmp(virtual_leaf(place), "net/", 4) == 0)
        place->buf[place_unmarked(place->buf, strlen(place->buf))] = '\0';
}

static struct virtual_entry *virtual_find(struct virtual_state *s, int fd,
                                          const struct sys_ident *id, bool on_proc)
{
    struct procfs_place place;

    if (on_proc && procfs_place(fd, id, &place) < 0)
        return NULL; /* refused by the judge already */
    if (on_proc)
        virtual_undelete(&place);
    for (size_t i = 0; i < s->n; i++) {
        const struct virtual_file *f = s->v[i].file;

        if (!f->proc) {
            if (!on_proc && virtual_same(&s->v[i].id, id))
                return &s->v[i];
        } else if (on_proc && f->per_process == (place.pid != 0) &&
                   strcmp(f->proc, f->per_process ? virtual_leaf(&place) : place.rest) == 0) {
            return &s->v[i];
        }
    }
    return NULL;
}

/* The copy that holds this content, the last one when nothing changed. */
static int virtual_copy(struct virtual_entry *v, const struct buf *content)
{
    const struct virtual_file *f = v->file;
    const char *name = strrchr(f->proc ? f->proc : f->path, '/');
    int fd;

    if (v->copy_fd >= 0 && v->content.len == content->len &&
        memcmp(v->content.data, content->data, content->len) == 0)
        return fd_reopen(v->copy_fd, O_RDONLY, 0);
    fd = virtual_memory_file(name ? name + 1 : f->proc, content->data, content->len);
    if (fd < 0)
        return fd;
    v->copy_fd = util_close(v->copy_fd);
    buf_fini(&v->content);
    v->content = (struct buf){0};
    buf_add(&v->content, content->data, content->len);
    if (buf_error(&v->content) == 0)
        v->copy_fd = fd_reopen(fd, O_RDONLY, 0);
    return fd;
}

static int virtual_render(const struct request *r, struct virtual_entry *v, int host_fd)
{
    _cleanup_buf_ struct buf content = {0};
    int fd;

    if (v->file->render(r, host_fd, &content) < 0 || buf_error(&content) < 0)
        return -EIO;
    pthread_mutex_lock(&v->lock);
    fd = virtual_copy(v, &content);
    pthread_mutex_unlock(&v->lock);
    return fd < 0 ? -EIO : fd;
}

int virtual_open(const struct request *r, int fd, const struct sys_ident *id, bool on_proc,
                 uint64_t flags)
{
    struct virtual_state *s = supervisor_state(r->sup, &fs_virtual_feature);
    struct virtual_entry *v = s ? virtual_find(s, fd, id, on_proc) : NULL;
    int bits;

    if (!v)
        return -ENODATA;
    bits = grants_of_object(s->grants, fd, -1, NULL);
    if (bits < 0 || !(bits & GRANT_READ))
        return -EACCES;
    if (flags & O_DIRECTORY)
        return -ENOTDIR;
    if (v->file->open)
        return v->file->open(r, fd, flags);
    if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC))
        return -EACCES;
    return virtual_render(r, v, fd);
}

bool virtual_may_be(const struct request *r, const struct sys_ident *id)
{
    struct virtual_state *s = supervisor_state(r->sup, &fs_virtual_feature);

    return s && virtual_find(s, -1, id, false);
}

void virtual_attributes(const struct request *r, int fd, const struct sys_ident *id, bool on_proc,
                        struct stat *st)
{
    struct virtual_state *s = supervisor_state(r->sup, &fs_virtual_feature);
    struct virtual_entry *v = s && S_ISREG(id->mode) ? virtual_find(s, fd, id, on_proc) : NULL;
    _cleanup_close_ int copy_fd = v && v->file->render ? virtual_render(r, v, fd) : -1;
    struct stat copy;

    if (copy_fd < 0 || fstat(copy_fd, &copy) < 0)
        return;
    st->st_dev = copy.st_dev;
    st->st_ino = copy.st_ino;
    if (!on_proc)
        st->st_size = copy.st_size;
}

/* ---- the feature ---- */

static bool virtual_wanted(const struct policy *p, const struct kernel *k)
{
    for (size_t i = 0; i < all_virtual_file_count; i++) {
        if (all_virtual_files[i]->wanted && all_virtual_files[i]->wanted(p, k))
            return true;
    }
    return false;
}

/* False when the host has no such file: then there is nothing to stand in for. */
static bool virtual_locate(const char *path, struct sys_ident *ret)
{
    _cleanup_close_ int fd = sys_open_path(AT_FDCWD, path, 0);

    return fd >= 0 && sys_identify(fd, ret) == 0;
}

static int virtual_start(struct supervisor *sup, void **ret_state, struct error *err)
{
    const struct policy *p = supervisor_policy(sup);
    struct virtual_state *s = calloc(1, sizeof(*s) + all_virtual_file_count * sizeof(s->v[0]));
    int e;

    if (!s)
        return error_set(err, ERROR_SETUP, -ENOMEM, "virtual files", "out of memory");
    e = grants_new(p, &s->grants, err);
    if (e < 0) {
        free(s);
        return e;
    }
    for (size_t i = 0; i < all_virtual_file_count; i++) {
        const struct virtual_file *f = all_virtual_files[i];
        struct virtual_entry *entry = &s->v[s->n];

        if (f->wanted ? !f->wanted(p, supervisor_kernel(sup))
                      : !supervisor_state(sup, &fs_procview_feature))
            continue;
        entry->file = f;
        entry->copy_fd = -1;
        (void)pthread_mutex_init(&entry->lock, NULL);
        s->n += f->proc || virtual_locate(f->path, &entry->id);
    }
    *ret_state = s;
    return 0;
}

static void virtual_stop(void *state)
{
    struct virtual_state *s = state;

    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++) {
        util_close(s->v[i].copy_fd);
        buf_fini(&s->v[i].content);
    }
    grants_free(s->grants);
    free(s);
}

static const struct feature_call virtual_calls[] = {BEHALF_CALLS};

const struct feature fs_virtual_feature = {
    .name = "virtual-files",
    .wanted = virtual_wanted,
    .follows = &fs_procview_feature,
    .calls = virtual_calls,
    .ncalls = ARRAY_SIZE(virtual_calls),
    .closed = true,
    .behalf = true,
    .start = virtual_start,
    .stop = virtual_stop,
};
