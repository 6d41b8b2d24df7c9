/* SPDX-License-Identifier: Apache-2.0 */
/*
 * General registers of a ptrace-stopped x86_64 task. Runs in the thread that traces; the values are
 * the tracee's and hostile.
 *
 * A task stopped in an interrupted call: rip is behind `syscall`, rax holds -ERESTART*, and
 * orig_rax the number. The kernel restarts the call when the stop ends unless orig_rax is negative.
 */
#include "arch/generic/regs.h"
#include "arch/arch.h"

/* Positions in NT_PRSTATUS: 27 words (struct user_regs_struct of the kernel). */
enum {
    R_R10 = 7,
    R_R9 = 8,
    R_R8 = 9,
    R_RAX = 10,
    R_RDX = 12,
    R_RSI = 13,
    R_RDI = 14,
    R_ORIG_RAX = 15,
    R_RIP = 16,
    R_RSP = 19,
    R_COUNT = 27,
};
_Static_assert(R_COUNT * 8 <= ARCH_REGS_MAX, "bound");

const struct generic_regs generic_regs = {
    .count = R_COUNT,
    .pc = R_RIP,
    .sp = R_RSP,
    .result = R_RAX,
    .arg = {R_RDI, R_RSI, R_RDX, R_R10, R_R8, R_R9},
};

const unsigned arch_syscall_insn_len = 2;
const uint8_t arch_syscall_insn[4] = {0x0f, 0x05};

void arch_regs_set_call(struct arch_regs *r, uint64_t nr)
{
    r->r[R_RAX] = nr;
    r->r[R_ORIG_RAX] = ~0ull; /* in none now: nothing to restart */
}

/* The System V ABI lets leaf functions use 128 bytes below rsp. */
#define RED_ZONE 128

uint64_t arch_recall_place(const struct arch_regs *r)
{
    uint64_t sp = r->r[R_RSP];

    return sp > 4096 ? (sp - RED_ZONE - sizeof(struct arch_recall)) & ~(uint64_t)15 : 0;
}

void arch_recall_set(struct arch_regs *r, uint64_t recall, uint64_t frame_at, int64_t nr,
                     const uint64_t args[6], struct arch_recall *frame)
{
    for (unsigned i = 0; i < 6; i++) {
        frame->saved[i] = arch_regs_arg(r, i);
        arch_regs_set_arg(r, i, args[i]);
    }
    frame->saved[6] = r->r[R_RIP];
    frame->saved[7] = r->r[R_RSP];
    r->r[R_RAX] = (uint64_t)nr;
    r->r[R_ORIG_RAX] = (uint64_t)-1; /* in no call: nothing is restarted */
    r->r[R_RIP] = recall;
    r->r[R_RSP] = frame_at;
}

int arch_regs_number(pid_t tid, const struct arch_regs *r, int64_t *ret_nr)
{
    (void)tid;
    *ret_nr = (int64_t)r->r[R_ORIG_RAX];
    return 0;
}

int arch_regs_set_number(pid_t tid, struct arch_regs *r, int64_t nr)
{
    struct arch_regs now;
    int ret = arch_regs_get(tid, &now);

    if (ret < 0)
        return ret;
    /* Takes effect at once, as on aarch64, and stays in r for a later arch_regs_set(). */
    now.r[R_ORIG_RAX] = (uint64_t)nr;
    ret = arch_regs_set(tid, &now);
    if (ret == 0)
        r->r[R_ORIG_RAX] = (uint64_t)nr;
    return ret;
}
