/* SPDX-License-Identifier: Apache-2.0 */
/* Small files of procfs: any thread; see procfile.h. */
#include "sys/procfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "sys/fs.h"

static ssize_t read_whole(const char *path, char *buf, size_t size, bool one_read)
{
    /* Not open(3): musl adds an fcntl for O_CLOEXEC. */
    _cleanup_close_ int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    size_t got = 0;

    if (fd < 0)
        return fd;
    while (got < size - 1) {
        ssize_t n = read(fd, buf + got, size - 1 - got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        got += (size_t)n;
        if (one_read)
            break;
    }
    buf[got] = '\0';
    return (ssize_t)got;
}

ssize_t sys_read_file(const char *path, char *buf, size_t size)
{
    return read_whole(path, buf, size, false);
}

ssize_t sys_read_record(const char *path, char *buf, size_t size)
{
    return read_whole(path, buf, size, true);
}

int sys_file_field(const char *text, const char *name, int base, long *ret)
{
    size_t n = strlen(name);

    /* Only at a line's start: Name: is first, its value has newlines escaped. */
    for (const char *at = text; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, name, n) == 0 && at[n] == ':') {
            *ret = strtol(at + n + 1, NULL, base);
            return 0;
        }
    }
    return -ENOENT;
}

int sys_read_stat(const char *path, struct sys_stat *ret)
{
    char text[1024];
    ssize_t n = sys_read_file(path, text, sizeof(text));
    const char *p;
    unsigned long minor_faults;
    unsigned long major_faults;
    unsigned long cutime;
    unsigned long cstime;
    unsigned long long start;
    int ppid;

    if (n < 0)
        return (int)n;
    p = strrchr(text, ')'); /* the name before it may contain anything */
    if (!p ||
        sscanf(p + 1,
               " %c %d %*d %*d %*d %*d %*u %lu %*u %lu %*u %*u %*u %lu %lu %*d %*d %*d %*d "
               "%llu",
               &ret->state, &ppid, &minor_faults, &major_faults, &cutime, &cstime, &start) != 7)
        return -EIO;
    ret->faults = minor_faults + major_faults;
    ret->ppid = ppid;
    ret->cutime = cutime;
    ret->cstime = cstime;
    ret->start = start;
    return 0;
}
