/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inline system call of x86_64: kernel's value or -errno. No libc, no TLS, any thread or raw child.
 */
#pragma once

static inline long raw_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;

    /* The instruction itself overwrites rcx and r11 (return address and flags). */
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory", "cc");
    return ret;
}
