/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How features and the filter's own rules combine, with invented features on both machines; and the
 * invariants that every combination of the real ones must keep.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "filter_fixture.h"

#include "limits/limits.h"
#include "net/net.h"

#include "plan/internal.h"

static struct verdict never(struct request *r)
{
    (void)r;
    return verdict_pass();
}

static const struct filter_clause netlink_when[] = {
    {{TEST_EQ(0, AF_NETLINK), TEST_EQ(2, 0)}, 2, NOTIFY},
};
static const struct feature_call netlink_calls[] = {{OP_SOCKET, never, netlink_when, 1}};
static const struct feature netlink = {.name = "n", .calls = netlink_calls, .ncalls = 1};

static const struct filter_clause first_when[] = {
    {{{.arg = 4, .cmp = CMP_EQ, .wide = true, .value = 0}}, 1, ALLOW},
    {.ret = NOTIFY},
};
static const struct filter_clause other_when[] = {{{TEST_EQ(0, 77)}, 1, NOTIFY}};
static const struct filter_clause third_when[] = {{{TEST_EQ(0, 99)}, 1, ALLOW}, {.ret = NOTIFY}};
static const struct filter_clause refuse_when[] = {{{TEST_EQ(0, 77)}, 1, DENY(EACCES)}};
static const struct feature_call first_calls[] = {
    {OP_SENDTO, never, first_when, 2}, {OP_CONNECT, never, NULL, 0}, {OP_SENDMSG, never, NULL, 0},
    {OP_SENDMMSG, never, NULL, 0},     {OP_LISTEN, never, NULL, 0},
};
static const struct feature_call other_calls[] = {{OP_SENDTO, never, other_when, 1}};
static const struct feature_call third_calls[] = {{OP_SENDTO, never, third_when, 2}};
static const struct feature_call refuse_calls[] = {{OP_SENDTO, never, refuse_when, 1}};
static const struct feature first = {.name = "f", .calls = first_calls, .ncalls = 5};
static const struct feature other = {.name = "o", .calls = other_calls, .ncalls = 1};
static const struct feature third = {.name = "t", .calls = third_calls, .ncalls = 1};
static const struct feature refuse = {.name = "r", .calls = refuse_calls, .ncalls = 1};

static void test_combine(void **state)
{
    static const struct check v[] = {
        {"socket", NOTIFY, {AF_NETLINK, SOCK_RAW, 0}},
        {"socket", DENY(EAFNOSUPPORT), {AF_NETLINK, SOCK_RAW, 9}},
        {"socket", DENY(EACCES), {AF_INET, SOCK_DGRAM, 0}},
        {"connect", NOTIFY, {0}},
        {"listen", NOTIFY, {0}},
        {"sendto", ALLOW, {3, 0, 0, 0, 0, 0}},
        {"sendto", NOTIFY, {3, 0, 0, 0, 0x1000, 0}},
        {"sendto", NOTIFY, {3, 0, 0, 0, 0x100000000, 0}},
        {"sendto", NOTIFY, {77, 0, 0, 0, 0, 0}}, /* the other feature's, although `first` lets it */
        {"sendto", DENY(EOPNOTSUPP), {77, 0, 0, 0x20000000, 0x1000, 0}},
        /* connect is mediated: UNIX stream sockets exist; every send: datagrams as well */
        {"socket", ALLOW, {AF_UNIX, SOCK_STREAM}},
        {"socket", ALLOW, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC}},
        {"socket", ALLOW, {AF_UNIX, SOCK_DGRAM}},
        {"socketpair", ALLOW, {AF_UNIX, SOCK_DGRAM}},
    };
    /* One sending call that nobody reads, and there are none. */
    static const struct check no_datagrams[] = {
        {"socket", ALLOW, {AF_UNIX, SOCK_STREAM}},
        {"socket", DENY(EACCES), {AF_UNIX, SOCK_DGRAM}},
        {"socket", DENY(EACCES), {AF_UNIX, SOCK_RAW}},
        {"socketpair", DENY(EACCES), {AF_UNIX, SOCK_DGRAM}},
    };
    static const struct check refused[] = {
        {"sendto", DENY(EACCES), {77, 0, 0, 0, 0, 0}},
        {"sendto", NOTIFY, {77 + 1, 0, 0, 0, 1, 0}},
    };
    const struct feature *const list[] = {&netlink, &first, &other};
    const struct feature *const with_refusal[] = {&first, &other, &refuse};
    struct fixture f;

    (void)state;
    fixture_init(&f);
    CHECK(&f, list, 3, v);
    assert_true(filter_has_action(&f.plan, NOTIFY));
    CHECK(&f, with_refusal, 3, refused);
    for (unsigned missing = 0; missing < 4; missing++) {
        struct feature_call calls[ARRAY_SIZE(first_calls)];
        struct feature part = {.name = "p", .calls = calls};
        const struct feature *const partial[] = {&part};

        for (unsigned i = 0; i < ARRAY_SIZE(first_calls); i++)
            if (i != missing)
                calls[part.ncalls++] = first_calls[i];
        if (first_calls[missing].op != OP_CONNECT)
            CHECK(&f, partial, 1, no_datagrams);
    }
    fixture_fini(&f);
}

