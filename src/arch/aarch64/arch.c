/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Record of aarch64. Compiled on every host; pure, any thread. Addresses it untags come from the
 * child and stay plain numbers.
 */
#include <linux/audit.h>

#include "arch/aarch64/aarch64.h"
#include "arch/generic/generic.h"
#include "arch/table.h"

/* The top byte is ignored by the hardware (TBI; MTE keeps its tag in it). Bit 55 tells user from
 * kernel addresses; the latter stay as they are, so that they keep failing. */
static uint64_t aarch64_untag(uint64_t addr)
{
    return addr & (UINT64_C(1) << 55) ? addr : addr & ~(UINT64_C(0xff) << 56);
}

/* Each block describes one processor and nothing else. */
static const char *const aarch64_cpuinfo_counts[] = {NULL};

const struct arch arch_aarch64 = {
    .name = "aarch64",
    .audit_arch = AUDIT_ARCH_AARCH64,
    .foreign_bit = 0, /* AArch32 has an audit architecture of its own */
    .calls = arch_calls_aarch64,
    .ncalls = ARCH_NCALLS_AARCH64,
    .index = arch_index_aarch64,
    .cpuinfo_counts = aarch64_cpuinfo_counts,
    .clone_tls_arg = 3,
    .clone_ctid_arg = 4,
    .untag = aarch64_untag,
    .normalise = generic_normalise,
    .encode_stat = aarch64_encode_stat,
};
