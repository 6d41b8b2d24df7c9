/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandlock program: finds the command and hands over. The main thread; words are our own user's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "policy/suggest.h"

/* The first COMMANDS_BUILT exist; the others belong to later features and are refused by name. */
static const char commands[][12] = {
    "run",     "check", "recover",    "ps",      "inspect", "kill",
    "profile", "learn", "checkpoint", "restore", "explain", "completion",
};
#define COMMANDS_BUILT 3

/* With a standard descriptor closed the next file opened would take its number, and messages would go
 * into it. The plugs close on exec: the command finds the descriptors closed, as it would without us. */
static int plug_standard_descriptors(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR | O_CLOEXEC) != fd)
            return -1;
    }
    return 0;
}

static int fail_usage(const char *where, const char *format, const char *arg)
{
    struct error err = {0};
    char message[128];

    snprintf(message, sizeof(message), format, arg);
    error_set(&err, ERROR_USAGE, -EINVAL, where, "%s", message);
    return cli_fail(&err);
}

static int fail_command(const char *word)
{
    struct suggestion s = {.word = word};
    struct error err = {0};

    for (size_t i = COMMANDS_BUILT; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(commands[i], word) == 0) {
            error_set(&err, ERROR_POLICY, -EOPNOTSUPP, word, "not built in yet");
            return cli_fail(&err);
        }
    }
    if (*word == '-')
        return fail_usage(word, "unknown option; %s", "options of a command go behind its name");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        suggest_offer(&s, commands[i]);
    if (s.best)
        return fail_usage(word, "unknown command; did you mean %s?", s.best);
    return fail_usage(word, "unknown command; %s", "see sandlock --help");
}

/* `sandlock help COMMAND`, as in git: what COMMAND --help says. */
static int help_command(char **words)
{
    if (!words[0])
        return cli_help(COMMAND_TOP);
    if (words[1])
        return fail_usage("help", "unexpected word \"%s\" (accepted: one command)", words[1]);
    if (strcmp(words[0], "run") == 0)
        return cli_help(COMMAND_RUN);
    if (strcmp(words[0], "check") == 0)
        return cli_help(COMMAND_CHECK);
    if (strcmp(words[0], "recover") == 0)
        return cli_help(COMMAND_RECOVER);
    return fail_command(words[0]);
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;

    if (plug_standard_descriptors() < 0)
        return EXIT_OWN_FAILURE;
    if (!word)
        return fail_usage("", "no command given; %s", "see sandlock --help");
    if (strcmp(word, "run") == 0)
        return cli_run(argv + 2);
    if (strcmp(word, "check") == 0)
        return cli_check(argv + 2);
    if (strcmp(word, "recover") == 0)
        return cli_recover(argv + 2);
    if (strcmp(word, "help") == 0)
        return help_command(argv + 2);
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return cli_help(COMMAND_TOP);
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        return cli_print_version();
    return fail_command(word);
}
