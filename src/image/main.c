/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandlock-image [--cache DIR] REFERENCE
 *
 * Makes sure that the image is unpacked in the cache and prints what a run needs, as records
 * "key NUL value NUL": root, digest, and as often as they occur entrypoint, cmd, env, workdir, user, home.
 * Errors are one line on stderr, exit 1 (2 for a wrong command line). An unpacked image is complete
 * when its directory has its final name: it gets that by rename, after everything was verified.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#include "image/image.h"
#include "sys/fs.h"
#include "sys/landlock.h"

#define TEMPORARY "tmp."
#define TEMPORARY_AGE 60 /* seconds */

struct job {
    struct image_ref ref;
    char *cache; /* its path */
    int cache_fd;
    int layout_fd;
    const char *machine;
    char fetched[NAME_MAX + 1]; /* name in the cache of a layout that is ours, or "" */
    struct error err;
};

static int job_error(struct job *j, int e, const char *what)
{
    return error_set(&j->err, ERROR_SETUP, e, what, "%s", error_text(e));
}

/* ---- the cache ---- */

/* $XDG_CACHE_HOME/sandlock/images, or below ~/.cache. */
static char *cache_default(void)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *path = NULL;

    if (xdg && *xdg == '/') {
        if (asprintf(&path, "%s/sandlock/images", xdg) < 0)
            return NULL;
    } else if (home && *home == '/') {
        if (asprintf(&path, "%s/.cache/sandlock/images", home) < 0)
            return NULL;
    }
    return path;
}

static int make_directories(char *path)
{
    for (char *p = path + 1;; p++) {
        char c;

        p += strcspn(p, "/");
        c = *p;
        *p = '\0';
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return -errno;
        *p = c;
        if (!c)
            return 0;
    }
}

