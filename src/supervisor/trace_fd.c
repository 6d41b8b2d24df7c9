/* SPDX-License-Identifier: Apache-2.0 */
/*
 * O_PATH descriptors for the caller (PR-14): the kernel injects none, but a task may receive one in a
 * message. So the caller is given one end of a socket and made to receive from it, into a page that is
 * mapped for that and unmapped again. Receiver threads. The caller's other threads can write to the page
 * and to the socket's number: what they spoil is their own answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "supervisor/trace.h"
#include "sys/fs.h"

#define NUMBER_TOP 250u /* and downwards */
#define NUMBER_TRIES 16u

int trace_number(const struct request *r)
{
    uint64_t limit = sys_rlimit_of(r->tid, RLIMIT_NOFILE);
    unsigned top = limit > NUMBER_TOP ? NUMBER_TOP : (unsigned)limit - 1;

    for (unsigned i = 0; limit > 0 && i < NUMBER_TRIES && i < top; i++) {
        if (request_fd_flags(r, (int)(top - i)) == -EBADF)
            return (int)(top - i);
    }
    return -EMFILE;
}

static int offer_send(int socket_fd, int fd)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte = 0;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.buf,
                       .msg_controllen = sizeof(control.buf)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    return sendmsg(socket_fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int trace_offer(const struct request *r, int fd)
{
    int pair[2], e;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    e = offer_send(pair[0], fd);
    if (e == 0)
        e = request_addfd(r, pair[1], O_CLOEXEC);
    close(pair[0]);
    close(pair[1]);
    return e;
}

/* As the kernel's struct user_msghdr of 64-bit machines, and what it points to. */
struct page {
    struct {
        uint64_t name, name_len, iov, iov_len, control, control_len, flags;
    } message;
    struct {
        uint64_t base, len;
    } iov;
    struct {
        uint64_t len;
        int32_t level, type, fd, pad;
    } control;
    uint64_t byte;
};
_Static_assert(sizeof(((struct page *)0)->message) == 56, "struct user_msghdr");

static int page_receive(struct trace *t, int number, uint64_t at, bool cloexec)
{
    struct page p = {0};
    struct iovec local = {&p, sizeof(p)};
    struct iovec remote = {(void *)(uintptr_t)at, sizeof(p)};
    int64_t n;
    int e;

    p.message.iov = at + offsetof(struct page, iov);
    p.message.iov_len = 1;
    p.message.control = at + offsetof(struct page, control);
    p.message.control_len = CMSG_LEN(sizeof(int));
    p.iov.base = at + offsetof(struct page, byte);
    p.iov.len = 1;
    if (process_vm_writev(t->pid, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(p))
        return -ENOMEM;
    e = trace_call(t, CALL_recvmsg,
                   (uint64_t[6]){(uint64_t)number, at,
                                 MSG_DONTWAIT | (cloexec ? (uint64_t)MSG_CMSG_CLOEXEC : 0)},
                   &n);
    if (e < 0)
        return e;
    if (process_vm_readv(t->pid, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(p))
        return -ENOMEM;
    /* No room in the table for one more: the kernel drops it and says so by a shorter message. */
    if (n != 1 || p.message.control_len != CMSG_LEN(sizeof(int)) || p.control.fd < 0)
        return -EMFILE;
    return p.control.fd;
}

int trace_receive(struct trace *t, int number, bool cloexec)
{
    const uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE);
    int64_t at, ignored, result;
    int fd;

    if (trace_call(t, CALL_mmap,
                   (uint64_t[6]){0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                 (uint64_t)-1},
                   &at) < 0)
        return -ESRCH;
    fd = at < 0 && at > -4096 ? (int)at : page_receive(t, number, (uint64_t)at, cloexec);
    if (fd == -ESRCH || trace_call(t, CALL_munmap, (uint64_t[6]){(uint64_t)at, size}, &ignored) < 0)
        return -ESRCH;
    if (fd < 0)
        return trace_call(t, CALL_close, (uint64_t[6]){(uint64_t)number}, &ignored) < 0 ? -ESRCH
                                                                                        : fd;
    /* The socket has the lowest number that was free, which is the one to answer with. */
    if (trace_call(t, CALL_dup3,
                   (uint64_t[6]){(uint64_t)fd, (uint64_t)number, cloexec ? O_CLOEXEC : 0},
                   &result) < 0 ||
        trace_call(t, CALL_close, (uint64_t[6]){(uint64_t)fd}, &ignored) < 0)
        return -ESRCH;
    return (int)result;
}
