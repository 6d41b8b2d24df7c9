/* SPDX-License-Identifier: Apache-2.0 */
/* NULL-terminated vectors of owned strings: environments, argument lists, path lists. */
#pragma once

#include "base/util.h"

struct strv {
    char **v; /* NULL-terminated once anything was added; NULL when empty */
    size_t n;
};

void strv_fini(struct strv *s);
/* Copies str. 0 or -ENOMEM. */
int strv_add(struct strv *s, const char *str);
/* Copies all n. 0, -ENOMEM, or -EINVAL for a NULL among them. */
int strv_add_all(struct strv *s, const char *const *v, size_t n);
/* Takes ownership of str, also on failure. */
int strv_take(struct strv *s, char *str);
