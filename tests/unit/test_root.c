/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resolution in a tree of the command's own against the kernel: a child that really has that root and
 * those mounts (chroot and bind mounts, in a user namespace when we are not root) opens a path, we
 * resolve it from outside, and both must end at the same object or with the same error. The request_*
 * functions are stand-ins whose descriptors are our own, outside of the child's mounts.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/resolve.h"
#include "fs/view.h"
#include "plan/root.h"

#define RANDOM_PATHS 6000
#define BASES 6

static char top[] = "/tmp/root.XXXXXX";
static pid_t child;
static int channel;
static struct policy shown;
static struct plan plan = {.policy = &shown};

/* Directories that the child names by descriptor: inside, and where that is outside. */
static const char *const base_inside[BASES] = {"/",         "/a/b",        "/data",
                                               "/data/sub", "/data/inner", "/a/mnt"};
static const char *const base_outside[BASES] = {"R", "R/a/b", "H", "H/sub", "H2", "H3"};
#define BASE_FD 900

/* ---- the supervisor's part ---- */

bool request_alive(const struct request *r)
{
    (void)r;
    return true;
}
int request_status(const struct request *r, pid_t *ret_tgid, mode_t *ret_umask)
{
    (void)r, (void)ret_tgid, (void)ret_umask;
    return -EIO;
}
void request_fd_name(const struct request *r, int fd, char path[CHILD_FD_PATH_MAX])
{
    (void)r, (void)fd;
    path[0] = '\0'; /* only a layer asks */
}
int request_fd_path(const struct request *r, int fd)
{
    char path[128];

    (void)r;
    if (fd < BASE_FD || fd >= BASE_FD + BASES)
        return -EBADF;
    snprintf(path, sizeof(path), "%s/%s", top, base_outside[fd - BASE_FD]);
    return sys_open_path(AT_FDCWD, path, O_DIRECTORY);
}
ssize_t request_read_string(const struct request *r, child_addr addr, char *dst, size_t size)
{
    (void)r, (void)addr, (void)dst, (void)size;
    return -EFAULT;
}
bool supervisor_is_member(const struct supervisor *s, pid_t pid)
{
    (void)s, (void)pid;
    return false;
}
const struct plan *supervisor_plan(const struct supervisor *s)
{
    (void)s;
    return &plan;
}
const struct policy *supervisor_policy(const struct supervisor *s)
{
    (void)s;
    return &shown;
}
int view_proc_link(const struct request *r, int dir_fd, const char *leaf)
{
    (void)r, (void)dir_fd, (void)leaf;
    return -ENODATA;
}

/* ---- the child ---- */

struct question {
    int dirfd, flags;
    char path[PATH_MAX];
};
struct answer {
    int error;
    uint64_t dev, ino;
};

static void answer_of(int fd, struct answer *a)
{
    struct stat st;

    *a = (struct answer){.error = fd < 0 ? -fd : 0};
    if (fd >= 0 && fstat(fd, &st) == 0) {
        a->dev = st.st_dev;
        a->ino = st.st_ino;
    }
}

static bool child_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    close(fd);
    return ok;
}

static bool child_enter(void)
{
    static const char *const mounts[][2] = {
        {"H", "R/data"}, {"H2", "R/data/inner"}, {"H3", "R/a/mnt"}, {"H/x", "R/m"}};
    char text[64];
    uid_t uid = getuid();
    gid_t gid = getgid();

    if (unshare(uid ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) < 0)
        return false;
    if (uid) {
        child_write("/proc/self/setgroups", "deny");
        snprintf(text, sizeof(text), "%u %u 1", uid, uid);
        if (!child_write("/proc/self/uid_map", text))
            return false;
        snprintf(text, sizeof(text), "%u %u 1", gid, gid);
        child_write("/proc/self/gid_map", text);
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || chdir(top) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
        if (mount(mounts[i][0], mounts[i][1], NULL, MS_BIND, NULL) < 0)
            return false;
    }
    if (chdir("R") < 0 || chroot(".") < 0)
        return false;
    for (int i = 0; i < BASES; i++)
        dup2(open(base_inside[i], O_PATH | O_DIRECTORY), BASE_FD + i);
    return true;
}

static void child_main(int s)
{
    struct question q;
    struct answer a = {0};

    a.error = child_enter() ? 0 : EPERM;
    (void)!write(s, &a, sizeof(a));
    while (read(s, &q, sizeof(q)) == (ssize_t)sizeof(q)) {
        int fd = openat(q.dirfd, q.path, q.flags | O_PATH | O_CLOEXEC);

        answer_of(fd < 0 ? -errno : fd, &a);
        close(fd);
        if (write(s, &a, sizeof(a)) != (ssize_t)sizeof(a))
            break;
    }
    _exit(0);
}

/* ---- the tree ---- */

static void make(const char *path)
{
    if (path[strlen(path) - 1] == '/') {
        assert_int_equal(mkdir(path, 0755), 0);
    } else {
        int fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0644);

        assert_true(fd >= 0);
        close(fd);
    }
}

