/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every rule of the filter on both machines, through the compiled program: the refused value and a
 * neighbour that passes. Deciding only, no kernel.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "filter_fixture.h"

/* Read-only policy without features: what the filter alone must hold. */
static const struct check default_rules[] = {
    {"read", ALLOW, {0}},
    {"openat", ALLOW, {0}},
    {"execve", ALLOW, {0}},
    {"mmap", ALLOW, {0, ~0ull}},
    {"seccomp", ALLOW, {1, 8}}, /* NEW_LISTENER: the kernel says EBUSY */
    {"memfd_secret", ALLOW, {0}},
    {"landlock_restrict_self", ALLOW, {0}},
    /* lists */
    {"mount", DENY(EPERM), {0}},
    {"umount2", DENY(EPERM), {0}},
    {"pivot_root", DENY(EPERM), {0}},
    {"unshare", DENY(EPERM), {0}},
    {"setns", DENY(EPERM), {0}},
    {"ptrace", DENY(EPERM), {0}},
    {"process_vm_readv", DENY(EPERM), {0}},
    {"bpf", DENY(EPERM), {0}},
    {"userfaultfd", DENY(EPERM), {0}},
    {"io_uring_setup", DENY(EPERM), {0}},
    {"io_uring_enter", DENY(EPERM), {0}},
    {"open_by_handle_at", DENY(EPERM), {0}},
    {"modify_ldt", DENY(EPERM), {0}},
    {"iopl", DENY(EPERM), {0}},
    {"kexec_load", DENY(EPERM), {0}},
    {"chroot", DENY(EPERM), {0}},
    {"shmget", DENY(EPERM), {0}},
    {"semtimedop", DENY(EPERM), {0}},
    {"statmount", DENY(EPERM), {0}},
    /* namespaces: only clone's own flags; the low byte is the exit signal */
    {"clone3", DENY(ENOSYS), {0}},
    {"clone", ALLOW, {17}},
    {"clone", ALLOW, {0x3d0f00}},
    {"clone", ALLOW, {0x80}},
    {"clone", ALLOW, {HIGH | 17}},
    {"clone", DENY(EPERM), {0x00020000}},
    {"clone", DENY(EPERM), {0x02000000 | 17}},
    {"clone", DENY(EPERM), {0x04000000}},
    {"clone", DENY(EPERM), {0x08000000}},
    {"clone", DENY(EPERM), {0x10000000}},
    {"clone", DENY(EPERM), {0x20000000}},
    {"clone", DENY(EPERM), {0x40000000}},
    {"clone", DENY(EPERM), {HIGH | 0x40000000}},
    {"fork", ALLOW, {0x40000000}},
    {"personality", ALLOW, {0xffffffff}},
    {"personality", ALLOW, {HIGH | 0xffffffff}},
    {"personality", DENY(EPERM), {0}},
    {"personality", DENY(EPERM), {0x0040000}},
    /* terminals */
    {"ioctl", ALLOW, {0, 0x5401}},
    {"ioctl", ALLOW, {0, 0x5413}},
    {"ioctl", ALLOW, {0, 0x541b}},
    {"ioctl", DENY(EPERM), {0, 0x5412}},
    {"ioctl", DENY(EPERM), {0, HIGH | 0x5412}},
    {"ioctl", DENY(EPERM), {0, 0x541c}},
    {"ioctl", DENY(EPERM), {0, 0x5423}},
    {"ioctl", ALLOW, {0, 0x5424}},
    {"ioctl", DENY(EPERM), {0, 0x541d}},
    {"ioctl", ALLOW, {0, 0x541e}},
    /* file attributes: FS_IOC_GETFLAGS passes, SETFLAGS in either width does not */
    {"ioctl", ALLOW, {0, 0x80086601}},
    {"ioctl", DENY(EPERM), {0, 0x40086602}},
    {"ioctl", DENY(EPERM), {0, 0x40046602}},
    {"ioctl", ALLOW, {0, 0x80087601}},
    {"ioctl", DENY(EPERM), {0, 0x40087602}},
    {"ioctl", ALLOW, {0, 0x801c581f}},
    {"ioctl", DENY(EPERM), {0, 0x401c5820}},
    {"ioctl", ALLOW, {0, 0xc020660b}}, /* FIEMAP */
    {"ioctl", DENY(EPERM), {0, 0x800c6613}},
    {"ioctl", DENY(EPERM), {0, 0x40806685}},
    {"ioctl", ALLOW, {0, 0x80047210}}, /* FAT_IOCTL_GET_ATTRIBUTES, SET_ */
    {"ioctl", DENY(EPERM), {0, 0x40047211}},
    {"ioctl", ALLOW, {0, 0x40049409}}, /* FICLONE */
    {"ioctl", ALLOW, {0, 0x4020940d}},
    {"ioctl", ALLOW, {0, 0xc0189436}},
    {"ioctl", DENY(EPERM), {0, 0x5000940e}}, /* btrfs: make a subvolume */
    {"ioctl", DENY(EPERM), {0, 0x5000940f}},
    {"ioctl", DENY(EPERM), {0, 0x50009401}},
    /* interfaces */
    {"ioctl", ALLOW, {0, 0x8905}},
    {"ioctl", ALLOW, {0, 0x8907}},
    {"ioctl", DENY(ENODEV), {0, 0x890b}},
    {"ioctl", DENY(ENODEV), {0, 0x8912}},
    {"ioctl", DENY(ENODEV), {0, HIGH | 0x8933}},
    {"ioctl", DENY(ENODEV), {0, 0x89ff}},
    {"ioctl", ALLOW, {0, 0x8a00}},
    /* processes */
    {"prctl", ALLOW, {15}},
    {"prctl", ALLOW, {4, 1}},
    {"prctl", DENY(EPERM), {4, 0}},
    {"prctl", DENY(EPERM), {HIGH | 4, 2}},
    {"prctl", DENY(EPERM), {4, 0x100000001}},
    {"prctl", ALLOW, {3, 0}},
    {"prctl", DENY(EPERM), {0x59616d61, 1}},
    {"prctl", DENY(EPERM), {28, 0}},
    {"prctl", ALLOW, {27, 0}},
    {"prctl", DENY(EPERM), {35, 1}},
    {"prctl", ALLOW, {38, 1}},
    {"prlimit64", ALLOW, {0, 7, 0x7ffe0000}},
    {"prlimit64", ALLOW, {1234, 7, 0}},
    {"prlimit64", DENY(EPERM), {1234, 7, 0x7ffe0000}},
    {"prlimit64", DENY(EPERM), {1234, 7, 0x100000000}},
    {"setpriority", ALLOW, {0, 0, 5}},
    {"setpriority", DENY(EPERM), {2, 0, 5}},
    {"ioprio_set", ALLOW, {1, 0, 5}},
    {"ioprio_set", DENY(EPERM), {3, 0, 5}},
    /* sockets */
    {"socket", ALLOW, {AF_INET, SOCK_STREAM, 0}},
    {"socket", ALLOW, {AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 6}},
    {"socket", ALLOW, {AF_INET6, SOCK_STREAM, 6}},
    {"socket", ALLOW, {HIGH | AF_INET6, HIGH | SOCK_STREAM, HIGH | 6}},
    {"socket", DENY(EACCES), {AF_INET, SOCK_DGRAM, 0}},
    {"socket", DENY(EACCES), {AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 17}},
    {"socket", DENY(EACCES), {AF_INET, SOCK_DGRAM, 1}},
    {"socket", DENY(EACCES), {AF_INET, SOCK_RAW, 1}},
    {"socket", DENY(EACCES), {AF_INET, 10, 3}}, /* SOCK_PACKET */
    {"socket", DENY(EACCES), {AF_INET, SOCK_STREAM, 262}},
    {"socket", DENY(EACCES), {AF_INET6, SOCK_STREAM, 132}},
    {"socket", DENY(EACCES), {AF_INET, SOCK_SEQPACKET, 132}},
    {"socket", DENY(EACCES), {AF_INET, SOCK_STREAM, 256}},
    {"socket", DENY(EACCES), {AF_INET, 6, 33}},
    {"socket", DENY(EAFNOSUPPORT), {0, SOCK_STREAM, 0}},
    {"socket", DENY(EAFNOSUPPORT), {AF_NETLINK, SOCK_RAW, 0}},
    {"socket", DENY(EAFNOSUPPORT), {AF_PACKET, SOCK_RAW, 0}},
    {"socket", DENY(EAFNOSUPPORT), {AF_ALG, SOCK_SEQPACKET, 0}},
    {"socket", DENY(EAFNOSUPPORT), {AF_VSOCK, SOCK_STREAM, 0}},
    {"socket", DENY(EAFNOSUPPORT), {43, SOCK_STREAM, 0}}, /* SMC */
    {"socket", DENY(EAFNOSUPPORT), {44, SOCK_DGRAM, 0}},  /* XDP */
    {"socket", DENY(EAFNOSUPPORT), {3, SOCK_STREAM, 0}},
    {"socket", DENY(EAFNOSUPPORT), {11, SOCK_STREAM, 0}},
    /* ABI 7 and nobody mediates connect: no UNIX socket that could be pointed at a name */
    {"socket", DENY(EACCES), {AF_UNIX, SOCK_STREAM, 0}},
    {"socket", DENY(EACCES), {AF_UNIX, SOCK_DGRAM, 0}},
    {"socketpair", ALLOW, {AF_UNIX, SOCK_STREAM, 0}},
    {"socketpair", ALLOW, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0}},
    {"socketpair", DENY(EACCES), {AF_UNIX, SOCK_DGRAM, 0}},
    {"socketpair", DENY(EACCES), {AF_UNIX, SOCK_RAW | SOCK_NONBLOCK, 0}},
    {"socketpair", DENY(EAFNOSUPPORT), {AF_INET, SOCK_STREAM, 0}},
    {"socketpair", DENY(EAFNOSUPPORT), {30, SOCK_STREAM, 0}},
    {"listen", DENY(EACCES), {3, 1}},
    {"connect", ALLOW, {0}},
    {"bind", ALLOW, {0}},
    {"sendto", ALLOW, {3, 1, 1, 0x4000, 0x1000, 16}},
    {"sendto", DENY(EOPNOTSUPP), {3, 1, 1, 0x20000000, 0, 0}},
    {"sendto", DENY(EOPNOTSUPP), {3, 1, 1, HIGH | 0x20004000, 0, 0}},
    {"sendmsg", ALLOW, {3, 1, 0x4000}},
    {"sendmsg", DENY(EOPNOTSUPP), {3, 1, 0x20000000}},
    {"sendmmsg", ALLOW, {3, 1, 0x20000000, 0}},
    {"sendmmsg", DENY(EOPNOTSUPP), {3, 1, 1, 0x20000000}},
    {"setsockopt", ALLOW, {3, 6, 1}},
    {"setsockopt", DENY(EOPNOTSUPP), {3, 6, 30}},
    {"setsockopt", DENY(ENOPROTOOPT), {3, HIGH | 6, HIGH | 31}},
    {"setsockopt", ALLOW, {3, 1, 30}},
    {"setsockopt", ALLOW, {3, 6, 32}},
    /* metadata without a write grant */
    {"chmod", DENY(EPERM), {0}},
    {"fchmod", DENY(EPERM), {0}},
    {"fchmodat", DENY(EPERM), {0}},
    {"fchmodat2", DENY(EPERM), {0}},
    {"chown", DENY(EPERM), {0}},
    {"lchown", DENY(EPERM), {0}},
    {"fchown", DENY(EPERM), {0}},
    {"fchownat", DENY(EPERM), {0}},
    {"utime", DENY(EPERM), {0}},
    {"utimes", DENY(EPERM), {0}},
    {"futimesat", DENY(EPERM), {0}},
    {"utimensat", DENY(EPERM), {0}},
    {"setxattr", DENY(EPERM), {0}},
    {"lsetxattr", DENY(EPERM), {0}},
    {"fsetxattr", DENY(EPERM), {0}},
    {"setxattrat", DENY(EPERM), {0}},
    {"removexattr", DENY(EPERM), {0}},
    {"lremovexattr", DENY(EPERM), {0}},
    {"fremovexattr", DENY(EPERM), {0}},
    {"removexattrat", DENY(EPERM), {0}},
    {"file_setattr", DENY(EPERM), {0}},
    {"getxattr", ALLOW, {0}},
    {"file_getattr", ALLOW, {0}},
    {"newfstatat", ALLOW, {0}},
};

