/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resolve_path() against the kernel: a child opens a path natively, we resolve it for the child, and
 * both must end at the same place or with the same error. The request_* functions are small
 * stand-ins that know the child by its pid.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/resolve.h"
#include "fs/view.h"

/* ---- the supervisor's part ---- */

static pid_t child, stranger;
static char root[] = "/tmp/resolve.XXXXXX";

bool request_alive(const struct request *r)
{
    return r->tid == child;
}
int request_status(const struct request *r, pid_t *ret_tgid, mode_t *ret_umask)
{
    if (ret_tgid)
        *ret_tgid = r->tid;
    if (ret_umask)
        *ret_umask = 022;
    return 0;
}
void request_fd_name(const struct request *r, int fd, char path[CHILD_FD_PATH_MAX])
{
    if (fd == AT_FDCWD)
        snprintf(path, CHILD_FD_PATH_MAX, "/proc/%d/cwd", (int)r->tid);
    else
        snprintf(path, CHILD_FD_PATH_MAX, "/proc/%d/fd/%d", (int)r->tid, fd);
}
int request_fd_path(const struct request *r, int fd)
{
    char path[CHILD_FD_PATH_MAX];
    int got;

    if (fd < 0 && fd != AT_FDCWD)
        return -EBADF;
    request_fd_name(r, fd, path);
    got = open(path, O_PATH | O_CLOEXEC);
    return got < 0 ? (errno == ENOENT ? -EBADF : -errno) : got;
}
ssize_t request_read_string(const struct request *r, child_addr addr, char *dst, size_t size)
{
    (void)r, (void)addr, (void)dst, (void)size;
    return -EFAULT;
}
bool supervisor_is_member(const struct supervisor *s, pid_t pid)
{
    (void)s;
    return pid == child;
}

static struct policy policy;
static struct plan plan = {.policy = &policy};
const struct plan *supervisor_plan(const struct supervisor *s)
{
    (void)s;
    return &plan;
}
const struct policy *supervisor_policy(const struct supervisor *s)
{
    (void)s;
    return &policy;
}
int view_proc_link(const struct request *r, int dir_fd, const char *leaf)
{
    (void)r, (void)dir_fd, (void)leaf;
    return -ENODATA;
}

/* ---- the child ---- */

struct question {
    int dirfd;
    int flags;
    char path[PATH_MAX + 64];
};
struct answer {
    int error;
    uint32_t mode;
    char place[PATH_MAX];
};
static int channel;

static void describe(int fd, struct answer *a)
{
    struct stat st;

    memset(a, 0, sizeof(*a));
    if (fd < 0) {
        a->error = -fd;
        return;
    }
    fstat(fd, &st);
    a->mode = st.st_mode;
    fd_location(fd, a->place, sizeof(a->place));
}

static void child_main(int s)
{
    struct question q;
    struct answer a;

    while (read(s, &q, sizeof(q)) == (ssize_t)sizeof(q)) {
        int fd = openat(q.dirfd, q.path, q.flags | O_PATH | O_CLOEXEC);

        describe(fd < 0 ? -errno : fd, &a);
        close(fd);
        if (write(s, &a, sizeof(a)) != (ssize_t)sizeof(a))
            break;
    }
    _exit(0);
}

/* Descriptors of the child that paths refer to: numbers that are nobody's pid, since random paths
 * also use them as one. The paths below say @D, @F, @P, @G and @L for them. */
static int fd_of[5];
#define CHILD_DIR fd_of[0]
#define CHILD_FILE fd_of[1]
#define CHILD_PIPE fd_of[2]
#define CHILD_GONE fd_of[3]
#define CHILD_LINK fd_of[4]

static void choose_numbers(void)
{
    char path[32];
    int n = 0;

    for (int i = 900; n < 5; i--) {
        snprintf(path, sizeof(path), "/proc/%d", i);
        if (access(path, F_OK) < 0)
            fd_of[n++] = i;
    }
}

/* Pids wrap around on a busy machine. */
static bool numbers_taken(void)
{
    char path[32];
    bool taken = false;

    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof(path), "/proc/%d", fd_of[i]);
        taken |= access(path, F_OK) == 0;
    }
    return taken;
}

