/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applies a layer to a tree. The archive is hostile: names are taken apart here, directories are
 * found by the kernel beneath the root (RESOLVE_IN_ROOT, as the layers' own links mean it), and every
 * change is made to (directory descriptor, one name). Nothing outside the root can be named.
 *
 * Left out on purpose: owners (everything belongs to the caller, whose command could not act for
 * others anyway), set-id bits (no_new_privs ignores them), device nodes and extended attributes.
 */
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "image/image.h"
#include "sys/fs.h"

#define LAYER_CHUNK (256u << 10)
#define WHITEOUT ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"

struct layer {
    struct unpack *u;
    const char *what; /* for messages */
    int fd;
    struct sha256_ctx hash;
    uint64_t read;
    bool whiteouts;
    struct inode_set made;
    char *chunk;
    struct error *err;
};

/* A name of the archive: its directory part and its last component. */
struct entry_name {
    char dir[PATH_MAX];
    char last[NAME_MAX + 1]; /* "" for the root itself */
};

static int layer_error(const struct layer *l, int e, const char *name, const char *what)
{
    return error_set(l->err, ERROR_SETUP, e, l->what, "%.120s: %s: %s", name, what, error_text(e));
}

static int layer_refuse(const struct layer *l, const char *name, const char *why)
{
    return error_set(l->err, ERROR_SETUP, -EINVAL, l->what, "%.160s: %s", name, why);
}

/* ---- names ---- */

/* Splits into clean components; refuses what could mean another place. */
static int name_split(const char *path, struct entry_name *ret)
{
    size_t n = 0, last = 0, depth = 0;

    ret->last[0] = '\0';
    for (const char *p = path; *p;) {
        size_t len = strcspn(p, "/");

        if (len == 2 && p[0] == '.' && p[1] == '.')
            return -EINVAL;
        if (len > NAME_MAX || n + len + 2 > sizeof(ret->dir) || ++depth > IMAGE_DEPTH_MAX)
            return -ENAMETOOLONG;
        if (len && !(len == 1 && *p == '.')) {
            if (n)
                ret->dir[n++] = '/';
            last = n;
            memcpy(ret->dir + n, p, len);
            n += len;
        }
        p += len;
        p += *p == '/';
    }
    memcpy(ret->last, ret->dir + last, n - last);
    ret->last[n - last] = '\0';
    ret->dir[last ? last - 1 : 0] = '\0';
    return 0;
}

static int open_beneath(const struct layer *l, const char *dir)
{
    return sys_openat2(l->u->root_fd, *dir ? dir : ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                       RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* The directory, made with those above it when a layer leaves them out. */
static int open_parent(const struct layer *l, const char *dir)
{
    char part[PATH_MAX];
    int fd = open_beneath(l, dir);

    if (fd != -ENOENT)
        return fd;
    for (const char *p = dir;; p++) {
        _cleanup_close_ int above_fd = -1;
        const char *name;

        p += strcspn(p, "/");
        memcpy(part, dir, (size_t)(p - dir));
        part[p - dir] = '\0';
        fd = open_beneath(l, part);
        if (fd >= 0) {
            util_close(fd);
        } else {
            char *slash = strrchr(part, '/');

            name = slash ? slash + 1 : part;
            if (slash)
                *slash = '\0';
            above_fd = open_beneath(l, slash ? part : "");
            if (above_fd < 0)
                return above_fd;
            if (mkdirat(above_fd, name, 0755) < 0)
                return -errno;
        }
        if (!*p)
            break;
    }
    return open_beneath(l, dir);
}

static int layer_note(struct layer *l, int dir_fd, const char *name)
{
    struct sys_ident id;
    int r;

    if (!l->whiteouts)
        return 0;
    r = sys_identify_at(dir_fd, name, &id);
    return r < 0 ? r : inode_set_add(&l->made, id.ino);
}

/* ---- kinds of entries ---- */

static int write_block(int fd, const char *data, size_t n, int64_t offset)
{
    while (n) {
        ssize_t k = pwrite(fd, data, n, offset);

        if (k < 0)
            return -errno;
        data += k;
        n -= (size_t)k;
        offset += k;
    }
    return 0;
}

static int make_data(struct layer *l, struct archive *a, int fd, const char *name)
{
    int64_t size = 0;

    for (;;) {
        const void *block;
        size_t n;
        la_int64_t offset;
        int r = archive_read_data_block(a, &block, &n, &offset);

        if (r == ARCHIVE_EOF)
            break;
        if (r < ARCHIVE_WARN)
            return layer_refuse(l, name, archive_error_string(a));
        l->u->bytes += n;
        if (l->u->bytes > IMAGE_BYTES_MAX || offset < 0 || (uint64_t)offset > IMAGE_BYTES_MAX)
            return layer_refuse(l, name, "the image is larger than 64 GiB");
        r = write_block(fd, block, n, offset);
        if (r < 0)
            return layer_error(l, r, name, "write");
        size = MAX(size, offset + (int64_t)n);
        if (l->u->progress)
            l->u->progress(l->u->arg, l->u->bytes);
    }
    /* A hole at the end is not among the blocks. */
    return ftruncate(fd, size) < 0 ? layer_error(l, -errno, name, "size") : 0;
}

static struct timespec entry_time(struct archive_entry *e)
{
    if (!archive_entry_mtime_is_set(e))
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    return (struct timespec){archive_entry_mtime(e), archive_entry_mtime_nsec(e)};
}

static int make_file(struct layer *l, struct archive *a, struct archive_entry *e, int dir_fd,
                     const char *name)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, entry_time(e)};
    _cleanup_close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r;

    if (fd < 0)
        return layer_error(l, -errno, name, "create");
    r = make_data(l, a, fd, name);
    if (r < 0)
        return r;
    /* The owner must be able to read what may belong to anybody in the image. */
    if (fchmod(fd, (archive_entry_perm(e) & 0777) | 0400) < 0 || futimens(fd, times) < 0)
        return layer_error(l, -errno, name, "attributes");
    return 0;
}

static int make_directory(struct layer *l, struct archive_entry *e, int dir_fd, const char *name)
{
    mode_t mode = (archive_entry_perm(e) & 01777) | 0700;
    struct stat st;

    if (mkdirat(dir_fd, name, 0700) < 0 &&
        (errno != EEXIST || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
         !S_ISDIR(st.st_mode)))
        return layer_error(l, -errno, name, "make directory");
    return fchmodat(dir_fd, name, mode, 0) < 0 ? layer_error(l, -errno, name, "mode") : 0;
}

/* The target is a name in the tree, also when it looks absolute. */
static int make_hardlink(struct layer *l, const char *target, int dir_fd, const char *name)
{
    _cleanup_close_ int from_fd = -1;
    struct entry_name from;
    int r = name_split(target, &from);

    if (r < 0 || !from.last[0])
        return layer_refuse(l, target, "not a name a link may have as its target");
    r = open_beneath(l, from.dir);
    if (r < 0)
        return layer_error(l, r, target, "target of a link");
    from_fd = r;
    if (linkat(from_fd, from.last, dir_fd, name, 0) < 0)
        return layer_error(l, -errno, name, "link");
    return 0;
}

static int make_symlink(struct layer *l, struct archive_entry *e, int dir_fd, const char *name)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, entry_time(e)};
    const char *target = archive_entry_symlink(e);

    if (!target || !*target)
        return layer_refuse(l, name, "a symbolic link without a target");
    if (symlinkat(target, dir_fd, name) < 0)
        return layer_error(l, -errno, name, "symbolic link");
    (void)utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW); /* a link's time is decoration */
    return 0;
}