static void test_default(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    CHECK(&f, NULL, 0, default_rules);
    assert_false(filter_has_action(&f.plan, NOTIFY));
    fixture_fini(&f);
}

static void test_gate(void **state)
{
    static const uint32_t foreign[] = {0,          0x40000003, 0x40000028, 0xc00000b7,
                                       0xc000003e, 0x8000003e, 0x00000028};
    static const int unknown[] = {-1,  -2,         512,        547,        335,       480,
                                  600, 0x40000000, 0x40000001, 0x40000200, INT32_MAX, INT32_MIN};
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (size_t m = 0; m < arch_count; m++) {
        fixture_build(&f, arch_all[m], NULL, 0);
        for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
            struct seccomp_data d = {.nr = 0, .arch = foreign[i]};

            if (foreign[i] != arch_all[m]->audit_arch)
                assert_int_equal(filter_run(&f.prog, &d, NULL), SECCOMP_RET_KILL_PROCESS);
        }
        for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
            struct seccomp_data d = {.nr = unknown[i], .arch = arch_all[m]->audit_arch};

            if (!arch_call(arch_all[m], (uint32_t)unknown[i]))
                assert_int_equal(filter_run(&f.prog, &d, NULL), DENY(ENOSYS));
        }
    }
    fixture_fini(&f);
}

