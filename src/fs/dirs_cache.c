/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which sorted window a position of a directory belongs to. Receiver threads; one leaf lock, nothing
 * but memory is touched under it. A child can fill the cache, not make it larger.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "fs/dirs.h"

#define CACHE_SLOTS 512
#define CACHE_BYTES (32u << 20)

struct dirs_slot {
    dev_t dev;
    ino_t ino;
    uint32_t base;         /* positions base + 1 to base + w->count are the window's */
    uint32_t end;          /* positions up to here are spoken for */
    bool whole;            /* the complete directory */
    bool chained;          /* goes on where another window ends */
    uint64_t used;         /* for the choice of what is dropped */
    struct dirs_window *w; /* NULL: free */
};

struct dirs_cache {
    pthread_mutex_t lock;
    uint64_t clock;
    size_t bytes;
    struct dirs_slot slot[CACHE_SLOTS];
};

struct dirs_cache *dirs_cache_new(void)
{
    struct dirs_cache *c = calloc(1, sizeof(*c));

    if (c)
        (void)pthread_mutex_init(&c->lock, NULL);
    return c;
}

void dirs_cache_free(struct dirs_cache *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < CACHE_SLOTS; i++)
        dirs_window_free(c->slot[i].w);
    free(c);
}

static size_t slot_bytes(const struct dirs_slot *s)
{
    return s->w->len + (s->w->count + 1) * sizeof(s->w->start[0]) + sizeof(*s->w);
}

static void slot_drop(struct dirs_cache *c, struct dirs_slot *s)
{
    c->bytes -= slot_bytes(s);
    dirs_window_free(s->w);
    s->w = NULL;
}

static bool slot_is_of(const struct dirs_slot *s, const struct dirs_read *d)
{
    return s->w && s->ino == d->ino && s->dev == d->dev;
}

static struct dirs_slot *cache_find(struct dirs_cache *c, const struct dirs_read *d)
{
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        struct dirs_slot *s = &c->slot[i];

        if (slot_is_of(s, d) && s->base < d->pos && d->pos <= s->base + s->w->count)
            return s;
    }
    return NULL;
}

/* The window that goes on at a position where another, dropped perhaps, ends. */
static struct dirs_slot *cache_find_start(struct dirs_cache *c, const struct dirs_read *d)
{
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        struct dirs_slot *s = &c->slot[i];

        if (slot_is_of(s, d) && s->chained && s->base == d->pos)
            return s;
    }
    return NULL;
}

static int cache_copy(struct dirs_cache *c, struct dirs_slot *s, uint32_t index,
                      struct dirs_read *d)
{
    uint32_t next = 0;

    s->used = ++c->clock;
    d->n = dirs_window_copy(s->w, index, s->base, d->buf, d->size, &next);
    if (d->n > 0)
        d->pos = s->base + next;
    return DIRS_COPIED;
}

static int cache_read(struct dirs_cache *c, struct dirs_read *d, char **ret_after)
{
    struct dirs_slot *s = cache_find(c, d), *next;

    if (s && d->pos < s->base + s->w->count)
        return cache_copy(c, s, d->pos - s->base, d);
    if (s && s->w->follow == 0) {
        s->used = ++c->clock;
        return DIRS_END;
    }
    next = cache_find_start(c, d);
    if (next)
        return cache_copy(c, next, 0, d);
    if (!s)
        return DIRS_UNKNOWN;
    *ret_after = strdup(dirs_window_last(s->w));
    return *ret_after ? DIRS_CONTINUE : -ENOMEM;
}

int dirs_cache_read(struct dirs_cache *c, struct dirs_read *d, char **ret_after)
{
    int r;

    *ret_after = NULL;
    pthread_mutex_lock(&c->lock);
    r = cache_read(c, d, ret_after);
    pthread_mutex_unlock(&c->lock);
    return r;
}

/* ---- adding ---- */

static bool window_same(const struct dirs_window *a, const struct dirs_window *b)
{
    return a->len == b->len && memcmp(a->records, b->records, a->len) == 0;
}

static uint64_t window_end(uint32_t base, const struct dirs_window *w)
{
    return (uint64_t)base + w->count + w->follow + w->follow / 2;
}

/* Where a new listing of the directory finds room; an equal one is taken again. */
static struct dirs_slot *cache_place(struct dirs_cache *c, const struct dirs_read *d,
                                     const struct dirs_window *w, bool whole, uint32_t *ret_base)
{
    uint32_t end = 0;

    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        struct dirs_slot *s = &c->slot[i];

        if (!slot_is_of(s, d))
            continue;
        if (whole && s->whole && window_same(s->w, w))
            return s;
        end = MAX(end, s->end);
    }
    *ret_base = end;
    if (window_end(end, w) <= DIRS_POS_MAX)
        return NULL;
    /* Two thousand million positions are used up: readers in between start from their number. */
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        if (slot_is_of(&c->slot[i], d))
            slot_drop(c, &c->slot[i]);
    }
    *ret_base = 0;
    return NULL;
}

/* A free slot and room for the window: whatever was not used for longest goes. */
static struct dirs_slot *cache_make_room(struct dirs_cache *c, size_t bytes)
{
    for (;;) {
        struct dirs_slot *oldest = NULL, *unused = NULL;

        for (size_t i = 0; i < CACHE_SLOTS; i++) {
            struct dirs_slot *s = &c->slot[i];

            if (!s->w)
                unused = s;
            else if (!oldest || s->used < oldest->used)
                oldest = s;
        }
        if (!oldest || (unused && c->bytes + bytes <= CACHE_BYTES))
            return unused;
        slot_drop(c, oldest);
    }
}

static int cache_add(struct dirs_cache *c, uint32_t at, struct dirs_window *w, uint32_t index,
                     struct dirs_read *d)
{
    struct dirs_slot new = {.dev = d->dev, .ino = d->ino, .base = at, .w = w}, *s = NULL;

    new.chained = at != 0;
    new.whole = at == 0 && w->follow == 0;
    if (at == 0)
        s = cache_place(c, d, w, new.whole, &new.base);
    if (s || window_end(new.base, w) > DIRS_POS_MAX) {
        dirs_window_free(w);
    } else {
        new.end = (uint32_t)window_end(new.base, w);
        s = cache_make_room(c, slot_bytes(&new));
        *s = new;
        c->bytes += slot_bytes(s);
    }
    return s ? cache_copy(c, s, index, d) : -EOVERFLOW;
}

int dirs_cache_add(struct dirs_cache *c, uint32_t at, struct dirs_window *w, uint32_t index,
                   struct dirs_read *d)
{
    int r;

    pthread_mutex_lock(&c->lock);
    r = cache_add(c, at, w, index, d);
    pthread_mutex_unlock(&c->lock);
    return r;
}
