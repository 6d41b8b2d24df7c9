/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of --explain: format, escaping, and the reason read from a refused call's registers.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "supervisor/explain.h"

static void assert_line(const struct explain_event *e, const char *want)
{
    _cleanup_buf_ struct buf b = {0};

    explain_format(&b, e);
    assert_string_equal(buf_cstr(&b), want);
}

static void test_format(void **state)
{
    struct explain_event e = {.operation = "open",
                              .subject = "/etc/shadow",
                              .rule = "no grant",
                              .hint = "-r",
                              .err = EACCES,
                              .pid = 123,
                              .comm = "python3"};

    (void)state;
    assert_line(&e, "sandlock: denied: open /etc/shadow (Permission denied) by python3[123]: "
                    "no grant; allow with: -r /etc/shadow\n");
    e.hint = "-w /etc";
    assert_line(&e, "sandlock: denied: open /etc/shadow (Permission denied) by python3[123]: "
                    "no grant; allow with: -w /etc\n");
    e.hint = "-r";
    e.subject = "/proc/123/mounts";
    assert_line(&e, "sandlock: denied: open /proc/123/mounts (Permission denied) by python3[123]: "
                    "no grant; allow with: -r /proc\n");
    e.subject = "/proc/filesystems";
    assert_line(&e, "sandlock: denied: open /proc/filesystems (Permission denied) by python3[123]: "
                    "no grant; allow with: -r /proc/filesystems\n");
    e.subject = "/etc/shadow";
    e.hint = "remove the path from --fs-deny";
    assert_line(&e, "sandlock: denied: open /etc/shadow (Permission denied) by python3[123]: "
                    "no grant; remove the path from --fs-deny\n");
    e.hint = e.rule = e.subject = NULL;
    assert_line(&e, "sandlock: denied: open (Permission denied) by python3[123]\n");
}

/* Nothing of the child's reaches a terminal as a control sequence. */
static void test_escape(void **state)
{
    struct explain_event e = {.operation = "open",
                              .subject = "/a\033[2J\nb\\\x9b\xc3\xa9",
                              .err = ENOENT,
                              .pid = 1,
                              .comm = "x\ry"};
    char longest[5000];
    _cleanup_buf_ struct buf b = {0};

    (void)state;
    assert_line(&e, "sandlock: denied: open /a\\x1b[2J\\x0ab\\\\\\x9b\\xc3\\xa9 "
                    "(No such file or directory) by x\\x0dy[1]\n");
    memset(longest, 'y', sizeof(longest));
    explain_escape(&b, longest, 10);
    assert_string_equal(buf_cstr(&b), "yyyyyyyyyy...");
}

static struct explain_refusal refusal(const struct policy *p, const char *name, uint64_t a0,
                                      uint64_t a1, uint64_t a2)
{
    const struct call_info *info = arch_call_by_name(arch_native(), name);
    struct call c = {.info = info, .args = {a0, a1, a2}};
    struct explain_refusal why;

    assert_non_null(info);
    c.op = info->op;
    explain_refusal(p, &c, &why);
    assert_non_null(why.rule);
    return why;
}

static void test_refusals(void **state)
{
    struct explain_refusal w;
    struct policy p;

    (void)state;
    policy_init(&p);
    w = refusal(&p, "socket", AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 17);
    assert_string_equal(w.subject, "AF_INET SOCK_DGRAM 17");
    assert_non_null(strstr(w.rule, "UDP"));
    w = refusal(&p, "socket", 77, 9, 0);
    assert_string_equal(w.subject, "77 9 0");
    w = refusal(&p, "socket", AF_UNIX, SOCK_STREAM, 0);
    assert_non_null(strstr(w.hint, "-w"));
    w = refusal(&p, "fchmod", 3, 0, 0);
    assert_non_null(strstr(w.hint, "-w"));
    w = refusal(&p, "shmget", 0, 0, 0);
    assert_string_equal(w.hint, "--extra-allow-syscall sysv_ipc");
    w = refusal(&p, "bpf", 0, 0, 0);
    assert_null(w.hint);
    call_set_add(&p.extra_deny, CALL_bpf);
    w = refusal(&p, "bpf", 0, 0, 0);
    assert_string_equal(w.rule, "--extra-deny-syscall");
    policy_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
