/* SPDX-License-Identifier: Apache-2.0 */
/* The run's own cgroup; see cgroup.h. cgroups(7), Documentation/admin-guide/cgroup-v2.rst. */
#include "limits/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>

#include "sys/fs.h"
#include "sys/procfile.h"

#define CGROUP_PREFIX "sandlock-"
#define CGROUP_PERIOD 100000u /* microseconds, the kernel's own default */
#define CGROUP_TRIES 8
#define CGROUP_STALE_MAX 256 /* left behind by others, removed at most at one start */
#define CGROUP_REMOVE_TRIES 200
#define CGROUP_MAGIC 0x63677270 /* CGROUP2_SUPER_MAGIC */

struct wish {
    bool memory, cpu;
};

/* ---- files ---- */

static int cgroup_join_path(char *out, const char *dir, const char *file)
{
    return snprintf(out, PATH_MAX, "%s/%s", dir, file) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static ssize_t cgroup_text(const char *dir, const char *file, char *text, size_t size)
{
    char path[PATH_MAX];
    int r = cgroup_join_path(path, dir, file);

    return r < 0 ? r : sys_read_file(path, text, size);
}

static int cgroup_write(const char *dir, const char *file, const char *text)
{
    char path[PATH_MAX];
    int r = cgroup_join_path(path, dir, file);
    _cleanup_close_ int fd = r < 0 ? r : sys_openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);

    if (fd < 0)
        return fd;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int64_t limits_cgroup_read(const struct limits_cgroup *g, const char *file, const char *word)
{
    char text[8192];
    size_t n = word ? strlen(word) : 0;
    const char *at = text;
    char *end;
    long long v;

    if (cgroup_text(g->path, file, text, sizeof(text)) <= 0)
        return -1;
    while (word && (strncmp(at, word, n) != 0 || at[n] != ' ')) {
        at = strchr(at, '\n');
        if (!at)
            return -1;
        at++;
    }
    v = strtoll(at + n, &end, 10);
    return end == at + n ? -1 : v;
}

/* A list of words such as "cpuset cpu io memory". */
static bool cgroup_lists(const char *dir, const char *file, const char *word)
{
    char text[1024];
    size_t n = strlen(word);

    if (cgroup_text(dir, file, text, sizeof(text)) <= 0)
        return false;
    for (const char *at = text; (at = strstr(at, word)); at += n) {
        if ((at == text || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\n' || !at[n]))
            return true;
    }
    return false;
}

/* ---- limits ---- */

bool limits_cgroup_holds_memory(const struct limits_cgroup *g, uint64_t bytes)
{
    int64_t v = limits_cgroup_read(g, "memory.max", NULL);

    return v >= 0 && (uint64_t)v <= bytes;
}

int limits_cgroup_set_memory(const struct limits_cgroup *g, uint64_t bytes)
{
    char text[32];
    int r;

    snprintf(text, sizeof(text), "%" PRIu64, bytes);
    r = cgroup_write(g->path, "memory.max", text);
    if (r < 0)
        return r;
    r = cgroup_write(g->path, "memory.swap.max", "0");
    if (r < 0 && r != -ENOENT) /* built without swap: nothing to swap to */
        return r;
    return limits_cgroup_holds_memory(g, bytes) ? 0 : -EIO;
}

bool limits_cgroup_holds_cpu(const struct limits_cgroup *g, unsigned percent)
{
    unsigned long long quota, period;
    char text[64];

    /* The kernel makes a period longer that it finds too short, and the quota with it. */
    return cgroup_text(g->path, "cpu.max", text, sizeof(text)) > 0 &&
           sscanf(text, "%llu %llu", &quota, &period) == 2 && quota * 100 <= period * percent + 99;
}

int limits_cgroup_set_cpu(const struct limits_cgroup *g, unsigned percent)
{
    char text[48];
    int r;

    snprintf(text, sizeof(text), "%u %u", percent * (CGROUP_PERIOD / 100), CGROUP_PERIOD);
    r = cgroup_write(g->path, "cpu.max", text);
    return r < 0 ? r : limits_cgroup_holds_cpu(g, percent) ? 0 : -EIO;
}

/* ---- a place for it ---- */

static bool is_beneath(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    if (strcmp(dir, "/") == 0)
        return true;
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || !path[n]);
}

/* Could who has this directory change what is at the mount point? */
static bool cgroup_meets(const char *granted, const char *mount)
{
    char path[PATH_MAX];
    _cleanup_close_ int fd = -1;

    if (!realpath(granted, path))
        return false;
    fd = sys_open_path(AT_FDCWD, path, 0);
    return is_beneath(mount, path) || (fd >= 0 && sys_fs_magic(fd) == CGROUP_MAGIC);
}

/* A command that may write there could leave its cgroup. */
static bool cgroup_is_granted(const struct policy *p, const char *mount)
{
    if (p->chroot && cgroup_meets(p->chroot, mount))
        return true;
    for (size_t i = 0; i < p->fs_mount.n; i++) {
        if (cgroup_meets(p->fs_mount.v[i].source, mount))
            return true;
    }
    for (size_t i = 0; !p->chroot && i < p->fs_write.n; i++) {
        if (cgroup_meets(p->fs_write.v[i].path, mount))
            return true;
    }
    return false;
}

/* Our own path in the hierarchy, from /proc/self/cgroup. */
static int cgroup_own(char own[PATH_MAX])
{
    char text[8192];
    const char *at;
    ssize_t n = sys_read_file("/proc/self/cgroup", text, sizeof(text));

    at = n <= 0 ? NULL : strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    if (!at)
        return -ENOENT;
    at = strstr(at, "::") + 2;
    snprintf(own, PATH_MAX, "%.*s", (int)strcspn(at, "\n"), at);
    /* ".." leads out of a cgroup namespace, "(deleted)" nowhere. */
    return own[0] != '/' || strstr(own, "/..") || strchr(own, '(') ? -ENOENT : 0;
}

/* Where we are below a mount of the hierarchy: *ret_top is the length of the mount point. */
static int cgroup_locate(const struct policy *p, char place[PATH_MAX], size_t *ret_top)
{
    _cleanup_free_ char *line = NULL;
    FILE *in = fopen("/proc/self/mountinfo", "re");
    char own[PATH_MAX], root[512], mount[512];
    size_t size = 0;
    int r = cgroup_own(own);

    place[0] = '\0';
    while (r == 0 && in && getline(&line, &size, in) > 0) {
        if (!strstr(line, " - cgroup2 ") ||
            sscanf(line, "%*d %*d %*s %511s %511s", root, mount) != 2)
            continue;
        if (strchr(mount, '\\') || cgroup_is_granted(p, mount))
            r = -EPERM;
        if (place[0] || !is_beneath(own, root))
            continue;
        *ret_top = strlen(mount);
        if (snprintf(place, PATH_MAX, "%s%s", mount,
                     strcmp(root, "/") == 0 ? own : own + strlen(root)) >= PATH_MAX)
            r = -ENAMETOOLONG;
    }
    if (in)
        fclose(in);
    for (size_t n = strlen(place); n > *ret_top && place[n - 1] == '/';)
        place[--n] = '\0';
    return r < 0 ? r : place[0] ? 0 : -ENOENT;
}

/* systemd takes back what it did not delegate: CGROUP_DELEGATION.md of systemd. */
static bool cgroup_is_delegated(const char *place, size_t top)
{
    static const char *const names[] = {"user.delegate", "trusted.delegate"};
    char path[PATH_MAX];
    char value;

    snprintf(path, sizeof(path), "%s", place);
    for (size_t n = strlen(path); n > top; path[n] = '\0') {
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
            if (getxattr(path, names[i], &value, 1) == 1 && value == '1')
                return true;
        }
        while (n > top && path[n] != '/')
            n--;
    }
    return false;
}

/* Who is not root can write only where somebody has handed it over. */
static bool cgroup_is_ours(const char *place, size_t top)
{
    return geteuid() != 0 || access("/run/systemd/system", F_OK) < 0 ||
           cgroup_is_delegated(place, top);
}

/* Children of the place get the controllers; only where no process is in it, or at the root. */
static bool cgroup_enable(const char *place, const struct wish *w)
{
    static const char control[] = "cgroup.subtree_control";

    if ((w->memory && !cgroup_lists(place, "cgroup.controllers", "memory")) ||
        (w->cpu && !cgroup_lists(place, "cgroup.controllers", "cpu")))
        return false;
    if (w->memory && !cgroup_lists(place, control, "memory"))
        (void)cgroup_write(place, control, "+memory");
    if (w->cpu && !cgroup_lists(place, control, "cpu"))
        (void)cgroup_write(place, control, "+cpu");
    return (!w->memory || cgroup_lists(place, control, "memory")) &&
           (!w->cpu || cgroup_lists(place, control, "cpu"));
}

/* ---- making and removing ---- */

/* The run that made it is dead when nobody has the lock. Whoever is in it keeps it. */
static void cgroup_remove_stale(const char *path)
{
    _cleanup_close_ int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        (void)rmdir(path);
}

static void cgroup_remove_all_stale(const char *place)
{
    DIR *dir = opendir(place);
    const struct dirent *d;
    char path[PATH_MAX];

    for (unsigned n = 0; dir && n < CGROUP_STALE_MAX && (d = readdir(dir));) {
        if (strncmp(d->d_name, CGROUP_PREFIX, strlen(CGROUP_PREFIX)) != 0)
            continue;
        n++;
        if (cgroup_join_path(path, place, d->d_name) == 0)
            cgroup_remove_stale(path);
    }
    if (dir)
        closedir(dir);
}

/* A directory that is there under our lock; -EAGAIN when somebody took it for a dead one's. */
static int cgroup_make(struct limits_cgroup *g, const char *place)
{
    static atomic_uint count;
    struct stat by_fd, by_name;
    char name[64];
    int r;

    snprintf(name, sizeof(name), CGROUP_PREFIX "%d-%u", (int)getpid(), atomic_fetch_add(&count, 1));
    r = cgroup_join_path(g->path, place, name);
    if (r < 0)
        return r;
    if (mkdir(g->path, 0755) < 0)
        return errno == EEXIST ? -EAGAIN : -errno;
    g->lock_fd = sys_openat(AT_FDCWD, g->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (g->lock_fd >= 0 && flock(g->lock_fd, LOCK_EX | LOCK_NB) == 0 &&
        fstat(g->lock_fd, &by_fd) == 0 && stat(g->path, &by_name) == 0 &&
        by_fd.st_ino == by_name.st_ino)
        return 0;
    g->lock_fd = g->lock_fd < 0 ? -1 : util_close(g->lock_fd);
    return -EAGAIN;
}

static void cgroup_remove(struct limits_cgroup *g)
{
    for (int i = 0; i < CGROUP_REMOVE_TRIES && rmdir(g->path) < 0 && errno == EBUSY; i++) {
        if (i == 0) /* nobody should be left */
            (void)cgroup_write(g->path, "cgroup.kill", "1");
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    g->lock_fd = g->lock_fd < 0 ? -1 : util_close(g->lock_fd);
}

static int cgroup_set_up(struct limits_cgroup *g, const struct policy *p, const struct wish *w)
{
    char path[PATH_MAX];
    int r = 0;

    if (w->memory)
        r = limits_cgroup_set_memory(g, p->max_memory);
    if (r == 0 && w->cpu)
        r = limits_cgroup_set_cpu(g, p->max_cpu);
    if (r == 0)
        r = cgroup_join_path(path, g->path, "cgroup.procs");
    if (r < 0)
        return r;
    g->procs_fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    return MIN(g->procs_fd, 0);
}

/* In this place, or not at all. */
static bool cgroup_try(struct limits_cgroup *g, const char *place, const struct policy *p,
                       const struct wish *w)
{
    int r = -EAGAIN;

    if (access(place, W_OK) < 0 || !cgroup_enable(place, w))
        return false;
    cgroup_remove_all_stale(place);
    for (unsigned i = 0; i < CGROUP_TRIES && r == -EAGAIN; i++)
        r = cgroup_make(g, place);
    if (r < 0)
        return false;
    if (cgroup_set_up(g, p, w) < 0) {
        cgroup_remove(g);
        return false;
    }
    g->memory = w->memory;
    g->cpu = w->cpu;
    return true;
}

/* From where we are upwards: our own has processes, and may then have no children with controllers. */
static bool cgroup_search(struct limits_cgroup *g, const struct policy *p, const struct wish *w)
{
    char place[PATH_MAX];
    size_t top = 0;

    if (cgroup_locate(p, place, &top) < 0)
        return false;
    for (size_t n = strlen(place);; place[n] = '\0') {
        if (cgroup_is_ours(place, top) && cgroup_try(g, place, p, w))
            return true;
        if (n <= top)
            return false;
        while (n > top && place[n] != '/')
            n--;
    }
}

struct limits_cgroup *limits_cgroup_new(const struct policy *p)
{
    bool cpu = p->max_cpu != 0 && p->max_cpu < 100, memory = p->max_memory >= CGROUP_MEMORY_MIN;
    const struct wish wishes[] = {{memory, cpu}, {memory, false}, {false, cpu}};
    struct limits_cgroup *g = memory || cpu ? calloc(1, sizeof(*g)) : NULL;

    if (!g)
        return NULL;
    g->lock_fd = g->procs_fd = -1;
    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        if ((wishes[i].memory || wishes[i].cpu) && cgroup_search(g, p, &wishes[i]))
            return g;
        if (!memory || !cpu)
            break;
    }
    free(g);
    return NULL;
}

void limits_cgroup_free(struct limits_cgroup *g)
{
    if (!g)
        return;
    if (g->procs_fd >= 0)
        util_close(g->procs_fd);
    cgroup_remove(g);
    free(g);
}
