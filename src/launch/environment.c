/* SPDX-License-Identifier: Apache-2.0 */
/* The command's environment: inherited or the documented minimal set, then --env (L-07). */
#include "launch/environment.h"

#include <errno.h>
#include <string.h>

extern char **environ;

static const char *const clean_names[] = {"PATH", "HOME", "USER", "TERM", "LANG"};

static bool env_same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");

    return strcspn(b, "=") == n && memcmp(a, b, n) == 0;
}

static bool env_is_clean_name(const char *entry)
{
    size_t n = strcspn(entry, "=");

    for (size_t i = 0; i < ARRAY_SIZE(clean_names); i++) {
        if (strlen(clean_names[i]) == n && memcmp(entry, clean_names[i], n) == 0)
            return true;
    }
    return false;
}

/* The last assignment of a name wins; the block never holds a name twice because of us. */
static bool env_is_overridden(const struct strv *assignments, size_t from, const char *entry)
{
    for (size_t i = from; i < assignments->n; i++) {
        if (env_same_name(assignments->v[i], entry))
            return true;
    }
    return false;
}

char **environment_new(const struct policy *p)
{
    size_t n = 0, at = 0;
    char **v;

    while (environ && environ[n])
        n++;
    v = calloc(n + p->env.n + 2, sizeof(*v));
    if (!v)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (p->clean_env && !env_is_clean_name(environ[i]))
            continue;
        if (!env_is_overridden(&p->env, 0, environ[i]))
            v[at++] = environ[i];
    }
    for (size_t i = 0; i < p->env.n; i++) {
        if (!env_is_overridden(&p->env, i + 1, p->env.v[i]))
            v[at++] = p->env.v[i];
    }
    return v;
}

const char *environment_get(char *const *envp, const char *name)
{
    size_t n = strlen(name);

    for (; *envp; envp++) {
        if (strncmp(*envp, name, n) == 0 && (*envp)[n] == '=')
            return *envp + n + 1;
    }
    return NULL;
}
