/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/random, /dev/urandom and the files of /proc/sys/kernel/random under --random-seed. An open of a
 * device yields the reading end of a pipe that one thread of the sandbox keeps full, for as long as
 * somebody reads. Receivers open; the feeder's thread handles descriptors of ours only.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "determinism/internal.h"
#include "fs/grants.h"

#define DEVICES_MAX 512 /* open at a time: each is a descriptor and up to 64 KiB of kernel memory */
#define FEED_CHUNK 4096 /* PIPE_BUF: written whole or not at all */
#define EVENTS 16

struct device {
    struct device *next;
    int fd;
    uint8_t key[STREAM_KEY];
    uint64_t at;
};

struct feeder {
    pthread_mutex_t lock;
    pthread_t thread;
    bool running;
    int epoll_fd, stop_fd;
    size_t n;
    struct device *all;
};

/* ---- feeding ---- */

/* Fills the pipe. False: nobody reads any more. */
static bool device_feed(struct device *d)
{
    uint8_t buf[FEED_CHUNK];

    for (;;) {
        stream_read(d->key, d->at, buf, sizeof(buf));
        if (write(d->fd, buf, sizeof(buf)) != sizeof(buf))
            return errno == EAGAIN || errno == EINTR;
        d->at += sizeof(buf);
    }
}

static void device_free(struct device *d)
{
    util_close(d->fd); /* leaves the epoll set with it */
    free(d);
}

static void feeder_drop(struct feeder *f, struct device *d)
{
    pthread_mutex_lock(&f->lock);
    for (struct device **p = &f->all; *p; p = &(*p)->next) {
        if (*p == d) {
            *p = d->next;
            f->n--;
            break;
        }
    }
    pthread_mutex_unlock(&f->lock);
    device_free(d);
}

static void *feeder_main(void *arg)
{
    struct feeder *f = arg;
    struct epoll_event ev[EVENTS];

    for (;;) {
        int n = epoll_wait(f->epoll_fd, ev, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            struct device *d = ev[i].data.ptr;

            if (!d)
                return NULL; /* stop */
            if ((ev[i].events & EPOLLERR) || !device_feed(d))
                feeder_drop(f, d);
        }
    }
}

struct feeder *feeder_new(void)
{
    struct feeder *f = calloc(1, sizeof(*f));

    if (!f)
        return NULL;
    pthread_mutex_init(&f->lock, NULL);
    f->epoll_fd = f->stop_fd = -1;
    return f;
}

/* Most programs never open a device: everything else only when one does. */
static int feeder_start(struct feeder *f)
{
    struct epoll_event stop = {.events = EPOLLIN};
    sigset_t all, old;
    int e;

    if (f->running)
        return 0;
    f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    f->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (f->epoll_fd < 0 || f->stop_fd < 0 ||
        epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, f->stop_fd, &stop) < 0)
        return -EMFILE;
    sigfillset(&all); /* with SIGPIPE: a write to a pipe nobody reads is an error, nothing else */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    e = pthread_create(&f->thread, NULL, feeder_main, f);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    f->running = e == 0;
    return -e;
}

void feeder_free(struct feeder *f)
{
    uint64_t one = 1;

    if (!f)
        return;
    if (f->running) {
        (void)!write(f->stop_fd, &one, sizeof(one));
        pthread_join(f->thread, NULL);
    }
    for (struct device *d = f->all, *next; d; d = next) {
        next = d->next;
        device_free(d);
    }
    util_close(f->epoll_fd);
    util_close(f->stop_fd);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static int feeder_add(struct feeder *f, struct device *d)
{
    struct epoll_event ev = {.events = EPOLLOUT | EPOLLET, .data.ptr = d};
    int e;

    pthread_mutex_lock(&f->lock);
    e = f->n >= DEVICES_MAX ? -ENFILE : feeder_start(f);
    if (e == 0 && epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, d->fd, &ev) < 0)
        e = -errno;
    if (e == 0) {
        d->next = f->all;
        f->all = d;
        f->n++;
    }
    pthread_mutex_unlock(&f->lock);
    return e;
}

/* ---- the devices ---- */

static int device_open(const struct request *r, int host_fd, uint64_t flags)
{
    struct random_state *s = random_state(r);
    struct device *d;
    int p[2], e;
    pid_t tgid;

    (void)host_fd;
    if ((flags & O_ACCMODE) != O_RDONLY)
        return -EACCES;
    e = random_tgid(r, &tgid);
    if (e < 0)
        return e;
    d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    if (stream_derive(s->streams, tgid, d->key) < 0 || pipe2(p, O_CLOEXEC) < 0) {
        free(d);
        return -EIO;
    }
    d->fd = p[1];
    e = fcntl(p[1], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
    if (e == 0) {
        (void)device_feed(d); /* so that the first read is as long as it would be */
        e = feeder_add(s->feeder, d);
    }
    if (e < 0) {
        device_free(d);
        util_close(p[0]);
        return e;
    }
    return p[0];
}

static bool device_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->has_random_seed;
}

const struct virtual_file determinism_random_file = {
    .path = "/dev/random",
    .wanted = device_wanted,
    .open = device_open,
};

const struct virtual_file determinism_urandom_file = {
    .path = "/dev/urandom",
    .wanted = device_wanted,
    .open = device_open,
};

/* What a machine has of it cannot be repeated. */
static int device_refuse(const struct request *r, int host_fd, uint64_t flags)
{
    (void)host_fd;
    (void)flags;
    request_explain(r, "/dev/hwrng", EACCES, "--random-seed", NULL);
    return -EACCES;
}

const struct virtual_file determinism_hwrng_file = {
    .path = "/dev/hwrng",
    .wanted = device_wanted,
    .open = device_refuse,
};

/* ---- /proc/sys/kernel/random ---- */

/* RFC 9562, version 4. */
static void uuid_print(uint8_t b[16], struct buf *out)
{
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    for (unsigned i = 0; i < 16; i++)
        buf_addf(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
    buf_addc(out, '\n');
}

static int uuid_render(const struct request *r, int host_fd, struct buf *out)
{
    uint8_t b[16];
    pid_t tgid;
    int e = random_tgid(r, &tgid);

    (void)host_fd;
    if (e == 0)
        e = random_bytes(r, tgid, b, sizeof(b));
    if (e == 0)
        uuid_print(b, out);
    return e;
}

static int boot_id_render(const struct request *r, int host_fd, struct buf *out)
{
    uint8_t b[16];

    (void)host_fd;
    streams_common(random_state(r)->streams, b, sizeof(b));
    uuid_print(b, out);
    return 0;
}

const struct virtual_file determinism_uuid_file = {
    .proc = "sys/kernel/random/uuid",
    .wanted = device_wanted,
    .render = uuid_render,
};

const struct virtual_file determinism_boot_id_file = {
    .proc = "sys/kernel/random/boot_id",
    .wanted = device_wanted,
    .render = boot_id_render,
};
