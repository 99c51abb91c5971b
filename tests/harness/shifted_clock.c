/* For LD_PRELOAD: the wall clock and the boot clock are ahead by the seconds in the file $SHIFTED_CLOCK. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, id, now);
    if (failed || (id != CLOCK_REALTIME && id != CLOCK_BOOTTIME)) return failed;
    const char *path = getenv("SHIFTED_CLOCK");
    FILE *file = path ? fopen(path, "r") : NULL;
    long long nanoseconds;
    if (!file || fscanf(file, "%lld", &nanoseconds) != 1) abort();
    fclose(file);
    nanoseconds += now->tv_nsec;
    now->tv_sec += nanoseconds / 1000000000;
    now->tv_nsec = nanoseconds % 1000000000;
    return 0;
}
