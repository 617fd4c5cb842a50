/* A clock that a test moves: preloaded into nginx, every reading of the time is what the file at $TEST_CLOCK holds,
 * eight bytes of milliseconds. The wall clock runs some years ahead of the monotonic one. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define WALL_MS 1600000000000ULL

static volatile uint64_t *clock_ms;

__attribute__((constructor)) static void open_clock(void) {
    const char *path = getenv("TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *clock_ms, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        _exit(97);
    }
    clock_ms = page;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *time) {
    uint64_t ms = *clock_ms + (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE ? WALL_MS : 0);
    time->tv_sec = (time_t)(ms / 1000);
    time->tv_nsec = (long)(ms % 1000) * 1000000;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    uint64_t ms = *clock_ms + WALL_MS;
    (void)zone;
    time->tv_sec = (time_t)(ms / 1000);
    time->tv_usec = (suseconds_t)(ms % 1000) * 1000;
    return 0;
}

time_t time(time_t *out) {
    time_t now = (time_t)((*clock_ms + WALL_MS) / 1000);
    if (out) {
        *out = now;
    }
    return now;
}
