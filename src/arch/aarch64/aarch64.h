/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the aarch64 record, private to src/arch. Pure, any thread. */
#pragma once

#include "arch/arch.h"

size_t aarch64_encode_stat(const struct stat *st, void *out);
