/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter plan: clauses for each call, and their direct evaluation. Pure; runs in the caller's
 * thread before the child exists. Input is our own policy and the call table.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "plan/filter.h"

int filter_plan_init(struct filter_plan *p, const struct arch *a)
{
    *p = (struct filter_plan){.arch = a, .unknown = SECCOMP_RET_ERRNO | ENOSYS};
    p->entries = calloc(a->ncalls, sizeof(*p->entries));
    if (!p->entries)
        return -ENOMEM;
    for (size_t i = 0; i < a->ncalls; i++)
        p->entries[i].otherwise = SECCOMP_RET_ALLOW;
    return 0;
}

void filter_plan_fini(struct filter_plan *p)
{
    if (p->entries)
        for (size_t i = 0; i < p->arch->ncalls; i++)
            free(p->entries[i].clauses);
    free(p->entries);
    *p = (struct filter_plan){0};
}

struct filter_entry *filter_entry(const struct filter_plan *p, enum call_id id)
{
    const struct call_info *c = arch_call_by_id(p->arch, id);

    return c ? &p->entries[c - p->arch->calls] : NULL;
}

/* One spelling for each test, so that equal ones are recognised. */
static void normalise(struct filter_clause *c)
{
    for (unsigned i = 0; i < c->ntests; i++) {
        struct arg_test *t = &c->test[i];
        uint64_t width = t->wide ? UINT64_MAX : UINT32_MAX;

        t->mask &= width;
        t->value &= width;
        if (t->cmp == CMP_GE || (t->cmp != CMP_ANYSET && t->mask == width))
            t->mask = 0;
        if (t->cmp == CMP_ANYSET)
            t->value = 0;
    }
}

static bool same_tests(const struct filter_clause *a, const struct filter_clause *b)
{
    if (a->ntests != b->ntests)
        return false;
    for (unsigned i = 0; i < a->ntests; i++) {
        const struct arg_test *x = &a->test[i], *y = &b->test[i];

        if (x->arg != y->arg || x->cmp != y->cmp || x->wide != y->wide || x->mask != y->mask ||
            x->value != y->value)
            return false;
    }
    return true;
}

static int entry_add(struct filter_entry *e, const struct filter_clause *clause)
{
    struct filter_clause one = *clause, *c = &one;

    if (c->ntests > FILTER_MAX_TESTS)
        return -EINVAL;
    for (unsigned i = 0; i < c->ntests; i++)
        if (c->test[i].arg > 5 || c->test[i].cmp > CMP_ANYSET)
            return -EINVAL;
    normalise(c);
    /* The first one decides: a second one with the same tests would never be asked. */
    for (unsigned i = 0; i < e->nclauses; i++)
        if (same_tests(&e->clauses[i], c))
            return 0;
    if (e->nclauses >= FILTER_MAX_CLAUSES)
        return -E2BIG;
    if ((e->nclauses & (e->nclauses - 1)) == 0) { /* full at 0, 1, 2, 4 ...: most have one */
        size_t room = e->nclauses ? 2u * e->nclauses : 1;
        struct filter_clause *v = reallocarray(e->clauses, room, sizeof(*v));

        if (!v)
            return -ENOMEM;
        e->clauses = v;
    }
    e->clauses[e->nclauses++] = *c;
    return 0;
}

int filter_add(struct filter_plan *p, enum call_id id, const struct filter_clause *c)
{
    struct filter_entry *e = filter_entry(p, id);

    return e ? entry_add(e, c) : 0;
}

int filter_add_op(struct filter_plan *p, enum call_op op, const struct filter_clause *c)
{
    if (op == OP_NONE)
        return -EINVAL;
    for (size_t i = 0; i < p->arch->ncalls; i++) {
        if (p->arch->calls[i].op == op) {
            int r = entry_add(&p->entries[i], c);

            if (r < 0)
                return r;
        }
    }
    return 0;
}

static bool test_holds(const struct arg_test *t, const struct seccomp_data *d)
{
    uint64_t width = t->wide ? UINT64_MAX : UINT32_MAX;
    uint64_t arg = d->args[t->arg] & width;
    uint64_t value = t->value & width;
    uint64_t mask = t->mask & width;

    switch ((enum arg_cmp)t->cmp) {
    case CMP_EQ: return (arg & (mask ? mask : width)) == value;
    case CMP_NE: return (arg & (mask ? mask : width)) != value;
    case CMP_GE: return arg >= value;
    case CMP_ANYSET: return (arg & mask) != 0;
    }
    return false;
}

bool filter_clause_holds(const struct filter_clause *c, const struct seccomp_data *d)
{
    for (unsigned i = 0; i < c->ntests; i++)
        if (!test_holds(&c->test[i], d))
            return false;
    return true;
}

uint32_t filter_eval(const struct filter_plan *p, const struct seccomp_data *d)
{
    const struct call_info *c;
    const struct filter_entry *e;

    if (d->arch != p->arch->audit_arch)
        return SECCOMP_RET_KILL_PROCESS;
    c = arch_call(p->arch, (uint32_t)d->nr);
    if (!c)
        return p->unknown;
    e = &p->entries[c - p->arch->calls];
    for (unsigned i = 0; i < e->nclauses; i++)
        if (filter_clause_holds(&e->clauses[i], d))
            return e->clauses[i].ret;
    return e->otherwise;
}

bool filter_has_action(const struct filter_plan *p, uint32_t action)
{
    if (!p->entries)
        return false;
    for (size_t i = 0; i < p->arch->ncalls; i++) {
        const struct filter_entry *e = &p->entries[i];

        if ((e->otherwise & SECCOMP_RET_ACTION_FULL) == action)
            return true;
        for (unsigned k = 0; k < e->nclauses; k++)
            if ((e->clauses[k].ret & SECCOMP_RET_ACTION_FULL) == action)
                return true;
    }
    return (p->unknown & SECCOMP_RET_ACTION_FULL) == action;
}
