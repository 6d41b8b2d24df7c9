/* SPDX-License-Identifier: Apache-2.0 */
#include "base/strv.h"

#include <errno.h>
#include <string.h>

void strv_fini(struct strv *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    *s = (struct strv){0};
}

int strv_take(struct strv *s, char *str)
{
    char **v;

    if (!str)
        return -ENOMEM;
    v = reallocarray(s->v, s->n + 2, sizeof(*v));
    if (!v) {
        free(str);
        return -ENOMEM;
    }
    v[s->n++] = str;
    v[s->n] = NULL;
    s->v = v;
    return 0;
}

int strv_add(struct strv *s, const char *str)
{
    return strv_take(s, strdup(str));
}

int strv_add_all(struct strv *s, const char *const *v, size_t n)
{
    int e = 0;

    for (size_t i = 0; i < n && e == 0; i++)
        e = v[i] ? strv_add(s, v[i]) : -EINVAL;
    return e;
}
