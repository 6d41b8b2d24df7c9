/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection: in the unit tests' own build of this folder (-DCOW_FAULTS) each call below can be
 * made to fail, or the process to be killed before it. Included last. Nothing in the product.
 */
#pragma once

#ifdef COW_FAULTS
#include <stdbool.h>
/* True: the call shall fail with errno, which is set. May not return (kill -9). */
bool cow_fault(const char *call);

#define COW_WRAP(call, ...) (cow_fault(#call) ? -1 : call(__VA_ARGS__))
#define COW_WRAP_PTR(call, ...) (cow_fault(#call) ? NULL : call(__VA_ARGS__))
#define COW_WRAP_SYS(call, ...) (cow_fault(#call) ? -errno : call(__VA_ARGS__))

#define openat(...) COW_WRAP(openat, __VA_ARGS__)
#define mkdirat(...) COW_WRAP(mkdirat, __VA_ARGS__)
#define mknodat(...) COW_WRAP(mknodat, __VA_ARGS__)
#define symlinkat(...) COW_WRAP(symlinkat, __VA_ARGS__)
#define linkat(...) COW_WRAP(linkat, __VA_ARGS__)
#define unlinkat(...) COW_WRAP(unlinkat, __VA_ARGS__)
#define readlinkat(...) COW_WRAP(readlinkat, __VA_ARGS__)
#define ftruncate(...) COW_WRAP(ftruncate, __VA_ARGS__)
#define fchmod(...) COW_WRAP(fchmod, __VA_ARGS__)
#define fchownat(...) COW_WRAP(fchownat, __VA_ARGS__)
#define utimensat(...) COW_WRAP(utimensat, __VA_ARGS__)
#define setxattr(...) COW_WRAP(setxattr, __VA_ARGS__)
#define getxattr(...) COW_WRAP(getxattr, __VA_ARGS__)
#define listxattr(...) COW_WRAP(listxattr, __VA_ARGS__)
#define removexattr(...) COW_WRAP(removexattr, __VA_ARGS__)
#define copy_file_range(...) COW_WRAP(copy_file_range, __VA_ARGS__)
#define pread(...) COW_WRAP(pread, __VA_ARGS__)
#define pwrite(...) COW_WRAP(pwrite, __VA_ARGS__)
#define write(...) COW_WRAP(write, __VA_ARGS__)
#define read(...) COW_WRAP(read, __VA_ARGS__)
/* Not really: what a test can kill is a process, not the machine. */
#define fsync(fd) (cow_fault("fsync") ? -1 : 0 * (fd))
#define syncfs(fd) (cow_fault("syncfs") ? -1 : 0 * (fd))
#define flock(...) COW_WRAP(flock, __VA_ARGS__)
#define malloc(...) COW_WRAP_PTR(malloc, __VA_ARGS__)
#define calloc(...) COW_WRAP_PTR(calloc, __VA_ARGS__)
#define realloc(...) COW_WRAP_PTR(realloc, __VA_ARGS__)
#define strdup(...) COW_WRAP_PTR(strdup, __VA_ARGS__)
/* Only where it would have to allocate. */
#define util_grow(v, n, room, size) \
    (*(room) == (n) && cow_fault("util_grow") ? NULL : util_grow(v, n, room, size))
#define sys_openat2(...) COW_WRAP_SYS(sys_openat2, __VA_ARGS__)
#define sys_open_path(...) COW_WRAP_SYS(sys_open_path, __VA_ARGS__)
#define sys_statx_at(...) COW_WRAP_SYS(sys_statx_at, __VA_ARGS__)
#define sys_renameat2(...) COW_WRAP_SYS(sys_renameat2, __VA_ARGS__)
#define sys_getdents64(...) COW_WRAP_SYS(sys_getdents64, __VA_ARGS__)
#endif
