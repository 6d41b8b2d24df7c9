/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes what the network side reads from the command: socket addresses, DNS queries, ancillary data.
 * Checked: no crash, an answer never exceeds a message and belongs to its query, every descriptor that
 * was made is reported. With libFuzzer: clang -fsanitize=fuzzer. Without: replay.c gives it a main().
 */
#include <string.h>

#include "net/rules.h"
#include "net/send.h"

#include "fuzz.h"

static void try_address(const uint8_t *data, size_t size)
{
    struct net_addr a = {0};
    char text[NET_TEXT_MAX], path[NET_PATH_MAX];
    struct net_dest d;

    a.len = (socklen_t)(size < sizeof(a.u) ? size : sizeof(a.u));
    memcpy(&a.u, data, a.len);
    if (net_dest_of(&a.u.sa, a.len, &d) == 0)
        CHECK(d.v6 || !(d.addr[4] | d.addr[15]));
    net_addr_text(&a, text);
    (void)net_addr_port(&a);
    (void)net_addr_unix_name(&a, path);
}

static void try_query(const uint8_t *data, size_t size)
{
    struct net_dest d[] = {{.addr = {10, 0, 0, 1}}, {.v6 = true, .addr = {0xfd, [15] = 1}}};
    struct net_pin pin = {"a.example", d, 2};
    const struct net_pins pins = {&pin, 1};
    unsigned char out[DNS_MESSAGE_MAX];
    size_t n = net_dns_answer(&pins, data, size, out);

    CHECK(n <= sizeof(out));
    CHECK(n == 0 || (n >= 12 && memcmp(out, data, 2) == 0 && (out[2] & 0x80)));
}

static int no_dup(void *ctx, int fd)
{
    ++*(unsigned *)ctx;
    return fd < 0 ? -9 : 1000000; /* closing that is harmless */
}

static void try_control(const uint8_t *data, size_t size, int domain)
{
    struct net_rights rights = {0};
    unsigned made = 0;
    void *copy = malloc(size + 1);

    CHECK(copy);
    memcpy(copy, data, size);
    (void)net_control_translate(copy, size, domain, no_dup, &made, &rights);
    CHECK(rights.n <= made && rights.n <= NET_RIGHTS_MAX);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 4) {
    case 0: try_address(data + 1, size - 1); break;
    case 1: try_query(data + 1, size - 1); break;
    case 2: try_control(data + 1, size - 1, AF_UNIX); break;
    default: try_control(data + 1, size - 1, AF_INET); break;
    }
    return 0;
}
