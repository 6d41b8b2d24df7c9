/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points in time as text: RFC 3339 or seconds since 1970. Strict, locale-free; pure. The caller's
 * thread and the fuzzers; input may be anything.
 */
#include <errno.h>
#include <string.h>

#include "policy/internal.h"

#define SECOND_NS 1000000000
#define TIME_MAX 7258118400 /* 2200-01-01T00:00:00Z */

/* Exactly n digits, then the character `end` unless it is 0. Moves *text behind them; -1 if not. */
static int take(const char **text, int n, char end)
{
    int v = 0;

    for (; n > 0; n--, (*text)++) {
        if (**text < '0' || **text > '9')
            return -1;
        v = v * 10 + (**text - '0');
    }
    if (end && *(*text)++ != end)
        return -1;
    return v;
}

/* Days since 1970-01-01 in the Gregorian calendar; years begin in March, so that leap days are last. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t m = month > 2 ? month - 3 : month + 9;

    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static int month_days(int year, int month)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return days[month - 1] + (month == 2 && leap);
}

/* Digits behind a point as nanoseconds; what is smaller is dropped. -1 without any digit. */
static int32_t fraction_of(const char **text)
{
    int32_t v = 0, unit = SECOND_NS / 10;
    const char *p = *text;

    for (; *p >= '0' && *p <= '9'; p++, unit /= 10)
        v += (*p - '0') * unit;
    if (p == *text)
        return -1;
    *text = p;
    return v;
}

/* "Z" or "+hh:mm", to the end of the text: seconds east. */
static int zone_of(const char *text, int *ret)
{
    int sign = *text == '-' ? -1 : 1, hours, minutes;

    *ret = 0;
    if ((*text == 'Z' || *text == 'z') && !text[1])
        return 0;
    if (*text != '+' && *text != '-')
        return -EINVAL;
    text++;
    hours = take(&text, 2, ':');
    minutes = hours < 0 ? -1 : take(&text, 2, 0);
    if (minutes < 0 || *text || hours > 23 || minutes > 59)
        return -EINVAL;
    *ret = sign * (hours * 3600 + minutes * 60);
    return 0;
}

static int rfc3339(const char *text, int64_t *ret_s, int32_t *ret_ns)
{
    int year = take(&text, 4, '-'), month = year < 0 ? -1 : take(&text, 2, '-');
    int day = month < 0 ? -1 : take(&text, 2, 0), hour, minute, second, zone;

    if (day < 0 || !*text || !strchr("Tt ", *text))
        return -EINVAL;
    text++;
    hour = take(&text, 2, ':');
    minute = hour < 0 ? -1 : take(&text, 2, ':');
    second = minute < 0 ? -1 : take(&text, 2, 0);
    /* 60 is a leap second, which the clocks of this system do not have: the next minute begins. */
    if (second < 0 || month < 1 || month > 12 || day < 1 || day > month_days(year, month) ||
        hour > 23 || minute > 59 || second > 60)
        return -EINVAL;
    *ret_ns = 0;
    if (*text == '.') {
        text++;
        *ret_ns = fraction_of(&text);
        if (*ret_ns < 0)
            return -EINVAL;
    }
    if (zone_of(text, &zone) < 0)
        return -EINVAL;
    *ret_s = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zone;
    return 0;
}

static int epoch(const char *text, int64_t *ret_s, int32_t *ret_ns)
{
    int64_t s = 0;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    for (; *text >= '0' && *text <= '9'; text++)
        s = MIN(s * 10 + (*text - '0'), TIME_MAX);
    *ret_ns = 0;
    if (*text == '.') {
        text++;
        *ret_ns = fraction_of(&text);
    }
    if (*ret_ns < 0 || *text)
        return -EINVAL;
    *ret_s = s;
    return 0;
}

int parse_time(const char *text, int64_t *ret_ns)
{
    int64_t s;
    int32_t ns;
    int r = strspn(text, "0123456789") == 4 && text[4] == '-' ? rfc3339(text, &s, &ns)
                                                              : epoch(text, &s, &ns);

    if (r < 0)
        return r;
    if (s < 0 || s >= TIME_MAX)
        return -ERANGE;
    *ret_ns = s * SECOND_NS + ns;
    return 0;
}

int policy_set_time_start(struct policy *p, const char *flag, const char *time, struct error *err)
{
    int64_t ns;
    int r = parse_time(time, &ns);

    if (r == -ERANGE)
        return error_set(err, ERROR_USAGE, r, flag, SHOWN " is not between 1970 and 2199", time);
    if (r < 0)
        return error_set(err, ERROR_USAGE, r, flag,
                         SHOWN " is not a time (accepted: 2024-02-29T12:00:00Z, "
                               "2024-02-29T12:00:00.5+01:00, or seconds since 1970)",
                         time);
    p->has_time_start = true;
    p->time_start_ns = ns;
    return 0;
}

int policy_set_random_seed(struct policy *p, const char *flag, const char *n, struct error *err)
{
    uint64_t v;

    if (parse_u64(n, &v) < 0)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " is not a seed (accepted: 0 to 18446744073709551615)", n);
    p->has_random_seed = true;
    p->random_seed = v;
    return 0;
}
