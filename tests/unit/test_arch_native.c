/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The half of the architecture layer that executes machine code, on the machine at hand: raw calls,
 * arch_clone, registers of a stopped task, struct stat as the kernel writes it, vDSO names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

#include "arch/arch.h"
#include "arch/raw.h"
#include "base/util.h"

#define STACK_SIZE (64 * 1024)

static long number(const char *name)
{
    const struct call_info *c = arch_call_by_name(arch_native(), name);

    assert_non_null(c);
    return c->nr;
}

static void native_is_this_machine(void **state)
{
    struct utsname u;

    (void)state;
    assert_int_equal(uname(&u), 0);
    assert_string_equal(arch_native()->name, u.machine);
}

static void raw_calls(void **state)
{
    char page[16] = "0123456789abcde";
    int p[2];

    (void)state;
    assert_int_equal(raw_syscall6(number("getpid"), 0, 0, 0, 0, 0, 0), getpid());
    assert_int_equal(raw_syscall6(number("close"), -1, 0, 0, 0, 0, 0), -EBADF);
    /* All six arguments arrive: mmap needs each of them. */
    long m = raw_syscall6(number("mmap"), 0, 4096, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(m > 0);
    memcpy((void *)m, page, sizeof(page));
    assert_int_equal(raw_syscall6(number("mmap"), 0, 4096, PROT_READ, MAP_PRIVATE, -1, 1), -EINVAL);
    assert_int_equal(raw_syscall6(number("munmap"), m, 4096, 0, 0, 0, 0), 0);
    assert_int_equal(pipe(p), 0);
    assert_int_equal(raw_syscall6(number("write"), p[1], (long)page, sizeof(page), 0, 0, 0),
                     sizeof(page));
    assert_int_equal(raw_syscall6(number("fcntl"), p[0], F_GETPIPE_SZ, 0, 0, 0, 0),
                     fcntl(p[1], F_GETPIPE_SZ));
    close(p[0]);
    close(p[1]);
}

/* ---- arch_clone ---- */

struct shared {
    long getpid_nr;
    long pid;          /* written by the child: memory is shared */
    uintptr_t frame;   /* where the child's stack was */
    uintptr_t aligned; /* its alignment at entry */
    int exit_code;
};

/* Runs on the new stack with raw calls only: nothing of a sanitizer's run time may be called. */
__attribute__((noinline, no_sanitize("address"), no_sanitize("thread"),
               no_sanitize("undefined"))) static int
raw_child(void *arg)
{
    struct shared *s = arg;
    __attribute__((aligned(16))) volatile char probe[16];

    probe[0] = 1;
    s->frame = (uintptr_t)__builtin_frame_address(0);
    s->aligned = (uintptr_t)probe & 15;
    s->pid = raw_syscall6(s->getpid_nr, 0, 0, 0, 0, 0, 0);
    return s->exit_code;
}

static void *new_stack(void)
{
    void *p = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

    assert_true(p != MAP_FAILED);
    return p;
}

static void clone_and_check(unsigned long flags, size_t misalign)
{
    struct shared s = {.getpid_nr = number("getpid"), .exit_code = 42};
    char *stack = new_stack();
    int status, ptid = 0, ctid = 0;
    long pid = arch_clone(flags | CLONE_PARENT_SETTID | SIGCHLD, stack + STACK_SIZE - misalign,
                          raw_child, &s, &ptid, &ctid);

    assert_true(pid > 0);
    assert_int_equal(ptid, pid);
    assert_int_equal(waitpid((pid_t)pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    if (flags & CLONE_VM) {
        assert_int_equal(s.pid, pid);
        assert_true(s.frame > (uintptr_t)stack && s.frame <= (uintptr_t)stack + STACK_SIZE);
        assert_int_equal(s.aligned, 0);
    } else {
        assert_int_equal(s.pid, 0);
    }
    if (flags & CLONE_CHILD_SETTID && flags & CLONE_VM)
        assert_int_equal(ctid, pid); /* ctid and tls are not mixed up */
    munmap(stack, STACK_SIZE);
}

static void clone_shares_memory(void **state)
{
    (void)state;
    clone_and_check(CLONE_VM | CLONE_VFORK, 0);
    clone_and_check(CLONE_VM | CLONE_VFORK | CLONE_CHILD_SETTID, 8);
    clone_and_check(CLONE_VM | CLONE_VFORK | CLONE_FILES, 4);
    clone_and_check(CLONE_VM, 0);
    clone_and_check(0, 0);
}

static void clone_reports_errors(void **state)
{
    char *stack = new_stack();
    struct shared s = {0};

    (void)state;
    /* CLONE_THREAD without CLONE_SIGHAND */
    assert_int_equal(arch_clone(CLONE_THREAD, stack + STACK_SIZE, raw_child, &s, NULL, NULL),
                     -EINVAL);
    munmap(stack, STACK_SIZE);
}

static void *busy_thread(void *arg)
{
    volatile int *stop = arg;

    while (!__atomic_load_n(stop, __ATOMIC_RELAXED))
        free(malloc(64));
    return NULL;
}

static void *cloning_thread(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++)
        clone_and_check(CLONE_VM | CLONE_VFORK, 0);
    return NULL;
}

static void clone_from_threads(void **state)
{
    pthread_t busy, cloner[2];
    int stop = 0;

    (void)state;
    assert_int_equal(pthread_create(&busy, NULL, busy_thread, &stop), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(cloner); i++)
        assert_int_equal(pthread_create(&cloner[i], NULL, cloning_thread, NULL), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(cloner); i++)
        assert_int_equal(pthread_join(cloner[i], NULL), 0);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(busy, NULL), 0);
}

/* ---- registers ---- */

/* A child that blocks in one raw call and exits with its negated result, or 0. */
static pid_t blocked_child(long nr, long a, long b, long c)
{
    long exit_nr = number("exit_group");
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        long r = raw_syscall6(nr, a, b, c, 0x1111, 0x2222, 0x3333);

        raw_syscall6(exit_nr, r < 0 ? -r : r, 0, 0, 0, 0, 0);
    }
    return pid;
}

