/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Register sets by PTRACE_GETREGSET/SETREGSET. Runs in the thread that traces; what the sets
 * contain is the tracee's and hostile, their sizes are checked here.
 */
#include "arch/generic/regs.h"

#include <elf.h>
#include <errno.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "arch/arch.h"

int generic_regset_get(pid_t tid, int type, void *buf, size_t size)
{
    struct iovec iov = {.iov_base = buf, .iov_len = size};

    if (ptrace(PTRACE_GETREGSET, tid, (void *)(uintptr_t)type, &iov) < 0)
        return errno == EINVAL ? -ENODATA : -errno;
    return iov.iov_len == size ? 0 : -EPROTO;
}

int generic_regset_set(pid_t tid, int type, const void *buf, size_t size)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = size};

    if (ptrace(PTRACE_SETREGSET, tid, (void *)(uintptr_t)type, &iov) < 0)
        return errno == EINVAL ? -ENODATA : -errno;
    return iov.iov_len == size ? 0 : -EPROTO;
}

int arch_regs_get(pid_t tid, struct arch_regs *ret)
{
    struct arch_regs regs = {.size = generic_regs.count * 8u};
    int r = generic_regset_get(tid, NT_PRSTATUS, regs.r, regs.size);

    if (r < 0)
        return r;
    *ret = regs;
    return 0;
}

int arch_regs_set(pid_t tid, const struct arch_regs *regs)
{
    if (regs->size == 0 || regs->size > sizeof(regs->r))
        return -EINVAL;
    return generic_regset_set(tid, NT_PRSTATUS, regs->r, regs->size);
}

uint64_t arch_regs_pc(const struct arch_regs *r)
{
    return r->r[generic_regs.pc];
}

void arch_regs_set_pc(struct arch_regs *r, uint64_t pc)
{
    r->r[generic_regs.pc] = pc;
}

uint64_t arch_regs_sp(const struct arch_regs *r)
{
    return r->r[generic_regs.sp];
}

void arch_regs_set_sp(struct arch_regs *r, uint64_t sp)
{
    r->r[generic_regs.sp] = sp;
}

uint64_t arch_regs_result(const struct arch_regs *r)
{
    return r->r[generic_regs.result];
}

void arch_regs_set_result(struct arch_regs *r, uint64_t v)
{
    r->r[generic_regs.result] = v;
}

uint64_t arch_regs_arg(const struct arch_regs *r, unsigned i)
{
    return i < 6 ? r->r[generic_regs.arg[i]] : 0;
}

void arch_regs_set_arg(struct arch_regs *r, unsigned i, uint64_t v)
{
    if (i < 6)
        r->r[generic_regs.arg[i]] = v;
}
