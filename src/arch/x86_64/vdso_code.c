/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is laid behind the vDSO of x86_64 processes (arch.h). Runs in the command: nothing secret,
 * nothing trusted. Constant data here; the register part runs in the thread that traces.
 *
 * Each function calls the original and corrects its result, so an error or a fault is the original's.
 * 0x921 are the clocks that tell the time of day: REALTIME 0, its COARSE 5 and ALARM 8, TAI 11.
 * `recall` keeps what a system call keeps: rcx and r11 are lost to one anyway.
 */
#include "arch/arch.h"

__asm__(".pushsection .rodata.vdso_code,\"a\",@progbits\n"
        ".balign 16\n"
        "vdso_code:\n"
        "    .fill 48, 1, 0\n" /* struct arch_vdso_slots */

        ".balign 16\n"
        "vdso_clock_gettime:\n" /* int (clockid_t edi, struct timespec *rsi) */
        "    endbr64\n"
        "    pushq %rsi\n"
        "    pushq %rdi\n"
        "    subq $8, %rsp\n"
        "    leaq vdso_code(%rip), %rax\n"
        "    addq (%rax), %rax\n"
        "    call *%rax\n"
        "    addq $8, %rsp\n"
        "    popq %rdi\n"
        "    popq %rsi\n"
        "    testl %eax, %eax\n"
        "    jne 2f\n"
        "    cmpl $11, %edi\n"
        "    ja 2f\n"
        "    movl $0x921, %ecx\n"
        "    btl %edi, %ecx\n"
        "    jnc 2f\n"
        "    movq vdso_code+24(%rip), %rdx\n"
        "    movq vdso_code+32(%rip), %rcx\n"
        "    addq 8(%rsi), %rcx\n"
        "    cmpq $1000000000, %rcx\n"
        "    jb 1f\n"
        "    subq $1000000000, %rcx\n"
        "    incq %rdx\n"
        "1:  addq %rdx, (%rsi)\n"
        "    movq %rcx, 8(%rsi)\n"
        "2:  ret\n"

        ".balign 16\n"
        "vdso_gettimeofday:\n" /* int (struct timeval *rdi, struct timezone *rsi) */
        "    endbr64\n"
        "    pushq %rdi\n"
        "    leaq vdso_code(%rip), %rax\n"
        "    addq 8(%rax), %rax\n"
        "    call *%rax\n"
        "    popq %rdi\n"
        "    testl %eax, %eax\n"
        "    jne 2f\n"
        "    testq %rdi, %rdi\n"
        "    je 2f\n"
        "    movq vdso_code+24(%rip), %rdx\n"
        "    movq vdso_code+40(%rip), %rcx\n"
        "    addq 8(%rdi), %rcx\n"
        "    cmpq $1000000, %rcx\n"
        "    jb 1f\n"
        "    subq $1000000, %rcx\n"
        "    incq %rdx\n"
        "1:  addq %rdx, (%rdi)\n"
        "    movq %rcx, 8(%rdi)\n"
        "2:  ret\n"

        ".balign 16\n"
        "vdso_time:\n" /* time_t (time_t *rdi): seconds of the coarse clock, as the kernel's */
        "    endbr64\n"
        "    pushq %rdi\n"
        "    subq $16, %rsp\n"
        "    movl $5, %edi\n"
        "    movq %rsp, %rsi\n"
        "    call vdso_clock_gettime\n"
        "    cltq\n"
        "    testl %eax, %eax\n"
        "    cmoveq (%rsp), %rax\n"
        "    leaq 16(%rsp), %rsp\n"
        "    popq %rdi\n"
        "    jne 1f\n"
        "    testq %rdi, %rdi\n"
        "    je 1f\n"
        "    movq %rax, (%rdi)\n"
        "1:  ret\n"

        ".balign 16\n"
        "vdso_getrandom:\n" /* ssize_t (buf rdi, len rsi, flags edx, state rcx, state_len r8) */
        "    endbr64\n"
        "    cmpq $-1, %r8\n" /* asks what a state looks like */
        "    je 1f\n"
        "    movl $318, %eax\n" /* getrandom, pinned by a test */
        "    syscall\n"
        "    ret\n"
        "1:  leaq vdso_code(%rip), %rax\n"
        "    addq 16(%rax), %rax\n"
        "    notrack jmp *%rax\n"

        ".balign 16\n"
        "vdso_recall:\n"
        "    syscall\n"
        "vdso_recall_end:\n"
        "    movq (%rsp), %rdi\n"
        "    movq 8(%rsp), %rsi\n"
        "    movq 16(%rsp), %rdx\n"
        "    movq 24(%rsp), %r10\n"
        "    movq 32(%rsp), %r8\n"
        "    movq 40(%rsp), %r9\n"
        "    movq 48(%rsp), %rcx\n"
        "    movq 56(%rsp), %rsp\n"
        "    notrack jmp *%rcx\n"
        "vdso_code_end:\n"
        ".popsection\n");

/* Hidden: a reference through the GOT would lose the place of a label that is not global. */
extern const uint8_t __attribute__((visibility("hidden"))) vdso_code[], vdso_code_end[],
    vdso_clock_gettime[], vdso_gettimeofday[], vdso_time[], vdso_getrandom[], vdso_recall[],
    vdso_recall_end[];

_Static_assert(sizeof(struct arch_vdso_slots) == 48, "slots");
_Static_assert(offsetof(struct arch_vdso_slots, seconds) == 24, "seconds");
_Static_assert(offsetof(struct arch_vdso_slots, microseconds) == 40, "microseconds");

static size_t offset_of(const uint8_t *label)
{
    return (size_t)((uintptr_t)label - (uintptr_t)vdso_code);
}

void arch_vdso_code(struct arch_vdso_code *ret)
{
    *ret = (struct arch_vdso_code){
        .code = vdso_code,
        .size = offset_of(vdso_code_end),
        .clock_gettime = offset_of(vdso_clock_gettime),
        .gettimeofday = offset_of(vdso_gettimeofday),
        .time = offset_of(vdso_time),
        .getrandom = offset_of(vdso_getrandom),
        .recall = offset_of(vdso_recall),
        .recall_end = offset_of(vdso_recall_end),
    };
}
