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

/* Of a process of our own, from just before the command exists to the end of its run: the signals that are
 * passed on to it wait until sandbox_wait() takes them, rather than end us and with us the command. */
void signals_hold(struct sandbox *s);
void signals_release(struct sandbox *s);
