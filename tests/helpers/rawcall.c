/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the system calls it reads from stdin, one a line, and prints "RESULT ERRNO [BUFFER...]" for
 * each. Tests write the lines (Script in tests/run/common.py knows numbers and names), so one program covers
 * every call of every machine. Single thread; its input comes from the test.
 *
 *   [NAME=][!]NUMBER ARG...        '!' makes the call in a child: "signal N" when it kills
 *   ARG: 12 -1 0x1f   number            $NAME  result of an earlier line
 *        s:TEXT  string (%41 is 'A')    x:HEX  bytes           b:N  N zero bytes, printed as hex
 *        e:TEXT  unterminated at the end of a page             t:TEXT  string, tag in the top byte
 *        f:      address that faults    k:     kernel address  m(ARG,ARG...)  array of words
 *   NAME==ARG                      keeps an argument (a buffer) for later lines
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536
#define NAMES_MAX 4096
#define SHOWN_MAX 8

static struct {
    char name[32];
    long value;
} names[NAMES_MAX];
static int name_count;
static struct {
    unsigned char *at;
    size_t size;
} shown[SHOWN_MAX];
static int shown_count;

static void die(const char *what, const char *arg)
{
    fprintf(stderr, "rawcall: %s: %s\n", what, arg);
    exit(2);
}

static void name_set(const char *name, long value)
{
    int i = 0;

    while (i < name_count && strcmp(names[i].name, name) != 0)
        i++;
    if (i == NAMES_MAX || strlen(name) >= sizeof(names[i].name))
        die("names", name);
    strcpy(names[i].name, name);
    names[i].value = value;
    if (i == name_count)
        name_count++;
}

static long name_get(const char *name)
{
    for (int i = 0; i < name_count; i++) {
        if (strcmp(names[i].name, name) == 0)
            return names[i].value;
    }
    die("unknown name", name);
    return 0;
}

/* Undoes %XX in place; returns the length. */
static size_t unescape(char *s)
{
    char *out = s;

    for (char *p = s; *p; p++) {
        char hex[3] = {0};

        if (*p == '%' && p[1] && p[2]) {
            memcpy(hex, p + 1, 2);
            *out++ = (char)strtoul(hex, NULL, 16);
            p += 2;
        } else {
            *out++ = *p;
        }
    }
    *out = '\0';
    return (size_t)(out - s);
}

static void *duplicate(const void *data, size_t n, size_t more)
{
    char *p = calloc(1, n + more + 1);

    if (!p)
        die("memory", "");
    memcpy(p, data, n);
    return p;
}

/* Data whose next byte is not mapped. */
static long at_edge(const char *data, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page) / page * page;
    char *map = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED || mprotect(map + room, page, PROT_NONE) < 0)
        die("mmap", "");
    memcpy(map + room - n, data, n);
    return (long)(map + room - n);
}

static long hex_bytes(char *s)
{
    size_t n = strlen(s) / 2;
    unsigned char *p = duplicate("", 0, n);

    for (size_t i = 0; i < n; i++) {
        char hex[3] = {s[2 * i], s[2 * i + 1], 0};

        p[i] = (unsigned char)strtoul(hex, NULL, 16);
    }
    return (long)p;
}

static long buffer(const char *size)
{
    size_t n = strtoul(size, NULL, 0);
    void *p = duplicate("", 0, n);

    if (shown_count < SHOWN_MAX) {
        shown[shown_count].at = p;
        shown[shown_count++].size = n;
    }
    return (long)p;
}

static long simple(char *s)
{
    size_t n;

    if (*s == '$')
        return name_get(s + 1);
    if (s[0] && s[1] == ':') {
        switch (s[0]) {
        case 'x': return hex_bytes(s + 2);
        case 'b': return buffer(s + 2);
        case 'f': return at_edge("", 0);
        case 'k': return (long)0xffff800000000000ul;
        default: break;
        }
        n = unescape(s + 2);
        switch (s[0]) {
        case 's': return (long)duplicate(s + 2, n, 0);
        case 'e': return at_edge(s + 2, n);
        case 't': return (long)((uintptr_t)duplicate(s + 2, n, 0) | (0x5aul << 56));
        default: die("argument", s);
        }
    }
    return (long)strtoull(s, NULL, 0);
}

