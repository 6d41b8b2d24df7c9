/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the numbers of its open descriptors below 256 into the file of its argument: works with
 * every standard stream closed. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int open_fds[256], n = 0, fd;

    if (argc != 2)
        return 2;
    for (fd = 0; fd < 256; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            open_fds[n++] = fd;
    }
    fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return 3;
    for (int i = 0; i < n; i++)
        dprintf(fd, "%d\n", open_fds[i]);
    return close(fd) == 0 ? 0 : 4;
}