static int make_object(struct layer *l, struct archive *a, struct archive_entry *e, int dir_fd,
                       const char *name)
{
    const char *hard = archive_entry_hardlink(e);

    if (hard)
        return make_hardlink(l, hard, dir_fd, name);
    switch (archive_entry_filetype(e)) {
    case AE_IFREG: return make_file(l, a, e, dir_fd, name);
    case AE_IFDIR: return make_directory(l, e, dir_fd, name);
    case AE_IFLNK: return make_symlink(l, e, dir_fd, name);
    case AE_IFIFO:
        if (mkfifoat(dir_fd, name, archive_entry_perm(e) & 0777) < 0)
            return layer_error(l, -errno, name, "make fifo");
        return 0;
    default: l->u->skipped++; return 0;
    }
}

/* ---- one entry ---- */

static int apply_whiteout(struct layer *l, int dir_fd, const char *name)
{
    int fd, r;

    if (strcmp(name, WHITEOUT_OPAQUE) == 0) {
        fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = fd < 0 ? -errno : tree_clear(fd, &l->made);
    } else {
        const char *gone = name + sizeof(WHITEOUT) - 1;

        if (!*gone || strcmp(gone, ".") == 0 || strcmp(gone, "..") == 0)
            return layer_refuse(l, name, "not a whiteout");
        r = tree_remove(dir_fd, gone);
    }
    return r < 0 ? layer_error(l, r, name, "whiteout") : 0;
}

