/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. Receiver threads. */
#pragma once

#include "determinism/determinism.h"
#include "determinism/vdso.h"

#define SECOND_NS INT64_C(1000000000)

/* ---- image.c ---- */

/* Was the call made by a function of a vDSO that we corrected? Such a call gets the truth. */
bool image_called(const struct request *r);
/* Was it made by the `recall` code, with arguments of ours? */
bool image_recalled(const struct request *r);
/*
 * Ends the notification by letting the caller make the same call once more in which argument
 * `data_arg` points to `data`, at most 32 bytes. The call returns to the caller as
 * if nothing had been, interrupted and restarted by the kernel as ever. The second call is notified as
 * well: see image_recalled().
 */
struct verdict image_recall(const struct request *r, unsigned data_arg, const void *data,
                            size_t size);

/* ---- clock.c ---- */

/* ts + ns, where both are normalised and the result stays within time_t. */
void clock_add(struct timespec *ts, int64_t ns);

/* ---- deadline.c ---- */
struct verdict deadline_clock_nanosleep(struct request *r);
struct verdict deadline_timer_settime(struct request *r);
struct verdict deadline_timerfd_settime(struct request *r);
struct verdict deadline_futex(struct request *r);
struct verdict deadline_futex_wait(struct request *r);
struct verdict deadline_futex_waitv(struct request *r);
struct verdict deadline_mq_timed(struct request *r);
/* The absolute deadline as the real clock has it; what is no valid time stays as it is. */
struct timespec deadline_real(struct timespec virtual, int64_t offset_ns);

/* ---- stream.c ---- */

#define STREAM_KEY 32

/* Where the streams of all processes of a sandbox stand. */
struct streams;
struct streams *streams_new(uint64_t seed);
void streams_free(struct streams *s);
/* Takes the next n bytes of the process's own stream: to be had by stream_read() from *ret_at on.
 * -ESRCH when nobody registered the process: then nothing may be handed out. */
int stream_take(struct streams *s, pid_t tgid, uint64_t n, uint8_t ret_key[STREAM_KEY],
                uint64_t *ret_at);
void stream_read(const uint8_t key[STREAM_KEY], uint64_t at, void *out, size_t n);
/* A key of its own for the next thing that the process makes and that draws by itself. */
int stream_derive(struct streams *s, pid_t tgid, uint8_t ret_key[STREAM_KEY]);
/* `child` is the next child of the process. */
int stream_fork(struct streams *s, pid_t tgid, pid_t child);
bool stream_has(struct streams *s, pid_t tgid);
/* The same for everybody in the sandbox. */
void streams_common(const struct streams *s, void *out, size_t n);

/* ---- random.c ---- */

struct random_state {
    struct streams *streams;
    struct feeder *feeder;
    _Atomic unsigned patience_ms; /* spawn.c */
};
struct random_state *random_state(const struct request *r);
/* The caller's process. */
int random_tgid(const struct request *r, pid_t *ret);
/* The next n bytes of a process's own stream. -errno: then nothing may be handed out. */
int random_bytes(const struct request *r, pid_t tgid, void *out, size_t n);

/* ---- spawn.c ---- */
struct verdict random_on_spawn(struct request *r);

/* ---- device.c ---- */

/* Endless reads: a thread that keeps pipes full. */
struct feeder *feeder_new(void);
void feeder_free(struct feeder *f);
