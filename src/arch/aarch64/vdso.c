/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of the functions in aarch64's vDSO (C-01): neither time nor getcpu; getrandom came with
 * 6.12. __kernel_rt_sigreturn is left out because it must never be touched. Constant data.
 */
#include "arch/arch.h"

const struct arch_vdso_names arch_vdso_names = {
    .clock_gettime = "__kernel_clock_gettime",
    .gettimeofday = "__kernel_gettimeofday",
    .clock_getres = "__kernel_clock_getres",
    .getrandom = "__kernel_getrandom",
};
