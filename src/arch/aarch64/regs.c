/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers of a ptrace-stopped aarch64 task. Runs in the thread that traces; the values are
 * the tracee's and hostile.
 *
 * A task stopped in an interrupted call: the kernel has already put pc back onto `svc` and
 * restored x0 before the tracer sees it, and NT_ARM_SYSTEM_CALL, the number at the entry
 * of a call, is -1 again: the number is what x8 still holds.
 */
#include <elf.h>
#include <errno.h>
#include <sys/ptrace.h>

#include "arch/arch.h"
#include "arch/generic/regs.h"

#ifndef NT_ARM_SYSTEM_CALL
#define NT_ARM_SYSTEM_CALL 0x404
#endif

/* Positions in NT_PRSTATUS: x0-x30, sp, pc, pstate (struct user_pt_regs of the kernel). */
enum {
    R_X0 = 0,
    R_X8 = 8,
    R_SP = 31,
    R_PC = 32,
    R_COUNT = 34,
};
_Static_assert(R_COUNT * 8 <= ARCH_REGS_MAX, "bound");

/* The result and the first argument share x0: after the call only the result is left. */
const struct generic_regs generic_regs = {
    .count = R_COUNT,
    .pc = R_PC,
    .sp = R_SP,
    .result = R_X0,
    .arg = {R_X0, R_X0 + 1, R_X0 + 2, R_X0 + 3, R_X0 + 4, R_X0 + 5},
};

const unsigned arch_syscall_insn_len = 4;
const uint8_t arch_syscall_insn[4] = {0x01, 0x00, 0x00, 0xd4}; /* svc #0 */

void arch_regs_set_call(struct arch_regs *r, uint64_t nr)
{
    r->r[R_X8] = nr;
}

uint64_t arch_recall_place(const struct arch_regs *r)
{
    uint64_t sp = r->r[R_SP];

    /* The frame is addressed by sp, and taken off again by adding its size. No red zone here. */
    return sp > 4096 && sp % 16 == 0 ? sp - sizeof(struct arch_recall) : 0;
}

void arch_recall_set(struct arch_regs *r, uint64_t recall, uint64_t frame_at, int64_t nr,
                     const uint64_t args[6], struct arch_recall *frame)
{
    for (unsigned i = 1; i < 6; i++)
        frame->saved[i - 1] = r->r[R_X0 + i];
    frame->saved[5] = r->r[R_PC];
    for (unsigned i = 0; i < 6; i++)
        r->r[R_X0 + i] = args[i];
    r->r[R_X8] = (uint64_t)nr;
    r->r[R_PC] = recall;
    r->r[R_SP] = frame_at;
}

/*
 * True when the task will (again) execute `svc #0` at pc. At the stop of an interrupted call the
 * kernel has forgotten the number and rewound pc, so that nothing but this tells such a task.
 */
static bool at_svc(pid_t tid, uint64_t pc)
{
    long word;

    errno = 0;
    word = ptrace(PTRACE_PEEKTEXT, tid, (void *)(uintptr_t)pc, NULL);
    return errno == 0 && (uint32_t)word == 0xd4000001;
}

int arch_regs_number(pid_t tid, const struct arch_regs *r, int64_t *ret_nr)
{
    int32_t nr;
    int ret = generic_regset_get(tid, NT_ARM_SYSTEM_CALL, &nr, sizeof(nr));

    if (ret < 0)
        return ret;
    if (nr == -1 && at_svc(tid, r->r[R_PC]))
        nr = (int32_t)r->r[R_X8];
    *ret_nr = nr;
    return 0;
}

int arch_regs_set_number(pid_t tid, struct arch_regs *r, int64_t nr)
{
    int32_t old, v = (int32_t)nr;
    struct arch_regs now;
    int ret = generic_regset_get(tid, NT_ARM_SYSTEM_CALL, &old, sizeof(old));

    if (ret == 0)
        ret = arch_regs_get(tid, &now);
    if (ret < 0)
        return ret;
    if (v != nr)
        return -EINVAL;
    if (old != -1 || !at_svc(tid, now.r[R_PC]))
        return generic_regset_set(tid, NT_ARM_SYSTEM_CALL, &v, sizeof(v));
    /* Interrupted: what happens next is in pc and x8. -1 steps over the call. */
    if (nr == -1)
        now.r[R_PC] += arch_syscall_insn_len;
    else
        now.r[R_X8] = (uint32_t)v;
    ret = arch_regs_set(tid, &now);
    if (ret == 0) {
        r->r[R_PC] = now.r[R_PC];
        r->r[R_X8] = now.r[R_X8];
    }
    return ret;
}
