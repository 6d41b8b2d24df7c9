/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words about work that takes longer than a second, on a terminal's standard error, one line that goes
 * when the work is done. Silent elsewhere. Any thread; nothing of it is exact.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "cli.h"

#define SILENT_NS UINT64_C(1000000000)
#define PAUSE_NS UINT64_C(200000000)

static struct {
    _Atomic uint64_t started, done, last;
    atomic_bool shown;
} now_shown;

static void show(const char *text, size_t n)
{
    (void)!write(STDERR_FILENO, text, n);
}

void cli_progress_end(void)
{
    if (atomic_exchange(&now_shown.shown, false))
        show("\r\033[K", 4);
    now_shown.started = 0;
}

void cli_progress(void *arg, const char *what, uint64_t done, uint64_t of)
{
    uint64_t now = util_now_ns();
    char line[128];
    int n;

    (void)arg;
    if (!now_shown.started || done < now_shown.done) /* something else began */
        now_shown.started = now;
    now_shown.done = done;
    if (done >= of) {
        cli_progress_end();
        return;
    }
    if (now - now_shown.started < SILENT_NS || now - now_shown.last < PAUSE_NS ||
        !isatty(STDERR_FILENO))
        return;
    now_shown.last = now;
    now_shown.shown = true;
    n = snprintf(line, sizeof(line), "\rsandlock: %s: %u%%\033[K", what,
                 of ? (unsigned)(done * 100.0 / (double)of) : 0);
    if (n > 0)
        show(line, (size_t)n);
}
