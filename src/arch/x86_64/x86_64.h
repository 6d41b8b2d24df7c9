/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the x86_64 record, private to src/arch. Pure, any thread. */
#pragma once

#include "arch/arch.h"
#include "arch/generic/generic.h"

void x86_64_normalise(struct call *c);
size_t x86_64_encode_stat(const struct stat *st, void *out);

/* The legacy calls, sorted by call id; visible for the tests. */
extern const struct rewrite x86_64_legacy[];
extern const size_t x86_64_legacy_count;
