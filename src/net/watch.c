/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread per sandbox that connects on behalf, started with the first attempt, asleep while none
 * is under way. Touches only our own duplicates and asks only whether callers still wait.
 */
#include "net/watch.h"

#include <pthread.h>
#include <sys/socket.h>

#include "net/net.h"

#define WATCH_SLOTS 264 /* receivers and workers together are fewer */
#define WATCH_PERIOD_MS 100

struct watch_slot {
    int fd; /* borrowed; -1: free */
    struct request request;
};

struct net_watch {
    pthread_mutex_t lock; /* leaf; the thread asks and shuts down under it, neither blocks */
    pthread_cond_t wake;
    struct watch_slot slots[WATCH_SLOTS];
    unsigned used;
    unsigned top; /* slots at and above were never used */
    bool running, asleep, stop;
    pthread_t thread;
};

static void watch_look(struct net_watch *w)
{
    for (unsigned i = 0; i < w->top; i++)
        if (w->slots[i].fd >= 0 && !request_alive(&w->slots[i].request))
            (void)shutdown(w->slots[i].fd, SHUT_RDWR);
}

static void *watch_main(void *arg)
{
    struct net_watch *w = arg;

    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        if (!w->used) {
            w->asleep = true;
            pthread_cond_wait(&w->wake, &w->lock);
            w->asleep = false;
            continue;
        }
        net_cond_wait_ms(&w->wake, &w->lock, WATCH_PERIOD_MS);
        watch_look(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void watch_run(struct net_watch *w)
{
    if (w->running)
        return;
    w->running = net_thread_create(&w->thread, watch_main, w) == 0;
}

struct net_watch *net_watch_new(void)
{
    struct net_watch *w = calloc(1, sizeof(*w));

    if (!w)
        return NULL;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    return w;
}

void net_watch_free(struct net_watch *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    if (w->running)
        pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

int net_watch_enter(struct net_watch *w, const struct request *r, int fd)
{
    unsigned i;

    pthread_mutex_lock(&w->lock);
    watch_run(w);
    for (i = 0; i < w->top && w->slots[i].fd >= 0; i++)
        ;
    if (i < WATCH_SLOTS) {
        w->slots[i] = (struct watch_slot){.fd = fd, .request = *r};
        w->top = MAX(w->top, i + 1);
        w->used++;
        if (w->asleep && w->used == 1)
            pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->lock);
    return i < WATCH_SLOTS ? (int)i : -1;
}

void net_watch_leave(struct net_watch *w, int slot)
{
    if (slot < 0)
        return;
    pthread_mutex_lock(&w->lock);
    w->slots[slot].fd = -1;
    w->used--;
    pthread_mutex_unlock(&w->lock);
}