static void test_options(void **state)
{
    static const struct check v[] = {
        {"shmget", ALLOW, {0}},
        {"getpid", DENY(EPERM), {0}},
        {"personality", DENY(EPERM), {0xffffffff}},
        {"mount", DENY(EPERM), {0}},
    };
    struct fixture f;
    struct error err = {0};

    (void)state;
    fixture_init(&f);
    assert_int_equal(policy_add_allow_syscall(&f.policy, "x", "sysv_ipc", &err), 0);
    assert_int_equal(policy_add_deny_syscall(&f.policy, "x", "getpid", &err), 0);
    assert_int_equal(policy_add_deny_syscall(&f.policy, "x", "personality", &err), 0);
    CHECK(&f, NULL, 0, v);
    fixture_fini(&f);
}

static void test_ports(void **state)
{
    static const struct check any[] = {{"listen", ALLOW, {0}}, {"mkdirat", ALLOW, {0}}};
    static const struct check old[] = {{"listen", ALLOW, {0}}};
    struct fixture f;
    struct error err = {0};

    (void)state;
    fixture_init(&f);
    assert_int_equal(policy_add_net_allow_bind(&f.policy, "x", "*", &err), 0);
    CHECK(&f, NULL, 0, any);
    fixture_fini(&f);
    /* A kernel that cannot confine bind: listen gives nothing that bind does not. */
    fixture_init(&f);
    f.kernel.landlock_abi = 3;
    CHECK(&f, NULL, 0, old);
    fixture_fini(&f);
}

