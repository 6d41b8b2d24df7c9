/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter compiler against the plan's own definition (filter_eval): random plans for both
 * machines, every number with its neighbours, random and boundary arguments.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "plan/filter.h"

static uint64_t seed;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Values near what tests look at, so that both outcomes happen. */
static uint64_t interesting(void)
{
    static const uint64_t v[] = {0,          1,           2,          0x10,         0xffffffff,
                                 0x80000000, 0x100000000, 0xfffffffe, 0x1000000000, UINT64_MAX};

    switch (rnd() % 4) {
    case 0: return v[rnd() % (sizeof(v) / sizeof(v[0]))];
    case 1: return rnd() % 20;
    case 2: return (rnd() % 3) << 32 | rnd() % 20;
    default: return rnd();
    }
}

static uint32_t random_ret(void)
{
    static const uint32_t v[] = {SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM,
                                 SECCOMP_RET_ERRNO | ENOSYS, SECCOMP_RET_USER_NOTIF,
                                 SECCOMP_RET_KILL_PROCESS};

    if (rnd() % 8 == 0)
        return SECCOMP_RET_ERRNO | (uint32_t)(rnd() % 200);
    return v[rnd() % (sizeof(v) / sizeof(v[0]))];
}

static struct filter_clause random_clause(void)
{
    struct filter_clause c = {.ntests = (uint8_t)(rnd() % (rnd() % 2 ? 3 : FILTER_MAX_TESTS + 1)),
                              .ret = random_ret()};

    if (c.ntests == 0 && rnd() % 4)
        c.ntests = 1;
    for (unsigned i = 0; i < c.ntests; i++) {
        struct arg_test *t = &c.test[i];

        *t = (struct arg_test){.arg = (uint8_t)(rnd() % (rnd() % 2 ? 2 : 6)),
                               .cmp = (uint8_t)(rnd() % 4),
                               .wide = rnd() % 2,
                               .mask = rnd() % 2 ? 0 : interesting(),
                               .value = interesting()};
        if (t->mask && rnd() % 8) /* else the test has a constant outcome */
            t->value &= t->mask;
    }
    return c;
}

static uint32_t run(const struct filter_prog *prog, const struct seccomp_data *d)
{
    bool bad;
    uint32_t r = filter_run(prog, d, &bad);

    assert_false(bad);
    return r;
}

/* Arguments that sit on, below and above the values of the entry's own tests. */
static void aim(struct seccomp_data *d, const struct filter_entry *e)
{
    for (unsigned i = 0; i < 6; i++)
        d->args[i] = interesting();
    if (!e || e->nclauses == 0)
        return;
    for (unsigned tries = rnd() % 4; tries-- > 0;) {
        const struct filter_clause *c = &e->clauses[rnd() % e->nclauses];

        for (unsigned t = 0; t < c->ntests; t++) {
            uint64_t v = c->test[t].cmp == CMP_ANYSET ? c->test[t].mask : c->test[t].value;

            d->args[c->test[t].arg] = v + (rnd() % 4 ? 0 : rnd() % 3 - 1);
            if (rnd() % 4 == 0)
                d->args[c->test[t].arg] ^= (uint64_t)1 << rnd() % 64;
        }
    }
}

static void compare_all(const struct filter_plan *p, const struct filter_prog *prog,
                        unsigned rounds)
{
    static const int64_t extra[] = {
        -1,   -2,     INT32_MIN,      INT32_MAX,      511, 512, 547, 548, 1023, 0x40000000,
        4095, 100000, 0x40000000 + 1, 0x40000000 + 59};
    struct seccomp_data d = {.arch = p->arch->audit_arch};

    for (int nr = -2; nr < 620; nr++) {
        const struct call_info *c = arch_call(p->arch, (uint32_t)nr);
        const struct filter_entry *e = c ? &p->entries[c - p->arch->calls] : NULL;

        d.nr = nr;
        for (unsigned i = 0; i < (e && e->nclauses ? rounds : 1); i++) {
            uint32_t want, got;

            aim(&d, e);
            want = filter_eval(p, &d);
            got = run(prog, &d);
            if (want != got)
                fail_msg("%s nr %d: want 0x%x got 0x%x", p->arch->name, nr, want, got);
        }
    }
    for (size_t i = 0; i < sizeof(extra) / sizeof(extra[0]); i++) {
        d.nr = (int)extra[i];
        assert_int_equal(run(prog, &d), filter_eval(p, &d));
        if (!arch_call(p->arch, (uint32_t)d.nr))
            assert_int_equal(run(prog, &d), p->unknown);
    }
    for (uint32_t nr = 0; nr < 600; nr++) {
        d.nr = (int)nr;
        d.arch = p->arch->audit_arch ^ 1;
        assert_int_equal(run(prog, &d), SECCOMP_RET_KILL_PROCESS);
        d.arch = rnd() % 2 ? 0x40000003 : 0x40000028;
        assert_int_equal(run(prog, &d), SECCOMP_RET_KILL_PROCESS);
    }
}

