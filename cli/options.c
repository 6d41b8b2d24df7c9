/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks a command line with an option table. The main thread, before anything is created; the words
 * are our own user's. Nothing behind the first word that is no option is looked at.
 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "policy/suggest.h"

#define OPT(id, long_name, short_name, value, option_flags, group, help) \
    {.name = long_name, .letter = short_name, .flags = (option_flags) | ((value) ? OPT_VALUE : 0)},
const struct option run_options[RUN_OPTION_COUNT] = {
#include "run_options.def"
};
const struct option check_options[CHECK_OPTION_COUNT] = {
#include "check_options.def"
};
const struct option recover_options[RECOVER_OPTION_COUNT] = {
#include "recover_options.def"
};
#undef OPT
_Static_assert(RUN_OPTION_COUNT <= 128, "struct option_parser has two words of bits");

/* Index of the option called `name` (of that length), or -1. */
static int option_find(const struct option_parser *p, const char *name, size_t len)
{
    for (size_t i = 0; i < p->count; i++) {
        if (strncmp(p->options[i].name, name, len) == 0 && p->options[i].name[len] == '\0')
            return (int)i;
    }
    return -1;
}

static int option_find_letter(const struct option_parser *p, char c)
{
    for (size_t i = 0; i < p->count; i++) {
        if (c && p->options[i].letter == c)
            return (int)i;
    }
    return -1;
}

static int unknown_long(const struct option_parser *p, const char *word, size_t len,
                        struct error *err)
{
    char name[64] = "";
    struct suggestion s = {.word = name};

    if (len < sizeof(name)) {
        memcpy(name, word, len);
        for (size_t i = 0; i < p->count; i++)
            suggest_offer(&s, p->options[i].name);
    }
    /* `where` holds 159 bytes: a longer word is cut there. */
    if (s.best)
        error_set(err, ERROR_USAGE, -EINVAL, NULL, "unknown option; did you mean --%s?", s.best);
    else
        error_set(err, ERROR_USAGE, -EINVAL, NULL, "unknown option");
    snprintf(err->where, sizeof(err->where), "--%.*s", (int)MIN(len, (size_t)150), word);
    return -EINVAL;
}

/* Checks what the table says about option i, before its value is looked at. */
static int option_admit(struct option_parser *p, int i, struct error *err)
{
    const struct option *o = &p->options[i];

    snprintf(p->flag, sizeof(p->flag), "--%s", o->name);
    if (o->flags & OPT_LATER)
        return error_set(err, ERROR_POLICY, -EOPNOTSUPP, p->flag, "not built in yet");
    if (option_seen(p, (unsigned)i) && (o->flags & OPT_VALUE) && !(o->flags & OPT_REPEAT))
        return error_set(err, ERROR_USAGE, -EINVAL, p->flag, "given more than once");
    p->seen[i / 64] |= (uint64_t)1 << (i % 64);
    return 0;
}

/* The value in the following word. */
static int take_word(struct option_parser *p, const char **ret, struct error *err)
{
    const char *word = *p->argv;

    /* A value that looks like an option is most often a forgotten one. */
    if (!word || strncmp(word, "--", 2) == 0)
        return error_set(err, ERROR_USAGE, -EINVAL, p->flag, "needs a value%s",
                         word ? " (write --option=VALUE if it really begins with --)" : "");
    p->argv++;
    *ret = word;
    return 0;
}

static int next_long(struct option_parser *p, const char *word, const char **ret_value,
                     struct error *err)
{
    const char *eq = strchr(word, '=');
    size_t len = eq ? (size_t)(eq - word) : strlen(word);
    int i = option_find(p, word, len);
    int r;

    if (i < 0)
        return unknown_long(p, word, len, err);
    r = option_admit(p, i, err);
    if (r < 0)
        return r;
    if (eq && !(p->options[i].flags & OPT_VALUE))
        return error_set(err, ERROR_USAGE, -EINVAL, p->flag, "takes no value");
    *ret_value = eq ? eq + 1 : NULL;
    if (!eq && (p->options[i].flags & (OPT_VALUE | OPT_OPTIONAL)) == OPT_VALUE)
        r = take_word(p, ret_value, err);
    return r < 0 ? r : i;
}

static int next_letter(struct option_parser *p, const char **ret_value, struct error *err)
{
    char c = *p->bundle++;
    int i = option_find_letter(p, c);
    int r;

    if (i < 0) {
        char where[3] = {'-', c, '\0'};

        return error_set(err, ERROR_USAGE, -EINVAL, where, "unknown option");
    }
    r = option_admit(p, i, err);
    if (r < 0)
        return r;
    *ret_value = NULL;
    if (p->options[i].flags & OPT_VALUE) {
        /* -rPATH, -r=PATH, -r PATH */
        if (*p->bundle)
            *ret_value = p->bundle + (*p->bundle == '=');
        else
            r = take_word(p, ret_value, err);
        p->bundle = NULL;
    } else if (!*p->bundle) {
        p->bundle = NULL;
    }
    return r < 0 ? r : i;
}

int option_next(struct option_parser *p, const char **ret_value, struct error *err)
{
    const char *word = *p->argv;

    if (p->bundle)
        return next_letter(p, ret_value, err);
    if (!word || word[0] != '-' || word[1] == '\0')
        return -ENOENT;
    p->argv++;
    if (word[1] != '-') {
        p->bundle = word + 1;
        return next_letter(p, ret_value, err);
    }
    if (word[2] == '\0')
        return -ENOENT;
    return next_long(p, word + 2, ret_value, err);
}