/* Reads one argument at *p and moves behind it. */
static long argument(char **p)
{
    char *start = *p, end;
    long words[64], value;
    size_t n = 0;

    if (start[0] == 'm' && start[1] == '(') {
        *p += 2;
        while (**p && **p != ')') {
            if (n == 64)
                die("too many words", start);
            words[n++] = argument(p);
            if (**p == ',')
                ++*p;
        }
        if (**p == ')')
            ++*p;
        return (long)duplicate(words, n * sizeof(long), 0);
    }
    *p += strcspn(start, ",) \n");
    end = **p;
    **p = '\0';
    value = simple(start);
    **p = end;
    return value;
}

static void report(long ret, int error)
{
    printf("%ld %d", ret, ret == -1 ? error : 0);
    for (int i = 0; i < shown_count; i++) {
        size_t n = shown[i].size;

        while (n && !shown[i].at[n - 1])
            n--;
        putchar(' ');
        if (!n)
            putchar('-');
        for (size_t k = 0; k < n; k++)
            printf("%02x", shown[i].at[k]);
    }
    putchar('\n');
}

static long call(long nr, const long *a)
{
    return syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* vfork would come back twice on one stack, whose second return leads anywhere: libc's does not. */
static long call_once(long nr, const long *a)
{
#ifdef SYS_vfork
    if (nr == SYS_vfork) {
        pid_t child = vfork();

        if (child == 0)
            _exit(0);
        return child;
    }
#endif
    return call(nr, a);
}

/* The call in a child, which cannot hurt the rest and cannot hang. */
static void call_forked(long nr, const long *a)
{
    const char *slow = getenv("SANDLOCK_SLOW");
    const struct itimerval limit = {.it_value = {.tv_sec = slow ? 3 : 0, .tv_usec = 400000}};
    long answer[2] = {0, 0};
    int fd[2], status = 0;
    ssize_t got;
    pid_t pid;

    fflush(stdout);
    if (pipe(fd) < 0)
        die("pipe", strerror(errno));
    pid = fork();
    if (pid < 0)
        die("fork", strerror(errno));
    if (pid == 0) {
        close(fd[0]);
        setitimer(ITIMER_REAL, &limit, NULL);
        errno = 0;
        answer[0] = call_once(nr, a);
        answer[1] = errno;
        got = write(fd[1], answer, sizeof(answer));
        _exit(got != sizeof(answer));
    }
    close(fd[1]);
    got = read(fd[0], answer, sizeof(answer));
    close(fd[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (got == sizeof(answer))
        report(answer[0], (int)answer[1]);
    else if (WIFSIGNALED(status))
        printf("signal %d\n", WTERMSIG(status));
    else
        printf("exit %d\n", WEXITSTATUS(status));
}

static void line(char *s)
{
    char *equal = strchr(s, '='), *space = strchr(s, ' '), *name = NULL;
    long a[6] = {0}, nr, ret;
    int forked = 0;

    if (equal && (!space || equal < space)) {
        *equal = '\0';
        name = s;
        s = equal + 1;
    }
    if (*s == '=') { /* NAME==ARG: only keeps the argument */
        s++;
        name_set(name, argument(&s));
        puts("0 0");
        return;
    }
    if (*s == '!') {
        forked = 1;
        s++;
    }
    nr = argument(&s);
    for (int i = 0; i < 6 && *s == ' '; i++) {
        s++;
        a[i] = argument(&s);
    }
    if (forked) {
        call_forked(nr, a);
        return;
    }
    errno = 0;
    ret = call(nr, a);
    report(ret, errno);
    if (name)
        name_set(name, ret);
}

int main(void)
{
    static char text[LINE_MAX_BYTES];

    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_DFL);
    while (fgets(text, sizeof(text), stdin)) {
        shown_count = 0;
        text[strcspn(text, "\n")] = '\0';
        if (*text)
            line(text);
    }
    return 0;
}
