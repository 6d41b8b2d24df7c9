/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rulesets enforced by this kernel: each action is tried outside (the control), then in a child under
 * the ruleset. Skipped where the kernel has no Landlock.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#include <cmocka.h>

#include "base/util.h"
#include "plan/landlock.h"
#include "sys/landlock.h"

static char root[] = "/tmp/sandlock-ll-XXXXXX";
static struct policy policy;
static const struct kernel *kernel;

static const char *at(const char *name)
{
    static char v[8][200];
    static unsigned n;
    char *s = v[n++ % 8];

    snprintf(s, sizeof(v[0]), "%s/%s", root, name);
    return s;
}

static void put(const char *name)
{
    FILE *f = fopen(at(name), "w");

    assert_non_null(f);
    fputs("text", f);
    fclose(f);
}

static int group_setup(void **state)
{
    (void)state;
    kernel = kernel_probe();
    if (kernel->landlock_abi < 1) {
        print_message("no Landlock on this kernel: skipped\n");
        exit(77);
    }
    assert_non_null(mkdtemp(root));
    assert_int_equal(mkdir(at("ro"), 0755) | mkdir(at("rw"), 0755) | mkdir(at("rw2"), 0755) |
                         mkdir(at("none"), 0755),
                     0);
    put("ro/file");
    put("rw/file");
    put("rw/move");
    put("none/file");
    put("none/granted");
    assert_int_equal(mkfifo(at("none/fifo"), 0600) | symlink("none/granted", at("link")), 0);
    return 0;
}

static int group_teardown(void **state)
{
    char cmd[100];

    (void)state;
    snprintf(cmd, sizeof(cmd), "rm -rf %s", root);
    return system(cmd);
}

static int setup(void **state)
{
    (void)state;
    policy_init(&policy);
    for (int i = 0; i < PROTECTION_COUNT; i++)
        policy.protection[i] = PROTECTION_DEGRADED;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    policy_fini(&policy);
    return 0;
}

static void grant(const char *path, bool write)
{
    struct error err = {0};

    assert_int_equal(write ? policy_add_fs_write(&policy, "-w", path, false, &err)
                           : policy_add_fs_read(&policy, "-r", path, false, &err),
                     0);
}

typedef int (*action)(const void *arg);

static int ruleset(struct landlock_masks *m)
{
    struct error err = {0};
    int fd;

    assert_int_equal(policy_validate(&policy, &err), 0);
    assert_int_equal(landlock_masks(&policy, kernel, m, &err), 0);
    fd = landlock_ruleset(&policy, m, NULL, false, &err);
    if (fd < 0)
        fail_msg("%s: %s", err.where, err.message);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    return fd;
}

/* Result (0 or -errno) of the action under a ruleset. */
static int under(int ruleset_fd, action fn, const void *arg)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        int r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

        if (r == 0)
            r = sys_landlock_restrict(ruleset_fd, 0);
        _exit(r < 0 ? 255 : -fn(arg));
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 255);
    return -WEXITSTATUS(status);
}

static int inside(action fn, const void *arg)
{
    struct landlock_masks m;
    _cleanup_close_ int fd = ruleset(&m);

    return under(fd, fn, arg);
}

static int do_read(const void *path)
{
    char c;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

    return fd < 0 || (read(fd, &c, 1) < 0 && errno != EISDIR) ? -errno : 0;
}

static int do_write(const void *path)
{
    return open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC) < 0 ? -errno : 0;
}

static int do_create(const void *path)
{
    return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0 ? -errno : 0;
}

static int do_truncate(const void *path)
{
    return truncate(path, 2) < 0 ? -errno : 0;
}

static int do_mknod_char(const void *path)
{
    return mknod(path, S_IFCHR | 0600, makedev(1, 3)) < 0 ? -errno : 0;
}

static int do_mkfifo(const void *path)
{
    return mkfifo(path, 0600) < 0 ? -errno : 0;
}

static int do_o_path(const void *path)
{
    return open(path, O_PATH | O_CLOEXEC) < 0 ? -errno : 0;
}

static int do_move(const void *to)
{
    return rename(at("rw/move"), to) < 0 ? -errno : 0;
}

