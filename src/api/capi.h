/* SPDX-License-Identifier: Apache-2.0 */
/* The objects behind the public API's opaque handles. */
#pragma once

#include "api/sandbox.h"
#include "base/strv.h"
#include "sandlock.h"

/* Builder and built policy are one object: building validates and freezes it. */
struct sandlock_builder_t {
    struct policy policy;
    struct error err; /* the first one */
};

struct sandlock_result_t {
    struct run_result run;
    int code; /* as the CLI would exit, for commands that never ran */
};

struct sandlock_handle_t {
    struct policy policy; /* shallow copy: the caller's, with this run's name */
    struct sandbox *sandbox;
    struct strv argv; /* copies: the caller's may go when the call that made the handle returns */
    char *name;
    struct run_result run;
    bool started, waited;
    int start_error; /* exit code 126 or 127 when exec failed */
    struct error err;
};
