/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream of random bytes for each process, keyed by the seed and the place in the tree of forks
 * (RN-02): the command has the root key, the n-th child of a process a key made from its parent's and n.
 * So what other processes do, and when, changes nothing. A stream survives exec. Receivers; the table
 * holds living processes and few dead ones.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/chacha20.h"
#include "determinism/internal.h"
#include "sys/raw_calls.h"

#define BUCKETS 256
#define PRUNE_MIN 1024

/* What a key is used for: the last word of the nonce. */
enum purpose { FOR_BYTES = 0, FOR_CHILD, FOR_DEVICE, FOR_ALL };

struct stream {
    struct stream *next;
    pid_t tgid;
    uint8_t key[STREAM_KEY];
    uint64_t taken;             /* bytes */
    uint64_t children, devices; /* keys made */
};

struct streams {
    pthread_mutex_t lock;
    struct stream *bucket[BUCKETS];
    size_t n, prune_at;
    bool rooted;
    uint8_t root[STREAM_KEY];
};

/* The nonce's first word continues the counter, which is 32 bits wide in the RFC. */
static void stream_block(const uint8_t key[STREAM_KEY], enum purpose purpose, uint64_t block,
                         uint8_t out[CHACHA20_BLOCK])
{
    uint8_t nonce[CHACHA20_NONCE] = {
        (uint8_t)(block >> 32),
        (uint8_t)(block >> 40),
        (uint8_t)(block >> 48),
        (uint8_t)(block >> 56),
        0,
        0,
        0,
        0,
        (uint8_t)purpose,
    };

    chacha20_block(key, (uint32_t)block, nonce, out);
}

static void stream_key(const uint8_t from[STREAM_KEY], enum purpose purpose, uint64_t n,
                       uint8_t ret[STREAM_KEY])
{
    uint8_t block[CHACHA20_BLOCK];

    stream_block(from, purpose, n, block);
    memcpy(ret, block, STREAM_KEY);
}

void stream_read(const uint8_t key[STREAM_KEY], uint64_t at, void *out, size_t n)
{
    uint8_t block[CHACHA20_BLOCK], *p = out;

    while (n > 0) {
        size_t skip = at % CHACHA20_BLOCK, k = MIN(n, CHACHA20_BLOCK - skip);

        stream_block(key, FOR_BYTES, at / CHACHA20_BLOCK, block);
        memcpy(p, block + skip, k);
        p += k;
        at += k;
        n -= k;
    }
}

struct streams *streams_new(uint64_t seed)
{
    struct streams *s = calloc(1, sizeof(*s));
    uint8_t key[STREAM_KEY] = "sandlock";

    if (!s)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    s->prune_at = PRUNE_MIN;
    for (unsigned i = 0; i < 8; i++)
        key[8 + i] = (uint8_t)(seed >> (8 * i));
    stream_key(key, FOR_CHILD, 0, s->root);
    return s;
}

void streams_free(struct streams *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct stream *p = s->bucket[i], *next; p; p = next) {
            next = p->next;
            free(p);
        }
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static struct stream **stream_slot(struct streams *s, pid_t tgid)
{
    struct stream **p = &s->bucket[(unsigned)tgid % BUCKETS];

    while (*p && (*p)->tgid != tgid)
        p = &(*p)->next;
    return p;
}

/* Numbers of the dead are given to others, who are registered anew then: only memory is at stake. */
static void streams_prune(struct streams *s)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct stream **p = &s->bucket[i]; *p;) {
            struct stream *dead = *p;

            if (raw_tgkill(dead->tgid, dead->tgid, 0) != -ESRCH) {
                p = &dead->next;
                continue;
            }
            *p = dead->next;
            free(dead);
            s->n--;
        }
    }
    s->prune_at = MAX(2 * s->n, PRUNE_MIN);
}

/* A process that begins with this key, whoever had the number before. */
static struct stream *stream_put(struct streams *s, pid_t tgid, const uint8_t key[STREAM_KEY])
{
    struct stream **slot, *p;

    if (s->n >= s->prune_at)
        streams_prune(s);
    slot = stream_slot(s, tgid);
    p = *slot;
    if (!p) {
        p = calloc(1, sizeof(*p));
        if (!p)
            return NULL;
        *slot = p;
        s->n++;
    }
    p->tgid = tgid;
    p->taken = p->children = p->devices = 0;
    memcpy(p->key, key, STREAM_KEY);
    return p;
}

/* The first who asks is the command: it was started before its calls were notified. */
static struct stream *stream_get(struct streams *s, pid_t tgid)
{
    struct stream *p = *stream_slot(s, tgid);

    if (p || s->rooted)
        return p;
    s->rooted = true;
    return stream_put(s, tgid, s->root);
}

int stream_take(struct streams *s, pid_t tgid, uint64_t n, uint8_t ret_key[STREAM_KEY],
                uint64_t *ret_at)
{
    struct stream *p;

    pthread_mutex_lock(&s->lock);
    p = stream_get(s, tgid);
    if (p) {
        memcpy(ret_key, p->key, STREAM_KEY);
        *ret_at = p->taken;
        p->taken += n;
    }
    pthread_mutex_unlock(&s->lock);
    return p ? 0 : -ESRCH;
}

int stream_derive(struct streams *s, pid_t tgid, uint8_t ret_key[STREAM_KEY])
{
    struct stream *p;

    pthread_mutex_lock(&s->lock);
    p = stream_get(s, tgid);
    if (p)
        stream_key(p->key, FOR_DEVICE, p->devices++, ret_key);
    pthread_mutex_unlock(&s->lock);
    return p ? 0 : -ESRCH;
}

int stream_fork(struct streams *s, pid_t tgid, pid_t child)
{
    uint8_t key[STREAM_KEY];
    struct stream *p;

    pthread_mutex_lock(&s->lock);
    p = stream_get(s, tgid);
    if (p) {
        stream_key(p->key, FOR_CHILD, p->children++, key);
        p = stream_put(s, child, key);
    }
    pthread_mutex_unlock(&s->lock);
    return p ? 0 : -ESRCH;
}

bool stream_has(struct streams *s, pid_t tgid)
{
    bool has;

    pthread_mutex_lock(&s->lock);
    has = *stream_slot(s, tgid) != NULL;
    pthread_mutex_unlock(&s->lock);
    return has;
}

void streams_common(const struct streams *s, void *out, size_t n)
{
    uint8_t block[CHACHA20_BLOCK];

    stream_block(s->root, FOR_ALL, 0, block);
    memcpy(out, block, MIN(n, sizeof(block)));
}
