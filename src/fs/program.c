/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF headers and patched copies. Receiver threads; every number in a file is checked against its size
 * before use.
 */
#include "fs/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>

#include "arch/arch.h"
#include "base/util.h"
#include "fs/resolve.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u /* 6.3: says so where vm.memfd_noexec asks for it */
#endif

#define PROGRAM_HEADERS_MAX \
    65536u /* bytes; the kernel's ELF_MIN_ALIGN bound is a page more or less */
#define PROGRAMS_MAX 256
#define PROGRAMS_BYTES_KEPT (512ull << 20) /* beyond it those go that nobody runs */
#define PROGRAMS_BYTES_MAX \
    (1024ull << 20) /* their memory is ours: no limit of the sandbox sees it */

/* ---- headers ---- */

static int read_exactly(int fd, void *buf, size_t n, uint64_t at)
{
    ssize_t got = pread(fd, buf, n, (off_t)at);

    return got < 0 ? -errno : (size_t)got == n ? 0 : -ENOEXEC;
}

static bool header_is_ours(const Elf64_Ehdr *h)
{
    return memcmp(h->e_ident, ELFMAG, SELFMAG) == 0 && h->e_ident[EI_CLASS] == ELFCLASS64 &&
           h->e_ident[EI_DATA] == ELFDATA2LSB &&
           h->e_machine == (arch_native()->audit_arch & 0xffff) &&
           (h->e_type == ET_EXEC || h->e_type == ET_DYN) && h->e_phentsize == sizeof(Elf64_Phdr) &&
           h->e_phnum > 0 && h->e_phnum * sizeof(Elf64_Phdr) <= PROGRAM_HEADERS_MAX;
}

/* The kernel's rules (load_elf_binary): at least one letter, at most PATH_MAX, ended by a NUL. */
static int read_loader(int fd, const Elf64_Phdr *p, struct program *ret)
{
    if (p->p_filesz < 2 || p->p_filesz > sizeof(ret->loader))
        return -ENOEXEC;
    int e = read_exactly(fd, ret->loader, p->p_filesz, p->p_offset);
    if (e < 0)
        return e;
    if (ret->loader[p->p_filesz - 1] || !ret->loader[0])
        return -ENOEXEC;
    ret->loader_at = p->p_offset;
    ret->loader_size = p->p_filesz;
    return 0;
}

int program_read(int fd, struct program *ret)
{
    _cleanup_free_ Elf64_Phdr *p = NULL;
    struct stat st;
    Elf64_Ehdr h;
    int e = read_exactly(fd, &h, sizeof(h), 0);

    if (e == 0 && !header_is_ours(&h))
        e = -ENOEXEC;
    if (e == 0 && fstat(fd, &st) < 0)
        e = -errno;
    if (e < 0)
        return e;
    p = malloc(h.e_phnum * sizeof(*p));
    if (!p)
        return -ENOMEM;
    e = read_exactly(fd, p, h.e_phnum * sizeof(*p), h.e_phoff);
    if (e < 0)
        return e;
    ret->loader[0] = '\0';
    ret->size = (uint64_t)st.st_size;
    for (unsigned i = 0; i < h.e_phnum; i++) {
        if (p[i].p_type != PT_INTERP)
            continue;
        ret->header_at = h.e_phoff + i * sizeof(*p);
        return read_loader(fd, &p[i], ret);
    }
    return 0;
}

/* ---- copies ---- */

struct copy {
    struct sys_ident of; /* the program, and the state of it that was copied */
    struct timespec mtime, ctime;
    uint64_t size;
    unsigned loader_fd;
    int object_fd; /* O_PATH of the program */
    int fd;        /* the copy, open for reading */
    struct sys_ident id;
    uint64_t used;
};

struct programs {
    pthread_mutex_t lock;
    uint64_t clock, bytes; /* bytes: also of those that are being made */
    size_t n;
    struct copy v[PROGRAMS_MAX];
};

struct programs *programs_new(void)
{
    struct programs *p = calloc(1, sizeof(*p));

