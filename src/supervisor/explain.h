/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an explanation consists of and how it is written. The pure parts, for tests; the rest is
 * request_explain() of supervisor.h. Subjects and command names are the child's bytes.
 */
#pragma once

#include "base/buf.h"
#include "supervisor/supervisor.h"

extern const struct feature explain_feature;

struct explain_event {
    const char *operation; /* ours */
    const char *subject;   /* hostile; NULL: none */
    const char *rule;      /* ours; NULL: none */
    const char *hint;      /* see request_explain(); may contain the subject */
    int err;               /* positive; 0: none */
    pid_t pid;             /* 0: not known, and no comm */
    char comm[32];         /* hostile */
};
/* Appends the line, newline included. */
void explain_format(struct buf *b, const struct explain_event *e);
/* Printable ASCII as it is, everything else as \xNN; "..." after max bytes. */
void explain_escape(struct buf *b, const char *s, size_t max);

/* Why the filter itself refuses a call, as far as its registers tell. Pure. */
struct explain_refusal {
    char subject[96];
    const char *rule, *hint;
};
void explain_refusal(const struct policy *p, const struct call *c, struct explain_refusal *ret);
