/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is laid behind the vDSO of aarch64 processes (arch.h). Runs in the command: nothing secret,
 * nothing trusted. Constant data here; the register part runs in the thread that traces.
 *
 * Each function calls the original and corrects its result, so an error or a fault is the original's.
 * 0x921 are the clocks that tell the time of day: REALTIME 0, its COARSE 5 and ALARM 8, TAI 11.
 * `recall` returns through x17, which a call through any veneer loses too; a system call otherwise
 * keeps everything but x0. By `ret`, which needs no landing pad where the call was made.
 */
#include "arch/arch.h"

#define BTI_C "    hint #34\n"

__asm__(".pushsection .rodata.vdso_code,\"a\",@progbits\n"
        ".balign 16\n"
        "vdso_code:\n"
        "    .fill 48, 1, 0\n" /* struct arch_vdso_slots */

        "vdso_clock_gettime:\n" /* int (clockid_t w0, struct timespec *x1) */
        BTI_C "    stp x29, x30, [sp, #-32]!\n"
        "    mov x29, sp\n"
        "    stp x0, x1, [sp, #16]\n"
        "    adr x16, vdso_code\n"
        "    ldr x17, [x16]\n"
        "    add x16, x16, x17\n"
        "    blr x16\n"
        "    ldp x9, x10, [sp, #16]\n"
        "    ldp x29, x30, [sp], #32\n"
        "    cbnz w0, 2f\n"
        "    cmp w9, #11\n"
        "    b.hi 2f\n"
        "    mov w11, #0x921\n"
        "    lsr w11, w11, w9\n"
        "    tbz w11, #0, 2f\n"
        "    adr x16, vdso_code\n"
        "    ldp x11, x12, [x16, #24]\n"
        "    ldp x13, x14, [x10]\n"
        "    movz w15, #0xca00\n" /* 1000000000 */
        "    movk w15, #0x3b9a, lsl #16\n"
        "    add x13, x13, x11\n"
        "    add x14, x14, x12\n"
        "    cmp x14, x15\n"
        "    b.lo 1f\n"
        "    sub x14, x14, x15\n"
        "    add x13, x13, #1\n"
        "1:  stp x13, x14, [x10]\n"
        "2:  ret\n"

        "vdso_gettimeofday:\n" /* int (struct timeval *x0, struct timezone *x1) */
        BTI_C "    stp x29, x30, [sp, #-32]!\n"
        "    mov x29, sp\n"
        "    str x0, [sp, #16]\n"
        "    adr x16, vdso_code\n"
        "    ldr x17, [x16, #8]\n"
        "    add x16, x16, x17\n"
        "    blr x16\n"
        "    ldr x10, [sp, #16]\n"
        "    ldp x29, x30, [sp], #32\n"
        "    cbnz w0, 2f\n"
        "    cbz x10, 2f\n"
        "    adr x16, vdso_code\n"
        "    ldr x11, [x16, #24]\n"
        "    ldr x12, [x16, #40]\n"
        "    ldp x13, x14, [x10]\n"
        "    movz w15, #0x4240\n" /* 1000000 */
        "    movk w15, #0xf, lsl #16\n"
        "    add x13, x13, x11\n"
        "    add x14, x14, x12\n"
        "    cmp x14, x15\n"
        "    b.lo 1f\n"
        "    sub x14, x14, x15\n"
        "    add x13, x13, #1\n"
        "1:  stp x13, x14, [x10]\n"
        "2:  ret\n"

        "vdso_getrandom:\n"      /* ssize_t (buf x0, len x1, flags w2, state x3, state_len x4) */
        BTI_C "    cmn x4, #1\n" /* asks what a state looks like */
        "    b.eq 1f\n"
        "    mov x8, #278\n" /* getrandom, pinned by a test */
        "    svc #0\n"
        "    ret\n"
        "1:  adr x16, vdso_code\n"
        "    ldr x17, [x16, #16]\n"
        "    add x16, x16, x17\n"
        "    br x16\n"

        "vdso_recall:\n"
        "    svc #0\n"
        "vdso_recall_end:\n"
        "    ldp x1, x2, [sp]\n"
        "    ldp x3, x4, [sp, #16]\n"
        "    ldp x5, x17, [sp, #32]\n"
        "    add sp, sp, #128\n"
        "    ret x17\n"
        "vdso_code_end:\n"
        ".popsection\n");

/* Hidden: a reference through the GOT would lose the place of a label that is not global. */
extern const uint8_t __attribute__((visibility("hidden"))) vdso_code[], vdso_code_end[],
    vdso_clock_gettime[], vdso_gettimeofday[], vdso_getrandom[], vdso_recall[], vdso_recall_end[];

_Static_assert(sizeof(struct arch_vdso_slots) == 48, "slots");
_Static_assert(offsetof(struct arch_vdso_slots, seconds) == 24, "seconds");
_Static_assert(offsetof(struct arch_vdso_slots, microseconds) == 40, "microseconds");
_Static_assert(sizeof(struct arch_recall) == 128, "recall");

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
        .getrandom = offset_of(vdso_getrandom),
        .recall = offset_of(vdso_recall),
        .recall_end = offset_of(vdso_recall_end),
    };
}
