/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "time-start": a wall clock that starts at a given moment. Receiver threads. Programs read it
 * in the vDSO (image.c); here are the system calls that do the same, and file times. One offset for the
 * whole run, fixed when the command's program is loaded.
 */
#include <errno.h>
#include <linux/stat.h>
#include <pthread.h>
#include <string.h>

#include "determinism/internal.h"
#include "fs/behalf.h"

#define MICRO_NS 1000

struct clock_state {
    pthread_mutex_t lock;
    _Atomic bool fixed;
    _Atomic int64_t offset_ns;
};

void clock_add(struct timespec *ts, int64_t ns)
{
    int64_t seconds = ns / SECOND_NS, rest = (int64_t)ts->tv_nsec + ns % SECOND_NS;

    if (rest < 0) {
        rest += SECOND_NS;
        seconds--;
    } else if (rest >= SECOND_NS) {
        rest -= SECOND_NS;
        seconds++;
    }
    /* Nobody's clock comes near; file times may be anything. */
    if (!__builtin_add_overflow(ts->tv_sec, seconds, &seconds)) {
        ts->tv_sec = seconds;
        ts->tv_nsec = rest;
    }
}

/* From the coarse clock, which lags: no way of asking then says a moment before the start. Rounded up
 * to microseconds: gettimeofday, which has no more, agrees with clock_gettime. */
static int64_t clock_offset_from(int64_t start_ns)
{
    struct timespec now;
    int64_t ns;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    ns = start_ns - ((int64_t)now.tv_sec * SECOND_NS + now.tv_nsec);
    return ns + ((-ns % MICRO_NS) + MICRO_NS) % MICRO_NS;
}

int64_t determinism_time_offset(const struct supervisor *sup)
{
    struct clock_state *s = supervisor_state(sup, &determinism_time_feature);

    if (!s)
        return 0;
    if (!s->fixed) {
        pthread_mutex_lock(&s->lock);
        if (!s->fixed)
            s->offset_ns = clock_offset_from(supervisor_policy(sup)->time_start_ns);
        s->fixed = true;
        pthread_mutex_unlock(&s->lock);
    }
    return s->offset_ns;
}

/* What this caller adds by itself is not added here. */
static int64_t clock_shift(const struct request *r)
{
    return image_called(r) ? 0 : determinism_time_offset(r->sup);
}

/* ---- reading it by system call ---- */

static struct verdict clock_on_gettime(struct request *r)
{
    int64_t out[2];
    struct timespec ts;

    if (clock_gettime(call_int(&r->call, 0), &ts) < 0)
        return verdict_errno(errno);
    clock_add(&ts, clock_shift(r));
    out[0] = ts.tv_sec;
    out[1] = ts.tv_nsec;
    return verdict_result(request_write(r, call_addr(&r->call, 1), out, sizeof(out)));
}

static struct verdict clock_on_gettimeofday(struct request *r)
{
    child_addr tv = call_addr(&r->call, 0), zone = call_addr(&r->call, 1);
    const int32_t utc[2] = {0, 0}; /* what the kernel knows unless somebody told it otherwise */
    struct timespec ts;
    int64_t out[2];
    int e = 0;

    clock_gettime(CLOCK_REALTIME, &ts);
    clock_add(&ts, clock_shift(r));
    out[0] = ts.tv_sec;
    out[1] = ts.tv_nsec / MICRO_NS;
    if (tv.addr)
        e = request_write(r, tv, out, sizeof(out));
    if (e == 0 && zone.addr)
        e = request_write(r, zone, utc, sizeof(utc));
    return verdict_result(e);
}

static struct verdict clock_on_time(struct request *r)
{
    struct timespec ts;
    int64_t now;
    int e = 0;

    clock_gettime(CLOCK_REALTIME_COARSE, &ts); /* time(2) is as coarse as the clock it reads */
    clock_add(&ts, clock_shift(r));
    now = ts.tv_sec;
    if (call_addr(&r->call, 0).addr)
        e = request_write(r, call_addr(&r->call, 0), &now, sizeof(now));
    return e < 0 ? verdict_errno(e) : verdict_value(now);
}