static void test_unix_by_kernel(void **state)
{
    static const struct check native[] = {
        {"socket", ALLOW, {AF_UNIX, SOCK_STREAM}},
        {"socket", ALLOW, {AF_UNIX, SOCK_DGRAM}},
        {"socketpair", ALLOW, {AF_UNIX, SOCK_DGRAM}},
    };
    static const struct check denying[] = {
        {"socket", DENY(EACCES), {AF_UNIX, SOCK_STREAM}},
        {"socketpair", DENY(EACCES), {AF_UNIX, SOCK_DGRAM}},
        {"socketpair", ALLOW, {AF_UNIX, SOCK_STREAM}},
    };
    struct fixture f;
    struct error err = {0};

    (void)state;
    fixture_init(&f);
    f.kernel.landlock_abi = 9;
    CHECK(&f, NULL, 0, native);
    /* Landlock knows no exceptions inside a grant. */
    assert_int_equal(policy_add_fs_deny(&f.policy, "x", "/tmp/secret", &err), 0);
    CHECK(&f, NULL, 0, denying);
    fixture_fini(&f);
}

static const struct check unsupervised_rules[] = {
    {"mount", ALLOW, {0}},
    {"unshare", ALLOW, {0}},
    {"ptrace", ALLOW, {0}},
    {"clone3", ALLOW, {0}},
    {"clone", ALLOW, {0x10000000}},
    {"seccomp", ALLOW, {1, 8}},
    {"process_vm_readv", ALLOW, {0}},
    {"shmget", ALLOW, {0}},
    {"bpf", DENY(EPERM), {0}},
    {"io_uring_setup", DENY(EPERM), {0}},
    {"kexec_load", DENY(EPERM), {0}},
    {"reboot", DENY(EPERM), {0}},
    {"iopl", DENY(EPERM), {0}},
    {"perf_event_open", DENY(EPERM), {0}},
    {"ioctl", DENY(EPERM), {0, 0x5412}},
    {"ioctl", ALLOW, {0, 0x8912}},
    {"socket", DENY(EACCES), {AF_INET, SOCK_DGRAM}},
    {"socket", DENY(EAFNOSUPPORT), {AF_PACKET, SOCK_RAW}},
    {"socket", DENY(EAFNOSUPPORT), {AF_NETLINK, SOCK_RAW}},
    {"socketpair", ALLOW, {AF_UNIX, SOCK_STREAM}},
    {"chmod", DENY(EPERM), {0}},
    {"fchmodat", DENY(EPERM), {0}},
    /* no port granted: no TCP at all, so that UNIX sockets may listen */
    {"socket", DENY(EACCES), {AF_INET, SOCK_STREAM}},
    {"listen", ALLOW, {0}},
};