static const char *spelled(const char *path, char *buf, size_t size)
{
    static const char letters[] = "DFPGL";
    size_t n = 0;

    for (; *path && n + 8 < size; path++) {
        const char *l = *path == '@' ? strchr(letters, path[1]) : NULL;

        if (l) {
            n += (size_t)snprintf(buf + n, size - n, "%d", fd_of[l - letters]);
            path++;
        } else {
            buf[n++] = *path;
        }
    }
    buf[n] = '\0';
    return buf;
}

static void child_files(void)
{
    int p[2];

    dup2(open("a/b", O_PATH | O_DIRECTORY), CHILD_DIR);
    dup2(open("a/f", O_RDONLY), CHILD_FILE);
    if (pipe(p) == 0)
        dup2(p[0], CHILD_PIPE);
    dup2(open("gone", O_RDWR | O_CREAT, 0600), CHILD_GONE);
    unlink("gone");
    dup2(open("rel", O_PATH | O_NOFOLLOW), CHILD_LINK);
}

static void make_tree(void)
{
    char buf[64];

    choose_numbers();
    assert_non_null(mkdtemp(root));
    assert_int_equal(chdir(root), 0);
    assert_int_equal(mkdir("a", 0755) | mkdir("a/b", 0755) | mkdir("a/b/c", 0755), 0);
    assert_true(close(open("a/f", O_CREAT | O_RDWR, 0644)) == 0);
    assert_true(close(open("a/b/g", O_CREAT | O_RDWR, 0644)) == 0);
    assert_int_equal(
        symlink("a/b", "rel") | symlink("../f", "a/b/up") | symlink("nothing", "dangling") |
            symlink("loop2", "loop1") | symlink("loop1", "loop2") | symlink("/proc/self", "me") |
            symlink(spelled("/dev/fd/@F", buf, sizeof(buf)), "via") | symlink("a/b/", "slash") |
            symlink("a/f/", "fslash") | symlink("me/cwd/rel", "deep"),
        0);
    char target[PATH_MAX];
    snprintf(target, sizeof(target), "%s/a", root);
    assert_int_equal(symlink(target, "abs"), 0);
    for (int i = 0; i < 45; i++) {
        char name[16], to[16];

        snprintf(name, sizeof(name), "n%d", i);
        snprintf(to, sizeof(to), i ? "n%d" : "a", i - 1);
        assert_int_equal(symlink(to, name), 0);
    }
}

static int setup(void **state)
{
    int s[2];

    (void)state;
    make_tree();
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
    stranger = fork();
    if (stranger == 0) {
        pause();
        _exit(0);
    }
    child = fork();
    if (child == 0) {
        int c = fcntl(s[1], F_DUPFD, 30);

        close(s[0]);
        child_files();
        child_main(c);
    }
    close(s[1]);
    channel = s[0];
    /* Ours differ: what is resolved for the child must not come from here. */
    assert_int_equal(chdir("/usr"), 0);
    return 0;
}

static int teardown(void **state)
{
    char cmd[128];

    (void)state;
    close(channel);
    kill(child, SIGKILL);
    kill(stranger, SIGKILL);
    waitpid(child, NULL, 0);
    waitpid(stranger, NULL, 0);
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
    return system(cmd);
}

/* ---- comparing ---- */

static void native(int dirfd, const char *path, int flags, struct answer *a)
{
    struct question q = {.dirfd = dirfd, .flags = flags};

    snprintf(q.path, sizeof(q.path), "%s", path);
    assert_int_equal(write(channel, &q, sizeof(q)), sizeof(q));
    assert_int_equal(read(channel, a, sizeof(*a)), sizeof(*a));
}

static int resolve(int dirfd, const char *path, unsigned flags, struct resolved *ret)
{
    struct request r = {.tid = child};

    return resolve_path(&r, dirfd, path, flags, ret);
}

