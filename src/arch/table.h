/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gen/gen.py emits, private to src/arch: the rows of each machine and the names of all.
 * Constant data, any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h"

/* In arch_index_*: this machine has no such call. */
#define ARCH_NO_CALL UINT16_MAX

struct arch_name {
    char name[ARCH_NAME_MAX];
    uint16_t id; /* enum call_id */
};

extern const struct call_info arch_calls_x86_64[ARCH_NCALLS_X86_64];
extern const struct call_info arch_calls_aarch64[ARCH_NCALLS_AARCH64];
extern const uint16_t arch_index_x86_64[CALL_ID_COUNT], arch_index_aarch64[CALL_ID_COUNT];

/* Kernel names and aliases of every machine, sorted by strcmp(). */
extern const struct arch_name arch_names[];
extern const size_t arch_names_count;
extern const char arch_id_names[CALL_ID_COUNT][ARCH_NAME_MAX];
extern const char arch_op_names[CALL_OP_COUNT][ARCH_NAME_MAX];