/* ---- file times ---- */

void determinism_show_stat(const struct supervisor *sup, struct stat *st)
{
    int64_t ns = determinism_time_offset(sup);

    if (!ns)
        return;
    clock_add(&st->st_atim, ns);
    clock_add(&st->st_mtim, ns);
    clock_add(&st->st_ctim, ns);
}

void determinism_show_statx(const struct supervisor *sup, void *statx)
{
    /* The kernel's layout (linux/stat.h), whatever the C library calls it. */
    static const size_t at[4] = {64, 80, 96, 112}; /* atime, btime, ctime, mtime */
    int64_t ns = determinism_time_offset(sup);
    uint32_t mask;

    if (!ns)
        return;
    memcpy(&mask, statx, sizeof(mask));
    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        uint8_t *p = (uint8_t *)statx + at[i];
        struct timespec ts;
        uint32_t part;
        int64_t s;

        if (i == 1 && !(mask & STATX_BTIME))
            continue; /* zero for "unknown" */
        memcpy(&s, p, sizeof(s));
        memcpy(&part, p + 8, sizeof(part));
        ts = (struct timespec){.tv_sec = s, .tv_nsec = part};
        clock_add(&ts, ns);
        s = ts.tv_sec;
        part = (uint32_t)ts.tv_nsec;
        memcpy(p, &s, sizeof(s));
        memcpy(p + 8, &part, sizeof(part));
    }
}

void determinism_take_time(const struct supervisor *sup, struct timespec *ts)
{
    if (ts->tv_nsec != UTIME_NOW && ts->tv_nsec != UTIME_OMIT)
        clock_add(ts, -determinism_time_offset(sup));
}

static struct verdict clock_stat_fd(const struct request *r, child_addr to)
{
    _cleanup_close_ int fd = request_fd_path(r, call_int(&r->call, 0));
    uint8_t out[ARCH_STAT_MAX];
    struct stat st;

    if (call_int(&r->call, 0) < 0) /* AT_FDCWD is nothing to fstat(2) */
        return verdict_errno(EBADF);
    if (fd < 0)
        return verdict_errno(fd);
    if (fstat(fd, &st) < 0)
        return verdict_errno(errno);
    behalf_show_stat(r, &st);
    return verdict_result(request_write(r, to, out, arch_native()->encode_stat(&st, out)));
}

static struct verdict clock_on_fstat(struct request *r)
{
    return clock_stat_fd(r, call_addr(&r->call, 1));
}

/* fstat as the C library makes it, with an empty path, needs no walk. */
static struct verdict clock_on_stat(struct request *r)
{
    char first;

    if (call_u32(&r->call, 3) == AT_EMPTY_PATH && call_int(&r->call, 0) >= 0 &&
        request_read(r, call_addr(&r->call, 1), &first, 1) == 0 && !first)
        return clock_stat_fd(r, call_addr(&r->call, 2));
    return behalf_stat(r);
}

/* ---- the feature ---- */

#define NOTIFY .ret = SECCOMP_RET_USER_NOTIF
#define IS(n, v)                                \
    {                                           \
        .arg = (n), .cmp = CMP_EQ, .value = (v) \
    }
#define MASKED(n, m, v)                                      \
    {                                                        \
        .arg = (n), .cmp = CMP_EQ, .mask = (m), .value = (v) \
    }
#define GIVEN(n)                                            \
    {                                                       \
        .arg = (n), .cmp = CMP_NE, .wide = true, .value = 0 \
    }
