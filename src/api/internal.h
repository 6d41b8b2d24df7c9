/* SPDX-License-Identifier: Apache-2.0 */
/* The run object, shared by sandbox.c (create, free) and wait.c (the event loop). */
#pragma once

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
    bool lost; /* the anchor disappeared */

    /* launch in the first receiver */
    struct launch_maps maps;
    int launch_result;
    struct error *launch_error;
};
