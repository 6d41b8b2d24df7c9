/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the tests of the filter's rules: a policy, its compiled filter, and rows of calls with
 * the verdict they must get on every machine that has them. Test code.
 */
#pragma once

#include <stdint.h>
#include <string.h>

#include "plan/plan.h"
#include "supervisor/supervisor.h"

#define ALLOW SECCOMP_RET_ALLOW
#define NOTIFY SECCOMP_RET_USER_NOTIF
#define DENY(e) (SECCOMP_RET_ERRNO | (e))
#define HIGH 0x5a5a5a5a00000000ull /* bits the kernel ignores in 32-bit arguments */
#define TEST_EQ(n, v)                           \
    {                                           \
        .arg = (n), .cmp = CMP_EQ, .value = (v) \
    }

struct check {
    const char *call;
    uint32_t want;
    uint64_t args[6];
};

struct fixture {
    struct policy policy;
    struct kernel kernel;
    struct filter_plan plan;
    struct filter_prog prog;
};

static inline void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    policy_init(&f->policy);
    f->kernel = (struct kernel){.landlock_abi = 7, .seccomp_filter = true, .notify = true};
}

static inline void fixture_fini(struct fixture *f)
{
    filter_prog_fini(&f->prog);
    filter_plan_fini(&f->plan);
    policy_fini(&f->policy);
}

static inline void fixture_build(struct fixture *f, const struct arch *a,
                                 const struct feature *const *features, size_t n)
{
    struct error err = {0};

    filter_prog_fini(&f->prog);
    filter_plan_fini(&f->plan);
    if (plan_filter(&f->policy, &f->kernel, a, features, n, &f->plan, &err) < 0)
        fail_msg("%s: %s", err.where, err.message);
    assert_int_equal(filter_compile(&f->plan, &f->prog, &err), 0);
}

static inline uint32_t fixture_verdict(const struct fixture *f, const struct call_info *c,
                                       const uint64_t args[6])
{
    struct seccomp_data d = {.nr = c->nr, .arch = f->plan.arch->audit_arch};
    bool bad;
    uint32_t r;

    memcpy(d.args, args, sizeof(d.args));
    r = filter_run(&f->prog, &d, &bad);
    assert_false(bad);
    assert_int_equal(r, filter_eval(&f->plan, &d));
    return r;
}

static inline void check_all(struct fixture *f, const struct feature *const *features,
                             size_t nfeatures, const struct check *v, size_t n)
{
    for (size_t m = 0; m < arch_count; m++) {
        fixture_build(f, arch_all[m], features, nfeatures);
        for (size_t i = 0; i < n; i++) {
            const struct call_info *c = arch_call_by_name(arch_all[m], v[i].call);
            uint32_t got;

            if (!c) {
                assert_true(arch_name_known(v[i].call)); /* the other machine has it */
                continue;
            }
            got = fixture_verdict(f, c, v[i].args);
            if (got != v[i].want)
                fail_msg("%s %s row %zu: 0x%x instead of 0x%x", arch_all[m]->name, v[i].call, i,
                         got, v[i].want);
        }
    }
}
#define CHECK(f, features, n, v) check_all((f), (features), (n), (v), sizeof(v) / sizeof((v)[0]))
