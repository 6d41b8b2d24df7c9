/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random bytes by every way to them, one "WAY HEX" a line. Static.
 *
 *   draws all            syscall, vDSO, AT_RANDOM, devices, uuid, boot_id
 *   draws forks          a tree of concurrent processes, each with bytes of its own, sorted by place
 *   draws vforks         children by vfork and posix_spawn that execute `draws one NAME`
 *   draws one NAME
 *   draws failing        forks that fail, then bytes of a child that executes `draws one`
 *   draws errors         calls that fail: "WHAT RESULT"
 *   draws large BYTES    one getrandom call: result and a sum of what came
 *   draws device PATH N  N bytes from the device: a sum
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void show(const char *what, const unsigned char *p, long n)
{
    char line[256];
    size_t at = (size_t)snprintf(line, sizeof(line), "%s ", what);

    for (long i = 0; i < n && at < sizeof(line) - 4; i++)
        at += (size_t)snprintf(line + at, sizeof(line) - at, "%02x", p[i]);
    if (n < 0)
        at += (size_t)snprintf(line + at, sizeof(line) - at, "%s", strerrorname_np(errno));
    line[at++] = '\n';
    if (write(1, line, at) < 0)
        _exit(1);
}

static void draw(const char *what)
{
    unsigned char b[16];

    show(what, b, syscall(SYS_getrandom, b, sizeof(b), 0));
}

static void from_file(const char *path)
{
    unsigned char b[37] = {0};
    struct stat st;
    int fd = open(path, O_RDONLY);
    long n = fd < 0 ? -1 : read(fd, b, sizeof(b));

    if (n == sizeof(b) && strncmp(path, "/proc", 5) == 0 && fstat(fd, &st) == 0)
        printf("%s %.36s\n", path, b);
    else
        show(path, b, n);
    if (fd >= 0)
        close(fd);
}

/* ---- the vDSO, as a C library finds it ---- */

static void *vdso_symbol(const char *want)
{
    const unsigned char *base = (const void *)getauxval(AT_SYSINFO_EHDR);
    const ElfW(Ehdr) *h = (const void *)base;
    const ElfW(Phdr) * ph;
    const ElfW(Sym) *sym = NULL;
    const char *names = NULL;
    const uint32_t *hash = NULL;

    if (!base)
        return NULL;
    ph = (const void *)(base + h->e_phoff);
    for (int i = 0; i < h->e_phnum; i++) {
        if (ph[i].p_type != PT_DYNAMIC)
            continue;
        for (const ElfW(Dyn) *d = (const void *)(base + ph[i].p_vaddr); d->d_tag; d++) {
            const void *p = base + d->d_un.d_ptr;

            sym = d->d_tag == DT_SYMTAB ? p : sym;
            names = d->d_tag == DT_STRTAB ? p : names;
            hash = d->d_tag == DT_HASH ? p : hash;
        }
    }
    for (uint32_t i = 0; hash && i < hash[1]; i++) {
        if (sym[i].st_shndx && strcmp(names + sym[i].st_name, want) == 0)
            return (void *)(uintptr_t)(base + sym[i].st_value);
    }
    return NULL;
}

static void from_vdso(void)
{
    ssize_t (*fn)(void *, size_t, unsigned, void *, size_t);
    static unsigned char state[4096] __attribute__((aligned(64)));
    unsigned char b[16];
    struct {
        uint32_t size, prot, flags, reserved[13];
    } params;

    fn = (ssize_t(*)(void *, size_t, unsigned, void *, size_t))(uintptr_t)vdso_symbol(
        "__vdso_getrandom");
    if (!fn)
        fn = (ssize_t(*)(void *, size_t, unsigned, void *, size_t))(uintptr_t)vdso_symbol(
            "__kernel_getrandom");
    if (!fn) {
        puts("vdso none");
        return;
    }
    if (fn(NULL, 0, 0, &params, ~0UL) != 0 || params.size > sizeof(state)) {
        puts("vdso no-params");
        return;
    }
    show("vdso", b, fn(b, sizeof(b), 0, state, params.size));
}

static void all(void)
{
    draw("getrandom");
    draw("getrandom");
    from_vdso();
    show("at_random", (const void *)getauxval(AT_RANDOM), 16);
    from_file("/dev/urandom");
    from_file("/dev/urandom");
    from_file("/dev/random");
    fflush(stdout);
    from_file("/proc/sys/kernel/random/uuid");
    from_file("/proc/sys/kernel/random/uuid");
    from_file("/proc/sys/kernel/random/boot_id");
    fflush(stdout);
}

/* ---- processes ---- */

