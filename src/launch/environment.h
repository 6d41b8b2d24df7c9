/* SPDX-License-Identifier: Apache-2.0 */
/* The command's environment block. */
#pragma once

#include "policy/policy.h"

/* A NULL-terminated vector the caller frees (the strings belong to environ and the policy); NULL
 * when out of memory. */
char **environment_new(const struct policy *p);
/* Value of a variable in a block, or NULL. */
const char *environment_get(char *const *envp, const char *name);
