/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/net as the sandbox's own: tables of sockets show those that its processes hold, with the ports
 * the command knows; interfaces and routes show loopback, as netlink does. Virtual files, rendered by
 * receivers from the kernel's tables, whose text is trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "fs/resolve.h"
#include "net/rules.h"

#define INET_INODE_FIELD 9
#define UNIX_INODE_FIELD 6

static FILE *table_open(int host_fd)
{
    int fd = fd_reopen(host_fd, O_RDONLY | O_CLOEXEC, 0);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

    if (!f && fd >= 0)
        util_close(fd);
    return f;
}

/* Start of a field, counted from 0, or NULL. */
static const char *field(const char *line, unsigned n)
{
    for (;; n--) {
        line += strspn(line, " ");
        if (!*line || n == 0)
            return *line ? line : NULL;
        line += strcspn(line, " ");
    }
}

/* "0100007F:1F90": gives the port the name that the command knows. In place. */
static void translate_port(const struct request *r, unsigned proto, char *line, unsigned n)
{
    char *at = (char *)(uintptr_t)field(line, n), hex[5];
    char *colon = at ? strchr(at, ':') : NULL;
    unsigned port;

    if (!colon || sscanf(colon + 1, "%4X", &port) != 1)
        return;
    /* Ports of others are theirs: only loopback's can be ours. Both machines are little-endian. */
    if (n == 2 && (colon - at != 8 || strncmp(colon - 2, "7F", 2) != 0))
        return;
    snprintf(hex, sizeof(hex), "%04X", net_remap_seen(r->sup, proto, (uint16_t)port));
    memcpy(colon + 1, hex, 4);
}

static int render_table(const struct request *r, int host_fd, struct buf *out, unsigned inode_field,
                        unsigned proto)
{
    FILE *f = table_open(host_fd);
    struct net_inodes own;
    char *line = NULL;
    size_t size = 0;
    bool head = true;
    int rc = f ? net_own_inodes(&own) : -EIO;

    if (rc < 0) {
        if (f)
            fclose(f);
        return rc;
    }
    for (; getline(&line, &size, f) > 0; head = false) {
        const char *ino = field(line, inode_field);

        if (!head && (!ino || !net_inodes_have(&own, strtoull(ino, NULL, 10))))
            continue;
        if (!head && proto) {
            translate_port(r, proto, line, 1);
            translate_port(r, proto, line, 2);
        }
        buf_adds(out, line);
    }
    free(line);
    free(own.v);
    fclose(f);
    return 0;
}

static int render_tcp(const struct request *r, int host_fd, struct buf *out)
{
    return render_table(r, host_fd, out, INET_INODE_FIELD, NET_TCP);
}

static int render_udp(const struct request *r, int host_fd, struct buf *out)
{
    return render_table(r, host_fd, out, INET_INODE_FIELD, NET_UDP);
}

static int render_icmp(const struct request *r, int host_fd, struct buf *out)
{
    return render_table(r, host_fd, out, INET_INODE_FIELD, 0);
}

static int render_unix(const struct request *r, int host_fd, struct buf *out)
{
    return render_table(r, host_fd, out, UNIX_INODE_FIELD, 0);
}

/* The first `head` lines and those that name loopback's interface in the way `is_lo` knows. */
static int render_lines(int host_fd, struct buf *out, unsigned head,
                        bool (*is_lo)(const char *line))
{
    FILE *f = table_open(host_fd);
    char *line = NULL;
    size_t size = 0;

    if (!f)
        return -EIO;
    for (unsigned i = 0; getline(&line, &size, f) > 0; i++) {
        if (i < head || is_lo(line))
            buf_adds(out, line);
    }
    free(line);
    fclose(f);
    return 0;
}

static bool line_begins_lo(const char *line)
{
    return strncmp(line + strspn(line, " "), "lo:", 3) == 0;
}

static bool line_ends_lo(const char *line)
{
    size_t n = strlen(line);

    return n > 4 && strcmp(line + n - 4, " lo\n") == 0;
}

static int render_dev(const struct request *r, int host_fd, struct buf *out)
{
    (void)r;
    return render_lines(host_fd, out, 2, line_begins_lo);
}

static int render_if_inet6(const struct request *r, int host_fd, struct buf *out)
{
    (void)r;
    return render_lines(host_fd, out, 0, line_ends_lo);
}

static bool line_never(const char *line)
{
    (void)line;
    return false;
}

/* Tables of the host's network: the heading alone. */
static int render_heading(const struct request *r, int host_fd, struct buf *out)
{
    (void)r;
    return render_lines(host_fd, out, 1, line_never);
}

static int render_nothing(const struct request *r, int host_fd, struct buf *out)
{
    (void)r;
    (void)host_fd;
    buf_adds(out, "");
    return 0;
}

#define PROC_NET(file, how)                                       \
    {                                                             \
        .proc = "net/" file, .per_process = true, .render = (how) \
    }

const struct virtual_file net_proc_files[NET_PROC_FILES] = {
    PROC_NET("tcp", render_tcp),           PROC_NET("tcp6", render_tcp),
    PROC_NET("udp", render_udp),           PROC_NET("udp6", render_udp),
    PROC_NET("icmp", render_icmp),         PROC_NET("icmp6", render_icmp),
    PROC_NET("unix", render_unix),         PROC_NET("dev", render_dev),
    PROC_NET("if_inet6", render_if_inet6), PROC_NET("ipv6_route", render_if_inet6),
    PROC_NET("route", render_heading),     PROC_NET("arp", render_heading),
    PROC_NET("packet", render_heading),    PROC_NET("netlink", render_heading),
    PROC_NET("raw", render_heading),       PROC_NET("raw6", render_heading),
    PROC_NET("udplite", render_heading),   PROC_NET("udplite6", render_heading),
    PROC_NET("igmp", render_heading),      PROC_NET("igmp6", render_nothing),
    PROC_NET("mcfilter", render_heading),  PROC_NET("dev_mcast", render_nothing),
    PROC_NET("fib_trie", render_nothing),  PROC_NET("fib_triestat", render_nothing),
};