static void make_tree(void)
{
    static const char *const files[] = {
        "R/",       "R/a/",   "R/a/f",    "R/a/b/", "R/a/b/g", "R/a/b/c/", "R/data/", "R/m",
        "R/a/mnt/", "R/etc/", "R/etc/in", "H/",     "H/x",     "H/sub/",   "H/sub/y", "H/inner/",
        "H2/",      "H2/z",   "H2/d/",    "H3/",    "H3/w",    "outside",  "etc/",    "etc/out",
    };
    static const char *const links[][2] = {
        {"a/b", "R/rel"},
        {"/a", "R/abs"},
        {"/a/f", "R/absf"},
        {"/nothing", "R/dang"},
        {"../../../a", "R/up"},
        {"l2", "R/l1"},
        {"l1", "R/l2"},
        {"/../../etc", "R/esc"},
        {"/data/x", "R/into"},
        {"data/sub/../..", "R/o"},
        {"/a/f", "H/abs"},
        {"../a", "H/cross"},
        {"../../..", "H2/back"},
        {"..", "H3/dots"},
        {"../../outside", "R/a/out"},
        {"/m", "H/m"},
        {"/data/inner/z", "H3/deep"},
    };

    assert_non_null(mkdtemp(top));
    chmod(top, 0755);
    assert_int_equal(chdir(top), 0);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        make(files[i]);
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        assert_int_equal(symlink(links[i][0], links[i][1]), 0);
}

static int setup(void **state)
{
    struct answer a = {.error = EPERM};
    int s[2];

    (void)state;
    make_tree();
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
    child = fork();
    if (child == 0) {
        close(s[0]);
        child_main(s[1]);
    }
    close(s[1]);
    channel = s[0];
    if (read(channel, &a, sizeof(a)) != (ssize_t)sizeof(a) || a.error) {
        close(channel);
        channel = -1; /* neither root nor user namespaces: the tests that compare are skipped */
    }
    return 0;
}

static int teardown(void **state)
{
    char cmd[64];

    (void)state;
    close(channel);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", top);
    return system(cmd);
}

static struct root *root_of(struct policy *p, const char *const *mounts)
{
    struct error err = {0};
    struct root *r = NULL;
    char spec[256], dir[64];

    policy_init(p);
    snprintf(dir, sizeof(dir), "%s/R", top);
    assert_int_equal(policy_set_chroot(p, "--chroot", dir, &err), 0);
    for (; mounts && *mounts; mounts += 2) {
        snprintf(spec, sizeof(spec), "%s:%s/%s", mounts[0], top, mounts[1]);
        assert_int_equal(policy_add_fs_mount(p, "--fs-mount", spec, &err), 0);
    }
    if (root_new(p, &r, &err) < 0)
        fail_msg("%s: %s", err.where, err.message);
    return r;
}

static const char *const all_mounts[] = {"/data/inner", "H2", "/data", "H", "/a/mnt",
                                         "H3",          "/m", "H/x",   NULL};

/* ---- comparing ---- */

static void compare(int dirfd, const char *path, int flags)
{
    struct question q = {.dirfd = dirfd, .flags = flags};
    unsigned walk =
        (flags & O_NOFOLLOW ? 0 : WALK_FOLLOW) | (flags & O_DIRECTORY ? WALK_DIRECTORY : 0);
    struct request r = {.tid = child};
    struct answer want, got;

    snprintf(q.path, sizeof(q.path), "%s", path);
    assert_int_equal(write(channel, &q, sizeof(q)), sizeof(q));
    assert_int_equal(read(channel, &want, sizeof(want)), sizeof(want));
    for (int parent = 0; parent < 2; parent++) {
        _cleanup_resolved_ struct resolved at;
        int e = resolve_path(&r, dirfd, path, walk | (parent ? WALK_PARENT : 0), &at);

        if (parent && (path[strlen(path) - 1] == '/' || at.trailing_slash ||
                       (want.error == ENOENT && e == 0)))
            continue;
        answer_of(e < 0 ? e : at.fd, &got);
        if (want.error == ELOOP && e == 0)
            continue; /* walked in pieces, links are counted in pieces */
        if (got.error != want.error || got.dev != want.dev || got.ino != want.ino)
            fail_msg("base %d path '%s' flags %o parent %d: kernel %d %lu, we %d %lu", dirfd, path,
                     (unsigned)flags, parent, want.error, (unsigned long)want.ino, got.error,
                     (unsigned long)got.ino);
    }
}

