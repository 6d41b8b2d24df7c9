/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages and output without stdio: one write a message, so that lines of several sandboxes do not
 * mix, and nothing buffered that a child could write twice. The main thread; words are our own user's.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"

static int write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* A message is one line and cannot drive the terminal: control characters become \xNN. */
static void message_write(const char *text)
{
    char line[2048] = "sandlock: ";
    size_t n = strlen(line);

    for (const unsigned char *p = (const unsigned char *)text; *p && n < sizeof(line) - 6; p++) {
        if (*p >= 0x20 && *p != 0x7f) {
            line[n++] = (char)*p;
        } else {
            snprintf(line + n, 5, "\\x%02x", *p);
            n += 4;
        }
    }
    line[n++] = '\n';
    (void)write_all(STDERR_FILENO, line, n);
}

void cli_note(const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    message_write(text);
}

int cli_fail(const struct error *err)
{
    if (*err->message) /* empty: a helper program has told already */
        cli_note("%s%s%s", err->where, *err->where ? ": " : "", err->message);
    switch (err->kind) {
    case ERROR_USAGE: return EXIT_WRONG_USAGE;
    case ERROR_NOTFOUND: return EXIT_NOT_FOUND;
    case ERROR_NOEXEC: return EXIT_NOT_EXECUTABLE;
    case ERROR_NONE:
    case ERROR_POLICY:
    case ERROR_SETUP: break;
    }
    return EXIT_OWN_FAILURE;
}

int cli_print(struct buf *b)
{
    int r = buf_error(b);

    if (r == 0)
        r = write_all(STDOUT_FILENO, buf_cstr(b), b->len);
    if (r == 0)
        return 0;
    cli_note("cannot write to standard output: %s", error_text(r));
    return EXIT_OWN_FAILURE;
}

int cli_print_version(void)
{
    _cleanup_buf_ struct buf b = {0};

    buf_adds(&b, "sandlock " SANDLOCK_VERSION "\n");
    return cli_print(&b);
}
