/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user of an image ("name", "uid", "name:group", "uid:gid") as numbers. Names are looked up in the
 * image's own files, which are hostile: bounded, found beneath the root, read as lines of colons.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>

#include "image/image.h"
#include "sys/fs.h"

#define USER_FILE_MAX (1u << 20)

/* One file of the image, NUL-terminated; NULL when it has none of that kind. */
static char *user_file(int root_fd, const char *path)
{
    _cleanup_close_ int fd =
        sys_openat2(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0,
                    RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    char *text = fd >= 0 ? malloc(USER_FILE_MAX + 1) : NULL;
    size_t n = 0;
    ssize_t k;

    if (!text)
        return NULL;
    while (n < USER_FILE_MAX && (k = read(fd, text + n, USER_FILE_MAX - n)) > 0)
        n += (size_t)k;
    text[n] = '\0';
    return text;
}

static bool user_number(const char *s, unsigned long *ret)
{
    char *end;

    if (!*s || strspn(s, "0123456789") == 0)
        return false;
    errno = 0;
    *ret = strtoul(s, &end, 10);
    return !errno && (*end == '\0' || *end == ':') && *ret < UINT32_MAX;
}

/* The third and fourth field of the line whose field number `key` (0 or 2) is the word. */
static bool user_find(const char *text, size_t key, const char *word, size_t n,
                      unsigned long ret[2])
{
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        const char *field[4] = {line + (*line == '\n')};
        size_t count = 1;

        for (; count < ARRAY_SIZE(field); count++) {
            const char *colon = field[count - 1] + strcspn(field[count - 1], ":\n");

            if (*colon != ':')
                break;
            field[count] = colon + 1;
        }
        line = field[0];
        if (count > 2 && strcspn(field[key], ":\n") == n && strncmp(field[key], word, n) == 0 &&
            user_number(field[2], &ret[0])) {
            if (count < 4 || !user_number(field[3], &ret[1]))
                ret[1] = ret[0];
            return true;
        }
    }
    return false;
}

int image_user(int root_fd, const char *user, char ret[32], struct error *err)
{
    _cleanup_free_ char *passwd = user_file(root_fd, "etc/passwd");
    _cleanup_free_ char *group = user_file(root_fd, "etc/group");
    size_t n = strcspn(user, ":");
    unsigned long id[2] = {0, 0}, of_group[2];
    const char *group_word = user[n] == ':' ? user + n + 1 : NULL;
    bool found = passwd && user_find(passwd, 0, user, n, id);

    /* A number need not be in the file; its group is 0 then, as elsewhere. */
    if (!found && user_number(user, &id[0])) {
        found = true;
        if (passwd)
            (void)user_find(passwd, 2, user, n, id);
    }
    if (found && group_word && *group_word) {
        found = group && user_find(group, 0, group_word, strlen(group_word), of_group);
        if (found)
            id[1] = of_group[0];
        else
            found = user_number(group_word, &id[1]);
    }
    if (!found)
        return error_set(
            err, ERROR_SETUP, -ENOENT, "--image",
            "the image runs as user \"%.60s\", which it does not have (accepted: --user "
            "UID:GID)",
            user);
    snprintf(ret, 32, "%lu:%lu", id[0], id[1]);
    return 0;
}

bool image_home(int root_fd, const char *ids, char *ret, size_t size)
{
    _cleanup_free_ char *passwd = user_file(root_fd, "etc/passwd");
    size_t n = strcspn(ids, ":");

    for (char *line = passwd, *end; line; line = end ? end + 1 : NULL) {
        char *field[6] = {line}, *next = line;
        size_t count = 1, len;

        end = strchr(line, '\n');
        if (end)
            *end = '\0';
        while (count < ARRAY_SIZE(field) && (next = strchr(next, ':')))
            field[count++] = ++next;
        if (count < ARRAY_SIZE(field) || strncmp(field[2], ids, n) != 0 || field[2][n] != ':')
            continue;
        len = strcspn(field[5], ":");
        if (field[5][0] != '/' || len >= size)
            return false;
        memcpy(ret, field[5], len);
        ret[len] = '\0';
        return true;
    }
    return false;
}
