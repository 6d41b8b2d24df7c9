/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clauses to instructions: each argument test becomes one to three comparisons of 32-bit halves
 * with explicit targets; what the accumulator already holds is not loaded again. Pure, caller's
 * thread.
 */
#include "plan/bpf_leaf.h"

#include <string.h>

#include "base/util.h"

/* Offsets of an argument's halves: both machines are little-endian. */
#define ARG_LO(n) ((uint32_t)(offsetof(struct seccomp_data, args) + 8 * (n)))
#define ARG_HI(n) (ARG_LO(n) + 4)
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "argument halves");

#define ALL_BITS UINT32_MAX

/* Where a comparison leads: another comparison, or a returned value. */
struct target {
    bool is_ret;
    uint16_t atom;
    uint32_t ret;
};

struct atom {
    uint32_t offset; /* word of struct seccomp_data */
    uint32_t mask;   /* ALL_BITS: as it is */
    uint16_t op;
    uint32_t k;
    struct target yes, no;
};

#define MAX_ATOMS (FILTER_MAX_CLAUSES * FILTER_MAX_TESTS * 3)

/* What the accumulator holds before an atom, over all ways that lead there. */
enum known { KNOWN_UNREACHED = 0, KNOWN_WORD, KNOWN_NOTHING };
struct acc {
    enum known known;
    uint32_t offset, mask;
};

struct leaf_code {
    struct atom atom[MAX_ATOMS];
    struct acc before[MAX_ATOMS];
    size_t n;
};

static bool test_equal(const struct arg_test *a, const struct arg_test *b)
{
    return a->arg == b->arg && a->cmp == b->cmp && a->wide == b->wide && a->mask == b->mask &&
           a->value == b->value;
}

static bool clause_equal(const struct filter_clause *a, const struct filter_clause *b)
{
    if (a->ntests != b->ntests || a->ret != b->ret)
        return false;
    for (unsigned i = 0; i < a->ntests; i++)
        if (!test_equal(&a->test[i], &b->test[i]))
            return false;
    return true;
}

bool bpf_leaf_equal(const struct bpf_leaf *a, const struct bpf_leaf *b)
{
    if (a->otherwise != b->otherwise || a->nclauses != b->nclauses)
        return false;
    for (unsigned i = 0; i < a->nclauses; i++)
        if (!clause_equal(&a->clauses[i], &b->clauses[i]))
            return false;
    return true;
}

struct bpf_leaf bpf_leaf_of(const struct filter_entry *e)
{
    struct bpf_leaf l = {e->clauses, e->nclauses, e->otherwise};

    for (uint16_t i = 0; i < l.nclauses; i++) {
        if (l.clauses[i].ntests == 0) {
            l.otherwise = l.clauses[i].ret;
            l.nclauses = i;
        }
    }
    while (l.nclauses > 0 && l.clauses[l.nclauses - 1].ret == l.otherwise)
        l.nclauses--;
    return l;
}

static void add_atom(struct leaf_code *c, struct atom a)
{
    c->atom[c->n++] = a;
}

/* Comparisons of the low half alone. */
static void narrow_test(struct leaf_code *c, const struct arg_test *t, struct target pass,
                        struct target fail)
{
    struct atom a = {.offset = ARG_LO(t->arg), .mask = (uint32_t)t->mask, .k = (uint32_t)t->value};

    switch ((enum arg_cmp)t->cmp) {
    case CMP_EQ:
    case CMP_NE:
        a.op = BPF_JEQ;
        if (a.mask == 0)
            a.mask = ALL_BITS;
        break;
    case CMP_GE:
        a.op = BPF_JGE;
        a.mask = ALL_BITS;
        break;
    case CMP_ANYSET:
        a.op = BPF_JSET;
        a.k = a.mask;
        a.mask = ALL_BITS;
        break;
    }
    a.yes = t->cmp == CMP_NE ? fail : pass;
    a.no = t->cmp == CMP_NE ? pass : fail;
    add_atom(c, a);
}

/* All 64 bits: the high half first, it mostly decides. */
static void wide_test(struct leaf_code *c, const struct arg_test *t, struct target pass,
                      struct target fail)
{
    uint64_t mask = t->mask ? t->mask : UINT64_MAX;
    struct atom hi = {.offset = ARG_HI(t->arg), .mask = ALL_BITS};
    struct atom lo = {.offset = ARG_LO(t->arg), .mask = ALL_BITS};
    struct target next = {.atom = (uint16_t)(c->n + 1)};

