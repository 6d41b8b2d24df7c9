/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's life: made, opened again, kept, dropped. The storage directory is its user's alone: owner
 * and mode are checked on the descriptor, links refused (ST-01). One thread.
 */
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "fs/cow/internal.h"
#include "fs/resolve.h"

#include "fs/cow/fault.h"

#define STORAGE_WHERE "--fs-storage"
#define COMMIT_WAIT_MS 30000

/* ---- the directory of all layers ---- */

/* Opens, making it when asked; checks that it is ours alone. Descriptor or -errno. */
static int holder_open(int dir_fd, const char *path, bool make)
{
    struct cow_attr a;
    int fd, e;

    if (make && mkdirat(dir_fd, path, 0700) < 0 && errno != EEXIST)
        return -errno;
    fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    e = cow_attr_fd(fd, &a);
    if (e == 0 && (a.uid != geteuid() || a.mode & 077))
        e = -EPERM;
    if (e < 0) {
        util_close(fd);
        return e;
    }
    return fd;
}

/* In the directory that holds the work directory, where files can be renamed and cloned between the
 * two. Not where others may write: they could take the name first. */
static int holder_beside(int lower_fd, bool make)
{
    struct cow_attr lower, up;
    char name[32];
    int fd = sys_open_path(lower_fd, "..", O_DIRECTORY), e;

    if (fd < 0)
        return fd;
    e = cow_attr_fd(lower_fd, &lower);
    if (e == 0)
        e = cow_attr_fd(fd, &up);
    if (e == 0 && (up.dev != lower.dev || up.mnt != lower.mnt || up.ino == lower.ino ||
                   up.mode & 022 || up.uid != geteuid()))
        e = -EXDEV;
    if (e == 0) {
        snprintf(name, sizeof(name), ".sandlock-%u", (unsigned)geteuid());
        e = holder_open(fd, name, make);
    }
    util_close(fd);
    return e;
}

static int holder_at_home(bool make)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char path[PATH_MAX];
    char *at;

    if (getuid() != geteuid() || getgid() != getegid())
        return -EPERM;
    if (state && state[0] == '/')
        snprintf(path, sizeof(path), "%s/sandlock/layers", state);
    else if (home && home[0] == '/')
        snprintf(path, sizeof(path), "%s/.local/state/sandlock/layers", home);
    else
        return -ENOENT;
    for (at = strchr(path + 1, '/'); make && at; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdirat(AT_FDCWD, path, 0700);
        *at = '/';
    }
    return holder_open(AT_FDCWD, path, make);
}

int cow_storage_open(int lower_fd, const char *storage, bool make, struct error *err)
{
    int fd;

    if (storage) {
        fd = holder_open(AT_FDCWD, storage, make);
        if (fd == -EPERM)
            return error_set(err, ERROR_SETUP, fd, STORAGE_WHERE,
                             "%s must belong to you with mode 0700 and not be a link", storage);
        if (fd < 0)
            return error_set(err, ERROR_SETUP, fd, STORAGE_WHERE, "cannot use %s: %s", storage,
                             error_text(fd));
        return fd;
    }
    fd = lower_fd >= 0 ? holder_beside(lower_fd, make) : -ENOENT;
    if (fd < 0)
        fd = holder_at_home(make);
    if (fd < 0)
        return error_set(err, ERROR_SETUP, fd, STORAGE_WHERE,
                         "no place to store changes: %s; name a directory of your own",
                         error_text(fd));
    return fd;
}

/* ---- one layer ---- */

static struct cow_layer *layer_new(void)
{
    struct cow_layer *l = calloc(1, sizeof(*l));
    struct rlimit files;

    if (!l)
        return NULL;
    l->lower_fd = l->storage_fd = l->parent_fd = l->objects_fd = l->index_fd = l->lock_fd = -1;
    pthread_mutex_init(&l->moves, NULL);
    pthread_mutex_init(&l->log, NULL);
    pthread_mutex_init(&l->quota, NULL);
    pthread_mutex_init(&l->dir_lock, NULL);
    pthread_rwlock_init(&l->lock, NULL);
    for (size_t i = 0; i < COW_DIR_LOCKS; i++)
        pthread_mutex_init(&l->dirs[i], NULL);
    l->remembers = getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur >= 8 * COW_KNOWN_DIRS;
    return l;
}

