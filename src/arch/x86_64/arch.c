/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Record of x86_64. Compiled on every host; pure, any thread. Addresses it untags come from the
 * child and stay plain numbers.
 */
#include <linux/audit.h>

#include "arch/generic/generic.h"
#include "arch/table.h"
#include "arch/x86_64/x86_64.h"

/* Linear address masking is a choice of each process: elsewhere a tag makes the call fail. The
 * kernel applies it when we read the caller's memory, so nothing is removed here. */
static uint64_t x86_64_untag(uint64_t addr)
{
    return addr;
}

static const char *const x86_64_cpuinfo_counts[] = {"siblings", "cpu cores", NULL};

const struct arch arch_x86_64 = {
    .name = "x86_64",
    .audit_arch = AUDIT_ARCH_X86_64,
    .foreign_bit = 0x40000000, /* __X32_SYSCALL_BIT: x32 shares the audit architecture */
    .calls = arch_calls_x86_64,
    .ncalls = ARCH_NCALLS_X86_64,
    .index = arch_index_x86_64,
    .cpuinfo_counts = x86_64_cpuinfo_counts,
    .clone_tls_arg = 4,
    .clone_ctid_arg = 3,
    .untag = x86_64_untag,
    .normalise = x86_64_normalise,
    .encode_stat = x86_64_encode_stat,
};
