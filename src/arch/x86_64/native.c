/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says that this build runs on x86_64. Compiled for that target only; pure, any thread.
 */
#include "arch/arch.h"

const struct arch *arch_native(void)
{
    return &arch_x86_64;
}
