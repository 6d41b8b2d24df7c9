/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files of procfs, read whole. Any thread. Their text is the kernel's; names in it are the
 * command's and hostile.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* The whole file, NUL-terminated, cut off at size - 1: its length or -errno. */
ssize_t sys_read_file(const char *path, char *buf, size_t size);
/* The same in one call for files that are made at once, such as status. */
ssize_t sys_read_record(const char *path, char *buf, size_t size);
/* Value of a line "Name:\tvalue" in a file such as status; base as in strtol. 0 or -ENOENT. */
int sys_file_field(const char *text, const char *name, int base, long *ret);

/* /proc/PID/stat, the fields that somebody here needs. proc_pid_stat(5). */
struct sys_stat {
    char state;
    pid_t ppid;
    uint64_t faults;         /* of all threads, those that ended included */
    uint64_t cutime, cstime; /* clock ticks */
    uint64_t start;          /* clock ticks since boot */
};
int sys_read_stat(const char *path, struct sys_stat *ret);
