/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share and nobody else needs. Runs in the caller's thread while a
 * policy is being built; the text it works on is our own user's.
 */
#pragma once

#include "policy/policy.h"

/* Values are echoed in messages at this length at most, so that the explanation still fits. */
#define SHOWN "\"%.80s\""

#define CPU_CORE_MAX 8191u /* the kernel's largest NR_CPUS is 8192 */
#define GPU_DEVICE_MAX 1023u
#define PROCESSES_MAX 4194304u /* the kernel's PID_MAX_LIMIT */
#define NUM_CPUS_MAX 1024u     /* what a cpu_set_t can show */
#define MEMORY_MIN (1024u * 1024u)
#define NAME_LEN_MAX 64u
#define SECONDS_MAX 1000000000u /* some 31 years: far from overflow in nanoseconds */
#define DNS_REFRESH_MIN_NS 100000000ull
#define STOP_GRACE_DEFAULT_NS 200000000ull

/* Returns -ENOMEM with the error filled. */
int policy_error_memory(const char *flag, struct error *err);
/* Sorts and joins overlapping or touching ranges. */
void port_set_normalise(struct port_set *s);
/* The cores this process may run on, as "0-3,8". */
struct cpu_mask {
    unsigned long w[(CPU_CORE_MAX + 1) / (8 * sizeof(unsigned long))];
};
bool cpu_mask_read(struct cpu_mask *m);
bool cpu_mask_has(const struct cpu_mask *m, uint32_t core);
void cpu_mask_print(const struct cpu_mask *m, char *out, size_t size);
