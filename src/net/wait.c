/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a call that waits on behalf asks while it waits, in worker threads; threads of our own.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "net/net.h"

int net_thread_create(pthread_t *t, void *(*fn)(void *), void *arg)
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(t, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -rc;
}

void net_cond_wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, unsigned ms)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += ms * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000L;
    t.tv_nsec %= 1000000000L;
    pthread_cond_timedwait(cond, lock, &t);
}

int64_t net_wait_deadline(int fd, int option)
{
    struct timeval tv = {0};
    socklen_t len = sizeof(tv);

    if (getsockopt(fd, SOL_SOCKET, option, &tv, &len) || (!tv.tv_sec && !tv.tv_usec))
        return INT64_MAX;
    return util_now_ms() + (int64_t)tv.tv_sec * 1000 + tv.tv_usec / 1000;
}

/*
 * Would a native call be interrupted now? The notified call itself is only killable, so a signal
 * with a handler waits until we answer: look for one that is pending, unblocked and caught.
 */
bool net_is_interrupted(const struct request *r)
{
    uint64_t pending = 0, blocked = 0, caught = 0, v;
    char name[48], line[128];
    FILE *f;

    snprintf(name, sizeof(name), "/proc/%d/status", r->tid);
    f = fopen(name, "re");
    if (!f)
        return false;
    while (fgets(line, sizeof(line), f)) {
        if (strncmp(line, "SigPnd:", 7) && strncmp(line, "ShdPnd:", 7) &&
            strncmp(line, "SigBlk:", 7) && strncmp(line, "SigCgt:", 7))
            continue;
        v = strtoull(line + 7, NULL, 16);
        if (line[3] == 'B')
            blocked = v;
        else if (line[3] == 'C')
            caught = v;
        else
            pending |= v;
    }
    fclose(f);
    return pending & ~blocked & caught;
}
