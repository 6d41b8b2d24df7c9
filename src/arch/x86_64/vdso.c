/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of the functions in x86_64's vDSO (C-01). A name may be missing in the kernel at hand:
 * getrandom came with 6.11. Constant data, any thread.
 */
#include "arch/arch.h"

const struct arch_vdso_names arch_vdso_names = {
    .clock_gettime = "__vdso_clock_gettime",
    .gettimeofday = "__vdso_gettimeofday",
    .time = "__vdso_time",
    .clock_getres = "__vdso_clock_getres",
    .getcpu = "__vdso_getcpu",
    .getrandom = "__vdso_getrandom",
};
