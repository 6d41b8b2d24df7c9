/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns the image of a vDSO into the one the command gets: the same image, our code laid behind it, and
 * the symbols of the functions concerned pointing there. The originals stay untouched where they are, so
 * whatever they are made of does not matter. Pure; the image comes from the kernel by way of a process
 * that has not run yet, but is bounds-checked like a stranger's.
 */
#pragma once

#include "arch/arch.h"

#define VDSO_MAX_SIZE (256u * 1024)
#define VDSO_MAX_EXTENTS 8

struct vdso_wishes {
    bool time;         /* shift the wall clocks ... */
    int64_t offset_ns; /* ... by this, a multiple of 1000 */
    bool random;       /* getrandom makes the system call */
};

struct vdso_patch {
    size_t size;             /* of the image, file contents and slack; a multiple of the page */
    uint8_t *before, *after; /* owned */
    struct {
        uint32_t at, len;
    } extent[VDSO_MAX_EXTENTS]; /* where they differ, in 64-bit words */
    size_t nextents;
    uint64_t mark_at, mark; /* a word that only a rewritten image has there: a function's symbol */
    uint64_t recall, recall_end; /* relative to the image */
};

/* Bytes that a process has mapped for the image that begins with these: 0 when it is not one. */
size_t vdso_size(const void *head, size_t n, size_t page);
/* Takes a copy of the image. 0, -EINVAL when it is not understood, -ENOSPC when there is no room. */
int vdso_patch_new(const void *image, size_t size, const struct vdso_wishes *w,
                   struct vdso_patch **ret);
void vdso_patch_free(struct vdso_patch *p);