static void random_plan(struct filter_plan *p, const struct arch *a, unsigned density)
{
    assert_int_equal(filter_plan_init(p, a), 0);
    if (rnd() % 4 == 0)
        p->unknown = SECCOMP_RET_KILL_PROCESS;
    for (size_t i = 0; i < a->ncalls; i++) {
        unsigned n = rnd() % 100 < density ? 1 + rnd() % (density > 50 ? 2 : 6) : 0;

        for (unsigned k = 0; k < n; k++) {
            struct filter_clause c = random_clause();

            assert_int_equal(filter_add(p, a->calls[i].id, &c), 0);
        }
        if (rnd() % 16 == 0)
            p->entries[i].otherwise = random_ret();
    }
}

static size_t count_far_jumps(const struct filter_prog *prog)
{
    size_t n = 0;

    for (size_t i = 0; i < prog->len; i++)
        n += prog->insns[i].code == (BPF_JMP | BPF_JA);
    return n;
}

static void test_random_plans(void **state)
{
    size_t longest = 0, far_jumps = 0, too_big = 0;

    (void)state;
    seed = 88172645463325252ull;
    for (unsigned round = 0; round < 300; round++) {
        const struct arch *a = arch_all[round % arch_count];
        struct filter_plan p;
        struct filter_prog prog, again;
        struct error err = {0};
        int r;

        random_plan(&p, a, round % 3 ? (unsigned)(rnd() % 30) : (unsigned)(rnd() % 50));
        r = filter_compile(&p, &prog, &err);
        if (r == -E2BIG) { /* the densest ones do not fit */
            too_big++;
            filter_plan_fini(&p);
            continue;
        }
        assert_int_equal(r, 0);
        assert_true(prog.len <= BPF_MAXINSNS);
        compare_all(&p, &prog, 30);
        /* deterministic */
        assert_int_equal(filter_compile(&p, &again, &err), 0);
        assert_int_equal(again.len, prog.len);
        assert_memory_equal(again.insns, prog.insns, prog.len * sizeof(*prog.insns));
        longest = prog.len > longest ? prog.len : longest;
        far_jumps += count_far_jumps(&prog);
        filter_prog_fini(&again);
        filter_prog_fini(&prog);
        filter_plan_fini(&p);
    }
    /* The difficult cases have been among them. */
    assert_true(longest > 1500);
    assert_true(too_big < 30);
    assert_true(far_jumps > 100);
}

/* The comparison sees a difference of a single bit somewhere in a program. */
static void test_mutations_are_seen(void **state)
{
    unsigned seen = 0, tried = 200;
    struct filter_plan p;
    struct filter_prog prog;

    (void)state;
    seed = 99;
    random_plan(&p, &arch_x86_64, 40);
    assert_int_equal(filter_compile(&p, &prog, NULL), 0);
    for (unsigned i = 0; i < tried; i++) {
        struct sock_filter *f = &prog.insns[rnd() % prog.len], old = *f;
        bool differs = false;

        f->k ^= 1u << (rnd() % 2 ? rnd() % 2 : rnd() % 32);
        for (int nr = 0; nr < 520 && !differs; nr++) {
            struct seccomp_data d = {.nr = nr, .arch = p.arch->audit_arch};
            const struct call_info *c = arch_call(p.arch, (uint32_t)nr);

            for (unsigned k = 0; k < 200 && !differs; k++) {
                aim(&d, c ? &p.entries[c - p.arch->calls] : NULL);
                differs = filter_run(&prog, &d, NULL) != filter_eval(&p, &d);
            }
        }
        seen += differs;
        *f = old;
    }
    assert_true(seen > tried / 2);
    filter_prog_fini(&prog);
    filter_plan_fini(&p);
}

static void test_too_large(void **state)
{
    const struct arch *a = arch_all[0];
    struct filter_plan p;
    struct filter_prog prog = {0};
    struct error err = {0};

    (void)state;
    seed = 1234567;
    assert_int_equal(filter_plan_init(&p, a), 0);
    for (size_t i = 0; i < a->ncalls; i++)
        for (unsigned k = 0; k < FILTER_MAX_CLAUSES; k++) {
            struct filter_clause c = {.ntests = 1, .ret = SECCOMP_RET_ERRNO | EPERM};

            c.test[0] = (struct arg_test){.wide = true, .value = rnd()};
            assert_int_equal(filter_add(&p, a->calls[i].id, &c), 0);
        }
    assert_int_equal(filter_compile(&p, &prog, &err), -E2BIG);
    assert_null(prog.insns);
    assert_int_equal(err.kind, ERROR_SETUP);
    filter_plan_fini(&p);
}

