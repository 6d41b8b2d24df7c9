/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of src/plan share among themselves. Pure; caller's thread.
 */
#pragma once

#include "plan/filter.h"

/* Copy of a plan in which refusals are notified, so that the supervisor can report them
 * (--explain); it then answers what the original says (plan_denied_ret). */
int plan_filter_told(const struct filter_plan *quiet, struct filter_plan *ret);