static void compare(int dirfd, const char *given, int flags)
{
    char buf[PATH_MAX + 64];
    const char *path = strlen(given) < 600 ? spelled(given, buf, sizeof(buf)) : given;
    unsigned walk =
        (flags & O_NOFOLLOW ? 0 : WALK_FOLLOW) | (flags & O_DIRECTORY ? WALK_DIRECTORY : 0);
    struct answer want, got;

    native(dirfd, path, flags, &want);
    for (int parent = 0; parent < 2; parent++) {
        _cleanup_resolved_ struct resolved at;
        int e = resolve(dirfd, path, walk | (parent ? WALK_PARENT : 0), &at);

        /* With WALK_PARENT a final slash demands nothing, and a missing name is a success. */
        if (parent && (path[strlen(path) - 1] == '/' || at.trailing_slash ||
                       (want.error == ENOENT && e == 0)))
            continue;
        describe(e < 0 ? e : at.fd, &got);
        /* A path in several pieces is counted in pieces: more than 40 links in all may pass. */
        if (want.error == ELOOP && e == 0)
            continue;
        if (numbers_taken())
            return;
        if (got.error != want.error || got.mode != want.mode || strcmp(got.place, want.place) != 0)
            fail_msg("dirfd %d path '%s' flags %o walk %u: kernel %d '%s', we %d '%s'", dirfd, path,
                     (unsigned)flags, walk, want.error, want.place, got.error, got.place);
    }
}

static void test_same_as_kernel(void **state)
{
    static const char *const paths[] = {
        "a",
        "a/",
        "a/f",
        "a/f/",
        "a/f/x",
        "a/f/.",
        "a/f/..",
        "a//b///c",
        "./a/./b/.",
        "..",
        ".",
        "/",
        "//",
        "/..",
        "/../..",
        "rel",
        "rel/",
        "rel/up",
        "rel/../f",
        "abs/b/g",
        "dangling",
        "dangling/",
        "dangling/x",
        "loop1",
        "loop1/x",
        "nothing",
        "nothing/x",
        "a/nothing/..",
        "slash",
        "slash/",
        "slash/up",
        "fslash",
        "fslash/",
        "via",
        "via/",
        "via/x",
        "deep",
        "deep/up",
        "me",
        "me/",
        "me/cwd/a/b",
        "me/cwd/../",
        "n0",
        "n38",
        "n39",
        "n40",
        "n44",
        "/proc",
        "/proc/",
        "/proc/.",
        "/proc/..",
        "/proc/self",
        "/proc/self/",
        "/proc/self/.",
        "/proc/self/..",
        "/proc/self/../../usr",
        "/proc/thread-self",
        "/proc/thread-self/comm",
        "/proc/self/comm",
        "/proc/self/exe",
        "/proc/self/exe/",
        "/proc/self/exe/x",
        "/proc/self/cwd",
        "/proc/self/cwd/",
        "/proc/self/cwd/a",
        "/proc/self/cwd/nothing",
        "/proc/self/root",
        "/proc/self/root/usr",
        "/proc/self/fd/@D",
        "/proc/self/fd/@D/",
        "/proc/self/fd/@D/g",
        "/proc/self/fd/@D/../f",
        "/proc/self/fd/@F",
        "/proc/self/fd/@F/",
        "/proc/self/fd/@P",
        "/proc/self/fd/@G",
        "/proc/self/fd/@L",
        "/proc/self/fd/@L/",
        "/proc/self/fd/@L/x",
        "/proc/self/fd/99",
        "/proc/self/fd/99/x",
        "/proc/self/task",
        "/proc/self/nothing",
        "/dev/fd",
        "/dev/fd/",
        "/dev/fd/@D/c",
        "/dev/stdin",
        "/dev/stdin/",
        "/proc/mounts",
        "/proc/net/dev",
        "/proc/net",
        "/proc/net/../comm",
        "/proc/sys/kernel/hostname",
        "/proc/version/x",
        "/proc/self/ns/mnt",
        "/proc/self/ns/mnt/",
        "/usr/bin/../lib",
        "/etc/passwd/",
    };
    static const int flags[] = {0, O_NOFOLLOW, O_DIRECTORY, O_DIRECTORY | O_NOFOLLOW};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        for (size_t f = 0; f < ARRAY_SIZE(flags); f++)
            compare(AT_FDCWD, paths[i], flags[f]);
    }
    for (size_t f = 0; f < ARRAY_SIZE(flags); f++) {
        compare(CHILD_DIR, "c", flags[f]);
        compare(CHILD_DIR, "up", flags[f]);
        compare(CHILD_DIR, "../f", flags[f]);
        compare(CHILD_DIR, "..", flags[f]);
        compare(CHILD_FILE, "x", flags[f]);
        compare(CHILD_FILE, "..", flags[f]);
        compare(CHILD_LINK, "x", flags[f]);
        compare(CHILD_PIPE, ".", flags[f]);
        compare(77, "x", flags[f]);
        compare(77, "/usr", flags[f]);
        compare(-5, "a", flags[f]);
    }
}

