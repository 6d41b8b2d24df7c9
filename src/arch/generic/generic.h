/* SPDX-License-Identifier: Apache-2.0 */
/* What the machines share, private to src/arch: rewriting calls into canonical form. Pure. */
#pragma once

#include "arch/arch.h"

/*
 * One rewriting: call -> form. An argument of the form is the call's argument n, REWRITE_A(n), or
 * the constant written; what a row leaves out is 0. The constants used have the same value on all
 * machines; none comes near REWRITE_A.
 */
#define REWRITE_A(n) (0x40000000 | (n))

struct rewrite {
    uint16_t call; /* enum call_id */
    uint16_t form; /* enum call_id */
    uint8_t variant;
    int32_t at_flags;
    int32_t args[6];
};

/* Applies the row of c's call, if rows (sorted by call) have one. */
bool generic_rewrite(struct call *c, const struct rewrite *rows, size_t n);
/* The rewritings that concern every machine. */
void generic_normalise(struct call *c);

extern const struct rewrite generic_rows[];
extern const size_t generic_rows_count;
