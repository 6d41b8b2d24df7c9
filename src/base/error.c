/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *e, enum error_kind kind, int code, const char *where, const char *fmt,
              ...)
{
    if (e) {
        va_list ap;

        e->kind = kind;
        e->code = code;
        snprintf(e->where, sizeof(e->where), "%s", where ? where : "");
        va_start(ap, fmt);
        vsnprintf(e->message, sizeof(e->message), fmt, ap);
        va_end(ap);
    }
    return code ? code : -EINVAL;
}

const char *error_text(int code)
{
    /* strerror() of both C libraries in use returns static strings for known numbers. */
    return strerror(code < 0 ? -code : code);
}
