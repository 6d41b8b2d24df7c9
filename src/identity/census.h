/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The members of the sandbox counted from /proc. Receiver threads, whose reads of /proc are bookkeeping.
 */
#pragma once

#include "supervisor/supervisor.h"

struct census {
    unsigned processes, threads;
    unsigned running; /* threads that run or could, or wait for a disk: what a load counts */
    pid_t last;       /* the largest number */
    uint64_t ticks;   /* processor time, of ended members too, in clock ticks */
};
/* 0 or -errno. More threads than CENSUS_THREADS are counted, but not looked at. */
#define CENSUS_THREADS 4096u
int census_take(const struct request *r, struct census *ret);

/* The fields of /proc/<pid>/stat that a census needs. */
struct census_stat {
    char state;
    pid_t ppid;
    uint64_t ticks, child_ticks;
    unsigned threads;
};
/* False when the text is not a stat line. The name in it is the process's own and may hold anything. */
bool census_parse(const char *text, struct census_stat *ret);
