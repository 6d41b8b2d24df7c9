/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of load averages. Pure. */
#pragma once

#include <stdint.h>

#define LOAD_ONE 2048u /* fixed point, as the kernel's FIXED_1 */

/* `steps` of five seconds with `running` threads, for averages over 1, 5 and 15 minutes. */
void load_advance(uint64_t average[3], unsigned running, uint64_t steps);
