/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text to numbers: strict, locale-free, overflow-checked. Pure (path_absolute asks for the current
 * directory). Run in the caller's thread and by the fuzzers; input may be anything.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "policy/internal.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads the digits at *text and moves it behind them. -EINVAL without any, -ERANGE above max. */
static int parse_digits(const char **text, uint64_t max, uint64_t *ret)
{
    const char *p = *text;
    uint64_t v = 0;
    bool overflow = false;

    if (!is_digit(*p))
        return -EINVAL;
    for (; is_digit(*p); p++) {
        uint64_t d = (uint64_t)(*p - '0');

        if (overflow || d > max || v > (max - d) / 10)
            overflow = true;
        else
            v = v * 10 + d;
    }
    *text = p;
    if (overflow)
        return -ERANGE;
    *ret = v;
    return 0;
}

/* A number and nothing behind it. */
static int parse_whole(const char *text, uint64_t max, uint64_t *ret)
{
    uint64_t v;
    int r = parse_digits(&text, max, &v);

    if ((r == 0 || r == -ERANGE) && *text)
        return -EINVAL;
    if (r == 0)
        *ret = v;
    return r;
}

int parse_u32(const char *text, uint32_t *ret)
{
    uint64_t v;
    int r = parse_whole(text, UINT32_MAX, &v);

    if (r == 0)
        *ret = (uint32_t)v;
    return r;
}

int parse_u64(const char *text, uint64_t *ret)
{
    return parse_whole(text, UINT64_MAX, ret);
}

int parse_seconds(const char *text, uint64_t *ret_ns)
{
    uint64_t seconds = 0;
    uint64_t fraction = 0;
    uint64_t unit = 100000000;
    bool rest = false; /* something below a nanosecond */
    int r = 0;

    if (is_digit(*text))
        r = parse_digits(&text, SECONDS_MAX, &seconds);
    else if (*text != '.' || !is_digit(text[1]))
        return -EINVAL;
    if (*text == '.') {
        if (!is_digit(*++text))
            return -EINVAL;
        for (; is_digit(*text); text++, unit /= 10) {
            fraction += (uint64_t)(*text - '0') * unit;
            rest |= unit == 0 && *text != '0';
        }
    }
    if (*text)
        return -EINVAL;
    if (r < 0)
        return r;
    *ret_ns = seconds * 1000000000 + fraction + rest;
    return 0;
}

int parse_size(const char *text, uint64_t *ret_bytes)
{
    unsigned shift = 0;
    uint64_t v = 0;
    int r = parse_digits(&text, UINT64_MAX, &v);

    if (r == -EINVAL)
        return r;
    switch (*text) {
    case 'K':
    case 'k': shift = 10; break;
    case 'M':
    case 'm': shift = 20; break;
    case 'G':
    case 'g': shift = 30; break;
    default: break;
    }
    if (shift)
        text++;
    if (*text)
        return -EINVAL;
    if (r < 0 || v > UINT64_MAX >> shift)
        return -ERANGE;
    if (v == 0)
        return -EINVAL;
    *ret_bytes = v << shift;
    return 0;
}

static const struct {
    char name[7];
    uint8_t number;
} signal_names[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},       {"QUIT", SIGQUIT},   {"ILL", SIGILL},
    {"TRAP", SIGTRAP}, {"ABRT", SIGABRT},     {"BUS", SIGBUS},     {"FPE", SIGFPE},
    {"KILL", SIGKILL}, {"USR1", SIGUSR1},     {"SEGV", SIGSEGV},   {"USR2", SIGUSR2},
    {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},     {"TERM", SIGTERM},   {"CHLD", SIGCHLD},
    {"CONT", SIGCONT}, {"STOP", SIGSTOP},     {"TSTP", SIGTSTP},   {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU}, {"URG", SIGURG},       {"XCPU", SIGXCPU},   {"XFSZ", SIGXFSZ},
    {"PROF", SIGPROF}, {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH}, {"IO", SIGIO},
    {"PWR", SIGPWR},   {"SYS", SIGSYS},
};

int parse_signal(const char *text)
{
    uint32_t n;

    if (is_digit(*text))
        return parse_u32(text, &n) == 0 && n >= 1 && n <= 64 ? (int)n : -EINVAL;
    if (strncasecmp(text, "SIG", 3) == 0)
        text += 3;
    for (size_t i = 0; i < ARRAY_SIZE(signal_names); i++) {
        if (strcasecmp(signal_names[i].name, text) == 0)
            return signal_names[i].number;
    }
    return -EINVAL;
}

char *path_absolute(const char *path)
{
    char dir[PATH_MAX];
    size_t len;
    char *out;

    if (*path == '/')
        return strdup(path);
    /* A kernel without the directory in view answers "(unreachable)/...": not a path. */
    if (!getcwd(dir, sizeof(dir)))
        return NULL;
    if (*dir != '/') {
        errno = ENOENT;
        return NULL;
    }
    while (path[0] == '.' && (path[1] == '/' || path[1] == '\0')) {
        path++;
        while (*path == '/')
            path++;
    }
    len = strlen(dir) + strlen(path) + 2;
    out = malloc(len);
    if (!out)
        return NULL;
    snprintf(out, len, "%s%s%s", dir, *path && dir[1] ? "/" : "", path);
    return out;
}

void path_squeeze(char *path)
{
    char *to = path;

    for (const char *p = path; *p;) {
        while (*p == '/')
            p++;
        if (!*p)
            break;
        size_t n = strcspn(p, "/");
        if (n != 1 || p[0] != '.') {
            *to++ = '/';
            memmove(to, p, n);
            to += n;
        }
        p += n;
    }
    if (to == path)
        *to++ = '/';
    *to = '\0';
}
