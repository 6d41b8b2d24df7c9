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

/*
 * Large copies. What a copy holds is our memory, in which no limit of the sandbox counts it, and `maps` is as long
 * as a program likes. So the oldest ones are cut off when they are too many together: who still has them open is
 * at their end.
 */
#define LARGE_LEAST (64u << 10) /* a smaller one costs no more than any open file */
#define LARGE_COPIES 64u
#define LARGE_BYTES (64u << 20)

struct virtual_large {
    pthread_mutex_t lock;
    size_t first, n, bytes;
    struct {
        int fd; /* for writing */
        size_t bytes;
    } v[LARGE_COPIES];
};

struct virtual_state {
    struct grants *grants;
    struct virtual_large large;
    size_t n;
    struct virtual_entry v[];
};

/* With ret_writer_fd it can still be cut off, by who has that descriptor. */
static int memory_file(const char *name, const void *data, size_t n, int *ret_writer_fd)
{
    const int seals =
        F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SEAL | (ret_writer_fd ? 0 : F_SEAL_SHRINK);
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
    /* Its mode keeps others from opening it for writing; they are no writers and cannot change it. */
    if (fcntl(mem_fd, F_ADD_SEALS, seals) < 0 || (ret_writer_fd && fchmod(mem_fd, 0444) < 0))
        return -EIO;
    fd = fd_reopen(mem_fd, O_RDONLY | O_CLOEXEC, 0); /* at the beginning, and for reading only */
    if (fd < 0)
        return -EIO;
    if (ret_writer_fd)
        *ret_writer_fd = steal_fd(&mem_fd);
    return fd;
}

int virtual_memory_file(const char *name, const void *data, size_t n)
{
    return memory_file(name, data, n, NULL);
}

static void large_cut(struct virtual_large *l)
{
    int ignored = ftruncate(l->v[l->first].fd, 0); /* not sealed against it */

    (void)ignored;
    util_close(l->v[l->first].fd);
    l->bytes -= l->v[l->first].bytes;
    l->first = (l->first + 1) % LARGE_COPIES;
    l->n--;
}

static int large_copy(struct virtual_large *l, const char *name, const struct buf *content)
{
    int writer_fd, fd = memory_file(name, content->data, content->len, &writer_fd);
    size_t i;

    if (fd < 0)
        return fd;
    pthread_mutex_lock(&l->lock);
    while (l->n > 0 && (l->n == LARGE_COPIES || l->bytes + content->len > LARGE_BYTES))
        large_cut(l);
    i = (l->first + l->n++) % LARGE_COPIES;
    l->v[i].fd = writer_fd;
    l->v[i].bytes = content->len;
    l->bytes += content->len;
    pthread_mutex_unlock(&l->lock);
    return fd;
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

/* Does the last copy hold this content, all of it still? */
static bool virtual_is_copied(const struct virtual_entry *v, const struct buf *content)
{
    struct stat st;

    return v->copy_fd >= 0 && v->content.len == content->len &&
           memcmp(v->content.data, content->data, content->len) == 0 &&
           fstat(v->copy_fd, &st) == 0 && (size_t)st.st_size == content->len;
}

/* The copy that holds this content, the last one when nothing changed. */
static int virtual_copy(struct virtual_state *s, struct virtual_entry *v, const struct buf *content)
{
    const struct virtual_file *f = v->file;
    const char *name = strrchr(f->proc ? f->proc : f->path, '/');
    int fd;

    if (virtual_is_copied(v, content))
        return fd_reopen(v->copy_fd, O_RDONLY, 0);
    name = name ? name + 1 : f->proc;
    fd = content->len < LARGE_LEAST ? virtual_memory_file(name, content->data, content->len)
                                    : large_copy(&s->large, name, content);
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
    struct virtual_state *s = supervisor_state(r->sup, &fs_virtual_feature);
    _cleanup_buf_ struct buf content = {0};
    int fd;

    if (v->file->render(r, host_fd, &content) < 0 || buf_error(&content) < 0)
        return -EIO;
    pthread_mutex_lock(&v->lock);
    fd = virtual_copy(s, v, &content);
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
    (void)pthread_mutex_init(&s->large.lock, NULL);
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
    while (s->large.n > 0)
        large_cut(&s->large);
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