static void test_files(void **state)
{
    (void)state;
    grant(at("ro"), false);
    grant(at("rw"), true);
    grant(at("rw2"), true);
    assert_int_equal(do_read(at("none/file")), 0);
    assert_int_equal(inside(do_read, at("none/file")), -EACCES);
    assert_int_equal(inside(do_o_path, at("none/file")), 0); /* FG-06 */
    assert_int_equal(inside(do_read, at("ro/file")), 0);
    assert_int_equal(inside(do_read, at("rw/file")), 0);
    assert_int_equal(do_write(at("ro/file")), 0);
    assert_int_equal(inside(do_write, at("ro/file")), -EACCES);
    assert_int_equal(inside(do_write, at("rw/file")), 0);
    assert_int_equal(inside(do_create, at("ro/new")), -EACCES);
    assert_int_equal(inside(do_create, at("rw/new")), 0);
    assert_int_equal(inside(do_mkfifo, at("rw/fifo")), 0);
    if (kernel->landlock_abi >= 3) {
        assert_int_equal(inside(do_truncate, at("ro/file")), -EACCES);
        assert_int_equal(do_truncate(at("ro/file")), 0);
    }
    assert_int_equal(inside(do_truncate, at("rw/file")), 0);
    assert_int_equal(inside(do_move, at("none/move")),
                     kernel->landlock_abi >= 2 ? -EACCES : -EXDEV);
    if (kernel->landlock_abi >= 2)
        assert_int_equal(inside(do_move, at("rw2/move")), 0);
    if (geteuid() == 0)
        assert_int_equal(inside(do_mknod_char, at("rw/null")), -EACCES);
}

static void test_single_objects(void **state)
{
    (void)state;
    grant(at("link"), false);
    grant(at("none/fifo"), true);
    assert_int_equal(inside(do_read, at("none/granted")), 0);
    assert_int_equal(inside(do_read, at("none/file")), -EACCES);
    assert_int_equal(inside(do_write, at("none/granted")), -EACCES);
    assert_int_equal(inside(do_read, at("none/fifo")), 0);
}

static void test_overlap(void **state)
{
    (void)state;
    grant("/", false);
    grant(at("rw"), true);
    grant(at("rw"), false);
    assert_int_equal(inside(do_read, at("none/file")), 0);
    assert_int_equal(inside(do_write, at("rw/file")), 0);
    assert_int_equal(inside(do_write, at("none/file")), -EACCES);
}

/* FG-07: the command's own domain where all files are opened on its behalf. Were a call not mediated, it
 * could read and execute what is granted, and change nothing. */
static void test_mediated(void **state)
{
    struct landlock_masks m;
    struct error err = {0};
    _cleanup_close_ int plain_fd = -1, mediated_fd = -1;

    (void)state;
    grant(at("rw"), true);
    assert_int_equal(landlock_masks(&policy, kernel, &m, &err), 0);
    plain_fd = landlock_ruleset(&policy, &m, NULL, false, &err);
    mediated_fd = landlock_ruleset(&policy, &m, NULL, true, &err);
    assert_true(plain_fd >= 0 && mediated_fd >= 0);
    assert_int_equal(under(plain_fd, do_write, at("rw/file")), 0);
    assert_int_equal(under(mediated_fd, do_write, at("rw/file")), -EACCES);
    assert_int_equal(under(mediated_fd, do_read, at("rw/file")), 0);
}

static void test_missing_path(void **state)
{
    struct landlock_masks m;
    struct error err = {0};

    (void)state;
    assert_int_equal(policy_add_fs_read(&policy, "-r", at("absent"), true, &err), 0);
    assert_int_equal(landlock_masks(&policy, kernel, &m, &err), 0);
    {
        _cleanup_close_ int fd = landlock_ruleset(&policy, &m, NULL, false, &err);

        assert_true(fd >= 0); /* optional */
    }
    assert_int_equal(policy_add_fs_write(&policy, "-w", at("absent"), false, &err), 0);
    assert_int_equal(landlock_ruleset(&policy, &m, NULL, false, &err), -ENOENT);
    assert_int_equal(err.kind, ERROR_POLICY);
    assert_string_equal(err.where, "--fs-write");
    assert_non_null(strstr(err.message, at("absent")));
}

static int do_isatty(const void *path)
{
    struct termios t;
    int fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

    return fd < 0 || tcgetattr(fd, &t) < 0 ? -errno : 0;
}

static void test_terminal(void **state)
{
    _cleanup_close_ int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    char name[64];

    (void)state;
    if (master < 0 || grantpt(master) || unlockpt(master) || ptsname_r(master, name, sizeof(name)))
        skip();
    assert_int_equal(do_isatty(name), 0);
    grant("/dev/pts", false);
    /* A directory granted for reading gives no device control, a granted node does. */
    if (kernel->landlock_abi >= 5)
        assert_int_equal(inside(do_isatty, name), -EACCES);
    grant(name, false);
    assert_int_equal(inside(do_isatty, name), 0);
}