/* Questions about interfaces are the netlink feature's; what changes them is refused. */
static void test_interface_ioctls(void **state)
{
    static const struct check v[] = {
        {"ioctl", NOTIFY, {0, 0x8910}},       {"ioctl", NOTIFY, {0, 0x8933}},
        {"ioctl", NOTIFY, {0, 0x8914}},       {"ioctl", DENY(ENODEV), {0, 0x890b}},
        {"ioctl", DENY(ENODEV), {0, 0x8980}}, {"ioctl", DENY(ENODEV), {0, 0x89f0}},
        {"ioctl", ALLOW, {0, 0x8905}},        {"ioctl", ALLOW, {0, 0x541b}},
    };
    const struct feature *const list[] = {&net_netlink_feature};
    struct fixture f;

    (void)state;
    fixture_init(&f);
    CHECK(&f, list, 1, v);
    fixture_fini(&f);
}

/* File attributes by ioctl belong to the feature that takes them, in the forms that it takes. */
static void test_attribute_ioctls(void **state)
{
    static const struct filter_clause when[] = {{{TEST_EQ(1, 0x40086602)}, 1, NOTIFY}};
    static const struct feature_call calls[] = {{OP_IOCTL, never, when, 1}};
    static const struct feature meta = {.name = "m", .calls = calls, .ncalls = 1};
    static const struct check v[] = {
        {"ioctl", NOTIFY, {0, 0x40086602}},      {"ioctl", DENY(EPERM), {0, 0x40046602}},
        {"ioctl", DENY(EPERM), {0, 0x401c5820}}, {"ioctl", DENY(EPERM), {0, 0x5412}},
        {"ioctl", ALLOW, {0, 0x5401}},
    };
    const struct feature *const list[] = {&meta};
    struct fixture f;

    (void)state;
    fixture_init(&f);
    CHECK(&f, list, 1, v);
    fixture_fini(&f);
}

/* What one member lets pass by an argument does not reach those that have no such argument. */
static void test_processes(void **state)
{
    const uint64_t thread = 0x00010000; /* CLONE_THREAD */
    const struct check v[] = {
        {"clone", ALLOW, {thread}},
        {"clone", ALLOW, {thread | 0x3d0f00}},
        {"clone", NOTIFY, {17}},
        {"clone", NOTIFY, {17 | thread << 32}},
        {"fork", NOTIFY, {thread}},
        {"vfork", NOTIFY, {thread}},
        {"clone3", DENY(ENOSYS), {thread}},
        {"clone", DENY(EPERM), {thread | 0x10000000}},
        {"wait4", ALLOW, {0}},
        {"mmap", ALLOW, {0, 1 << 20, 3, 0x22}},
        {"exit_group", ALLOW, {0}},
    };
    const struct feature *const list[] = {&limits_processes_feature};
    struct fixture f;

    (void)state;
    fixture_init(&f);
    f.policy.max_processes = 4;
    CHECK(&f, list, 1, v);
    fixture_fini(&f);
}