/* Waits until the child sleeps in the kernel. */
static void wait_asleep(pid_t pid)
{
    char path[64], line[256];

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    for (int i = 0; i < 5000; i++) {
        FILE *f = fopen(path, "re");
        char st = 0;

        assert_non_null(f);
        if (fgets(line, sizeof(line), f))
            sscanf(strrchr(line, ')') + 1, " %c", &st);
        fclose(f);
        if (st == 'S')
            return;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    fail_msg("child does not sleep");
}

static void stop_child(pid_t pid)
{
    int status;

    assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
    assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
    assert_true(WIFSTOPPED(status));
}

static bool at_syscall_insn(pid_t pid, uint64_t pc)
{
    static const unsigned char x86_64[] = {0x0f, 0x05}, aarch64[] = {0x01, 0x00, 0x00, 0xd4};
    const unsigned char *want = arch_native() == &arch_x86_64 ? x86_64 : aarch64;
    long word;

    errno = 0;
    word = ptrace(PTRACE_PEEKTEXT, pid, (void *)(uintptr_t)pc, NULL);
    assert_int_equal(errno, 0);
    return memcmp(&word, want, arch_syscall_insn_len) == 0;
}

/* what a tracer sees of an interrupted call differs, and is checked for what it is. */
static void check_interrupted(pid_t pid, const struct arch_regs *r, long nr, long restart)
{
    int64_t got;

    assert_int_equal(arch_regs_number(pid, r, &got), 0);
    assert_int_equal(got, nr);
    if (arch_native() == &arch_x86_64) {
        assert_int_equal(r->size, 216);
        assert_int_equal((int64_t)arch_regs_result(r), -restart);
        assert_true(at_syscall_insn(pid, arch_regs_pc(r) - arch_syscall_insn_len));
    } else {
        assert_int_equal(r->size, 272);
        assert_true(at_syscall_insn(pid, arch_regs_pc(r))); /* already rewound */
    }
}

/* Makes the interrupted call return v instead of starting again. */
static void end_call(pid_t pid, struct arch_regs *r, int64_t v)
{
    assert_int_equal(arch_regs_set_number(pid, r, -1), 0);
    arch_regs_set_result(r, (uint64_t)v);
    assert_int_equal(arch_regs_set(pid, r), 0);
}

static int finish(pid_t pid)
{
    int status;

    assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void registers_in_read(void **state)
{
    struct arch_regs r, again;
    char buf[8];
    int p[2];
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(p), 0);
    pid = blocked_child(number("read"), p[0], (long)buf, 3);
    wait_asleep(pid);
    stop_child(pid);
    assert_int_equal(arch_regs_get(pid, &r), 0);
    check_interrupted(pid, &r, number("read"), 512); /* ERESTARTSYS */
    assert_int_equal(arch_regs_arg(&r, 0), p[0]);
    assert_true(arch_regs_arg(&r, 1) == (uintptr_t)buf);
    assert_int_equal(arch_regs_arg(&r, 2), 3);
    assert_int_equal(arch_regs_arg(&r, 3), 0x1111);
    assert_int_equal(arch_regs_arg(&r, 4), 0x2222);
    assert_int_equal(arch_regs_arg(&r, 5), 0x3333);
    assert_int_equal(arch_regs_arg(&r, 6), 0);
    assert_true(arch_regs_sp(&r) != 0);

    /* Written values are read back, and put back the call starts again unharmed. */
    again = r;
    arch_regs_set_arg(&again, 4, UINT64_C(0x123456789abcdef0));
    assert_int_equal(arch_regs_set(pid, &again), 0);
    memset(&again, 0, sizeof(again));
    assert_int_equal(arch_regs_get(pid, &again), 0);
    assert_true(arch_regs_arg(&again, 4) == UINT64_C(0x123456789abcdef0));
    assert_int_equal(arch_regs_set(pid, &r), 0);
    assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
    wait_asleep(pid);
    assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, NULL, __WALL), pid);
    assert_int_equal(arch_regs_get(pid, &r), 0);
    end_call(pid, &r, -EINTR);
    assert_false(at_syscall_insn(pid, arch_regs_pc(&r)));
    assert_int_equal(finish(pid), EINTR);

    /* The control: left alone, the read goes on and gets its bytes. */
    pid = blocked_child(number("read"), p[0], (long)buf, 3);
    wait_asleep(pid);
    stop_child(pid);
    assert_int_equal(write(p[1], "abc", 3), 3);
    assert_int_equal(finish(pid), 3);
    close(p[0]);
    close(p[1]);
}

