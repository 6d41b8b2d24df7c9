/* SPDX-License-Identifier: Apache-2.0 */
#include "base/util.h"

#include <errno.h>

int util_close(int fd)
{
    int saved = errno;

    if (fd >= 0)
        (void)close(fd);
    errno = saved;
    return -1;
}