static void test_bounds(void **state)
{
    struct filter_plan p;
    struct filter_clause c = {.ntests = 1, .ret = SECCOMP_RET_ALLOW};

    (void)state;
    assert_int_equal(filter_plan_init(&p, &arch_aarch64), 0);
    for (unsigned k = 0; k < FILTER_MAX_CLAUSES; k++) {
        c.test[0].value = k;
        assert_int_equal(filter_add(&p, CALL_ioctl, &c), 0);
    }
    assert_int_equal(filter_add(&p, CALL_ioctl, &c), 0); /* the same tests again: nothing */
    c.test[0].value = 1000;
    assert_int_equal(filter_add(&p, CALL_ioctl, &c), -E2BIG);
    assert_int_equal(filter_add(&p, CALL_fork, &c), 0); /* no such call on this machine */
    assert_null(filter_entry(&p, CALL_fork));
    c.test[0].arg = 6;
    assert_int_equal(filter_add(&p, CALL_read, &c), -EINVAL);
    c.ntests = FILTER_MAX_TESTS + 1;
    assert_int_equal(filter_add(&p, CALL_read, &c), -EINVAL);
    c = (struct filter_clause){.ret = SECCOMP_RET_USER_NOTIF};
    assert_false(filter_has_action(&p, SECCOMP_RET_USER_NOTIF));
    assert_int_equal(filter_add_op(&p, OP_OPEN, &c), 0);
    assert_true(filter_has_action(&p, SECCOMP_RET_USER_NOTIF));
    assert_int_equal(filter_entry(&p, CALL_openat)->nclauses, 1);
    assert_int_equal(filter_entry(&p, CALL_openat2)->nclauses, 1);
    filter_plan_fini(&p);
}

/* Every value a plan with one answer can have, and the smallest program. */
static void test_plain(void **state)
{
    (void)state;
    for (size_t i = 0; i < arch_count; i++) {
        struct filter_plan p;
        struct filter_prog prog;

        seed = 42;
        assert_int_equal(filter_plan_init(&p, arch_all[i]), 0);
        assert_int_equal(filter_compile(&p, &prog, NULL), 0);
        assert_in_range(prog.len, 5, 40);
        compare_all(&p, &prog, 1);
        filter_prog_fini(&prog);
        p.unknown = SECCOMP_RET_ALLOW;
        assert_int_equal(filter_compile(&p, &prog, NULL), 0);
        assert_int_equal(prog.len, 6); /* gate, number, answers: no tree */
        compare_all(&p, &prog, 1);
        filter_prog_fini(&prog);
        filter_plan_fini(&p);
    }
}

static void test_broken_programs(void **state)
{
    struct sock_filter end = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    struct sock_filter odd[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2),
                                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_filter far[] = {BPF_STMT(BPF_JMP | BPF_JA, UINT32_MAX),
                                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_filter beyond[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, sizeof(struct seccomp_data)),
                                   BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_filter code[] = {BPF_STMT(0xffff, 0), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct filter_prog progs[] = {{&end, 1}, {odd, 2}, {far, 2}, {beyond, 2}, {code, 2}, {NULL, 0}};
    struct seccomp_data d = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(progs) / sizeof(progs[0]); i++) {
        bool bad = false;

        assert_int_equal(filter_run(&progs[i], &d, &bad), SECCOMP_RET_KILL_PROCESS);
        assert_true(bad);
    }
}

static void test_print(void **state)
{
    struct filter_clause c = {.test = {{.arg = 1, .cmp = CMP_EQ, .value = 0x5412}},
                              .ntests = 1,
                              .ret = SECCOMP_RET_ERRNO | EPERM};
    struct filter_plan p;
    struct filter_prog prog;
    struct buf b = {0};

    (void)state;
    assert_int_equal(filter_plan_init(&p, &arch_x86_64), 0);
    assert_int_equal(filter_add(&p, CALL_ioctl, &c), 0);
    assert_int_equal(filter_compile(&p, &prog, NULL), 0);
    filter_print_table(&p, false, &b);
    assert_non_null(
        strstr(buf_cstr(&b), "ioctl                    if arg1==0x5412: EPERM; allow\n"));
    filter_print(&p, &prog, &b);
    assert_non_null(strstr(buf_cstr(&b), "# ioctl"));
    assert_non_null(strstr(buf_cstr(&b), "load  arg1.low"));
    assert_non_null(strstr(buf_cstr(&b), "ret   kill"));
    assert_int_equal(buf_error(&b), 0);
    buf_fini(&b);
    filter_prog_fini(&prog);
    filter_plan_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_plans), cmocka_unit_test(test_mutations_are_seen),
        cmocka_unit_test(test_too_large),    cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_plain),        cmocka_unit_test(test_broken_programs),
        cmocka_unit_test(test_print),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