    hi.k = (uint32_t)(t->value >> 32);
    lo.k = (uint32_t)t->value;
    switch ((enum arg_cmp)t->cmp) {
    case CMP_EQ:
    case CMP_NE:
        hi.op = lo.op = BPF_JEQ;
        hi.mask = (uint32_t)(mask >> 32);
        lo.mask = (uint32_t)mask;
        hi.yes = next;
        hi.no = t->cmp == CMP_NE ? pass : fail;
        lo.yes = t->cmp == CMP_NE ? fail : pass;
        lo.no = t->cmp == CMP_NE ? pass : fail;
        break;
    case CMP_GE:
        hi.op = BPF_JGT;
        hi.yes = pass;
        hi.no = next;
        add_atom(c, hi);
        next.atom++;
        hi.op = BPF_JEQ;
        hi.yes = next;
        hi.no = fail;
        lo.op = BPF_JGE;
        lo.yes = pass;
        lo.no = fail;
        break;
    case CMP_ANYSET:
        hi.op = lo.op = BPF_JSET;
        hi.k = (uint32_t)(t->mask >> 32);
        lo.k = (uint32_t)t->mask;
        hi.yes = lo.yes = pass;
        hi.no = next;
        lo.no = fail;
        break;
    }
    add_atom(c, hi);
    add_atom(c, lo);
}

static unsigned test_atoms(const struct arg_test *t)
{
    if (!t->wide)
        return 1;
    return t->cmp == CMP_GE ? 3 : 2;
}

static void flatten(struct leaf_code *c, const struct bpf_leaf *l)
{
    for (unsigned i = 0; i < l->nclauses; i++) {
        const struct filter_clause *cl = &l->clauses[i];
        struct target fail = {.is_ret = true, .ret = l->otherwise};
        size_t end = c->n;

        for (unsigned k = 0; k < cl->ntests; k++)
            end += test_atoms(&cl->test[k]);
        if (i + 1u < l->nclauses)
            fail = (struct target){.atom = (uint16_t)end};
        for (unsigned k = 0; k < cl->ntests; k++) {
            const struct arg_test *t = &cl->test[k];
            struct target pass = {.atom = (uint16_t)(c->n + test_atoms(t))};

            if (k + 1u == cl->ntests)
                pass = (struct target){.is_ret = true, .ret = cl->ret};
            if (t->wide)
                wide_test(c, t, pass, fail);
            else
                narrow_test(c, t, pass, fail);
        }
    }
}

static void arrive(struct leaf_code *c, struct target t, struct acc with)
{
    struct acc *b;

    if (t.is_ret)
        return;
    b = &c->before[t.atom];
    if (b->known == KNOWN_UNREACHED)
        *b = with;
    else if (b->offset != with.offset || b->mask != with.mask || with.known != KNOWN_WORD)
        b->known = KNOWN_NOTHING;
}

static void track(struct leaf_code *c)
{
    c->before[0] = (struct acc){.known = KNOWN_NOTHING};
    for (size_t i = 0; i < c->n; i++) {
        struct acc after = {KNOWN_WORD, c->atom[i].offset, c->atom[i].mask};

        if (c->before[i].known == KNOWN_UNREACHED)
            continue;
        arrive(c, c->atom[i].yes, after);
        arrive(c, c->atom[i].no, after);
    }
}

static bpf_label emit_atom(struct bpf_emitter *e, const struct atom *a, struct acc before,
                           bpf_label yes, bpf_label no)
{
    bool same_word = before.known == KNOWN_WORD && before.offset == a->offset;
    bpf_label l;

    /* A half that does not take part. Nobody can rely on it being loaded: no other mask is 0. */
    if (a->mask == 0)
        return a->k == 0 ? yes : no;
    l = bpf_emit_branch(e, a->op, a->k, yes, no);
    if (yes == no || (same_word && before.mask == a->mask))
        return l;
    if (a->mask != ALL_BITS)
        l = bpf_emit_and(e, a->mask);
    if (same_word && before.mask == ALL_BITS)
        return l;
    return bpf_emit_load(e, a->offset);
}

bpf_label bpf_emit_leaf(struct bpf_emitter *e, const struct bpf_leaf *l, bpf_return_fn ret,
                        void *ctx)
{
    struct leaf_code c;
    bpf_label at[MAX_ATOMS] = {0};

    if (l->nclauses == 0 || l->nclauses > FILTER_MAX_CLAUSES)
        return ret(ctx, l->otherwise);
    c.n = 0;
    memset(c.before, 0, sizeof(c.before));
    flatten(&c, l);
    track(&c);
    for (size_t i = c.n; i-- > 0 && !e->full;) {
        const struct atom *a = &c.atom[i];
        bpf_label yes, no;

        if (c.before[i].known == KNOWN_UNREACHED)
            continue;
        yes = a->yes.is_ret ? ret(ctx, a->yes.ret) : at[a->yes.atom];
        no = a->no.is_ret ? ret(ctx, a->no.ret) : at[a->no.atom];
        at[i] = emit_atom(e, a, c.before[i], yes, no);
    }
    return at[0];
}
