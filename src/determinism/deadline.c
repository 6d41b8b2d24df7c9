/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Absolute deadlines on the wall clock (TV-04): the caller makes the same call again with the deadline as
 * the real clock has it, on a copy of its own stack (image_recall), and waits in the kernel: no thread of
 * ours waits for it, signals and restarts are the kernel's. Receivers; every number is the child's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "determinism/internal.h"
#include "sys/procfile.h"

#define TIMERS_MAX (256 * 1024) /* bytes of /proc/PID/timers that are looked through */

struct timespec deadline_real(struct timespec t, int64_t offset_ns)
{
    if (t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_nsec >= SECOND_NS)
        return t;
    clock_add(&t, -offset_ns);
    /* Long past; zero would disarm a timer. */
    if (t.tv_sec < 0 || (t.tv_sec == 0 && t.tv_nsec == 0))
        t = (struct timespec){.tv_nsec = 1};
    return t;
}

static struct verdict deadline_again(void)
{
    return verdict_continue(
        "the deadline was converted, and nothing else of the call is touched; it "
        "grants no access whatever the memory becomes");
}

/* The call takes a struct timespec in argument n. */
static struct verdict deadline_timespec(struct request *r, unsigned n)
{
    int64_t v[2], offset = determinism_time_offset(r->sup);
    struct timespec t;
    int e;

    if (image_recalled(r))
        return deadline_again();
    e = request_read(r, call_addr(&r->call, n), v, sizeof(v));
    if (e < 0)
        return verdict_errno(e);
    t = deadline_real((struct timespec){.tv_sec = v[0], .tv_nsec = v[1]}, offset);
    v[0] = t.tv_sec;
    v[1] = t.tv_nsec;
    return image_recall(r, n, v, sizeof(v));
}

struct verdict deadline_clock_nanosleep(struct request *r)
{
    return deadline_timespec(r, 2);
}

struct verdict deadline_futex(struct request *r)
{
    return deadline_timespec(r, 3);
}

struct verdict deadline_futex_wait(struct request *r)
{
    return deadline_timespec(r, 4);
}

struct verdict deadline_futex_waitv(struct request *r)
{
    return deadline_timespec(r, 3);
}

struct verdict deadline_mq_timed(struct request *r)
{
    return deadline_timespec(r, 4);
}

/* ---- timers: the clock is a property of the object ---- */

static bool is_wall_clock(int clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM || clock == CLOCK_TAI;
}

/* The call takes a struct itimerspec in argument 2: interval, then the deadline. */
static struct verdict deadline_itimerspec(struct request *r)
{
    int64_t v[4];
    struct timespec t;
    int e = request_read(r, call_addr(&r->call, 2), v, sizeof(v));

    if (e < 0)
        return verdict_errno(e);
    if (v[2] == 0 && v[3] == 0)
        return verdict_continue("disarms the timer, and grants no access whatever else it becomes");
    t = deadline_real((struct timespec){.tv_sec = v[2], .tv_nsec = v[3]},
                      determinism_time_offset(r->sup));
    v[2] = t.tv_sec;
    v[3] = t.tv_nsec;
    return image_recall(r, 2, v, sizeof(v));
}

/* The clock in a line of /proc, -1 when there is none. */
static int deadline_clock(const char *text, const char *name)
{
    long clock;

    return sys_file_field(text, name, 10, &clock) < 0 ? -1 : (int)clock;
}

/* proc_pid_timers(5): a block of lines for each timer, "ID:" first, "ClockID:" last. */
static int deadline_timer_clock(const struct request *r, int id)
{
    _cleanup_free_ char *text = malloc(TIMERS_MAX);
    char path[32], head[24];
    const char *at;

    if (!text)
        return -1;
    snprintf(path, sizeof(path), "/proc/%d/timers", (int)r->tid);
    if (sys_read_file(path, text, TIMERS_MAX) < 0)
        return -1;
    snprintf(head, sizeof(head), "ID: %d\n", id);
    for (at = text; at && strncmp(at, head, strlen(head)) != 0;) {
        at = strstr(at, "\nID: ");
        at += at != NULL;
    }
    return at ? deadline_clock(at, "ClockID") : -1;
}

struct verdict deadline_timer_settime(struct request *r)
{
    if (image_recalled(r))
        return deadline_again();
    if (!is_wall_clock(deadline_timer_clock(r, call_int(&r->call, 0))))
        return verdict_continue("no timer on the wall clock; grants no access");
    return deadline_itimerspec(r);
}

struct verdict deadline_timerfd_settime(struct request *r)
{
    char path[64], text[1024];

    if (image_recalled(r))
        return deadline_again();
    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)r->tid, call_int(&r->call, 0));
    if (sys_read_file(path, text, sizeof(text)) < 0 ||
        !is_wall_clock(deadline_clock(text, "clockid")))
        return verdict_continue("no timer on the wall clock; grants no access");
    return deadline_itimerspec(r);
}