static void forks(void)
{
    char name[32];
    pid_t pid[4];

    for (int i = 0; i < 4; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            usleep((unsigned)(rand_r(&(unsigned){(unsigned)getpid()}) % 20000));
            snprintf(name, sizeof(name), "child%d", i);
            draw(name);
            if (fork() == 0) {
                snprintf(name, sizeof(name), "child%d-child", i);
                draw(name);
                _exit(0);
            }
            wait(NULL);
            draw(name);
            _exit(0);
        }
    }
    draw("parent");
    for (int i = 0; i < 4; i++)
        waitpid(pid[i], NULL, 0);
    draw("parent");
}

static void vforks(char *self)
{
    char one[] = "one", vforked[] = "vfork", spawned[] = "spawn";
    char *by_vfork[] = {self, one, vforked, NULL}, *by_spawn[] = {self, one, spawned, NULL};
    pid_t pid = vfork();

    if (pid == 0) {
        execv(self, by_vfork);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
    if (posix_spawn(&pid, self, NULL, NULL, by_spawn, environ) == 0)
        waitpid(pid, NULL, 0);
    draw("parent");
}

static void failing(char *self)
{
    for (int i = 0; i < 20; i++) {
        /* CLONE_SIGHAND without CLONE_VM */
        if (syscall(SYS_clone, 0x800 | SIGCHLD, NULL, NULL, NULL, NULL) != -1 || errno != EINVAL)
            puts("did not fail");
    }
    vforks(self);
}

/* A process that is slow to copy. */
static void big(void)
{
    size_t n = (size_t)256 << 20;
    char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    madvise(p, n, MADV_NOHUGEPAGE);
    memset(p, 1, n);
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            draw("child");
            _exit(0);
        }
        waitpid(pid, NULL, 0);
    }
}

/* ---- errors, sizes ---- */

static void result(const char *what, long r)
{
    printf("%s %s", what, r < 0 ? strerrorname_np(errno) : "");
    if (r >= 0)
        printf("%ld", r);
    putchar('\n');
}

static void errors(void)
{
    unsigned char b[16],
        *pages = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    mprotect(pages + 8192, 8192, PROT_READ);
    result("flags", syscall(SYS_getrandom, b, 16, 8));
    result("both", syscall(SYS_getrandom, b, 16, 6));
    result("nonblock", syscall(SYS_getrandom, b, 16, 1));
    result("random", syscall(SYS_getrandom, b, 16, 2));
    result("insecure", syscall(SYS_getrandom, b, 16, 4));
    result("null", syscall(SYS_getrandom, NULL, 16, 0));
    result("readonly", syscall(SYS_getrandom, pages + 8192, 16, 0));
    result("nothing", syscall(SYS_getrandom, b, 0, 0));
    result("write", open("/dev/urandom", O_WRONLY));
    result("hwrng", open("/dev/hwrng", O_RDONLY));
    result("untraced", syscall(SYS_clone, 0x00800000 | SIGCHLD, NULL, NULL, NULL, NULL));
}

static uint64_t sum(uint64_t h, const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3;
    return h;
}

static void large(size_t n)
{
    unsigned char *p = malloc(n);
    long r = syscall(SYS_getrandom, p, n, 0);

    printf("large %ld %016llx\n", r, (unsigned long long)sum(1, p, r > 0 ? (size_t)r : 0));
}

static void device(const char *path, size_t n)
{
    static unsigned char buf[65536];
    uint64_t h = 1;
    size_t got = 0;
    int fd = open(path, O_RDONLY);

    while (got < n) {
        size_t want = n - got < sizeof(buf) ? n - got : sizeof(buf);
        long k = read(fd, buf, want);

        if (k <= 0)
            break;
        h = sum(h, buf, (size_t)k);
        got += (size_t)k;
    }
    printf("device %zu %016llx\n", got, (unsigned long long)h);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(mode, "all") == 0)
        all();
    else if (strcmp(mode, "forks") == 0)
        forks();
    else if (strcmp(mode, "vforks") == 0)
        vforks(argv[0]);
    else if (strcmp(mode, "one") == 0 && argc > 2)
        draw(argv[2]);
    else if (strcmp(mode, "failing") == 0)
        failing(argv[0]);
    else if (strcmp(mode, "big") == 0)
        big();
    else if (strcmp(mode, "errors") == 0)
        errors();
    else if (strcmp(mode, "large") == 0 && argc > 2)
        large(strtoul(argv[2], NULL, 0));
    else if (strcmp(mode, "device") == 0 && argc > 3)
        device(argv[2], strtoul(argv[3], NULL, 0));
    return 0;
}