static void test_lengths(void **state)
{
    char path[PATH_MAX + 8];

    (void)state;
    for (size_t n = 250; n < 260; n++) {
        memset(path, 'x', n);
        path[n] = '\0';
        compare(AT_FDCWD, path, 0);
        memcpy(path, "/proc/self/", 11);
        compare(AT_FDCWD, path, 0);
    }
    memset(path, '/', PATH_MAX - 2);
    path[PATH_MAX - 2] = 'a';
    path[PATH_MAX - 1] = '\0';
    compare(AT_FDCWD, path, 0);
    for (size_t i = 0; i + 2 < PATH_MAX - 1; i += 2)
        memcpy(path + i, "./", 2);
    memcpy(path + PATH_MAX - 3, "a", 2);
    compare(AT_FDCWD, path, 0);
}

/* Any sequence of components, checked as above. */
static void test_random_paths(void **state)
{
    static const char *const part[] = {
        "a",        "b",     "c",   "f",     "g",       "up",          "rel",  "abs",
        "dangling", "loop1", "me",  "via",   "slash",   "fslash",      "deep", "n39",
        ".",        "..",    "",    "proc",  "self",    "thread-self", "cwd",  "root",
        "exe",      "fd",    "@D",  "@F",    "@L",      "task",        "net",  "mounts",
        "comm",     "usr",   "dev", "stdin", "nothing",
    };
    static const char *const start[] = {"", "/", "/proc/", "/proc/self/", "/dev/", "me/", "a/"};
    static const int flags[] = {0, O_NOFOLLOW, O_DIRECTORY};
    unsigned seed = 4711;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        char path[512];
        int n = snprintf(path, sizeof(path), "%s", start[rand_r(&seed) % ARRAY_SIZE(start)]);

        for (int k = rand_r(&seed) % 6; k >= 0; k--)
            n += snprintf(path + n, sizeof(path) - (size_t)n, "%s%s",
                          part[(unsigned)rand_r(&seed) % ARRAY_SIZE(part)],
                          k || rand_r(&seed) % 4 == 0 ? "/" : "");
        if (path[0])
            compare(rand_r(&seed) % 3 ? AT_FDCWD : CHILD_DIR, path,
                    flags[(unsigned)rand_r(&seed) % ARRAY_SIZE(flags)]);
    }
}

/* Magic links of others lead nowhere, however they are spelled; their plain entries are found (the
 * judge decides about those). */
static void test_strangers(void **state)
{
    static const char *const leaf[] = {"cwd", "root", "exe", "fd/0", "cwd/x", "root/usr", "ns/mnt"};
    static const char *const how[] = {"/proc/%d/%s", "/proc/self/../%d/%s", "me/../%d/%s",
                                      "/proc/self/root/proc/%d/%s", "/dev/fd/../../%d/%s"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(leaf); i++) {
        for (size_t h = 0; h < ARRAY_SIZE(how); h++) {
            _cleanup_resolved_ struct resolved at;
            struct answer control;
            char path[128];

            snprintf(path, sizeof(path), how[h], (int)stranger, leaf[i]);
            native(AT_FDCWD, path, 0, &control);
            assert_int_equal(control.error, strstr(path, "cwd/x") ? ENOENT : 0);
            assert_int_equal(resolve(AT_FDCWD, path, WALK_FOLLOW, &at), -EACCES);
        }
    }
}

