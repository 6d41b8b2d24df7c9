/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets an exec go on and looks at what was really loaded, before its first instruction runs. For
 * features that must not trust the path of an exec. Runs in the receiver that got the notification.
 */
#pragma once

#include "supervisor/supervisor.h"

/*
 * Answers the notification of r (an exec) with CONTINUE under ptrace. At the exec event `check` is
 * called with the process stopped in its new image; a non-zero result kills it. Returns the verdict
 * for the handler: GONE when the call was answered, an errno when the caller cannot be traced.
 * Needs kernel->ptrace.
 */
struct verdict exec_guard_run(const struct request *r,
                              int (*check)(const struct request *r, pid_t pid, void *arg),
                              void *arg);
