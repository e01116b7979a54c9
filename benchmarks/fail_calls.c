/* Preloaded into a run by faults.py: makes chosen system calls on files under one directory fail, and counts them.

   FAULT_UNDER   files below this directory
   FAULT_CALL    write, fsync, open, ftruncate or flock
   FAULT_FROM    the first call that fails, counted from 1
   FAULT_COUNT   how many fail in a row
   FAULT_ERRNO   with what
   FAULT_SHORT   1: a write that fails is preceded by one that takes half of its bytes
   FAULT_LOG     gets a byte for each call that failed */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long seen;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int is_under(const char *path) {
    const char *under = getenv("FAULT_UNDER");
    return under && strncmp(path, under, strlen(under)) == 0;
}

static int descriptor_is_under(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_under(path);
}

/* Which of the calls this is: 0 goes through, 1 is cut short, 2 fails. */
static int fate(const char *call) {
    const char *chosen = getenv("FAULT_CALL");
    if (!chosen || strcmp(chosen, call)) return 0;
    long index = atomic_fetch_add(&seen, 1) + 1 - number("FAULT_FROM");
    if (number("FAULT_SHORT") && !strcmp(call, "write")) {
        if (index == 0) return 1;
        index -= 1;
    }
    if (index < 0 || index >= number("FAULT_COUNT")) return 0;
    long log = syscall(SYS_openat, AT_FDCWD, getenv("FAULT_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (log >= 0) {
        syscall(SYS_write, log, "x", 1);
        syscall(SYS_close, log);
    }
    errno = (int)number("FAULT_ERRNO");
    return 2;
}

ssize_t write(int descriptor, const void *data, size_t length) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (descriptor > 2 && descriptor_is_under(descriptor)) {
        int what = fate("write");
        if (what == 2) return -1;
        if (what == 1 && length > 1) length /= 2;
    }
    return real(descriptor, data, length);
}

int fsync(int descriptor) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    if (descriptor_is_under(descriptor) && fate("fsync") == 2) return -1;
    return real(descriptor);
}

int flock(int descriptor, int operation) {
    static int (*real)(int, int);
    if (!real) real = dlsym(RTLD_NEXT, "flock");
    if (descriptor_is_under(descriptor) && fate("flock") == 2) return -1;
    return real(descriptor, operation);
}

static int truncate_to(const char *name, int descriptor, off_t length) {
    int (*real)(int, off_t) = dlsym(RTLD_NEXT, name);
    if (descriptor_is_under(descriptor) && fate("ftruncate") == 2) return -1;
    return real(descriptor, length);
}

int ftruncate(int descriptor, off_t length) { return truncate_to("ftruncate", descriptor, length); }
int ftruncate64(int descriptor, off_t length) { return truncate_to("ftruncate64", descriptor, length); }

static int open_at(const char *name, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    if (is_under(path) && fate("open") == 2) return -1;
    return real(path, flags, mode);
}

#define OPEN(name)                                        \
    int name(const char *path, int flags, ...) {          \
        va_list rest;                                     \
        va_start(rest, flags);                            \
        mode_t mode = (mode_t)va_arg(rest, unsigned int); \
        va_end(rest);                                     \
        return open_at(#name, path, flags, mode);         \
    }
OPEN(open)
OPEN(open64)