/* What lies there is executed later: nobody else may have a hand in it. */
static int cache_open(struct job *j)
{
    struct stat st;
    int r;

    if (!j->cache)
        return error_set(&j->err, ERROR_SETUP, -ENOENT, "image cache",
                         "neither $XDG_CACHE_HOME nor $HOME says where it is");
    r = make_directories(j->cache);
    if (r == 0) {
        j->cache_fd = open(j->cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = j->cache_fd < 0 ? -errno : 0;
    }
    if (r < 0 || fstat(j->cache_fd, &st) < 0)
        return error_set(&j->err, ERROR_SETUP, r, "image cache", "%.200s: %s", j->cache,
                         error_text(r));
    if (st.st_uid != geteuid() || (st.st_mode & 022))
        return error_set(&j->err, ERROR_SETUP, -EPERM, "image cache",
                         "%.200s belongs to somebody else or is writable by others", j->cache);
    return 0;
}

/* A fresh directory in the cache, locked for as long as the descriptor is open: what bears such a name
 * and is not locked was left by a run that was killed. */
static int cache_temporary(struct job *j, char name[NAME_MAX + 1], int *ret_fd)
{
    struct timespec now;
    int fd;

    for (unsigned i = 0; i < 100; i++) {
        clock_gettime(CLOCK_REALTIME, &now);
        snprintf(name, NAME_MAX + 1, TEMPORARY "%d.%lx.%u", (int)getpid(),
                 (unsigned long)now.tv_nsec, i);
        if (mkdirat(j->cache_fd, name, 0700) < 0) {
            if (errno == EEXIST)
                continue;
            break;
        }
        fd = openat(j->cache_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            break;
        (void)flock(fd, LOCK_EX | LOCK_NB);
        *ret_fd = fd;
        return 0;
    }
    name[0] = '\0';
    return job_error(j, -errno, "image cache");
}

/* Is it left over? Its maker locks it right after making it, hence the age. */
static bool cache_is_stale(struct job *j, const char *name)
{
    _cleanup_close_ int fd =
        openat(j->cache_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && st.st_mtime + TEMPORARY_AGE < time(NULL) &&
           flock(fd, LOCK_EX | LOCK_NB) == 0;
}

/* Removes what killed runs left. Best effort: the next run tries again. */
static void cache_collect(struct job *j)
{
    int fd = openat(j->cache_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *d;

    if (!dir) {
        util_close(fd);
        return;
    }
    while ((d = readdir(dir))) {
        if (strncmp(d->d_name, TEMPORARY, sizeof(TEMPORARY) - 1) == 0 &&
            cache_is_stale(j, d->d_name))
            (void)tree_remove(j->cache_fd, d->d_name);
    }
    closedir(dir);
}

/* ---- confinement of ourselves ---- */

/* From here on archives and JSON are interpreted: only the cache can be changed, nothing executed,
 * nothing connected to. Best effort: what the kernel does not know of is not asked for. */
static int confine(struct job *j)
{
    static const uint64_t added[] = {0,
                                     0,
                                     LANDLOCK_ACCESS_FS_REFER,
                                     LANDLOCK_ACCESS_FS_TRUNCATE,
                                     0,
                                     LANDLOCK_ACCESS_FS_IOCTL_DEV};
    const uint64_t reading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    struct uapi_landlock_ruleset attr = {.handled_access_fs = (UINT64_C(1) << 13) - 1};
    _cleanup_close_ int ruleset_fd = -1;
    int abi = sys_landlock_abi(), r;

    if (abi < 1)
        return 0; /* `sandlock run` says so */
    for (int i = 2; i <= abi && i < (int)ARRAY_SIZE(added); i++)
        attr.handled_access_fs |= added[i];
    if (abi >= 4)
        attr.handled_access_net = LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP;
    ruleset_fd = sys_landlock_create(&attr);
    r = ruleset_fd < 0 ? ruleset_fd : 0;
    if (r == 0)
        r = sys_landlock_add_path(ruleset_fd,
                                  attr.handled_access_fs & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE,
                                  j->cache_fd);
    if (r == 0 && j->layout_fd >= 0)
        r = sys_landlock_add_path(ruleset_fd, reading, j->layout_fd);
    if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        r = -errno;
    if (r == 0)
        r = sys_landlock_restrict(ruleset_fd, 0);
    return r < 0 ? job_error(j, r, "confinement") : 0;
}

/* ---- progress ---- */

struct progress {
    time_t started;
    uint64_t shown;
};

/* Silent for a second, and where nobody looks. */
static void progress_show(void *arg, uint64_t bytes)
{
    struct progress *p = arg;

    if (bytes - p->shown < (16u << 20) || time(NULL) - p->started < 1)
        return;
    p->shown = bytes;
    fprintf(stderr, "\rsandlock: unpacking the image: %llu MB\033[K",
            (unsigned long long)(bytes >> 20));
}

static void progress_end(const struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
}

/* ---- the layout ---- */

static int layout_directory(struct job *j, const char *path)
{
    j->layout_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->layout_fd < 0)
        return error_set(&j->err, ERROR_SETUP, -errno, "--image", "%.200s: %s", path,
                         error_text(errno));
    return 0;
}

static int layout_temporary(struct job *j)
{
    return cache_temporary(j, j->fetched, &j->layout_fd);
}

static int layout_remote(struct job *j)
{
    _cleanup_free_ char *path = NULL;
    int r = layout_temporary(j);

    if (r < 0)
        return r;
    if (asprintf(&path, "%s/%s", j->cache, j->fetched) < 0) {
        path = NULL;
        return job_error(j, -ENOMEM, "image");
    }
    return image_fetch(&j->ref, j->machine, path, &j->err);
}

static int layout_archive(struct job *j, int archive_fd)
{
    struct unpack u = {0};

    u.root_fd = j->layout_fd;
    return unpack_archive(&u, archive_fd, j->ref.path, &j->err);
}

/* Leaves a layout in layout_fd, and this process confined. */
static int layout_prepare(struct job *j)
{
    _cleanup_close_ int archive_fd = -1;
    int r;

    switch (j->ref.kind) {
    case IMAGE_OCI: r = layout_directory(j, j->ref.path); break;
    case IMAGE_OCI_ARCHIVE:
        archive_fd = open(j->ref.path, O_RDONLY | O_CLOEXEC);
        if (archive_fd < 0)
            return error_set(&j->err, ERROR_SETUP, -errno, "--image", "%.200s: %s", j->ref.path,
                             error_text(errno));
        r = layout_temporary(j);
        break;
    default: r = layout_remote(j); break;
    }
    if (r == 0)
        r = confine(j);
    if (r == 0 && archive_fd >= 0)
        r = layout_archive(j, archive_fd);
    return r;
}

/* ---- unpacking into the cache ---- */

static int unpack_image(struct job *j, const struct image *m, int root_fd)
{
    struct progress p = {.started = time(NULL)};
    struct unpack u = {.root_fd = root_fd, .arg = &p};
    int r = 0;

    if (isatty(2))
        u.progress = progress_show;
    for (size_t i = 0; r == 0 && i < m->nlayers; i++) {
        _cleanup_close_ int blob_fd = image_blob_open(j->layout_fd, &m->layers[i], &j->err);

        r = blob_fd < 0 ? blob_fd : unpack_layer(&u, blob_fd, &m->layers[i], &j->err);
    }
    progress_end(&p);
    if (r == 0 && u.skipped)
        fprintf(stderr, "sandlock: the image's %llu device nodes were left out\n",
                (unsigned long long)u.skipped);
    return r;
}

static int unpack_into(struct job *j, const struct image *m, const char *temporary, int root_fd)
{
    int r = unpack_image(j, m, root_fd);

    if (r < 0)
        return r;
    if (fchmod(root_fd, 0755) < 0 || syncfs(root_fd) < 0)
        return job_error(j, -errno, "image cache");
    if (sys_renameat2(j->cache_fd, temporary, j->cache_fd, m->manifest.digest, 0) < 0)
        return job_error(j, -errno, "image cache");
    return 0;
}

/* One at a time for each image: who waits finds it done. */
static int unpack_once(struct job *j, const struct image *m)
{
    char temporary[NAME_MAX + 1], lock[DIGEST_LEN + 8];
    _cleanup_close_ int lock_fd = -1, root_fd = -1;
    struct stat st;
    int r;

    snprintf(lock, sizeof(lock), "%s.lock", m->manifest.digest);
    lock_fd = openat(j->cache_fd, lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (lock_fd < 0)
        return job_error(j, -errno, "image cache");
    while (flock(lock_fd, LOCK_EX) < 0) {
        if (errno != EINTR)
            return job_error(j, -errno, "image cache");
    }
    if (fstatat(j->cache_fd, m->manifest.digest, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    r = cache_temporary(j, temporary, &root_fd);
    if (r < 0)
        return r;
    r = unpack_into(j, m, temporary, root_fd);
    if (r < 0)
        (void)tree_remove(j->cache_fd, temporary);
    return r;
}

/* ---- the answer ---- */

static void put(const char *key, const char *value)
{
    fputs(key, stdout);
    putchar('\0');
    fputs(value, stdout);
    putchar('\0');
}

static void put_text(const json_t *settings, const char *name, const char *key)
{
    const char *value = json_string_value(json_object_get(settings, name));

    if (value && *value)
        put(key, value);
}

/* jansson refuses strings with a zero byte unless asked not to: records stay apart. */
static void put_list(const json_t *settings, const char *name, const char *key)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(settings, name), i, item)
    {
        if (json_is_string(item))
            put(key, json_string_value(item));
    }
}

/* Whom the image runs as and where that user is at home. As numbers; "" for none and for root, which is
 * whoever starts the run: nobody has more inside. */
static int find_user(struct job *j, const struct image *m, char ret[32], char home[PATH_MAX])
{
    const char *user = json_string_value(json_object_get(m->settings, "User"));
    _cleanup_close_ int root_fd =
        openat(j->cache_fd, m->manifest.digest, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = 0;

    memcpy(ret, "0:0", 4);
    if (root_fd < 0)
        return job_error(j, -errno, "image cache");
    if (user && *user)
        r = image_user(root_fd, user, ret, &j->err);
    if (r == 0 && !image_home(root_fd, ret, home, PATH_MAX))
        memcpy(home, "/", 2);
    if (strncmp(ret, "0:", 2) == 0)
        ret[0] = '\0';
    return r;
}

static int answer(struct job *j, const struct image *m)
{
    _cleanup_free_ char *root = NULL;
    char user[32], home[PATH_MAX];
    int r = find_user(j, m, user, home);

    if (r < 0)
        return r;
    if (asprintf(&root, "%s/%s", j->cache, m->manifest.digest) < 0) {
        root = NULL;
        return job_error(j, -ENOMEM, "image");
    }
    put("root", root);
    put("digest", m->manifest.digest);
    put_list(m->settings, "Entrypoint", "entrypoint");
    put_list(m->settings, "Cmd", "cmd");
    put_list(m->settings, "Env", "env");
    put_text(m->settings, "WorkingDir", "workdir");
    if (*user)
        put("user", user);
    put("home", home);
    if (fflush(stdout) == EOF || ferror(stdout))
        return job_error(j, -EIO, "output");
    return 0;
}

static int work(struct job *j)
{
    struct image m = {0};
    int r = cache_open(j);

    if (r == 0) {
        cache_collect(j);
        r = layout_prepare(j);
    }
    if (r == 0)
        r = image_read(j->layout_fd, j->ref.tag, j->machine, &m, &j->err);
    if (r == 0)
        r = unpack_once(j, &m);
    if (r == 0)
        r = answer(j, &m);
    image_fini(&m);
    if (j->fetched[0])
        (void)tree_remove(j->cache_fd, j->fetched);
    return r;
}

/* The names of Go, which images use. */
static const char *machine_name(void)
{
    static struct utsname u;

    if (uname(&u) < 0)
        return "unknown";
    if (strcmp(u.machine, "x86_64") == 0)
        return "amd64";
    return strcmp(u.machine, "aarch64") == 0 ? "arm64" : u.machine;
}

/* Words of an archive must not drive the terminal. */
static char *harmless(char *text)
{
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
    return text;
}

int main(int argc, char **argv)
{
    struct job j = {.cache_fd = -1, .layout_fd = -1, .machine = machine_name()};
    int first = 1, r;

    if (argc == 4 && strcmp(argv[1], "--cache") == 0)
        first = 3;
    if (argc != first + 1 || argv[first][0] == '-') {
        fputs("usage: sandlock-image [--cache DIR] REFERENCE\n", stderr);
        return 2;
    }
    j.cache = first == 3 ? strdup(argv[2]) : cache_default();
    /* Names of pax archives are UTF-8; others are taken as the bytes they are. */
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    umask(022);
    r = image_ref_parse(argv[first], &j.ref, &j.err);
    if (r == 0)
        r = work(&j);
    if (r < 0)
        fprintf(stderr, "sandlock: %s%s%s\n", harmless(j.err.where), *j.err.where ? ": " : "",
                harmless(j.err.message));
    image_ref_fini(&j.ref);
    free(j.cache);
    return r == 0 ? 0 : j.err.kind == ERROR_USAGE ? 2 : 1;
}