static int tcp_socket(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)) | listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static int do_connect(const void *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons(*(const uint16_t *)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
}

static int do_bind(const void *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons(*(const uint16_t *)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
}

static void test_tcp(void **state)
{
    uint16_t granted, other, zero = 0;
    _cleanup_close_ int a = tcp_socket(&granted), b = tcp_socket(&other);
    struct error err = {0};
    char text[16];

    (void)state;
    if (kernel->landlock_abi < 4)
        skip();
    snprintf(text, sizeof(text), ":%u", granted);
    assert_int_equal(do_connect(&other), 0);
    assert_int_equal(inside(do_connect, &granted), -EACCES);
    assert_int_equal(do_bind(&zero), 0);
    assert_int_equal(inside(do_bind, &zero), -EACCES);
    assert_int_equal(policy_add_net_allow(&policy, "x", text, &err), 0);
    assert_int_equal(inside(do_connect, &granted), 0);
    assert_int_equal(inside(do_connect, &other), -EACCES);
    assert_int_equal(policy_add_net_allow_bind(&policy, "x", "0", &err), 0);
    assert_int_equal(inside(do_bind, &zero), 0);
    policy.net_connect.any = true;
    assert_int_equal(inside(do_connect, &other), 0);
    assert_true(a >= 0 && b >= 0);
}

static int do_signal(const void *pid)
{
    return kill(*(const pid_t *)pid, 0) < 0 ? -errno : 0;
}

static int do_abstract(const void *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(a.sun_path + 1, name, strlen(name));
    return connect(fd, (struct sockaddr *)&a,
                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) < 0
               ? -errno
               : 0;
}

static void test_scopes(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pid_t self = getpid();
    char name[64];

    (void)state;
    if (kernel->landlock_abi < 6)
        skip();
    snprintf(name, sizeof(name), "sandlock-test-%d", self);
    memcpy(a.sun_path + 1, name, strlen(name));
    assert_int_equal(bind(fd, (struct sockaddr *)&a,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) |
                         listen(fd, 4),
                     0);
    assert_int_equal(do_abstract(name), 0);
    assert_int_equal(inside(do_abstract, name), -EPERM);
    assert_int_equal(inside(do_signal, &self), -EPERM);
    policy.protection[PROT_SIGNAL_SCOPE] = PROTECTION_DISABLED;
    policy.protection[PROT_ABSTRACT_UNIX_SOCKET_SCOPE] = PROTECTION_DISABLED;
    assert_int_equal(inside(do_abstract, name), 0);
    assert_int_equal(inside(do_signal, &self), 0);
}

static int do_unix(const void *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(a.sun_path, path, strlen(path));
    return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
}

/* FG-05 where the kernel does it: a read grant is not enough. */
static void test_unix_path(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const char *path = at("none/socket");

    (void)state;
    if (kernel->landlock_abi < 9)
        skip();
    memcpy(a.sun_path, path, strlen(path));
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)) | listen(fd, 8), 0);
    assert_int_equal(do_unix(path), 0);
    assert_int_equal(inside(do_unix, path), -EACCES);
    grant(at("none"), false);
    assert_int_equal(inside(do_unix, path), -EACCES);
    grant(path, true);
    assert_int_equal(inside(do_unix, path), 0);
}

static int do_udp(const void *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons(*(const uint16_t *)port)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    return sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
}

/* A second lock behind the filter, for sockets that were inherited. */
static void test_udp(void **state)
{
    static const uint16_t port = 9;

    (void)state;
    if (kernel->landlock_abi < 10)
        skip();
    assert_int_equal(do_udp(&port), 0);
    assert_int_equal(inside(do_udp, &port), -EACCES);
}

static void test_anchor(void **state)
{
    _cleanup_close_ int fd = landlock_anchor_ruleset(kernel);
    struct kernel old = {.landlock_abi = 5};
    pid_t self = getpid();

    (void)state;
    assert_int_equal(landlock_anchor_ruleset(&old), -1);
    if (kernel->landlock_abi < 6)
        skip();
    assert_true(fd >= 0);
    assert_int_equal(under(fd, do_signal, &self), -EPERM);
    assert_int_equal(under(fd, do_write, at("none/file")), 0); /* confines nothing else */
}

static void test_proc(void **state)
{
    struct landlock_masks m;
    _cleanup_close_ int fd = -1;

    (void)state;
    if (!kernel_probe_all()->proc)
        skip();
    grant(at("ro"), false);
    assert_int_equal(inside(do_read, "/proc/self/status"), -EACCES);
    fd = ruleset(&m);
    assert_int_equal(landlock_add_proc(fd, &m, false), 0);
    assert_int_equal(under(fd, do_read, "/proc/self/status"), 0);
    assert_int_equal(under(fd, do_write, "/proc/self/comm"), -EACCES);
    assert_int_equal(under(fd, do_read, at("none/file")), -EACCES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_single_objects, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overlap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mediated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_terminal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tcp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scopes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unix_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_udp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_anchor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_proc, setup, teardown),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
