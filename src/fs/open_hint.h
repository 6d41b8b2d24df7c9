/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which absolute paths led to regular files lately. An open of such a path may be tried at once instead of
 * looking first what is there; what was opened is judged like anything else. Only a hint: when it is wrong
 * (the path leads elsewhere now, another text has the same hash, another sandbox of this process has
 * another tree), a FIFO or device has seen an open for reading without waiting, and the long way follows.
 * Receiver threads; paths are hostile.
 */
#pragma once

#include <stdbool.h>

bool open_hint_is_file(const char *path);
/* What the path led to. */
void open_hint_learn(const char *path, bool is_file);
