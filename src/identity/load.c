/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PV-04: /proc/uptime tells the age of the sandbox, /proc/loadavg the load that its own threads make.
 * Receiver threads. Nothing runs between two looks: the averages then move as the kernel's would have with
 * the number of threads that runs now, one step for each five seconds that have passed.
 */
#include "identity/load.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "fs/fs.h"
#include "identity/census.h"
#include "identity/identity.h"
#include "policy/policy.h"

#define LOAD_FRESH_NS \
    50000000ull /* a census is good for this long: a reader in a loop costs no more */
#define NS_PER_S 1000000000ull

struct load_state {
    uint64_t start_ns;
    pthread_mutex_t lock;
    uint64_t step; /* steps taken since the start */
    uint64_t average[3];
    uint64_t census_ns; /* when it was taken, 0: never */
    struct census census;
};

static uint64_t load_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* kernel/sched/loadavg.c: EXP_1, EXP_5, EXP_15 in fixed point of 11 bits. */
static const uint64_t load_decay[3] = {1884, 2014, 2037};

void load_advance(uint64_t average[3], unsigned running, uint64_t steps)
{
    const uint64_t active = (uint64_t)running * LOAD_ONE;

    /* Half an hour later nothing is left of what was before. */
    for (uint64_t i = 0; i < MIN(steps, 4096u); i++) {
        for (unsigned k = 0; k < 3; k++) {
            uint64_t sum = average[k] * load_decay[k] + active * (LOAD_ONE - load_decay[k]);

            if (active >= average[k])
                sum += LOAD_ONE - 1;
            average[k] = sum / LOAD_ONE;
        }
    }
}

static int load_look(const struct request *r, struct load_state *s, uint64_t *ret_age_ns,
                     struct census *ret)
{
    uint64_t now = load_now(), age = now - s->start_ns;
    int e = 0;

    if (s->census_ns == 0 || now - s->census_ns > LOAD_FRESH_NS) {
        e = census_take(r, &s->census);
        s->census_ns = e == 0 ? now : 0;
    }
    if (e == 0) {
        load_advance(s->average, s->census.running, age / (5 * NS_PER_S) - s->step);
        s->step = age / (5 * NS_PER_S);
    }
    *ret_age_ns = age;
    *ret = s->census;
    return e;
}

static int load_take(const struct request *r, uint64_t *ret_age_ns, struct census *ret,
                     uint64_t average[3])
{
    struct load_state *s = supervisor_state(r->sup, &identity_load_feature);
    int e;

    if (!s)
        return -EIO;
    pthread_mutex_lock(&s->lock);
    e = load_look(r, s, ret_age_ns, ret);
    for (unsigned k = 0; k < 3; k++)
        average[k] = s->average[k];
    pthread_mutex_unlock(&s->lock);
    return e;
}

static int load_render(const struct request *r, int host_fd, struct buf *out)
{
    uint64_t average[3], age;
    struct census c;
    int e = load_take(r, &age, &c, average);

    (void)host_fd;
    if (e < 0)
        return e;
    for (unsigned k = 0; k < 3; k++) {
        uint64_t hundredths = (average[k] * 100 + LOAD_ONE / 2) / LOAD_ONE;

        buf_addf(out, "%llu.%02llu ", (unsigned long long)(hundredths / 100),
                 (unsigned long long)(hundredths % 100));
    }
    buf_addf(out, "%u/%u %d\n", c.running, c.threads, (int)c.last);
    return 0;
}

/* Processors the command may use. */
static uint64_t uptime_processors(const struct policy *p)
{
    long n = p->n_cpu_cores ? (long)p->n_cpu_cores : sysconf(_SC_NPROCESSORS_ONLN);

    return n > 0 ? (uint64_t)n : 1;
}

static void uptime_add(struct buf *out, uint64_t ns, char end)
{
    uint64_t hundredths = ns / (NS_PER_S / 100);

    buf_addf(out, "%llu.%02llu%c", (unsigned long long)(hundredths / 100),
             (unsigned long long)(hundredths % 100), end);
}

/* The second number: the time of all processors together that the sandbox did not use. */
static int uptime_render(const struct request *r, int host_fd, struct buf *out)
{
    uint64_t average[3], age, all, used;
    struct census c;
    int e = load_take(r, &age, &c, average);

    (void)host_fd;
    if (e < 0)
        return e;
    all = age * uptime_processors(supervisor_policy(r->sup));
    used = c.ticks * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
    uptime_add(out, age, ' ');
    uptime_add(out, used < all ? all - used : 0, '\n');
    return 0;
}

const struct virtual_file identity_loadavg_file = {
    .proc = "loadavg",
    .render = load_render,
};
const struct virtual_file identity_uptime_file = {
    .proc = "uptime",
    .render = uptime_render,
};

static int load_start(struct supervisor *sup, void **ret_state, struct error *err)
{
    struct load_state *s = calloc(1, sizeof(*s));

    (void)sup;
    if (!s)
        return error_set(err, ERROR_SETUP, -ENOMEM, "virtual /proc", "out of memory");
    s->start_ns = load_now();
    (void)pthread_mutex_init(&s->lock, NULL);
    *ret_state = s;
    return 0;
}

/* Takes no call: the start, and what was seen last. */
const struct feature identity_load_feature = {
    .name = "load",
    .follows = &fs_procview_feature,
    .start = load_start,
    .stop = free,
};