static void test_parent_and_name(void **state)
{
    static const struct {
        const char *path;
        unsigned flags;
        int error;
        bool exists, slash;
        const char *parent, *name, *dots;
    } rows[] = {
        {"a/new", 0, 0, false, false, "a", "new", ""},
        {"a/new/", 0, 0, false, true, "a", "new", ""},
        {"a/f", 0, 0, true, false, "a", "f", ""},
        {"rel", 0, 0, true, false, "", "rel", ""},
        {"rel/", 0, 0, true, true, "", "rel", ""},
        {"rel", WALK_FOLLOW, 0, true, false, "a", "b", ""},
        {"dangling", 0, 0, true, false, "", "dangling", ""},
        {"dangling", WALK_FOLLOW, 0, false, false, "", "nothing", ""},
        {"rel/up", WALK_FOLLOW, 0, true, false, "a", "f", ""},
        {"me/cwd/rel/new", 0, 0, false, false, "a/b", "new", ""},
        {"/proc/self/fd/@D/new", 0, 0, false, false, "a/b", "new", ""},
        {"a/b/.", 0, 0, true, false, "a/b", "", "."},
        {"a/b/..", 0, 0, true, false, "a/b", "", ".."},
        {"nothing/x", 0, -ENOENT, false, false, NULL, NULL, NULL},
        {"a/f/x", 0, -ENOTDIR, false, false, NULL, NULL, NULL},
        {"loop1", WALK_FOLLOW, -ELOOP, false, false, NULL, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        _cleanup_resolved_ struct resolved at;
        char want[PATH_MAX], place[PATH_MAX];
        const char *path = spelled(rows[i].path, want, sizeof(want));
        int e = resolve(AT_FDCWD, path, rows[i].flags | WALK_PARENT, &at);

        if (e != rows[i].error)
            fail_msg("%s: %d", rows[i].path, e);
        if (e < 0)
            continue;
        assert_int_equal(at.fd >= 0, rows[i].exists);
        assert_int_equal(at.trailing_slash, rows[i].slash);
        assert_string_equal(at.name, rows[i].name);
        assert_string_equal(at.dots, rows[i].dots);
        snprintf(want, sizeof(want), "%s%s%s", root, *rows[i].parent ? "/" : "", rows[i].parent);
        assert_true(fd_location(at.parent_fd, place, sizeof(place)) > 0);
        assert_string_equal(place, want);
    }
}

static void test_magic_has_no_parent(void **state)
{
    _cleanup_resolved_ struct resolved at;
    char path[64];

    (void)state;
    spelled("/dev/fd/@F", path, sizeof(path));
    assert_int_equal(resolve(AT_FDCWD, path, WALK_FOLLOW | WALK_PARENT, &at), 0);
    assert_true(at.magic);
    assert_true(at.fd >= 0);
    assert_int_equal(at.parent_fd, -1);
    assert_false(at.on_proc);
}

static void test_empty_path(void **state)
{
    _cleanup_resolved_ struct resolved at, none;
    struct answer a;

    (void)state;
    assert_int_equal(resolve(CHILD_FILE, "", WALK_FOLLOW, &none), -ENOENT);
    assert_int_equal(resolve(CHILD_FILE, "", WALK_EMPTY_OK, &at), 0);
    describe(at.fd, &a);
    assert_non_null(strstr(a.place, "/a/f"));
}

/* Descriptors are given back on every way out. */
static void test_no_leak(void **state)
{
    int before = dup(0);

    (void)state;
    close(before);
    for (int i = 0; i < 50; i++) {
        compare(AT_FDCWD, "deep/up", 0);
        compare(AT_FDCWD, "a/f/", O_NOFOLLOW);
        compare(AT_FDCWD, "via/x", 0);
        compare(AT_FDCWD, "loop1/x", 0);
        compare(CHILD_DIR, "up/", 0);
    }
    int after = dup(0);
    close(after);
    assert_int_equal(before, after);
}

/* A copy of us asks about its own descriptors, not about its parent's, which it would find under the
 * directory that the parent opened. */
static void test_forked_copy(void **state)
{
    int fd = open("/dev/null", O_PATH | O_CLOEXEC), status;
    char place[PATH_MAX];
    pid_t pid;

    (void)state;
    assert_int_equal(fd_location(fd, place, sizeof(place)), 9);
    assert_string_equal(place, "/dev/null");
    pid = fork();
    if (pid == 0) {
        int other = open("/dev/zero", O_PATH);

        _exit(dup2(other, fd) == fd && fd_location(fd, place, sizeof(place)) == 9 &&
                      strcmp(place, "/dev/zero") == 0
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_kernel),  cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_random_paths),    cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_parent_and_name), cmocka_unit_test(test_magic_has_no_parent),
        cmocka_unit_test(test_empty_path),      cmocka_unit_test(test_no_leak),
        cmocka_unit_test(test_forked_copy),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
