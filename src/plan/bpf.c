/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filter plan to classic BPF: architecture gate, then a balanced tree over ranges of numbers with
 * the same answer, then the argument tests of each answer. Pure and deterministic; caller's thread.
 *
 * Plain allows cost nothing after the first time (the kernel remembers them by number), so the tree
 * is built for size: installing it is part of every start.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "plan/bpf_leaf.h"

/* Runs of this many special numbers within one range are tested one after the other. */
#define MAX_CHAIN 4

/* Consecutive numbers with the same leaf. They cover all 32-bit numbers, so that -1, foreign bits
 * and numbers of later kernels meet the default like any other. */
struct segment {
    uint32_t first, last;
    uint16_t leaf;
};

struct leaf_slot {
    struct bpf_leaf leaf;
    bpf_label label;
};

struct return_slot {
    uint32_t value;
    bpf_label label;
};

#define MAX_RETURNS 64

struct compiler {
    const struct filter_plan *plan;
    struct segment *segs; /* at most 2 * ncalls + 1 */
    size_t nsegs;
    struct leaf_slot *leaves; /* at most ncalls + 1 */
    size_t nleaves;
    struct return_slot returns[MAX_RETURNS];
    size_t nreturns;
    struct bpf_emitter *e;
};

static void compiler_fini(struct compiler *c)
{
    free(c->segs);
    free(c->leaves);
    free(c->e);
}
#define _cleanup_compiler_ _cleanup_(compiler_fini)

static bpf_label return_label(void *ctx, uint32_t value)
{
    struct compiler *c = ctx;
    bpf_label l;

    for (size_t i = 0; i < c->nreturns; i++)
        if (c->returns[i].value == value)
            return c->returns[i].label;
    l = bpf_emit_return(c->e, value);
    if (c->nreturns < MAX_RETURNS) /* beyond, they are merely not shared */
        c->returns[c->nreturns++] = (struct return_slot){value, l};
    return l;
}

static uint16_t leaf_index(struct compiler *c, struct bpf_leaf leaf)
{
    for (size_t i = 0; i < c->nleaves; i++)
        if (bpf_leaf_equal(&c->leaves[i].leaf, &leaf))
            return (uint16_t)i;
    c->leaves[c->nleaves] = (struct leaf_slot){.leaf = leaf};
    return (uint16_t)c->nleaves++;
}

static void add_segment(struct compiler *c, uint32_t first, uint32_t last, uint16_t leaf)
{
    if (c->nsegs > 0 && c->segs[c->nsegs - 1].leaf == leaf)
        c->segs[c->nsegs - 1].last = last;
    else
        c->segs[c->nsegs++] = (struct segment){first, last, leaf};
}

static int make_segments(struct compiler *c, struct error *err)
{
    const struct arch *a = c->plan->arch;
    uint16_t unknown = leaf_index(c, (struct bpf_leaf){.otherwise = c->plan->unknown});
    uint32_t next = 0;

    for (size_t i = 0; i < a->ncalls; i++) {
        uint32_t nr = a->calls[i].nr;

        if ((i > 0 && nr < next) || (nr & a->foreign_bit))
            return error_set(err, ERROR_SETUP, -EINVAL, a->name, "call table: bad number %u", nr);
        if (nr > next)
            add_segment(c, next, nr - 1, unknown);
        add_segment(c, nr, nr, leaf_index(c, bpf_leaf_of(&c->plan->entries[i])));
        next = nr + 1;
    }
    add_segment(c, next, UINT32_MAX, unknown);
    return 0;
}

/* The leaf that all segments but at most MAX_CHAIN single numbers of [lo, hi) share, or -1. */
static int chain_base(const struct compiler *c, size_t lo, size_t hi)
{
    size_t n = hi - lo;

    if (n > 2 * MAX_CHAIN + 1)
        return -1;
    for (size_t b = lo; b < hi && b < lo + 2; b++) {
        size_t singles = 0, ranges = 0;

        for (size_t i = lo; i < hi; i++) {
            if (c->segs[i].leaf == c->segs[b].leaf)
                continue;
            if (c->segs[i].first == c->segs[i].last)
                singles++;
            else
                ranges++;
        }
        /* More tests than the tree would need are not worth it. */
        if (ranges == 0 && singles <= MAX_CHAIN && singles < n)
            return c->segs[b].leaf;
    }
    return -1;
}

static bpf_label emit_tree(struct compiler *c, size_t lo, size_t hi)
{
    bpf_label left, right;
    size_t mid;
    int base;

    if (hi - lo == 1)
        return c->leaves[c->segs[lo].leaf].label;
    base = chain_base(c, lo, hi);
    if (base >= 0) {
        bpf_label l = c->leaves[base].label;

        for (size_t i = hi; i-- > lo;)
            if (c->segs[i].leaf != base)
                l = bpf_emit_branch(c->e, BPF_JEQ, c->segs[i].first,
                                    c->leaves[c->segs[i].leaf].label, l);
        return l;
    }
    mid = lo + (hi - lo) / 2;
    right = emit_tree(c, mid, hi);
    left = emit_tree(c, lo, mid);
    return bpf_emit_branch(c->e, BPF_JGE, c->segs[mid].first, right, left);
}

static void emit_program(struct compiler *c)
{
    bpf_label kill, root, ok;

    for (size_t i = 0; i < c->nleaves; i++)
        c->leaves[i].label = bpf_emit_leaf(c->e, &c->leaves[i].leaf, return_label, c);
    root = emit_tree(c, 0, c->nsegs);
    kill = bpf_emit_return(c->e, SECCOMP_RET_KILL_PROCESS);
    bpf_emit_goto(c->e, root);
    ok = bpf_emit_load(c->e, offsetof(struct seccomp_data, nr));
    bpf_emit_branch(c->e, BPF_JEQ, c->plan->arch->audit_arch, ok, kill);
    bpf_emit_load(c->e, offsetof(struct seccomp_data, arch));
}

int filter_compile(const struct filter_plan *p, struct filter_prog *ret, struct error *err)
{
    _cleanup_compiler_ struct compiler c = {.plan = p};
    struct filter_prog prog = {0};
    int r;

    c.segs = calloc(2 * p->arch->ncalls + 1, sizeof(*c.segs));
    c.leaves = calloc(p->arch->ncalls + 1, sizeof(*c.leaves));
    c.e = calloc(1, sizeof(*c.e));
    if (!c.segs || !c.leaves || !c.e)
        return error_set(err, ERROR_SETUP, -ENOMEM, "filter", "out of memory");
    r = make_segments(&c, err);
    if (r < 0)
        return r;
    emit_program(&c);
    if (c.e->full)
        return error_set(err, ERROR_SETUP, -E2BIG, "filter",
                         "the program needs more than %d instructions", BPF_MAXINSNS);
    prog.insns = malloc(c.e->n * sizeof(*prog.insns));
    if (!prog.insns)
        return error_set(err, ERROR_SETUP, -ENOMEM, "filter", "out of memory");
    prog.len = c.e->n;
    for (size_t i = 0; i < prog.len; i++)
        prog.insns[i] = c.e->insn[prog.len - 1 - i];
    *ret = prog;
    return 0;
}

void filter_prog_fini(struct filter_prog *p)
{
    free(p->insns);
    *p = (struct filter_prog){0};
}
