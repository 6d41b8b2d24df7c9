/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The component-by-component walk behind resolve_path(): used whenever the kernel's own walk could
 * have meant the supervisor instead of the task (procfs), or failed. Receiver threads; hostile path.
 */
#pragma once

#include "fs/resolve.h"

/* Walks `path` from start_fd (O_PATH directory, borrowed; -1 for absolute paths). */
int walk_path(const struct request *r, int start_fd, const char *path, unsigned flags,
              struct resolved *ret);
