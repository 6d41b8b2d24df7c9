/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls without libc: return the kernel's value or -errno, touch no errno, no TLS, no locks,
 * and are not cancellation points. The only calls allowed in the shared-memory child and the anchor.
 * raw_syscall6() comes from the architecture layer.
 */
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include "arch/raw.h" /* selects src/arch/<machine>/raw.h: static inline long raw_syscall6(...) */

#define raw_call0(nr) raw_syscall6((nr), 0, 0, 0, 0, 0, 0)
#define raw_call1(nr, a) raw_syscall6((nr), (long)(a), 0, 0, 0, 0, 0)
#define raw_call2(nr, a, b) raw_syscall6((nr), (long)(a), (long)(b), 0, 0, 0, 0)
#define raw_call3(nr, a, b, c) raw_syscall6((nr), (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define raw_call4(nr, a, b, c, d) \
    raw_syscall6((nr), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define raw_call5(nr, a, b, c, d, e) \
    raw_syscall6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define raw_call6(nr, a, b, c, d, e, f) \
    raw_syscall6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
