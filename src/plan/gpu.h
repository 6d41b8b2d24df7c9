/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which device nodes --gpu grants (GP-01). Caller's thread, before the child exists; only looks at
 * which names /dev has.
 */
#pragma once

#include "base/strv.h"
#include "policy/policy.h"

/* Appends the nodes (files, or directories of nodes) beneath `dev`, normally "/dev". A device of a
 * list that does not exist is an error; `all` takes what is there. */
int gpu_nodes(const struct policy *p, const char *dev, struct strv *ret, struct error *err);
