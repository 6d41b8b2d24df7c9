/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and writing the caller's memory, and its /proc files. Runs in receivers and workers. The
 * addresses and what lies there are hostile; lengths are bounded by the callers.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "supervisor/internal.h"
#include "sys/fs.h"
#include "sys/procfile.h"
#include "sys/uapi.h"

#define READ_CHUNK 4096 /* never larger than a page of any machine: stop at page ends */

bool request_alive(const struct request *r)
{
    uint64_t id = r->id;

    return ioctl(r->sup->listener_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

static uint64_t request_untag(const struct request *r, child_addr a)
{
    return r->sup->arch->untag(a.addr);
}

static ssize_t memory_read(const struct request *r, uint64_t addr, void *dst, size_t len)
{
    struct iovec local = {dst, len};
    struct iovec remote = {(void *)(uintptr_t)addr, len};
    ssize_t n = process_vm_readv(r->tid, &local, 1, &remote, 1, 0);

    return n < 0 ? -errno : n;
}

int request_read(const struct request *r, child_addr addr, void *dst, size_t len)
{
    ssize_t n;

    if (len == 0)
        return 0;
    n = memory_read(r, request_untag(r, addr), dst, len);
    if (n < 0)
        return n == -EINVAL ? -EFAULT : (int)n;
    return (size_t)n == len ? 0 : -EFAULT;
}

ssize_t request_read_string(const struct request *r, child_addr addr, char *dst, size_t size)
{
    uint64_t at = request_untag(r, addr);
    size_t got = 0;

    while (got < size) {
        size_t chunk = MIN(READ_CHUNK - (at + got) % READ_CHUNK, size - got);
        ssize_t n = memory_read(r, at + got, dst + got, chunk);
        const char *end;

        if (n <= 0)
            return n == -EPERM || n == -ESRCH ? n : -EFAULT;
        end = memchr(dst + got, '\0', (size_t)n);
        if (end)
            return end - dst;
        got += (size_t)n;
        if ((size_t)n < chunk)
            return -EFAULT;
    }
    return -ENAMETOOLONG;
}

int request_write(const struct request *r, child_addr addr, const void *src, size_t len)
{
    struct iovec local = {(void *)(uintptr_t)src, len};
    struct iovec remote = {(void *)(uintptr_t)request_untag(r, addr), len};
    ssize_t n;

    if (len == 0)
        return 0;
    n = process_vm_writev(r->tid, &local, 1, &remote, 1, 0);
    if (n < 0)
        return errno == EINVAL ? -EFAULT : -errno;
    return (size_t)n == len ? 0 : -EFAULT;
}

/*
 * /proc/TID/status of the last callers, held open: to open and close it costs nearly as much as to read it.
 * Only by threads that serve, which give it back.
 *
 * It is never somebody else's: the file belongs to one life of the number (the kernel's struct pid), reads
 * fail with ESRCH once that is over, and no two lives of a number overlap. So what was read while the caller,
 * which has this number, was waiting (request_alive() afterwards) is the caller's. The text is made anew by
 * each read that begins at 0.
 */
#define STATUS_HELD 4
static __thread struct {
    pid_t tid; /* 0: free */
    int fd;
} status_held[STATUS_HELD];
static __thread bool status_holds;

void memory_serves(bool begins)
{
    for (size_t i = 0; i < STATUS_HELD; i++) {
        if (status_held[i].tid)
            util_close(status_held[i].fd);
        status_held[i].tid = 0;
    }
    status_holds = begins;
}

static ssize_t status_read(pid_t tid, char *text, size_t size)
{
    size_t i = (size_t)tid % STATUS_HELD;
    char path[48];
    ssize_t n = 0;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
    if (!status_holds)
        return sys_read_record(path, text, size);
    for (int tries = 0; tries < 2 && n <= 0; tries++) {
        if (status_held[i].tid != tid || tries) {
            int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

            if (fd < 0)
                return fd;
            if (status_held[i].tid)
                util_close(status_held[i].fd);
            status_held[i].tid = tid;
            status_held[i].fd = fd;
        }
        n = pread(status_held[i].fd, text, size - 1, 0);
        n = n < 0 ? -errno : n;
    }
    if (n < 0)
        return n;
    text[n] = '\0';
    return n;
}

int request_status(const struct request *r, pid_t *ret_tgid, mode_t *ret_umask)
{
    char text[2048];
    long tgid, mask;
    ssize_t n = status_read(r->tid, text, sizeof(text));

    if (n < 0)
        return (int)n;
    if (!request_alive(r))
        return -ESRCH;
    if (sys_file_field(text, "Tgid", 10, &tgid) < 0 || sys_file_field(text, "Umask", 8, &mask) < 0)
        return -EIO;
    if (ret_tgid)
        *ret_tgid = (pid_t)tgid;
    if (ret_umask)
        *ret_umask = (mode_t)mask & 0777;
    return 0;
}

int request_fd_flags(const struct request *r, int fd)
{
    char path[64], text[1024];
    long flags;
    ssize_t n;

    if (fd < 0)
        return -EBADF;
    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)r->tid, fd);
    n = sys_read_file(path, text, sizeof(text));
    if (n < 0)
        return n == -ENOENT ? -EBADF : (int)n;
    if (!request_alive(r))
        return -ESRCH;
    return sys_file_field(text, "flags", 8, &flags) < 0 ? -EIO : (int)flags;
}

void request_fd_name(const struct request *r, int fd, char path[CHILD_FD_PATH_MAX])
{
    if (fd == AT_FDCWD)
        snprintf(path, CHILD_FD_PATH_MAX, "/proc/%d/cwd", (int)r->tid);
    else
        snprintf(path, CHILD_FD_PATH_MAX, "/proc/%d/fd/%d", (int)r->tid, fd);
}

int request_fd_path(const struct request *r, int fd)
{
    char path[CHILD_FD_PATH_MAX];
    int got;

    if (fd < 0 && fd != AT_FDCWD)
        return -EBADF;
    request_fd_name(r, fd, path);
    got = sys_openat(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
    if (got < 0)
        return got == -ENOENT && fd != AT_FDCWD ? -EBADF : got;
    if (!request_alive(r)) {
        util_close(got);
        return -ESRCH;
    }
    return got;
}

/* Parent of a process or thread, 0 when it is gone. */
static pid_t proc_parent(pid_t pid)
{
    char path[48], text[2048];
    long parent;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    if (sys_read_file(path, text, sizeof(text)) < 0 ||
        sys_file_field(text, "PPid", 10, &parent) < 0)
        return 0;
    return (pid_t)parent;
}

#define MEMBER_MAX_DEPTH 4096 /* ancestors looked at before giving up (then: not a member) */

bool supervisor_is_member(const struct supervisor *s, pid_t pid)
{
    for (int i = 0; i < MEMBER_MAX_DEPTH && pid > 1; i++) {
        pid = proc_parent(pid);
        if (pid == s->anchor_pid)
            return true;
    }
    return false;
}