/* clang-format off */
static const struct filter_clause when_gettime[] = {
    {{IS(0, CLOCK_REALTIME)}, 1, NOTIFY},
    {{IS(0, CLOCK_REALTIME_COARSE)}, 1, NOTIFY},
    {{IS(0, CLOCK_REALTIME_ALARM)}, 1, NOTIFY},
    {{IS(0, CLOCK_TAI)}, 1, NOTIFY},
};
/* Absolute deadlines on the wall clock. Its ALARM needs a capability that the command lacks. */
#define ABSTIME 1 /* TIMER_ABSTIME, TFD_TIMER_ABSTIME */
static const struct filter_clause when_clock_nanosleep[] = {
    {{IS(0, CLOCK_REALTIME), MASKED(1, ABSTIME, ABSTIME)}, 2, NOTIFY},
    {{IS(0, CLOCK_TAI), MASKED(1, ABSTIME, ABSTIME)}, 2, NOTIFY},
};
static const struct filter_clause when_settime[] = {
    {{MASKED(1, ABSTIME, ABSTIME)}, 1, NOTIFY},
};
#define FUTEX_CMD 0x7fu
#define FUTEX_REALTIME 0x100u
#define FUTEX(cmd) {{MASKED(1, FUTEX_CMD | FUTEX_REALTIME, (cmd) | FUTEX_REALTIME), GIVEN(3)}, 2, NOTIFY}
static const struct filter_clause when_futex[] = {
    {{MASKED(1, FUTEX_CMD, 6), GIVEN(3)}, 2, NOTIFY}, /* FUTEX_LOCK_PI knows no other clock */
    FUTEX(9),  /* FUTEX_WAIT_BITSET */
    FUTEX(11), /* FUTEX_WAIT_REQUEUE_PI */
    FUTEX(13), /* FUTEX_LOCK_PI2 */
};
static const struct filter_clause when_futex_wait[] = {
    {{IS(5, CLOCK_REALTIME), GIVEN(4)}, 2, NOTIFY},
};
static const struct filter_clause when_futex_waitv[] = {
    {{IS(4, CLOCK_REALTIME), GIVEN(3)}, 2, NOTIFY},
};
static const struct filter_clause when_mq_timed[] = {
    {{GIVEN(4)}, 1, NOTIFY},
};

#define WHEN(w) w, ARRAY_SIZE(w)
static const struct feature_call clock_calls[] = {
    {OP_CLOCK_GETTIME, clock_on_gettime, WHEN(when_gettime)},
    {OP_GETTIMEOFDAY, clock_on_gettimeofday, NULL, 0},
    {OP_TIME, clock_on_time, NULL, 0},
    {OP_CLOCK_NANOSLEEP, deadline_clock_nanosleep, WHEN(when_clock_nanosleep)},
    {OP_TIMER_SETTIME, deadline_timer_settime, WHEN(when_settime)},
    {OP_TIMERFD_SETTIME, deadline_timerfd_settime, WHEN(when_settime)},
    {OP_FUTEX, deadline_futex, WHEN(when_futex)},
    {OP_FUTEX_WAIT, deadline_futex_wait, WHEN(when_futex_wait)},
    {OP_FUTEX_WAITV, deadline_futex_waitv, WHEN(when_futex_waitv)},
    {OP_MQ_TIMED, deadline_mq_timed, WHEN(when_mq_timed)},
    {OP_STAT, clock_on_stat, NULL, 0},
    {OP_STATX, behalf_statx, NULL, 0},
    {OP_FSTAT, clock_on_fstat, NULL, 0},
};
/* clang-format on */

static bool clock_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->has_time_start;
}

static int clock_start(struct supervisor *sup, void **ret_state, struct error *err)
{
    struct clock_state *s = calloc(1, sizeof(*s));

    (void)sup;
    if (!s)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--time-start", "%s", error_text(ENOMEM));
    pthread_mutex_init(&s->lock, NULL);
    *ret_state = s;
    return 0;
}

static void clock_stop(void *state)
{
    struct clock_state *s = state;

    pthread_mutex_destroy(&s->lock);
    free(s);
}

const struct feature determinism_time_feature = {
    .name = "time-start",
    .wanted = clock_wanted,
    .calls = clock_calls,
    .ncalls = ARRAY_SIZE(clock_calls),
    .behalf = true, /* stat resolves paths */
    .start = clock_start,
    .stop = clock_stop,
};
