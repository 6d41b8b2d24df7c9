/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "random-seed": random bytes that follow from a seed. Receivers, workers for large requests.
 * Addresses and lengths are the child's. Without a stream for the caller nothing is handed out: never
 * real randomness in its place (RN-03).
 */
#include <errno.h>
#include <string.h>

#include "determinism/internal.h"
#include "sys/raw_calls.h"

#define FLAGS_KNOWN 7u         /* GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE */
#define FLAGS_EXCLUSIVE 6u     /* the last two */
#define LENGTH_MAX 0x7ffff000u /* MAX_RW_COUNT, on the largest page it is a little less */
#define DIRECT_MAX 4096
#define CHUNK 65536

struct random_state *random_state(const struct request *r)
{
    return supervisor_state(r->sup, &determinism_random_feature);
}

int random_tgid(const struct request *r, pid_t *ret)
{
    /* Registered numbers are those of processes; one that a thread has got since is no leader's. */
    if (stream_has(random_state(r)->streams, r->tid) && raw_tgkill(r->tid, r->tid, 0) == 0) {
        *ret = r->tid;
        return 0;
    }
    return request_status(r, ret, NULL);
}

int random_bytes(const struct request *r, pid_t tgid, void *out, size_t n)
{
    uint8_t key[STREAM_KEY];
    uint64_t at;
    int e = stream_take(random_state(r)->streams, tgid, n, key, &at);

    if (e == 0)
        stream_read(key, at, out, n);
    return e;
}

/* ---- getrandom ---- */

struct draw {
    uint8_t key[STREAM_KEY];
    uint64_t at, n;
};

/* What could be written before an address failed counts, as in the kernel. */
static struct verdict draw_write(const struct request *r, const struct draw *d, uint8_t *buf,
                                 size_t size)
{
    child_addr to = call_addr(&r->call, 0);

    for (uint64_t done = 0; done < d->n;) {
        size_t k = (size_t)MIN(size, d->n - done);
        int e;

        stream_read(d->key, d->at + done, buf, k);
        if (!request_alive(r))
            return verdict_gone();
        e = request_write(r, (child_addr){to.addr + done}, buf, k);
        if (e < 0)
            return done ? verdict_value((int64_t)done) : verdict_errno(e);
        done += k;
    }
    return verdict_value((int64_t)d->n);
}

static struct verdict draw_later(const struct request *r, void *arg)
{
    _cleanup_free_ struct draw *d = arg;
    _cleanup_free_ uint8_t *buf = malloc(CHUNK);

    return buf ? draw_write(r, d, buf, CHUNK) : verdict_errno(ENOMEM);
}

static struct verdict random_on_getrandom(struct request *r)
{
    uint32_t flags = call_u32(&r->call, 2);
    struct draw d = {.n = MIN(r->call.args[1], LENGTH_MAX)}, *later;
    uint8_t buf[DIRECT_MAX];
    struct verdict v;
    pid_t tgid;
    int e;

    if ((flags & ~FLAGS_KNOWN) || (flags & FLAGS_EXCLUSIVE) == FLAGS_EXCLUSIVE)
        return verdict_errno(EINVAL);
    e = random_tgid(r, &tgid);
    if (e == 0)
        e = stream_take(random_state(r)->streams, tgid, d.n, d.key, &d.at);
    if (e < 0) {
        request_explain(r, "getrandom", EIO, "--random-seed", NULL);
        return verdict_errno(EIO);
    }
    if (d.n <= sizeof(buf))
        return draw_write(r, &d, buf, sizeof(buf));
    later = malloc(sizeof(*later));
    if (!later)
        return verdict_errno(ENOMEM);
    *later = d;
    v = request_defer(r, draw_later, later);
    if (v.kind != VERDICT_LATER)
        free(later);
    return v;
}

/* ---- the feature ---- */

static bool random_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->has_random_seed;
}

static void random_stop(void *state)
{
    struct random_state *s = state;

    if (!s)
        return;
    feeder_free(s->feeder);
    streams_free(s->streams);
    free(s);
}

static int random_start(struct supervisor *sup, void **ret_state, struct error *err)
{
    struct random_state *s = calloc(1, sizeof(*s));

    if (s) {
        s->streams = streams_new(supervisor_policy(sup)->random_seed);
        s->feeder = feeder_new();
    }
    if (!s || !s->streams || !s->feeder) {
        random_stop(s);
        return error_set(err, ERROR_SETUP, -ENOMEM, "--random-seed", "%s", error_text(ENOMEM));
    }
    *ret_state = s;
    return 0;
}

static const struct feature_call random_calls[] = {
    {OP_GETRANDOM, random_on_getrandom, NULL, 0},
    {OP_SPAWN, random_on_spawn, NULL, 0},
};

const struct feature determinism_random_feature = {
    .name = "random-seed",
    .traces = true,
    .wanted = random_wanted,
    .calls = random_calls,
    .ncalls = ARRAY_SIZE(random_calls),
    .start = random_start,
    .stop = random_stop,
};
