/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what differs between two runs of a program: `same DIRECTORY`. Portable C: the tests also build it
 * dynamically, against each C library. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void hex(const char *what, const unsigned char *v, size_t n)
{
    printf("%s ", what);
    for (size_t i = 0; i < n; i++)
        printf("%02x", v[i]);
    printf("\n");
}

static void file(const char *path, long at)
{
    unsigned char v[36] = {0};
    FILE *f = fopen(path, "rb");

    if (!f)
        exit(3);
    for (long left = at; left > 0 && fgetc(f) != EOF; left--)
        ;
    if (fread(v, 1, sizeof(v), f) != sizeof(v))
        exit(4);
    fclose(f);
    hex(path, v, sizeof(v));
}

static void names(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;

    if (!d)
        exit(5);
    while ((e = readdir(d)))
        printf("%s ", e->d_name);
    printf("\n");
    closedir(d);
}

static void draw(const char *who)
{
    unsigned char v[16];

    if (getrandom(v, sizeof(v), 0) != sizeof(v))
        exit(6);
    hex(who, v, sizeof(v));
}

int main(int argc, char **argv)
{
    static int data;
    time_t now = time(NULL);
    int local, status;

    if (argc < 2)
        return 2;
    /* To the minute: how fast the machine is is nobody's promise. */
    printf("time %ld\n", (long)(now / 60));
    draw("getrandom");
    hex("auxv", (const unsigned char *)getauxval(AT_RANDOM), 16);
    file("/proc/sys/kernel/random/uuid", 0);
    file("/dev/urandom", 1100000);
    names(argv[1]);
    printf("%p %p %p %p %p\n", (void *)&local, (void *)&data, malloc(100), malloc(1000000),
           mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        if (fork() == 0) {
            draw("child");
            fflush(stdout);
            _exit(0);
        }
        wait(&status);
    }
    return 0;
}
