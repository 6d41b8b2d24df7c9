/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules for objects on procfs and sysfs while the policy grants (part of) /proc. Receivers.
 */
#pragma once

#include "fs/resolve.h"

struct procview;

/* 0, or -ENOENT for whatever belongs to a foreign process, -EACCES for what nobody may have. `need`:
 * GRANT_* bits of the policy that what is wanted takes, 0 for attributes. */
int procview_judge(const struct request *r, const struct procview *v, int fd,
                   const struct sys_ident *id, bool on_proc, int need);
/* Can the listing of the root of a procfs be filtered here? Otherwise nobody may open it. */
bool procview_can_list(const struct procview *v);
/* Lists any directory on behalf; without foreign processes when it is the root of a procfs. */
struct verdict procview_getdents(struct request *r);
