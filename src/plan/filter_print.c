/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filter plans and programs as text, for --print-filter and the golden tables of tests/sim. Pure;
 * caller's thread; names come from the call table.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/audit.h>

#include "base/buf.h"
#include "plan/filter.h"

static void print_verdict(uint32_t v, struct buf *out)
{
    uint32_t data = v & SECCOMP_RET_DATA;

    switch (v & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW: buf_adds(out, "allow"); break;
    case SECCOMP_RET_ERRNO:
        switch (data) {
        case EPERM: buf_adds(out, "EPERM"); break;
        case ENOSYS: buf_adds(out, "ENOSYS"); break;
        case EACCES: buf_adds(out, "EACCES"); break;
        case ENODEV: buf_adds(out, "ENODEV"); break;
        case EAFNOSUPPORT: buf_adds(out, "EAFNOSUPPORT"); break;
        case EOPNOTSUPP: buf_adds(out, "EOPNOTSUPP"); break;
        case ENOPROTOOPT: buf_adds(out, "ENOPROTOOPT"); break;
        default: buf_addf(out, "errno %" PRIu32, data);
        }
        break;
    case SECCOMP_RET_USER_NOTIF: buf_adds(out, "notify"); break;
    case SECCOMP_RET_TRACE: buf_adds(out, "ask the tracer"); break;
    case SECCOMP_RET_KILL_PROCESS: buf_adds(out, "kill"); break;
    default: buf_addf(out, "0x%08" PRIx32, v);
    }
}

static void print_test(const struct arg_test *t, struct buf *out)
{
    uint64_t width = t->wide ? UINT64_MAX : UINT32_MAX;
    uint64_t mask = t->mask & width, value = t->value & width;
    const char *sign = t->wide ? "wide " : "";

    switch ((enum arg_cmp)t->cmp) {
    case CMP_EQ:
    case CMP_NE:
        buf_addf(out, "%sarg%u", sign, t->arg);
        if (mask && mask != width)
            buf_addf(out, "&0x%" PRIx64, mask);
        buf_addf(out, "%s0x%" PRIx64, t->cmp == CMP_EQ ? "==" : "!=", value);
        break;
    case CMP_GE: buf_addf(out, "%sarg%u>=0x%" PRIx64, sign, t->arg, value); break;
    case CMP_ANYSET: buf_addf(out, "%sarg%u has any of 0x%" PRIx64, sign, t->arg, mask); break;
    }
}

static bool entry_is_plain(const struct filter_entry *e)
{
    return e->otherwise == SECCOMP_RET_ALLOW && e->nclauses == 0;
}

void filter_print_table(const struct filter_plan *p, bool all, struct buf *out)
{
    buf_addf(out, "# machine %s; unknown numbers: ", p->arch->name);
    print_verdict(p->unknown, out);
    buf_adds(out, "; foreign machines: kill\n");
    for (size_t i = 0; i < p->arch->ncalls; i++) {
        const struct filter_entry *e = &p->entries[i];
        bool decided = false;

        if (!all && entry_is_plain(e))
            continue;
        buf_addf(out, "%4u %-24s ", p->arch->calls[i].nr, p->arch->calls[i].name);
        for (unsigned k = 0; k < e->nclauses && !decided; k++) {
            const struct filter_clause *c = &e->clauses[k];

            for (unsigned t = 0; t < c->ntests; t++) {
                buf_adds(out, t ? " and " : "if ");
                print_test(&c->test[t], out);
            }
            if (c->ntests)
                buf_adds(out, ": ");
            print_verdict(c->ret, out);
            decided = c->ntests == 0;
            if (!decided)
                buf_adds(out, "; ");
        }
        if (!decided)
            print_verdict(e->otherwise, out);
        buf_addc(out, '\n');
    }
}

static void print_load(const struct sock_filter *f, struct buf *out)
{
    uint32_t args = offsetof(struct seccomp_data, args);

    if (f->k == offsetof(struct seccomp_data, nr))
        buf_adds(out, "load  number");
    else if (f->k == offsetof(struct seccomp_data, arch))
        buf_adds(out, "load  machine");
    else if (f->k >= args && f->k < sizeof(struct seccomp_data))
        buf_addf(out, "load  arg%u.%s", (f->k - args) / 8, f->k % 8 == 0 ? "low" : "high");
    else
        buf_addf(out, "load  [%" PRIu32 "]", f->k);
}

static void print_branch(size_t pc, const struct sock_filter *f, struct buf *out)
{
    const char *op = "?";

    switch (BPF_OP(f->code)) {
    case BPF_JEQ: op = "=="; break;
    case BPF_JGE: op = ">="; break;
    case BPF_JGT: op = ">"; break;
    case BPF_JSET: op = "&"; break;
    }
    buf_addf(out, "if    %s 0x%" PRIx32 " goto %zu else %zu", op, f->k, pc + 1 + f->jt,
             pc + 1 + f->jf);
}

/* True when A holds the number at each instruction that compares it: everything before the first
 * load of an argument on the way. The tree lies in front of the argument tests. */
static bool compares_number(const struct filter_prog *prog, size_t pc)
{
    while (pc-- > 0) {
        const struct sock_filter *f = &prog->insns[pc];

        if (f->code == (BPF_LD | BPF_W | BPF_ABS))
            return f->k == offsetof(struct seccomp_data, nr);
    }
    return false;
}

void filter_print(const struct filter_plan *p, const struct filter_prog *prog, struct buf *out)
{
    for (size_t pc = 0; pc < prog->len; pc++) {
        const struct sock_filter *f = &prog->insns[pc];

        buf_addf(out, "%4zu  ", pc);
        switch (BPF_CLASS(f->code)) {
        case BPF_LD: print_load(f, out); break;
        case BPF_ALU: buf_addf(out, "and   0x%" PRIx32, f->k); break;
        case BPF_RET:
            buf_adds(out, "ret   ");
            print_verdict(f->k, out);
            break;
        default:
            if (BPF_OP(f->code) == BPF_JA) {
                buf_addf(out, "goto  %zu", pc + 1 + f->k);
                break;
            }
            print_branch(pc, f, out);
            if (compares_number(prog, pc)) {
                const struct call_info *c = arch_call(p->arch, f->k);

                buf_addf(out, "  # %s", c ? c->name : "unknown");
            }
        }
        buf_addc(out, '\n');
    }
}
