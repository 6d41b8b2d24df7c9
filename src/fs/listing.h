/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel writes for getdents, in both layouts, and what a listing of /proc must not show.
 * Shared by proc-view and deterministic-dirs. Records come from the kernel.
 */
#pragma once

#include "supervisor/supervisor.h"
#include "sys/fs.h"
#include "sys/uapi.h"

/* What is answered to one call at most; more than any C library asks for. */
#define LISTING_MAX 65536u

/* Where a record has its name. The legacy one is as long: its type is the last byte. */
#define LISTING_NAME_OFFSET 19u
#define LISTING_LEGACY_NAME_OFFSET 18u
_Static_assert(offsetof(struct uapi_dirent, name) == LISTING_NAME_OFFSET, "records");

/* The next whole record of the n bytes at buf, *off moved behind it; NULL at the end. */
struct uapi_dirent *listing_next(uint8_t *buf, size_t n, size_t *off);
/* The number of a process outside the sandbox. */
bool listing_hides(const struct request *r, const char *name);
/* Into the old layout in the same space: name one byte earlier, type at the end. */
void listing_to_legacy(uint8_t *buf, size_t n);
/* 1: the root of a procfs, 0: another directory, or -ENOTDIR, -errno. Fills *ret_id. */
int listing_is_proc_root(int fd, struct sys_ident *ret_id);
/* Writes n bytes of records to the caller's buffer in the layout of its call: 0 or -EFAULT. */
int listing_write(const struct request *r, uint8_t *buf, size_t n);
