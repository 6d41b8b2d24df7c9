/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arch_clone() of x86_64. Assembly, because the child returns on another stack. Runs in the parent
 * and in the raw child that shares its memory; touches neither TLS nor the parent's stack.
 *
 * in:     rdi flags, rsi stack_top, rdx fn, rcx arg, r8 ptid, r9 ctid
 * kernel: rdi flags, rsi stack, rdx ptid, r10 ctid, r8 tls; 56 clone, 60 exit (pinned by a test)
 */
#include "arch/arch.h"

__asm__(".pushsection .text.arch_clone,\"ax\",@progbits\n"
        ".globl arch_clone\n"
        ".hidden arch_clone\n"
        ".type arch_clone,@function\n"
        ".balign 16\n"
        "arch_clone:\n"
        "    .cfi_startproc\n"
        "    endbr64\n"
        "    andq $-16, %rsi\n"
        "    subq $16, %rsi\n"
        "    movq %rdx, (%rsi)\n"
        "    movq %rcx, 8(%rsi)\n"
        "    movq %r8, %rdx\n"
        "    movq %r9, %r10\n"
        "    xorl %r8d, %r8d\n"
        "    movl $56, %eax\n"
        "    syscall\n"
        "    testq %rax, %rax\n"
        "    jz 1f\n"
        "    ret\n"
        "1:\n"
        "    .cfi_undefined rip\n"
        "    xorl %ebp, %ebp\n"
        "    popq %rax\n"
        "    popq %rdi\n"
        "    call *%rax\n" /* rsp is 16-byte aligned here, as the ABI wants before a call */
        "    movl %eax, %edi\n"
        "    movl $60, %eax\n"
        "    syscall\n"
        "    hlt\n"
        "    .cfi_endproc\n"
        ".size arch_clone,.-arch_clone\n"
        ".popsection\n");
