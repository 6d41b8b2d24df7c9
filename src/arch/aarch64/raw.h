/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inline system call of aarch64: the value or -errno. No libc, no TLS, any thread or raw child.
 */
#pragma once

static inline long raw_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    /* The kernel keeps every general register but x0; it may discard the upper SVE state, which no
     * compiler keeps live across an asm with a memory clobber unless it says so. */
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}
