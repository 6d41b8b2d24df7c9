/* SPDX-License-Identifier: Apache-2.0 */
/*
 * src/limits: who is in a tree, by either walk, with orphans and with a parent that is gone; what
 * memory files are found. Real processes of the test's own.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "limits/internal.h"
#include "sys/procfile.h"

static _Noreturn void wait_for_end(int fd)
{
    char c;

    _exit(read(fd, &c, 1) < 0);
}

/* Two children, one of them with a child of its own, and an orphan. Returns our end. */
static int family(pid_t child[4])
{
    int end[2], born[2];

    assert_int_equal(pipe(end), 0);
    assert_int_equal(pipe(born), 0);
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            close(end[1]);
            if (i > 0) {
                pid_t inner = fork();

                if (inner == 0) {
                    inner = getpid();
                    if (write(born[1], &inner, sizeof(inner)) < 0)
                        _exit(1);
                    wait_for_end(end[0]);
                }
                if (i == 2) /* its child becomes an orphan */
                    _exit(0);
            }
            wait_for_end(end[0]);
        }
        if (i < 2)
            child[i] = pid;
        else
            waitpid(pid, NULL, 0);
    }
    for (int i = 2; i < 4; i++)
        assert_int_equal(read(born[0], &child[i], sizeof(child[i])), sizeof(child[i]));
    close(born[0]);
    close(born[1]);
    close(end[0]);
    return end[1];
}

static void test_members(void **state)
{
    int (*const walk[])(struct tree *, pid_t) = {tree_walk, tree_scan};
    struct tree t = {0};
    pid_t child[4];
    int fd;

    (void)state;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    fd = family(child);
    for (size_t w = 0; w < ARRAY_SIZE(walk); w++) {
        assert_int_equal(walk[w](&t, getpid()), 0);
        assert_int_equal(t.n, 4);
        for (int i = 0; i < 4; i++)
            assert_true(tree_has(&t, child[i]));
        assert_false(tree_has(&t, getpid()));
    }
    close(fd);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    for (size_t w = 0; w < ARRAY_SIZE(walk); w++) {
        assert_int_equal(walk[w](&t, getpid()), 0);
        assert_int_equal(t.n, 0);
    }
    tree_fini(&t);
}

static void test_zombies_count(void **state)
{
    struct tree t = {0};
    pid_t pid = fork();
    siginfo_t info;

    (void)state;
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(tree_scan(&t, getpid()), 0);
    assert_true(tree_has(&t, pid));
    waitpid(pid, NULL, 0);
    tree_fini(&t);
}

static void test_memory_files(void **state)
{
    struct memory_files f;
    int fd = memfd_create("test", MFD_CLOEXEC);
    uint64_t before;
    char *p;

    (void)state;
    memory_files_init(&f);
    before = memory_files_add(&f, getpid());
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memset(p, 1, 1 << 20);
    memory_files_clear(&f);
    assert_int_equal(memory_files_add(&f, getpid()), before + (1 << 20));
    assert_int_equal(memory_files_add(&f, getpid()), 0); /* each file once */
    assert_in_range(memory_files_mapped(&f, getpid()), 1 << 20, (1 << 20) + before);
    munmap(p, 1 << 20);
    assert_in_range(memory_files_mapped(&f, getpid()), 0, before);
    close(fd);
    memory_files_fini(&f);
}

/* Names hold anything. */
static void test_stat(void **state)
{
    struct sys_stat st;

    (void)state;
    prctl(PR_SET_NAME, ") R 1 1 (", 0, 0, 0);
    assert_int_equal(sys_read_stat("/proc/self/stat", &st), 0);
    assert_int_equal(st.ppid, getppid());
    assert_int_equal(st.state, 'R');
    assert_true(st.faults > 0 && st.start > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_zombies_count),
        cmocka_unit_test(test_memory_files),
        cmocka_unit_test(test_stat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
