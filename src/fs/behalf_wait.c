/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening through a descriptor, at once or on a worker. A FIFO's open waits for the other side, maybe
 * for ever, that of a file for who has a lease on it, up to 45 s: the worker never sleeps in the kernel for
 * it but looks again and again, so that it can give up when the caller is gone. Receivers and workers; flags
 * are the child's.
 */
#include <errno.h>
#include <poll.h>
#include <time.h>

#include "fs/behalf.h"
#include "fs/staged.h"

#define WAIT_FIRST_MS 1
#define WAIT_MAX_MS 16

int behalf_reopen(int fd, uint64_t flags, mode_t mode)
{
    uint64_t f = flags & ~(uint64_t)(O_CREAT | O_NOFOLLOW);

    if (flags & O_CREAT)
        f &= ~(uint64_t)O_EXCL; /* alone it has a meaning for block devices and O_TMPFILE */
    return fd_reopen(fd, (int)f, mode);
}

/* What of the flags F_SETFL would take away. */
#define REOPEN_KEPT ((uint64_t)(O_APPEND | O_DIRECT | O_NOATIME))

int behalf_reopen_file(const struct request *r, const struct resolved *o, uint64_t flags)
{
    int e, got = staged_reopen(r, o, flags | O_NONBLOCK, 0);

    if (got == -ENODATA)
        got = behalf_reopen(o->fd, flags | O_NONBLOCK, 0);
    if (got < 0 || (flags & O_NONBLOCK) || fcntl(got, F_SETFL, (int)(flags & REOPEN_KEPT)) == 0)
        return got;
    e = -errno;
    util_close(got);
    return e;
}

bool behalf_nap(const struct request *r, long *ns)
{
    *ns = *ns ? MIN(*ns * 2, WAIT_MAX_MS * 1000000L) : WAIT_FIRST_MS * 1000000L;
    if (!request_alive(r))
        return false;
    nanosleep(&(struct timespec){.tv_nsec = *ns}, NULL);
    return true;
}

struct open_later {
    struct resolved at; /* fd, id and what a layer asks for; no directory */
    uint64_t flags;
    enum open_wait wait;
    int64_t length; /* to truncate to; -1: to open */
};

/* A reader waits until a writer is there: it sees data, the hang-up of one that has left, or, without
 * taking anything, that the FIFO is empty but not abandoned. */
static bool wait_has_writer(int fd, int scratch_fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, ms) != 0 || tee(fd, scratch_fd, 1, SPLICE_F_NONBLOCK) != 0;
}

static int wait_for_writer(const struct request *r, int fd)
{
    int scratch[2], ms = WAIT_FIRST_MS, e = 0;

    if (pipe2(scratch, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    while (!wait_has_writer(fd, scratch[1], ms)) {
        if (!request_alive(r)) {
            e = -ESRCH;
            break;
        }
        ms = MIN(ms * 2, WAIT_MAX_MS);
    }
    util_close(scratch[0]);
    util_close(scratch[1]);
    return e;
}

static int wait_open_fifo(const struct request *r, const struct open_later *l)
{
    long nap = 0;
    int e, fd;

    for (;;) {
        fd = behalf_reopen(l->at.fd, l->flags | O_NONBLOCK, 0);
        if (fd != -ENXIO || (l->flags & O_ACCMODE) != O_WRONLY)
            break;
        if (!behalf_nap(r, &nap)) /* no reader yet */
            return -ESRCH;
    }
    if (fd < 0)
        return fd;
    e = (l->flags & O_ACCMODE) == O_WRONLY ? 0 : wait_for_writer(r, fd);
    if (e == 0 && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0)
        e = -errno;
    if (e < 0) {
        util_close(fd);
        return e;
    }
    return fd;
}

static int wait_open_leased(const struct request *r, const struct open_later *l)
{
    long nap = 0;
    int fd;

    for (;;) {
        fd = behalf_reopen_file(r, &l->at, l->flags);
        if (fd != -EAGAIN)
            return fd;
        if (!behalf_nap(r, &nap))
            return -ESRCH;
    }
}

static struct verdict wait_truncate(int fd, int64_t length)
{
    int e = ftruncate(fd, length) < 0 ? -errno : 0;

    util_close(fd);
    return verdict_result(e);
}

static struct verdict wait_work(const struct request *r, void *arg)
{
    struct open_later l = *(struct open_later *)arg;
    int fd = l.wait == WAIT_FIFO    ? wait_open_fifo(r, &l)
             : l.wait == WAIT_LEASE ? wait_open_leased(r, &l)
                                    : behalf_reopen(l.at.fd, l.flags, 0);

    util_close(l.at.fd);
    free(arg);
    if (fd < 0)
        return verdict_errno(fd);
    return l.length >= 0 ? wait_truncate(fd, l.length)
                         : verdict_inject(fd, l.flags & O_CLOEXEC ? O_CLOEXEC : 0);
}

static struct verdict wait_later(const struct request *r, struct open_later later)
{
    struct open_later *l = malloc(sizeof(*l));
    struct verdict v = verdict_errno(ENOMEM);
    int fd = later.at.fd;

    if (l) {
        *l = later;
        v = request_defer(r, wait_work, l);
    }
    if (v.kind != VERDICT_LATER) {
        util_close(fd);
        free(l);
    }
    return v;
}

/* Takes the descriptor over; the rest stays the receiver's. */
static struct resolved wait_object(struct resolved *o)
{
    struct resolved at = RESOLVED_INIT;

    at.id = o->id;
    at.staged = o->staged;
    at.in_upper = o->in_upper;
    at.fd = steal_fd(&o->fd);
    return at;
}

struct verdict behalf_open_later(const struct request *r, struct resolved *o, uint64_t flags,
                                 enum open_wait wait)
{
    return wait_later(
        r, (struct open_later){.at = wait_object(o), .flags = flags, .wait = wait, .length = -1});
}

struct verdict behalf_truncate_later(const struct request *r, struct resolved *o, int64_t length)
{
    return wait_later(
        r, (struct open_later){
               .at = wait_object(o), .flags = O_WRONLY, .wait = WAIT_LEASE, .length = length});
}
