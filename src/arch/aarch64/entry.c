/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arch_clone() of aarch64. Assembly, because the child returns on another stack. Runs in the parent
 * and in the raw child that shares its memory; touches neither TLS nor the parent's stack.
 *
 * in:     x0 flags, x1 stack_top, x2 fn, x3 arg, x4 ptid, x5 ctid
 * kernel: x0 flags, x1 stack, x2 ptid, x3 tls, x4 ctid; 220 clone, 93 exit (tested)
 */
#include "arch/arch.h"

__asm__(".pushsection .text.arch_clone,\"ax\",%progbits\n"
        ".globl arch_clone\n"
        ".hidden arch_clone\n"
        ".type arch_clone,%function\n"
        ".balign 16\n"
        "arch_clone:\n"
        "    .cfi_startproc\n"
        "    hint #34\n" /* BTI c: reachable through a pointer */
        "    and x1, x1, #-16\n"
        "    stp x2, x3, [x1, #-16]!\n"
        "    mov x2, x4\n"
        "    mov x3, xzr\n"
        "    mov x4, x5\n"
        "    mov x8, #220\n"
        "    svc #0\n"
        "    cbz x0, 1f\n"
        "    ret\n"
        "1:\n"
        "    .cfi_undefined x30\n"
        "    mov x29, xzr\n"
        "    mov x30, xzr\n"
        "    ldp x1, x0, [sp], #16\n"
        "    blr x1\n"
        "    mov x8, #93\n"
        "    svc #0\n"
        "    brk #1\n"
        "    .cfi_endproc\n"
        ".size arch_clone,.-arch_clone\n"
        ".popsection\n");