static void random_path(char *buf, size_t size)
{
    static const char *const words[] = {
        "a",    "b",    "c",   "f",   "g",    "data", "sub", "x",    "y", "inner",
        "z",    "d",    "mnt", "w",   "m",    "..",   "..",  "..",   ".", "",
        "rel",  "abs",  "up",  "esc", "absf", "dang", "l1",  "into", "o", "cross",
        "back", "dots", "etc", "in",  "no",   "deep", "out",
    };
    int n = 1 + rand() % 7;
    size_t len = (size_t)snprintf(buf, size, "%s", rand() % 2 ? "/" : "");

    for (int i = 0; i < n; i++)
        len += (size_t)snprintf(buf + len, size - len, "%s%s", i ? "/" : "",
                                words[(size_t)rand() % ARRAY_SIZE(words)]);
    if (rand() % 5 == 0)
        len += (size_t)snprintf(buf + len, size - len, "/");
    if (!*buf)
        snprintf(buf, size, ".");
}

static void compare_random(unsigned n)
{
    static const int flags[] = {0, O_NOFOLLOW, O_DIRECTORY, O_DIRECTORY | O_NOFOLLOW};
    char path[256];

    for (unsigned i = 0; i < n; i++) {
        random_path(path, sizeof(path));
        compare(BASE_FD + rand() % BASES, path, flags[rand() % 4]);
    }
}

static void test_same_as_kernel(void **state)
{
    struct policy p;

    (void)state;
    if (channel < 0)
        skip();
    srand(1);
    plan.root = root_of(&p, all_mounts);
    assert_true(plan.root->plain);
    compare_random(RANDOM_PATHS);
    plan.root->plain = false; /* the same without the kernel's own walk */
    compare_random(RANDOM_PATHS);
    root_free(plan.root);
    policy_fini(&p);
}

/* A mount over a directory with files: none of them may be met on the way. */
static void test_hidden_content(void **state)
{
    struct policy p;
    char path[128];

    (void)state;
    if (channel < 0)
        skip();
    snprintf(path, sizeof(path), "%s/R/data/hidden", top);
    make(path);
    snprintf(path, sizeof(path), "%s/R/data/x", top);
    make(path);
    plan.root = root_of(&p, all_mounts);
    assert_false(plan.root->plain);
    compare(BASE_FD, "/data/hidden", 0);
    compare(BASE_FD, "data/x", 0);
    compare_random(RANDOM_PATHS / 4);
    root_free(plan.root);
    policy_fini(&p);
}

/* ---- the table ---- */

static void expect_open(const struct root *r, const char *path, const char *outside)
{
    _cleanup_close_ int fd = root_open(r, path, 0), want_fd = -1;
    struct sys_ident a, b;
    char buf[128];

    snprintf(buf, sizeof(buf), "%s/%s", top, outside);
    want_fd = sys_open_path(AT_FDCWD, buf, 0);
    assert_true(fd >= 0 && want_fd >= 0);
    assert_int_equal(sys_identify(fd, &a) | sys_identify(want_fd, &b), 0);
    assert_true(sys_ident_same(&a, &b));
}

static void test_policy_paths(void **state)
{
    struct policy p;
    struct root *r = root_of(&p, all_mounts);

    (void)state;
    expect_open(r, "/", "R");
    expect_open(r, "/a/./b//", "R/a/b");
    expect_open(r, "/abs/b/g", "R/a/b/g");
    expect_open(r, "/esc/in", "R/etc/in"); /* FG-09: never the host's */
    expect_open(r, "/../../etc", "R/etc");
    expect_open(r, "/data", "H");
    expect_open(r, "/data/inner/z", "H2/z");
    expect_open(r, "/m", "H/x");
    assert_int_equal(root_open(r, "/a/out", 0), -ENOENT);
    assert_int_equal(root_open(r, "/data/cross", 0), -EXDEV);
    assert_int_equal(root_open(r, "/nothing", 0), -ENOENT);
    root_free(r);
    policy_fini(&p);
}

static void test_made_parents(void **state)
{
    static const char *const mounts[] = {"/x/y/z", "H", NULL};
    struct policy p;
    struct root *r = root_of(&p, mounts);
    _cleanup_close_ int fd = root_open(r, "/x/y", O_DIRECTORY);

    (void)state;
    assert_true(fd >= 0);
    expect_open(r, "/x/y/z/x", "H/x");
    root_free(r);
    policy_fini(&p);
}

static void test_modes(void **state)
{
    struct error err = {0};
    struct policy p;
    struct root *r;
    char spec[128];

    (void)state;
    policy_init(&p);
    snprintf(spec, sizeof(spec), "/p:%s/H:ro", top);
    assert_int_equal(policy_add_fs_mount(&p, "--fs-mount", spec, &err), 0);
    snprintf(spec, sizeof(spec), "/q:%s/H", top);
    assert_int_equal(policy_add_fs_mount(&p, "--fs-mount", spec, &err), 0);
    assert_int_equal(root_new(&p, &r, &err), -EINVAL);
    assert_non_null(strstr(err.message, "read-only"));
    policy_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy_paths),   cmocka_unit_test(test_made_parents),
        cmocka_unit_test(test_modes),          cmocka_unit_test(test_same_as_kernel),
        cmocka_unit_test(test_hidden_content),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
