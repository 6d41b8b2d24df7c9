/* SPDX-License-Identifier: Apache-2.0 */
/* Selects the build target's inline system call. Part of the architecture layer. */
#pragma once

#if defined(__x86_64__) && !defined(__ILP32__)
#include "arch/x86_64/raw.h"
#elif defined(__aarch64__) && !defined(__ILP32__) && !defined(__AARCH64EB__)
#include "arch/aarch64/raw.h"
#else
#error "sandlock: unsupported machine; see docs/howto-architecture.md"
#endif
