/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter compiler against libseccomp: the same rules given to both, both programs run by the
 * interpreter for every number of both machines. Test only; the product does not link libseccomp.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <seccomp.h>

#include "plan/filter.h"

struct rule {
    const char *name;
    enum call_id id;
    struct filter_clause clause;
};

#define EQ32(n, v)                              \
    {                                           \
        .arg = (n), .cmp = CMP_EQ, .value = (v) \
    }
#define MASK32(n, m, v)                                      \
    {                                                        \
        .arg = (n), .cmp = CMP_EQ, .mask = (m), .value = (v) \
    }
#define WIDE(n, c, v)                                      \
    {                                                      \
        .arg = (n), .cmp = (c), .wide = true, .value = (v) \
    }

/* Rules of one call share their verdict: libseccomp's order of conflicting rules is its own. */
static const struct rule rules[] = {
    {"mount", CALL_mount, {.ret = SECCOMP_RET_ERRNO | EPERM}},
    {"ptrace", CALL_ptrace, {.ret = SECCOMP_RET_ERRNO | EPERM}},
    {"clone3", CALL_clone3, {.ret = SECCOMP_RET_ERRNO | ENOSYS}},
    {"bpf", CALL_bpf, {.ret = SECCOMP_RET_KILL_PROCESS}},
    {"openat", CALL_openat, {.ret = SECCOMP_RET_USER_NOTIF}},
    {"ioctl", CALL_ioctl, {{EQ32(1, 0x5412)}, 1, SECCOMP_RET_ERRNO | EPERM}},
    {"ioctl", CALL_ioctl, {{EQ32(1, 0x541c)}, 1, SECCOMP_RET_ERRNO | EPERM}},
    {"ioctl", CALL_ioctl, {{MASK32(1, 0xff00, 0x8900)}, 1, SECCOMP_RET_ERRNO | EPERM}},
    {"socket", CALL_socket, {{EQ32(0, 2), MASK32(1, 0xf, 2)}, 2, SECCOMP_RET_ERRNO | EACCES}},
    {"socket", CALL_socket, {{EQ32(0, 10), MASK32(1, 0xf, 2)}, 2, SECCOMP_RET_ERRNO | EACCES}},
    {"mmap", CALL_mmap, {{WIDE(1, CMP_GE, 0x140000000)}, 1, SECCOMP_RET_USER_NOTIF}},
    {"sendto", CALL_sendto, {{WIDE(4, CMP_NE, 0)}, 1, SECCOMP_RET_USER_NOTIF}},
    {"lseek", CALL_lseek, {{WIDE(1, CMP_EQ, 0x7fffffffffffffff)}, 1, SECCOMP_RET_ERRNO | EINVAL}},
};
#define N_RULES (sizeof(rules) / sizeof(rules[0]))

static struct scmp_arg_cmp translate(const struct arg_test *t)
{
    uint64_t mask = t->mask ? t->mask : UINT32_MAX;

    if (!t->wide)
        return SCMP_CMP64(t->arg, SCMP_CMP_MASKED_EQ, mask, t->value);
    if (t->cmp == CMP_GE)
        return SCMP_CMP64(t->arg, SCMP_CMP_GE, t->value);
    return SCMP_CMP64(t->arg, t->cmp == CMP_NE ? SCMP_CMP_NE : SCMP_CMP_EQ, t->value);
}

static uint32_t action(uint32_t ret)
{
    switch (ret & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_USER_NOTIF: return SCMP_ACT_NOTIFY;
    case SECCOMP_RET_KILL_PROCESS: return SCMP_ACT_KILL_PROCESS;
    default: return SCMP_ACT_ERRNO(ret & SECCOMP_RET_DATA);
    }
}

static void oracle_program(uint32_t token, struct filter_prog *ret)
{
    static struct sock_filter insns[BPF_MAXINSNS];
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int fd = memfd_create("oracle", MFD_CLOEXEC);
    ssize_t n;

    assert_non_null(ctx);
    if (token != seccomp_arch_native()) {
        assert_int_equal(seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE), 0);
        assert_int_equal(seccomp_arch_add(ctx, token), 0);
    }
    assert_int_equal(seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), 0);
    for (size_t i = 0; i < N_RULES; i++) {
        const struct filter_clause *c = &rules[i].clause;
        struct scmp_arg_cmp args[FILTER_MAX_TESTS];

        for (unsigned k = 0; k < c->ntests; k++)
            args[k] = translate(&c->test[k]);
        assert_int_equal(seccomp_rule_add_array(ctx, action(c->ret),
                                                seccomp_syscall_resolve_name(rules[i].name),
                                                c->ntests, args),
                         0);
    }
    assert_int_equal(seccomp_export_bpf(ctx, fd), 0);
    n = pread(fd, insns, sizeof(insns), 0);
    assert_true(n > 0 && n % (ssize_t)sizeof(insns[0]) == 0);
    *ret = (struct filter_prog){insns, (size_t)n / sizeof(insns[0])};
    close(fd);
    seccomp_release(ctx);
}

/* Each argument takes values around those that the rules know. */
static void compare(const struct arch *a, const struct filter_prog *ours,
                    const struct filter_prog *theirs)
{
    static const uint64_t v[] = {0,
                                 1,
                                 2,
                                 3,
                                 10,
                                 0x5412,
                                 0x5413,
                                 0x541c,
                                 0x8900,
                                 0x89ff,
                                 0x80002,
                                 0x80001,
                                 0x13fffffff,
                                 0x140000000,
                                 0x140000001,
                                 0x100000002,
                                 0x7fffffffffffffff,
                                 UINT64_MAX,
                                 0x100005412,
                                 0x541200005412};
    const size_t nv = sizeof(v) / sizeof(v[0]);
    struct seccomp_data d = {.arch = a->audit_arch};

    for (size_t i = 0; i < a->ncalls; i++) {
        d.nr = a->calls[i].nr;
        for (size_t k = 0; k < nv * nv; k++) {
            bool bad_ours, bad_theirs;
            uint32_t x, y;

            d.args[0] = d.args[4] = v[k % nv];
            d.args[1] = v[k / nv];
            x = filter_run(ours, &d, &bad_ours);
            y = filter_run(theirs, &d, &bad_theirs);
            assert_false(bad_ours || bad_theirs);
            if (x != y)
                fail_msg("%s %s(0x%llx, 0x%llx): 0x%x, libseccomp 0x%x", a->name, a->calls[i].name,
                         (unsigned long long)d.args[0], (unsigned long long)d.args[1], x, y);
        }
    }
    d.arch ^= 1;
    assert_int_equal(filter_run(ours, &d, NULL), filter_run(theirs, &d, NULL));
}

static void check(const struct arch *a, uint32_t token)
{
    struct filter_prog ours, theirs;
    struct filter_plan p;

    assert_int_equal(filter_plan_init(&p, a), 0);
    for (size_t i = 0; i < N_RULES; i++)
        assert_int_equal(filter_add(&p, rules[i].id, &rules[i].clause), 0);
    assert_int_equal(filter_compile(&p, &ours, NULL), 0);
    oracle_program(token, &theirs);
    compare(a, &ours, &theirs);
    filter_prog_fini(&ours);
    filter_plan_fini(&p);
}

static void test_x86_64(void **state)
{
    (void)state;
    check(&arch_x86_64, SCMP_ARCH_X86_64);
}

static void test_aarch64(void **state)
{
    (void)state;
    check(&arch_aarch64, SCMP_ARCH_AARCH64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_x86_64),
        cmocka_unit_test(test_aarch64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