    if (p)
        pthread_mutex_init(&p->lock, NULL);
    return p;
}

static void programs_drop(struct programs *p, size_t i)
{
    util_close(p->v[i].fd);
    util_close(p->v[i].object_fd);
    p->bytes -= p->v[i].size;
    p->v[i] = p->v[--p->n];
}

void programs_free(struct programs *p)
{
    if (!p)
        return;
    while (p->n > 0)
        programs_drop(p, p->n - 1);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Under the lock. A descriptor of the copy that says whether it is used (copy_is_idle), or -ENODATA. */
static int programs_find(struct programs *p, const struct copy *key)
{
    for (size_t i = 0; i < p->n; i++) {
        struct copy *c = &p->v[i];

        if (!sys_ident_same(&c->of, &key->of) || c->loader_fd != key->loader_fd ||
            c->size != key->size || !same_time(&c->mtime, &key->mtime) ||
            !same_time(&c->ctime, &key->ctime))
            continue;
        c->used = ++p->clock;
        return fd_reopen(c->fd, O_RDONLY, 0);
    }
    return -ENODATA;
}

static int copy_range(int to_fd, int from_fd, off_t at, off_t end)
{
    if (lseek(to_fd, at, SEEK_SET) < 0)
        return -errno;
    while (at < end) {
        ssize_t n = sendfile(to_fd, from_fd, &at, (size_t)(end - at));

        if (n <= 0)
            return n < 0 ? -errno : -ENOEXEC; /* it became shorter */
    }
    return 0;
}

/* Holes stay holes: otherwise a file that takes no place costs its whole length in memory, which no limit
 * of the sandbox bounds. */
static int copy_bytes(int to_fd, int from_fd, uint64_t size)
{
    off_t end = (off_t)size, at = 0;
    int e = ftruncate(to_fd, end) < 0 ? -errno : 0;

    while (e == 0 && at < end) {
        off_t data = lseek(from_fd, at, SEEK_DATA), hole;

        if (data < 0 && errno == ENXIO)
            return 0;         /* nothing but a hole is left */
        data = MAX(data, at); /* also where nobody knows of holes: all is data */
        hole = lseek(from_fd, data, SEEK_HOLE);
        hole = hole <= data ? end : MIN(hole, end);
        if (data < end)
            e = copy_range(to_fd, from_fd, data, hole);
        at = MAX(hole, data);
    }
    return e;
}

/* The loader's path becomes the descriptor's, which is shorter than any loader's; so does its size. */
static int copy_patch(int fd, const struct program *program, unsigned loader_fd)
{
    char path[FD_PATH_MAX];
    uint64_t size;

    fd_path((int)loader_fd, path);
    size = strlen(path) + 1;
    if (size > program->loader_size)
        return -ENOEXEC;
    if (pwrite(fd, path, size, (off_t)program->loader_at) != (ssize_t)size ||
        pwrite(fd, &size, sizeof(size),
               (off_t)(program->header_at + offsetof(Elf64_Phdr, p_filesz))) != sizeof(size))
        return -EIO;
    return 0;
}

static int copy_make(struct copy *c, const struct program *program, int object_fd, const char *name)
{
    const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    int e;

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    e = copy_bytes(fd, object_fd, c->size);
    if (e == 0)
        e = copy_patch(fd, program, c->loader_fd);
    if (e < 0)
        return e;
    if (fcntl(fd, F_ADD_SEALS, seals) < 0)
        return -errno;
    e = sys_identify(fd, &c->id);
    if (e < 0)
        return e;
    /* For reading only: a descriptor open for writing makes every exec fail with ETXTBSY. */
    c->fd = fd_reopen(fd, O_RDONLY, 0);
    return c->fd < 0 ? c->fd : 0;
}

/* Does nobody run, map or hold it? A lease for writing is given only to who alone has the file open, and only
 * the table has this open file. Where there are no leases all count as idle. */
static bool copy_is_idle(const struct copy *c)
{
    if (fcntl(c->fd, F_SETLEASE, F_WRLCK) < 0)
        return errno != EAGAIN;
    return fcntl(c->fd, F_SETLEASE, F_UNLCK) == 0;
}

static bool programs_drop_idle(struct programs *p)
{
    size_t oldest = p->n;

    for (size_t i = 0; i < p->n; i++) {
        if ((oldest == p->n || p->v[i].used < p->v[oldest].used) && copy_is_idle(&p->v[i]))
            oldest = i;
    }
    if (oldest == p->n)
        return false;
    programs_drop(p, oldest);
    return true;
}

/* Under the lock. What runs stays in memory, so it stays in the table: -ENOMEM when that is full of it. */
static int programs_make_room(struct programs *p, uint64_t size)
{
    while (p->n > 0 && (p->n == PROGRAMS_MAX || p->bytes + size > PROGRAMS_BYTES_KEPT) &&
           programs_drop_idle(p))
        ;
    return p->n == PROGRAMS_MAX || p->bytes + size > PROGRAMS_BYTES_MAX ? -ENOMEM : 0;
}

/* A descriptor of the copy that is there, -ENODATA when its bytes are reserved for making it, or -errno. */
static int programs_find_or_reserve(struct programs *p, const struct copy *key)
{
    int fd, e = 0;

    pthread_mutex_lock(&p->lock);
    fd = programs_find(p, key);
    if (fd == -ENODATA)
        e = programs_make_room(p, key->size);
    if (fd == -ENODATA && e == 0)
        p->bytes += key->size;
    pthread_mutex_unlock(&p->lock);
    return e < 0 ? e : fd;
}

/* Puts what was made into the table, unless another receiver was faster: a descriptor, or -errno. */
static int programs_insert(struct programs *p, struct copy *c)
{
    int fd = programs_find(p, c);

    if (fd != -ENODATA)
        return fd;
    if (programs_make_room(p, 0) < 0)
        return -ENOMEM;
    fd = fd_reopen(c->fd, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    c->used = ++p->clock;
    p->bytes += c->size;
    p->v[p->n++] = *c;
    c->fd = c->object_fd = -1; /* the table's now */
    return fd;
}

/* The making is over, e says how. */
static int programs_settle(struct programs *p, struct copy *c, int e)
{
    pthread_mutex_lock(&p->lock);
    p->bytes -= c->size; /* reserved */
    if (e == 0)
        e = programs_insert(p, c);
    pthread_mutex_unlock(&p->lock);
    return e;
}

int programs_copy(struct programs *p, int object_fd, const struct program *program,
                  unsigned loader_fd, const char *name)
{
    struct copy c = {.loader_fd = loader_fd, .fd = -1, .object_fd = -1};
    struct stat st;
    int fd, e = sys_identify(object_fd, &c.of);

    if (e == 0 && fstat(object_fd, &st) < 0)
        e = -errno;
    if (e < 0)
        return e;
    c.mtime = st.st_mtim;
    c.ctime = st.st_ctim;
    c.size = (uint64_t)st.st_size;
    if (c.size > PROGRAMS_BYTES_KEPT)
        return -ENOMEM;
    fd = programs_find_or_reserve(p, &c);
    if (fd != -ENODATA)
        return fd;
    e = copy_make(&c, program, object_fd, name);
    if (e == 0) {
        char path[FD_PATH_MAX];

        fd_path(object_fd, path);
        c.object_fd = sys_open_path(AT_FDCWD, path, 0);
        e = MIN(c.object_fd, 0);
    }
    fd = programs_settle(p, &c, e);
    util_close(c.fd);
    util_close(c.object_fd);
    return fd;
}

int programs_original(struct programs *p, const struct sys_ident *id)
{
    int fd = -ENODATA;

    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < p->n && fd == -ENODATA; i++) {
        if (sys_ident_same(&p->v[i].id, id))
            fd = fcntl(p->v[i].object_fd, F_DUPFD_CLOEXEC, 0);
    }
    pthread_mutex_unlock(&p->lock);
    return fd;
}