static void test_huge_mapping(void **state)
{
    const uint64_t m = 64 << 20;
    const struct check v[] = {
        {"mmap", DENY(ENOMEM), {0, m, 3, 0x22}},
        {"mmap", ALLOW, {0, m - 1, 3, 0x22}},
        {"mmap", DENY(ENOMEM), {0, m << 20, 2, 0x20022}},
        {"mmap", ALLOW, {0, m, 0, 0x22}},
        {"mmap", ALLOW, {0, m, 3, 0x4022}},
        {"mmap", ALLOW, {0, m, 3, 0x02}},
        {"mmap", ALLOW, {0, m, 1, 0x22}},
        {"munmap", ALLOW, {0}},
        {"brk", ALLOW, {0}},
    };
    struct fixture f;

    (void)state;
    fixture_init(&f);
    f.policy.max_memory = m;
    CHECK(&f, NULL, 0, v);
    fixture_fini(&f);
}

static void test_two_allowers(void **state)
{
    const struct feature *const two[] = {&first, &other, &third};
    static const uint64_t args[][6] = {{3}, {77}, {3, 0, 0, 0, 1}, {99, 0, 0, 0, 1}};
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (size_t m = 0; m < arch_count; m++) {
        fixture_build(&f, arch_all[m], two, 3);
        for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++)
            assert_int_equal(fixture_verdict(&f, arch_call_by_name(arch_all[m], "sendto"), args[i]),
                             NOTIFY);
    }
    fixture_fini(&f);
}

static void test_observer_is_no_mediation(void **state)
{
    static const struct feature_call calls[] = {{OP_CONNECT, never, NULL, 0},
                                                {OP_LISTEN, never, NULL, 0}};
    static const struct feature explain = {.name = "explain", .calls = calls, .ncalls = 2};
    static const struct check v[] = {
        {"socket", DENY(EACCES), {AF_UNIX, SOCK_STREAM}},
        {"listen", DENY(EACCES), {0}},
        {"connect", NOTIFY, {0}},
    };
    const struct feature *const list[] = {&explain};
    struct fixture f;

    (void)state;
    fixture_init(&f);
    CHECK(&f, list, 1, v);
    fixture_fini(&f);
}

static void test_metadata_feature(void **state)
{
    static const struct feature_call calls[] = {
        {OP_CHMOD, never, NULL, 0}, {OP_FCHMOD, never, NULL, 0}, {OP_TIMES, never, NULL, 0}};
    static const struct feature meta = {.name = "m", .calls = calls, .ncalls = 3};
    static const struct check v[] = {
        {"chmod", NOTIFY, {0}},         {"fchmodat", NOTIFY, {0}}, {"fchmodat2", NOTIFY, {0}},
        {"fchmod", NOTIFY, {0}},        {"utime", NOTIFY, {0}},    {"utimensat", NOTIFY, {0}},
        {"fchownat", DENY(EPERM), {0}}, /* nobody mediates it here */
    };
    static const struct check none[] = {{"chmod", DENY(EPERM), {0}}, {"fchmod", DENY(EPERM), {0}}};
    const struct feature *const list[] = {&meta};
    struct fixture f;
    struct error err = {0};

    (void)state;
    fixture_init(&f);
    CHECK(&f, list, 1, none); /* no write grant: not even asked */
    assert_int_equal(policy_add_fs_write(&f.policy, "x", "/tmp", false, &err), 0);
    CHECK(&f, list, 1, v);
    CHECK(&f, NULL, 0, none);
    fixture_fini(&f);
}

