/* SPDX-License-Identifier: Apache-2.0 */
/* Where to look for the command, and why it could not be executed. Runs in the caller. */
#pragma once

#include "base/error.h"
#include "base/strv.h"
#include "plan/root.h"

/* The paths execvp(3) would try for `file` under the PATH of envp. 0 or -ENOMEM. */
int exec_path_candidates(const char *file, char *const *envp, struct strv *ret);
/* Is there something other than a directory, in the command's tree? For messages. */
bool exec_path_exists(const struct root *root, const char *path);
/* Turns the errno of the failed exec into exit 126 or 127 and a sentence with the cause: missing
 * command, missing interpreter, missing grant, no execute permission. Returns code. */
int exec_path_explain(const struct root *root, const char *file, const char *tried, int code,
                      struct error *err);
