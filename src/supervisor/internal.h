/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the supervisor. One object a sandbox; receivers and workers share it. After
 * supervisor_attach() everything but the atomics and the worker count is read-only.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "supervisor/supervisor.h"

#define SUPERVISOR_MAX_RECEIVERS 4
#define SUPERVISOR_MAX_HANDLERS 12 /* features on one operation */
#define SUPERVISOR_MAX_WORKERS 256 /* deferred calls in flight; more get EAGAIN */

struct dispatch {
    call_handler handler[SUPERVISOR_MAX_HANDLERS];
    uint8_t n;
};

struct supervisor {
    const struct plan *plan;
    const struct arch *arch;
    int listener_fd;
    int stop_fd;    /* eventfd: receivers of old kernels leave */
    int explain_fd; /* where --explain lines go, or -1 */
    pid_t anchor_pid;
    bool drop_caps;
    bool domain_inherited; /* the first receiver entered the domain; its threads are in it */
    bool blocking_recv;    /* 6.6: RECV returns when the last task is gone */
    void *state[PLAN_MAX_FEATURES];
    struct dispatch dispatch[CALL_OP_COUNT];

    pthread_t receivers[SUPERVISOR_MAX_RECEIVERS];
    size_t nreceivers;
    atomic_bool led;           /* the first receiver that serves leads, the others relieve it */
    atomic_uint lead_serial;   /* odd while the leader handles a notification */
    uint32_t relief;           /* futex: RELIEF_PARKED or RELIEF_WATCHING */
    pthread_mutex_t recv_lock; /* old kernels: one poll+RECV at a time */
    pthread_mutex_t worker_lock;
    pthread_cond_t worker_idle;
    size_t nworkers;
    struct watch watch[SUPERVISOR_MAX_WORKERS];
    atomic_bool stopping;
    atomic_bool kill_wanted; /* a verdict asked for the end of the sandbox */
    int kill_fd;             /* eventfd polled by the run loop */

    atomic_uint_fast64_t notifications, denied, continued, injected;
    atomic_uint_fast64_t by_op[CALL_OP_COUNT];
    void *explain; /* state of explain.c, owned by it */
};

/* Starts the features and builds the dispatch table; no thread yet. */
int supervisor_new(const struct plan *plan, int explain_fd, struct supervisor **ret,
                   struct error *err);
/* The listener (not owned) and the anchor of the launched command. */
void supervisor_attach(struct supervisor *s, int listener_fd, pid_t anchor_pid);
/* A thread that is joined like a receiver: the first one under `behalf`. */
int supervisor_start_thread(struct supervisor *s, void *(*fn)(void *), void *arg);
/* Starts receivers, the calling thread not among them. Idempotent. */
int supervisor_start_receivers(struct supervisor *s);
/* Drops capabilities, takes a private fs_struct and, under `behalf`, enters the command's domain.
 * For the calling thread only. */
int supervisor_confine_thread(struct supervisor *s);
/* Serves until the sandbox is empty. */
void supervisor_serve(struct supervisor *s);
/* Receivers that stand by look whether they are needed, or whether it is over. */
void supervisor_wake_relief(struct supervisor *s);
/* Waits for receivers and workers; every member must be dead. Then frees. */
void supervisor_free(struct supervisor *s);

/* Asks the run loop to kill the sandbox. Any thread. */
void supervisor_want_kill(struct supervisor *s);
/* Answers the notification; counts. */
void supervisor_answer(const struct request *r, struct verdict v);

/* memory.c: this thread begins, or ends, to serve; until then it may hold files of /proc open. */
void memory_serves(bool begins);

/* explain.c: for calls that the filter denies by itself and only notifies under --explain. */
struct verdict explain_filter_denied(struct request *r);
int explain_start(struct supervisor *s, struct error *err);
void explain_stop(struct supervisor *s);
