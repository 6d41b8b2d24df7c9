/* SPDX-License-Identifier: Apache-2.0 */
/* The run object, shared by sandbox.c (create, free) and wait.c (the event loop). */
#pragma once

#include <signal.h>

#include "api/sandbox.h"
#include "limits/limits.h"
#include "supervisor/internal.h"

struct sandbox {
    const struct policy *policy;
    struct sandbox_options options;
    struct plan plan;
    struct supervisor *supervisor; /* NULL when nothing is notified */
    struct launch_spec spec;
    struct launch launch;
    char **env;
    struct limits *limits;        /* threads of resource limits, or NULL */
    struct limits_cgroup *cgroup; /* the kernel's part of them, or NULL */
    bool started;
    bool lost;    /* the anchor disappeared */
    bool pending; /* STAGE_DEFER: the layer waits for a decision */

    /* launch in the first receiver */
    struct launch_maps maps;
    int launch_result;
    struct error *launch_error;

    /* own_process: the mask before signals_hold() */
    sigset_t caller_mask;
    bool holds_signals;
};

/* ---- wait.c ---- */
#define NO_DEADLINE UINT64_MAX
/* util_now_ns() in so many nanoseconds; 0: NO_DEADLINE. */
uint64_t deadline_after(uint64_t ns);

/* ---- settle.c: about a layer whose run, or last run, is over ---- */
int settle_list(struct cow_layer *l, const struct stage_wish *wish, struct stage_result *ret,
                struct error *err);
int settle_keep(struct cow_layer *l, const char *why, struct stage_result *ret, struct error *err);
/* All or none. A commit that did not happen leaves the layers for another attempt. */
int settle_commit(struct cow_layer *const *l, size_t n, cow_progress *progress,
                  struct stage_result *ret, struct error *err);

/* ---- capped.c: the beginning and the end of a stream ---- */
#define CAPPED_HALF (32u << 10)
struct capped {
    struct buf head;
    char *tail; /* a ring of CAPPED_HALF bytes, once they are needed */
    uint64_t total;
};
void capped_add(struct capped *c, const char *data, size_t n);
/* Head, a line that says how much is left out, tail. Empties it. */
void capped_take(struct capped *c, struct buf *out);

/* Of a process of our own, from just before the command exists to the end of its run: the signals that are
 * passed on to it wait until sandbox_wait() takes them, rather than end us and with us the command. */
void signals_hold(struct sandbox *s);
void signals_release(struct sandbox *s);
