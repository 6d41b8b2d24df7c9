/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instruction writer of the filter compiler, see bpf_emit.h. Conditional jumps reach 255
 * instructions; farther targets get a stand-in (an unconditional jump, or the same return again).
 */
#include "plan/bpf_emit.h"

#define BRANCH_REACH 255

static bpf_label emit(struct bpf_emitter *e, struct sock_filter f)
{
    if (e->n >= BPF_MAXINSNS) {
        e->full = true;
        return 0;
    }
    e->insn[e->n] = f;
    return e->n++;
}

static uint32_t distance(const struct bpf_emitter *e, bpf_label target)
{
    return (uint32_t)(e->n - target - 1);
}

bpf_label bpf_emit_return(struct bpf_emitter *e, uint32_t value)
{
    return emit(e, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, value));
}

bpf_label bpf_emit_load(struct bpf_emitter *e, uint32_t offset)
{
    return emit(e, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

bpf_label bpf_emit_and(struct bpf_emitter *e, uint32_t mask)
{
    return emit(e, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask));
}

static bpf_label emit_jump(struct bpf_emitter *e, bpf_label target)
{
    return emit(e, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, distance(e, target)));
}

void bpf_emit_goto(struct bpf_emitter *e, bpf_label target)
{
    if (!e->full && distance(e, target) != 0)
        emit_jump(e, target);
}

/* A label equivalent to `target` that a conditional jump still reaches after `slack` more
 * instructions. */
static bpf_label reach(struct bpf_emitter *e, bpf_label target, unsigned slack)
{
    bpf_label l;

    if (e->full || distance(e, target) + slack <= BRANCH_REACH)
        return target;
    if (e->copy[target]) {
        l = (bpf_label)e->copy[target] - 1;
        if (distance(e, l) + slack <= BRANCH_REACH)
            return l;
    }
    if (BPF_CLASS(e->insn[target].code) == BPF_RET)
        l = emit(e, e->insn[target]);
    else
        l = emit_jump(e, target);
    if (!e->full)
        e->copy[target] = (uint16_t)(l + 1);
    return l;
}

bpf_label bpf_emit_branch(struct bpf_emitter *e, uint16_t op, uint32_t k, bpf_label yes,
                          bpf_label no)
{
    if (yes == no)
        return yes;
    yes = reach(e, yes, 1); /* the other one may cost an instruction */
    no = reach(e, no, 0);
    if (e->full)
        return 0;
    return emit(e, (struct sock_filter)BPF_JUMP(BPF_JMP | op | BPF_K, k, (uint8_t)distance(e, yes),
                                                (uint8_t)distance(e, no)));
}
