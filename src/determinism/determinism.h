/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs that repeat: the wall clock (--time-start) and random bytes (--random-seed). Which calls are
 * notified is in README.md. Receiver threads.
 */
#pragma once

#include <sys/stat.h>
#include <time.h>

#include "fs/virtual.h"
#include "supervisor/supervisor.h"

/* The exec stop of both: vDSO, AT_RANDOM. */
extern const struct feature determinism_image_feature;
extern const struct feature determinism_time_feature;
extern const struct feature determinism_random_feature;

extern const struct virtual_file determinism_random_file, determinism_urandom_file,
    determinism_hwrng_file, determinism_uuid_file, determinism_boot_id_file;

/* Virtual minus real wall clock in nanoseconds, a multiple of 1000, the same for the whole run; 0
 * without --time-start. */
int64_t determinism_time_offset(const struct supervisor *s);
/* Real to virtual: file times on their way to the command. And back, for times it sets. */
void determinism_show_stat(const struct supervisor *s, struct stat *st);
void determinism_show_statx(const struct supervisor *s, void *statx);
void determinism_take_time(const struct supervisor *s, struct timespec *ts);
