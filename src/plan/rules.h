/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the filter plan: the fixed argument rules as data (rules.c), which seccomp.c combines
 * with policy and features. Pure; input is our own policy.
 */
#pragma once

#include "plan/filter.h"

/* One refused form of a call. */
struct deny_rule {
    uint16_t id; /* enum call_id */
    struct filter_clause clause;
};

struct deny_rules {
    const struct deny_rule *v;
    size_t n;
};

extern const struct deny_rules rules_always;     /* in every mode */
extern const struct deny_rules rules_routed;     /* where destinations are mediated */
extern const struct deny_rules rules_supervised; /* not under --no-supervisor (nesting) */
extern const struct deny_rules
    rules_supervised_last;                 /* the same, where no feature takes the call */
extern const struct deny_rules rules_last; /* in every mode, where no feature takes the call */

/* Operations that change metadata which Landlock does not govern (FG-03). */
extern const uint16_t rules_meta_ops[];
extern const size_t rules_meta_op_count;

#define INET_MASK (~8u) /* AF_INET 2 and AF_INET6 10 differ in this bit alone */
#define SOCKET_TYPE_MASK 0xfu

#define RULE_ERRNO(e) (SECCOMP_RET_ERRNO | (e))
#define RULE_EQ(n, v)                           \
    {                                           \
        .arg = (n), .cmp = CMP_EQ, .value = (v) \
    }
#define RULE_NE(n, v)                           \
    {                                           \
        .arg = (n), .cmp = CMP_NE, .value = (v) \
    }
#define RULE_MASKED(n, m, v)                                 \
    {                                                        \
        .arg = (n), .cmp = CMP_EQ, .mask = (m), .value = (v) \
    }
#define RULE_NOT_MASKED(n, m, v)                             \
    {                                                        \
        .arg = (n), .cmp = CMP_NE, .mask = (m), .value = (v) \
    }
#define RULE_ANY(n, m)                             \
    {                                              \
        .arg = (n), .cmp = CMP_ANYSET, .mask = (m) \
    }
/* Pointers and lengths: all 64 bits. */
#define RULE_WIDE_NE(n, v)                                    \
    {                                                         \
        .arg = (n), .cmp = CMP_NE, .wide = true, .value = (v) \
    }
