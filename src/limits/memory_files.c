/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that belong to files in memory. The sampler's thread. A member's descriptors are looked at by
 * statx without synchronising, so no file system of a member's choice is asked and none can keep us.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "limits/internal.h"
#include "sys/fs.h"

static void files_add_dev(struct memory_files *f, dev_t dev)
{
    for (size_t i = 0; i < f->ndev; i++) {
        if (f->dev[i] == dev)
            return;
    }
    if (f->ndev < ARRAY_SIZE(f->dev))
        f->dev[f->ndev++] = dev;
}

/* proc_pid_mountinfo(5): "id parent major:minor root point options - type source ..." */
static void files_find_tmpfs(struct memory_files *f)
{
    FILE *in = fopen("/proc/self/mountinfo", "re");
    _cleanup_free_ char *line = NULL;
    size_t size = 0;
    unsigned major_number, minor_number;

    while (in && getline(&line, &size, in) > 0) {
        if (strstr(line, " - tmpfs ") &&
            sscanf(line, "%*d %*d %u:%u", &major_number, &minor_number) == 2)
            files_add_dev(f, makedev(major_number, minor_number));
    }
    if (in)
        fclose(in);
}

void memory_files_init(struct memory_files *f)
{
    _cleanup_close_ int fd = memfd_create("sandlock", MFD_CLOEXEC);
    struct stat st;

    *f = (struct memory_files){0};
    /* memfds, shared anonymous memory and SysV segments live on one internal mount. */
    if (fd >= 0 && fstat(fd, &st) == 0)
        files_add_dev(f, st.st_dev);
    files_find_tmpfs(f);
    for (int i = 0; i < 3; i++) {
        if (fstat(i, &st) == 0)
            f->ignored[f->nignored++] = (struct memory_file){st.st_dev, st.st_ino, 0};
    }
}

void memory_files_fini(struct memory_files *f)
{
    free(f->v);
    *f = (struct memory_files){0};
}

void memory_files_clear(struct memory_files *f)
{
    f->n = 0;
}

static bool files_has(const struct memory_file *v, size_t n, dev_t dev, ino_t ino)
{
    for (size_t i = 0; i < n; i++) {
        if (v[i].dev == dev && v[i].ino == ino)
            return true;
    }
    return false;
}

static bool files_in_memory(const struct memory_files *f, dev_t dev)
{
    for (size_t i = 0; i < f->ndev; i++) {
        if (f->dev[i] == dev)
            return true;
    }
    return false;
}

struct files_of {
    struct memory_files *f;
    pid_t pid;
    uint64_t added;
};

static int files_add_fd(void *arg, int number)
{
    struct files_of *of = arg;
    struct memory_files *f = of->f;
    struct sys_usage u;
    struct stat link;
    struct memory_file *v;
    char path[48];

    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)of->pid, number);
    if (sys_file_usage(path, &u) < 0 || !S_ISREG(u.mode) || !files_in_memory(f, u.dev) ||
        files_has(f->v, f->n, u.dev, u.ino) || files_has(f->ignored, f->nignored, u.dev, u.ino))
        return 0;
    /* Mode of the link: what the descriptor may do. Who only reads did not put the pages there. */
    if (lstat(path, &link) < 0 || !(link.st_mode & S_IWUSR))
        return 0;
    v = util_grow(f->v, f->n, &f->cap, sizeof(*v));
    if (!v)
        return 0;
    f->v = v;
    f->v[f->n++] = (struct memory_file){u.dev, u.ino, u.bytes};
    of->added += u.bytes;
    return 0;
}

uint64_t memory_files_add(struct memory_files *f, pid_t pid)
{
    struct files_of of = {.f = f, .pid = pid};
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    (void)tree_each_number(path, files_add_fd, &of);
    /* Descriptor 0 is not a number that the walk calls for. */
    (void)files_add_fd(&of, 0);
    return of.added;
}

uint64_t memory_files_mapped(const struct memory_files *f, pid_t pid)
{
    _cleanup_free_ char *line = NULL;
    uint64_t bytes = 0;
    bool counted = false;
    size_t size = 0;
    char path[32];
    FILE *in;

    snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    in = fopen(path, "re");
    while (in && getline(&line, &size, in) > 0) {
        unsigned major_number, minor_number;
        uint64_t ino, kib;
        char shared;

        if (sscanf(line, "%*x-%*x %*c%*c%*c%c %*x %x:%x %" SCNu64, &shared, &major_number,
                   &minor_number, &ino) == 4)
            counted = shared == 's' &&
                      files_has(f->v, f->n, makedev(major_number, minor_number), (ino_t)ino);
        else if (counted && sscanf(line, "Pss: %" SCNu64, &kib) == 1)
            bytes += kib * 1024;
    }
    if (in)
        fclose(in);
    return bytes;
}