/* Design rule 4: whatever takes a path is handled or refused, and nothing else changes. */
static void test_closed(void **state)
{
    static const struct feature_call calls[] = {{OP_OPEN, never, NULL, 0},
                                                {OP_EXEC, never, NULL, 0}};
    static const struct feature closed = {.name = "c", .calls = calls, .ncalls = 2, .closed = true};
    static const struct check v[] = {
        {"open", NOTIFY, {0}},
        {"openat2", NOTIFY, {0}},
        {"execveat", NOTIFY, {0}},
        {"stat", DENY(EPERM), {0}},
        {"newfstatat", DENY(EPERM), {0}},
        {"truncate", DENY(EPERM), {0}},
        {"bind", ALLOW, {0}},
        {"ftruncate", ALLOW, {0}},
        {"sendmsg", ALLOW, {0}},
        {"getsockname", ALLOW, {0}},
        {"recvfrom", ALLOW, {0}},
        {"close", ALLOW, {0}},
    };
    static const struct check denied[] = {{"bind", DENY(EPERM), {0}}};
    static const uint64_t args[6] = {0};
    const struct feature *const list[] = {&closed};
    struct fixture f;

    (void)state;
    fixture_init(&f);
    CHECK(&f, list, 1, v);
    assert_int_equal(policy_add_fs_deny(&f.policy, "x", "/tmp/secret", NULL), 0);
    CHECK(&f, list, 1, denied);
    for (size_t m = 0; m < arch_count; m++) {
        fixture_build(&f, arch_all[m], list, 1);
        for (size_t i = 0; i < arch_all[m]->ncalls; i++)
            if (arch_all[m]->calls[i].classes & CLASS_PATH)
                assert_int_not_equal(fixture_verdict(&f, &arch_all[m]->calls[i], args), ALLOW);
    }
    fixture_fini(&f);
}

static void test_bad_features(void **state)
{
    /* argument 2 is the flag word of openat, a structure's address in openat2 */
    static const struct filter_clause when[] = {{{TEST_EQ(2, 0)}, 1, NOTIFY}};
    static const struct filter_clause trap[] = {{.ret = SECCOMP_RET_TRAP}};
    static const struct feature_call mixed_calls[] = {{OP_OPEN, never, when, 1}};
    static const struct feature_call trap_calls[] = {{OP_MMAP, never, trap, 1}};
    static const struct feature mixed = {.name = "mixed", .calls = mixed_calls, .ncalls = 1};
    static const struct feature traps = {.name = "traps", .calls = trap_calls, .ncalls = 1};
    const struct feature *const a[] = {&mixed}, *const b[] = {&traps};
    struct fixture f;
    struct error err = {0};

    (void)state;
    fixture_init(&f);
    assert_int_equal(plan_filter(&f.policy, &f.kernel, &arch_aarch64, a, 1, &f.plan, &err),
                     -EINVAL);
    assert_string_equal(err.where, "mixed");
    assert_int_equal(plan_filter(&f.policy, &f.kernel, &arch_x86_64, b, 1, &f.plan, &err), -EINVAL);
    assert_string_equal(err.where, "traps");
    fixture_fini(&f);
}

static void test_explain(void **state)
{
    const struct feature *const list[] = {&first};
    struct filter_plan told;
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (size_t m = 0; m < arch_count; m++) {
        struct seccomp_data d = {.arch = arch_all[m]->audit_arch};

        fixture_build(&f, arch_all[m], list, 1);
        assert_int_equal(plan_filter_told(&f.plan, &told), 0);
        for (size_t i = 0; i < arch_all[m]->ncalls; i++) {
            uint32_t quiet, loud;

            d.nr = arch_all[m]->calls[i].nr;
            d.args[1] = 0x5412;
            quiet = filter_eval(&f.plan, &d);
            loud = filter_eval(&told, &d);
            if (quiet == ALLOW || quiet == NOTIFY || quiet == DENY(ENOSYS))
                assert_int_equal(loud, quiet);
            else
                assert_int_equal(loud, NOTIFY);
        }
        d.nr = -1;
        assert_int_equal(filter_eval(&told, &d), DENY(ENOSYS));
        filter_plan_fini(&told);
    }
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_combine),          cmocka_unit_test(test_processes),
        cmocka_unit_test(test_huge_mapping),     cmocka_unit_test(test_two_allowers),
        cmocka_unit_test(test_metadata_feature), cmocka_unit_test(test_observer_is_no_mediation),
        cmocka_unit_test(test_closed),           cmocka_unit_test(test_bad_features),
        cmocka_unit_test(test_interface_ioctls), cmocka_unit_test(test_explain),
        cmocka_unit_test(test_attribute_ioctls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
