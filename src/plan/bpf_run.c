/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interpreter of classic BPF as the kernel runs it for seccomp: for the tests of both machines'
 * filters on any host. Pure. Accepts any program, also broken ones: they answer KILL_PROCESS.
 */
#include <string.h>

#include "plan/filter.h"

struct machine {
    uint32_t a, x;
    uint32_t mem[BPF_MEMWORDS];
};

/* Loads seccomp allows: one aligned word of struct seccomp_data, or its length. */
static bool load(uint32_t off, const struct seccomp_data *d, uint32_t *ret)
{
    if (off >= sizeof(*d) || off % sizeof(*ret) != 0)
        return false;
    memcpy(ret, (const char *)d + off, sizeof(*ret));
    return true;
}

static bool alu(struct machine *m, uint16_t op, uint32_t k)
{
    switch (op) {
    case BPF_ADD: m->a += k; return true;
    case BPF_SUB: m->a -= k; return true;
    case BPF_MUL: m->a *= k; return true;
    case BPF_DIV:
        if (k == 0)
            return false;
        m->a /= k;
        return true;
    case BPF_AND: m->a &= k; return true;
    case BPF_OR: m->a |= k; return true;
    case BPF_XOR: m->a ^= k; return true;
    case BPF_LSH: m->a = k < 32 ? m->a << k : 0; return true;
    case BPF_RSH: m->a = k < 32 ? m->a >> k : 0; return true;
    case BPF_NEG: m->a = -m->a; return true;
    default: return false;
    }
}

/* Offset to add to the next instruction, or -1 for an unknown jump. */
static int64_t jump(const struct machine *m, const struct sock_filter *f)
{
    uint32_t k = BPF_SRC(f->code) == BPF_X ? m->x : f->k;
    bool yes;

    switch (BPF_OP(f->code)) {
    case BPF_JA: return f->k;
    case BPF_JEQ: yes = m->a == k; break;
    case BPF_JGT: yes = m->a > k; break;
    case BPF_JGE: yes = m->a >= k; break;
    case BPF_JSET: yes = (m->a & k) != 0; break;
    default: return -1;
    }
    return yes ? f->jt : f->jf;
}

/* Loads, stores, arithmetic: everything that falls through. */
static bool step(struct machine *m, const struct sock_filter *f, const struct seccomp_data *d)
{
    switch (f->code) {
    case BPF_LD | BPF_W | BPF_ABS: return load(f->k, d, &m->a);
    case BPF_LD | BPF_W | BPF_LEN: m->a = sizeof(*d); return true;
    case BPF_LDX | BPF_W | BPF_LEN: m->x = sizeof(*d); return true;
    case BPF_LD | BPF_IMM: m->a = f->k; return true;
    case BPF_LDX | BPF_IMM: m->x = f->k; return true;
    case BPF_LD | BPF_MEM: return f->k < BPF_MEMWORDS ? m->a = m->mem[f->k], true : false;
    case BPF_LDX | BPF_MEM: return f->k < BPF_MEMWORDS ? m->x = m->mem[f->k], true : false;
    case BPF_ST: return f->k < BPF_MEMWORDS ? m->mem[f->k] = m->a, true : false;
    case BPF_STX: return f->k < BPF_MEMWORDS ? m->mem[f->k] = m->x, true : false;
    case BPF_MISC | BPF_TAX: m->x = m->a; return true;
    case BPF_MISC | BPF_TXA: m->a = m->x; return true;
    default:
        if (BPF_CLASS(f->code) != BPF_ALU)
            return false;
        return alu(m, BPF_OP(f->code), BPF_SRC(f->code) == BPF_X ? m->x : f->k);
    }
}

uint32_t filter_run(const struct filter_prog *prog, const struct seccomp_data *d, bool *ret_bad)
{
    struct machine m = {0};
    size_t pc = 0;

    if (ret_bad)
        *ret_bad = false;
    /* Jumps only go forward, so the loop ends. */
    while (pc < prog->len && prog->len <= BPF_MAXINSNS) {
        const struct sock_filter *f = &prog->insns[pc++];

        if (f->code == (BPF_RET | BPF_K))
            return f->k;
        if (f->code == (BPF_RET | BPF_A))
            return m.a;
        if (BPF_CLASS(f->code) == BPF_JMP) {
            int64_t off = jump(&m, f);

            if (off < 0)
                break;
            pc += (size_t)off;
        } else if (!step(&m, f, d)) {
            break;
        }
    }
    if (ret_bad)
        *ret_bad = true;
    return SECCOMP_RET_KILL_PROCESS;
}