static void test_no_supervisor(void **state)
{
    static const struct check writing[] = {{"chmod", ALLOW, {0}}, {"fchmodat", ALLOW, {0}}};
    static const struct check connecting[] = {
        {"socket", ALLOW, {AF_INET, SOCK_STREAM}},
        {"listen", DENY(EACCES), {0}},
    };
    static const struct check binding[] = {
        {"socket", ALLOW, {AF_INET, SOCK_STREAM}},
        {"listen", ALLOW, {0}},
    };
    struct fixture f;
    struct error err = {0};

    (void)state;
    fixture_init(&f);
    f.policy.no_supervisor = true;
    CHECK(&f, NULL, 0, unsupervised_rules);
    assert_int_equal(policy_add_fs_write(&f.policy, "x", "/tmp", false, &err), 0);
    CHECK(&f, NULL, 0, writing);
    assert_int_equal(policy_add_net_allow(&f.policy, "x", ":80", &err), 0);
    CHECK(&f, NULL, 0, connecting);
    assert_int_equal(policy_add_net_allow_bind(&f.policy, "x", "80", &err), 0);
    CHECK(&f, NULL, 0, binding);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),        cmocka_unit_test(test_gate),
        cmocka_unit_test(test_options),        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_unix_by_kernel), cmocka_unit_test(test_no_supervisor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