/* At the entry of a call, too: the number is known, and -1 skips the call. */
static void registers_at_entry(void **state)
{
    struct arch_regs r;
    char buf[8];
    int status;
    int64_t nr;
    int p[2];
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(p), 0);
    pid = blocked_child(number("read"), p[0], (long)buf, 3);
    wait_asleep(pid);
    stop_child(pid);
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD), 0);
    assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0); /* the read starts again */
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80));
    assert_int_equal(arch_regs_get(pid, &r), 0);
    assert_int_equal(arch_regs_number(pid, &r, &nr), 0);
    assert_int_equal(nr, number("read"));
    assert_int_equal(arch_regs_arg(&r, 0), p[0]);
    assert_true(at_syscall_insn(pid, arch_regs_pc(&r) - arch_syscall_insn_len));
    assert_int_equal(arch_regs_set_number(pid, &r, -1), 0);
    arch_regs_set_result(&r, 55);
    assert_int_equal(arch_regs_set(pid, &r), 0);
    assert_int_equal(finish(pid), 55);
    close(p[0]);
    close(p[1]);
}

static void registers_in_nanosleep(void **state)
{
    struct timespec ts = {.tv_sec = 600};
    struct arch_regs r;
    pid_t pid = blocked_child(number("nanosleep"), (long)&ts, 0, 0);

    (void)state;
    wait_asleep(pid);
    stop_child(pid);
    assert_int_equal(arch_regs_get(pid, &r), 0);
    check_interrupted(pid, &r, number("nanosleep"), 516); /* ERESTART_RESTARTBLOCK */
    assert_true(arch_regs_arg(&r, 0) == (uintptr_t)&ts);
    end_call(pid, &r, 77);
    assert_int_equal(finish(pid), 77);
}

