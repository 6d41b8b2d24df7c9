/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the filter compiler: a program is written from its end to its start, so that each
 * jump's target is known when it is written. Pure; caller's thread; input is our own plan.
 */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Position counted from the end of the program. Targets always have a smaller label. */
typedef size_t bpf_label;

struct bpf_emitter {
    struct sock_filter insn[BPF_MAXINSNS]; /* reversed */
    uint16_t copy[BPF_MAXINSNS]; /* nearest stand-in of a label that went out of reach, + 1 */
    size_t n;
    bool full; /* the program does not fit; what was written since is void */
};

/* Each returns the label of the instruction written (after any helper jump it needed). */
bpf_label bpf_emit_return(struct bpf_emitter *e, uint32_t value);
bpf_label bpf_emit_load(struct bpf_emitter *e, uint32_t offset); /* falls through */
bpf_label bpf_emit_and(struct bpf_emitter *e, uint32_t mask);    /* falls through */
/* op: BPF_JEQ, BPF_JGE, BPF_JGT or BPF_JSET against k. */
bpf_label bpf_emit_branch(struct bpf_emitter *e, uint16_t op, uint32_t k, bpf_label yes,
                          bpf_label no);
/* Makes the instruction written next fall through to `target`. */
void bpf_emit_goto(struct bpf_emitter *e, bpf_label target);
