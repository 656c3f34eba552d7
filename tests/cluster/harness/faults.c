// Stands between a node and the C library, and makes the machine misbehave as files in $FAULTS say:
//
//   jump     the wall clock is off by the seconds in the file
//   hang     syncing a file does not return until the file is gone
//   full     no file can be written any more: the disk is full
//   space    the file system says that so many bytes are free
//
// It needs no root, and only the node that has the file is concerned.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// By system call: the functions of these names are replaced below.
static int fault(const char *name, long long *number) {
    char path[512], text[32] = "0";
    const char *directory = getenv("FAULTS");
    if (!directory) return 0;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (syscall(SYS_read, file, text, sizeof text - 1) < 0) text[0] = 0;
    syscall(SYS_close, file);
    if (number) *number = atoll(text);
    return 1;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long long seconds = 0;
    int result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME && fault("jump", &seconds)) now->tv_sec += seconds;
    return result;
}

static void wait_while_hung(void) {
    while (fault("hang", NULL)) usleep(10000);
}

int fdatasync(int file) {
    wait_while_hung();
    return syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    wait_while_hung();
    return syscall(SYS_fsync, file);
}

ssize_t write(int file, const void *bytes, size_t count) {
    struct stat what;
    // What a node says stays readable.
    if (file > 2 && fault("full", NULL) && fstat(file, &what) == 0 && S_ISREG(what.st_mode)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_write, file, bytes, count);
}

#define STATVFS(name, type)                                                                                  \
    int name(const char *path, struct type *space) {                                                         \
        long long bytes = 0;                                                                                 \
        int (*next)(const char *, struct type *) = dlsym(RTLD_NEXT, #name);                                  \
        int result = next(path, space);                                                                      \
        if (result == 0 && fault("space", &bytes)) space->f_bavail = space->f_bfree = bytes / space->f_frsize; \
        return result;                                                                                       \
    }
STATVFS(statvfs, statvfs)
STATVFS(statvfs64, statvfs64)
