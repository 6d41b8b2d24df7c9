/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exec stop: lets an exec go on and shows the new image to every feature that has an `exec`
 * hook, before its first instruction runs. Runs in the receiver that got the notification.
 */
#pragma once

#include "supervisor/supervisor.h"

/*
 * For an exec that the handlers let continue with verdict v. Without hooks: v. Else answers under
 * ptrace and runs the hooks at the exec event; the first that returns non-zero kills the process.
 * GONE when the call was answered, an errno when the caller cannot be traced.
 */
struct verdict exec_guard_run(const struct request *r, struct verdict v);
/* The hooks of one exec, in feature order, for who traces the process itself: 0, or non-zero when it must
 * be killed. */
int exec_guard_hooks(const struct request *r, pid_t pid);
/* At start, for a feature with a hook. 0, or the error that says why it cannot work here. */
int exec_guard_check(const struct feature *f, struct error *err);