void cow_free(struct cow_layer *l)
{
    if (!l)
        return;
    cow_dirs_fini(l);
    cow_index_fini(l);
    cow_quota_fini(l);
    util_closep(&l->lower_fd);
    util_closep(&l->storage_fd);
    util_closep(&l->parent_fd);
    util_closep(&l->objects_fd);
    util_closep(&l->index_fd);
    util_closep(&l->lock_fd);
    buf_fini(&l->record);
    free(l->storage_path);
    free(l->lower_path);
    free(l->command);
    free(l->reason);
    free(l);
}

static char *location(int fd)
{
    char path[PATH_MAX];

    return fd_location(fd, path, sizeof(path)) < 0 ? NULL : strdup(path);
}

/* Locks it and opens its parts. */
static int layer_open(struct cow_layer *l, bool make)
{
    int flags = make ? O_CREAT | O_EXCL : 0, e;

    l->lock_fd = openat(l->storage_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (l->lock_fd < 0)
        return -errno;
    if (flock(l->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    if (make &&
        (mkdirat(l->storage_fd, "objects", 0700) < 0 || mkdirat(l->storage_fd, "limbo", 0700) < 0))
        return -errno;
    l->objects_fd =
        openat(l->storage_fd, "objects", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (l->objects_fd < 0 && !(l->header_only && errno == ENOENT))
        return -errno;
    l->index_fd =
        openat(l->storage_fd, "index", O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
    if (l->index_fd < 0)
        return -errno;
    l->storage_path = location(l->storage_fd);
    if (!l->storage_path)
        return -ENOMEM;
    e = cow_attr_fd(l->storage_fd, &l->storage);
    return e < 0 ? e : cow_attr_fd(l->parent_fd, &l->holder);
}

/* Directories are made 0700 under any umask. */
static int layer_make(struct cow_layer *l)
{
    uint64_t random;

    for (int i = 0; i < 16; i++) {
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
            return -EIO;
        snprintf(l->id, sizeof(l->id), "%016llx", (unsigned long long)random);
        if (mkdirat(l->parent_fd, l->id, 0700) == 0)
            break;
        if (errno != EEXIST)
            return -errno;
        l->id[0] = '\0';
    }
    if (!l->id[0])
        return -EEXIST;
    l->storage_fd = openat(l->parent_fd, l->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return l->storage_fd < 0 ? -errno : layer_open(l, true);
}

/* A layer without a lock looks as if its run were dead: who removes such ones waits meanwhile. */
static int layer_make_locked(struct cow_layer *l)
{
    int e;

    cow_clean_storage(l->parent_fd);
    while (flock(l->parent_fd, LOCK_SH) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    e = layer_make(l);
    (void)flock(l->parent_fd, LOCK_UN);
    return e;
}

static int layer_mark(struct cow_layer *l, const char *reason)
{
    _cleanup_buf_ struct buf b = {0};

    cow_put_str(&b, reason);
    return cow_log(l, REC_KEPT, &b);
}

static int layer_lower(struct cow_layer *l, int lower_fd)
{
    int e;

    l->lower_fd = sys_open_path(lower_fd, ".", O_DIRECTORY);
    if (l->lower_fd < 0)
        return l->lower_fd;
    e = cow_attr_fd(l->lower_fd, &l->lower);
    if (e < 0)
        return e;
    l->lower_path = location(l->lower_fd);
    return l->lower_path ? 0 : -ENOMEM;
}

#define LAYER_SHARED "shared" /* exists: never_commit */
#define LAYER_BACKUP "backup" /* exists: so is its commit to be */
#define LAYER_IN_PLACE "in-place"

int cow_mark(struct cow_layer *l, const char *name, bool synced)
{
    int fd = openat(l->storage_fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    int e = 0;

    if (fd < 0)
        return -errno;
    if (synced && (fsync(fd) < 0 || fsync(l->storage_fd) < 0))
        e = -errno;
    util_close(fd);
    return e;
}

bool cow_has_mark(const struct cow_layer *l, const char *name)
{
    struct cow_attr a;

    return cow_attr_at(l->storage_fd, name, &a) == 0;
}

/* What cannot be found out is taken for shared. */
bool cow_is_shared(const struct cow_layer *l)
{
    struct cow_attr a;

    return cow_attr_at(l->storage_fd, LAYER_SHARED, &a) != -ENOENT;
}

int cow_create(int lower_fd, const struct cow_config *config, struct cow_layer **ret,
               struct error *err)
{
    struct cow_layer *l = layer_new();
    char inside[PATH_MAX];
    struct timespec now;
    int e;

    if (!l)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--workdir", "out of memory");
    l->max_bytes = config->max_bytes;
    l->commit_wait_ms = config->commit_wait_ms ? config->commit_wait_ms : COMMIT_WAIT_MS;
    clock_gettime(CLOCK_REALTIME, &now);
    l->created = (uint64_t)now.tv_sec;
    l->parent_fd = cow_storage_open(lower_fd, config->storage, true, err);
    if (l->parent_fd < 0) {
        e = l->parent_fd;
        cow_free(l);
        return e;
    }
    e = layer_lower(l, lower_fd);
    if (e == 0 && config->command && !(l->command = strdup(config->command)))
        e = -ENOMEM;
    if (e == 0)
        e = layer_make_locked(l);
    if (e == 0 && config->never_commit)
        e = cow_mark(l, LAYER_SHARED, false);
    l->backup = config->backup;
    if (e == 0 && l->backup)
        e = cow_mark(l, LAYER_BACKUP, false);
    l->in_place = config->in_place && !config->backup;
    if (e == 0 && l->in_place)
        e = cow_mark(l, LAYER_IN_PLACE, false);
    if (e == 0)
        e = cow_log_header(l);
    if (e == 0 && config->keep_orphan)
        e = layer_mark(l, "its run was killed");
    if (e < 0) {
        error_set(err, ERROR_SETUP, e, "--workdir", "cannot make the copy-on-write layer: %s",
                  error_text(e));
        if (l->storage_fd >= 0)
            cow_remove_layer(l);
        cow_free(l);
        return e;
    }
    l->same_fs = l->storage.dev == l->lower.dev && l->storage.mnt == l->lower.mnt;
    l->inside = cow_lower_name(l, l->parent_fd, NULL, inside) != -EXDEV;
    *ret = l;
    return 0;
}

static int layer_existing(int storage_fd, const char *id, bool header_only, struct cow_layer **ret)
{
    struct cow_layer *l = layer_new();
    int e = 0;

    if (!l)
        return -ENOMEM;
    snprintf(l->id, sizeof(l->id), "%s", id);
    l->commit_wait_ms = COMMIT_WAIT_MS;
    l->header_only = header_only;
    l->parent_fd = fcntl(storage_fd, F_DUPFD_CLOEXEC, 0);
    if (l->parent_fd < 0)
        e = -errno;
    if (e == 0) {
        l->storage_fd = openat(l->parent_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        e = l->storage_fd < 0 ? -errno : layer_open(l, false);
    }
    if (e == 0) {
        l->backup = cow_has_mark(l, LAYER_BACKUP);
        l->in_place = cow_has_mark(l, LAYER_IN_PLACE);
        e = cow_load(l);
    }
    l->same_fs = l->storage.dev == l->lower.dev && l->storage.mnt == l->lower.mnt;
    *ret = l;
    return e;
}

/* *ret is set unless there is no memory: what could be opened, for cleaning up. */
int cow_open_header(int storage_fd, const char *id, struct cow_layer **ret)
{
    *ret = NULL;
    return layer_existing(storage_fd, id, true, ret);
}

int cow_open_existing(int storage_fd, const char *id, struct cow_layer **ret, struct error *err)
{
    struct cow_layer *l = NULL;
    int e = layer_existing(storage_fd, id, false, &l);

    if (e == 0) {
        *ret = l;
        return 0;
    }
    cow_free(l);
    return error_set(err, ERROR_SETUP, e, id, "%s",
                     e == -EBUSY     ? "in use by a running sandbox"
                     : e == -EBADMSG ? "the layer's index is damaged"
                     : e == -ESTALE  ? "its work directory is another one now"
                                     : error_text(e));
}

void cow_set_progress(struct cow_layer *l, cow_progress *progress, void *arg)
{
    l->telling = (struct cow_telling){progress, arg};
}

const char *cow_id(const struct cow_layer *l)
{
    return l->id;
}

const char *cow_storage_path(const struct cow_layer *l)
{
    return l->storage_path;
}

int cow_abort(struct cow_layer *l, struct error *err)
{
    int e = cow_remove_layer(l);

    return e < 0 ? error_set(err, ERROR_SETUP, e, l->storage_path, "cannot remove the layer: %s",
                             error_text(e))
                 : 0;
}

int cow_keep(struct cow_layer *l, const char *reason, struct error *err)
{
    int e = layer_mark(l, reason);

    if (e == 0 && syncfs(l->storage_fd) < 0)
        e = -errno;
    if (e < 0)
        return error_set(err, ERROR_SETUP, e, l->storage_path, "cannot keep the layer: %s",
                         error_text(e));
    l->kept = true;
    return 0;
}