/* Another number: the call that starts again is that one. */
static void number_is_replaced(void **state)
{
    struct arch_regs r;
    char buf[8];
    int64_t nr;
    int p[2];
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(p), 0);
    pid = blocked_child(number("read"), p[0], (long)buf, 3);
    wait_asleep(pid);
    stop_child(pid);
    assert_int_equal(arch_regs_get(pid, &r), 0);
    assert_int_equal(arch_regs_set_number(pid, &r, number("fsync")), 0); /* pipe: EINVAL */
    assert_int_equal(arch_regs_get(pid, &r), 0);
    assert_int_equal(arch_regs_number(pid, &r, &nr), 0);
    assert_int_equal(nr, number("fsync"));
    assert_int_equal(finish(pid), EINVAL);
    close(p[0]);
    close(p[1]);
}

static void registers_refuse_nonsense(void **state)
{
    struct arch_regs r = {.size = 0};

    (void)state;
    assert_int_equal(arch_regs_get(getpid(), &r), -ESRCH); /* not a tracee */
    assert_int_equal(r.size, 0);
    assert_int_equal(arch_regs_set(getpid(), &r), -EINVAL);
    r.size = ARCH_REGS_MAX + 8;
    assert_int_equal(arch_regs_set(getpid(), &r), -EINVAL);
}

/* ---- struct stat ---- */

static void compare_stat(const char *path, int flags)
{
    unsigned char kernel[ARCH_STAT_MAX + 64], ours[ARCH_STAT_MAX];
    struct stat st;
    size_t n;

    memset(kernel, 0xee, sizeof(kernel));
    assert_int_equal(
        raw_syscall6(number("newfstatat"), AT_FDCWD, (long)path, (long)kernel, flags, 0, 0), 0);
    assert_int_equal(fstatat(AT_FDCWD, path, &st, flags), 0);
    n = arch_native()->encode_stat(&st, ours);
    assert_memory_equal(kernel, ours, n);
    for (size_t i = n; i < sizeof(kernel); i++)
        assert_int_equal(kernel[i], 0xee); /* the kernel writes exactly as much */
}

static void stat_equals_the_kernels(void **state)
{
    char file[] = "/tmp/sandlock-arch-XXXXXX", name[64];
    struct timespec times[2] = {{.tv_sec = 1234567890, .tv_nsec = 123456789},
                                {.tv_sec = 2345678901, .tv_nsec = 987654321}};
    int fd = mkstemp(file);

    (void)state;
    assert_true(fd >= 0);
    snprintf(name, sizeof(name), "%s.link", file);
    assert_int_equal(ftruncate(fd, (off_t)5 << 32), 0);
    assert_int_equal(fchmod(fd, 0741), 0);
    assert_int_equal(futimens(fd, times), 0);
    assert_int_equal(symlink(file, name), 0);
    compare_stat(file, 0);
    compare_stat(name, 0);
    compare_stat(name, AT_SYMLINK_NOFOLLOW);
    compare_stat("/", 0);
    compare_stat("/dev/null", 0);
    compare_stat("/proc/self/exe", AT_SYMLINK_NOFOLLOW);
    unlink(name);
    unlink(file);
    close(fd);
}

/* Every name given is one the vDSO may have; clock_gettime is in all of them. */
static void vdso_names(void **state)
{
    const char *prefix = arch_native() == &arch_x86_64 ? "__vdso_" : "__kernel_";
    const char *const names[] = {arch_vdso_names.clock_gettime, arch_vdso_names.gettimeofday,
                                 arch_vdso_names.time,          arch_vdso_names.clock_getres,
                                 arch_vdso_names.getcpu,        arch_vdso_names.getrandom};

    (void)state;
    assert_non_null(arch_vdso_names.clock_gettime);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (names[i])
            assert_int_equal(strncmp(names[i], prefix, strlen(prefix)), 0);
    }
}

int main(void)
{
    /* clang-format off */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(native_is_this_machine),
        cmocka_unit_test(raw_calls),
        cmocka_unit_test(clone_shares_memory),
        cmocka_unit_test(clone_reports_errors),
        cmocka_unit_test(clone_from_threads),
        cmocka_unit_test(registers_in_read),
        cmocka_unit_test(registers_at_entry),
        cmocka_unit_test(registers_in_nanosleep),
        cmocka_unit_test(number_is_replaced),
        cmocka_unit_test(registers_refuse_nonsense),
        cmocka_unit_test(stat_equals_the_kernels),
        cmocka_unit_test(vdso_names),
    };
    /* clang-format on */

    return cmocka_run_group_tests(tests, NULL, NULL);
}