static bool is_directory_at(int dir_fd, const char *name)
{
    struct stat st;

    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int apply_entry(struct layer *l, struct archive *a, struct archive_entry *e)
{
    const char *path = archive_entry_pathname(e);
    _cleanup_close_ int dir_fd = -1;
    struct entry_name name;
    bool merges;
    int r;

    if (!path || name_split(path, &name) < 0)
        return layer_refuse(l, path ? path : "a name", "a layer may not have such a name");
    if (!name.last[0])
        return 0; /* the root keeps the mode it was made with */
    r = open_parent(l, name.dir);
    if (r < 0)
        return layer_error(l, r, path, "directory");
    dir_fd = r;
    if (l->whiteouts && strncmp(name.last, WHITEOUT, sizeof(WHITEOUT) - 1) == 0)
        return apply_whiteout(l, dir_fd, name.last);
    merges = archive_entry_filetype(e) == AE_IFDIR && !archive_entry_hardlink(e) &&
             is_directory_at(dir_fd, name.last);
    if (!merges) {
        r = tree_remove(dir_fd, name.last);
        if (r < 0)
            return layer_error(l, r, path, "replace");
    }
    r = make_object(l, a, e, dir_fd, name.last);
    if (r < 0)
        return r;
    r = layer_note(l, dir_fd, name.last);
    return r < 0 && r != -ENOENT ? layer_error(l, r, path, "bookkeeping") : 0;
}

/* ---- the archive ---- */

static la_ssize_t layer_read(struct archive *a, void *arg, const void **ret)
{
    struct layer *l = arg;
    ssize_t n = read(l->fd, l->chunk, LAYER_CHUNK);

    if (n < 0) {
        archive_set_error(a, errno, "read");
        return -1;
    }
    sha256_update(&l->hash, (size_t)n, (const uint8_t *)l->chunk);
    l->read += (uint64_t)n;
    *ret = l->chunk;
    return n;
}

static int layer_entries(struct layer *l, struct archive *a)
{
    struct archive_entry *e;
    int r;

    /* Libraries of compressors only: external programs have no place here. */
    archive_read_support_format_tar(a);
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_format_empty(a);
    if (archive_read_open(a, l, NULL, layer_read, NULL) != ARCHIVE_OK)
        return layer_refuse(l, "archive", archive_error_string(a));
    while ((r = archive_read_next_header(a, &e)) != ARCHIVE_EOF) {
        if (r < ARCHIVE_WARN)
            return layer_refuse(l, "archive", archive_error_string(a));
        if (++l->u->entries > IMAGE_ENTRIES_MAX)
            return layer_refuse(l, "archive", "more than 8 million entries");
        r = apply_entry(l, a, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int layer_run(struct layer *l)
{
    struct archive *a = archive_read_new();
    int r = -ENOMEM;

    sha256_init(&l->hash);
    l->chunk = malloc(LAYER_CHUNK);
    if (a && l->chunk)
        r = layer_entries(l, a);
    if (r == -ENOMEM)
        error_set(l->err, ERROR_SETUP, r, l->what, "out of memory");
    archive_read_free(a);
    inode_set_fini(&l->made);
    return r;
}

/* What is left behind the end of the archive belongs to the digest as well. */
static int layer_verify(struct layer *l, const struct image_blob *b)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    char hex[DIGEST_LEN + 1];
    ssize_t n;

    while ((n = read(l->fd, l->chunk, LAYER_CHUNK)) > 0) {
        sha256_update(&l->hash, (size_t)n, (const uint8_t *)l->chunk);
        l->read += (uint64_t)n;
    }
    if (n < 0)
        return layer_error(l, -errno, "blob", "read");
    sha256_digest(&l->hash, sizeof(digest), digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    if (strcmp(hex, b->digest) != 0 || l->read != b->size)
        return layer_refuse(l, b->digest, "the content does not have this digest and size");
    return 0;
}

int unpack_layer(struct unpack *u, int blob_fd, const struct image_blob *b, struct error *err)
{
    struct layer l = {.u = u, .what = "layer", .fd = blob_fd, .whiteouts = true, .err = err};
    int r = layer_run(&l);

    if (r == 0)
        r = layer_verify(&l, b);
    free(l.chunk);
    return r;
}

int unpack_archive(struct unpack *u, int fd, const char *what, struct error *err)
{
    struct layer l = {.u = u, .what = what, .fd = fd, .err = err};
    int r = layer_run(&l);

    free(l.chunk);
    return r;
}
