/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User and group numbers between a command in its own user namespace (--user) and the supervisor
 * outside. The map has one line: the policy's ids are ours. Pure; any thread.
 */
#pragma once

#include <sys/stat.h>

#include "policy/policy.h"

/* Replaces owners in *st by what the command sees natively. */
void ids_show(const struct policy *p, struct stat *st);
void ids_show_pair(const struct policy *p, uint32_t *uid, uint32_t *gid);
/* From the command's numbers to ours; (uid_t)-1 stays. -EINVAL when the namespace lacks the id. */
int ids_take(const struct policy *p, uid_t *uid, gid_t *gid);
