/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the filter compiler: the clauses of one call, simplified and turned into instructions.
 * Pure; caller's thread; input is our own plan.
 */
#pragma once

#include "plan/bpf_emit.h"
#include "plan/filter.h"

/* The part of an entry that matters: clauses behind an unconditional one are dead, trailing ones
 * that answer what is answered anyway are noise. Refers to the entry's clauses. */
struct bpf_leaf {
    const struct filter_clause *clauses;
    uint16_t nclauses;
    uint32_t otherwise;
};
struct bpf_leaf bpf_leaf_of(const struct filter_entry *e);
bool bpf_leaf_equal(const struct bpf_leaf *a, const struct bpf_leaf *b);

/* Label of a return of this value, shared by all leaves. */
typedef bpf_label (*bpf_return_fn)(void *ctx, uint32_t value);
bpf_label bpf_emit_leaf(struct bpf_emitter *e, const struct bpf_leaf *l, bpf_return_fn ret,
                        void *ctx);
