/*
 * System calls of Bolt's own binaries, as a fault program wants them: preloaded into launcher, shims and api, never into
 * actions (their environment starts empty). What is to happen stands in a page of memory that all of them and the
 * program share (control.rs lays it out): a rule names a process, a call and a file, and kills the process there, before or
 * after the call, or has the call fail. The wall clock can be moved as well.
 *
 * The binaries are those that are shipped: nothing in them knows of this.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define RULES 8

/* Numbers as in control.rs. */
enum call { OPEN = 1, MKDIR, RENAME, UNLINK, WRITE, FSYNC, FORK, ACCEPT, RESIZE };

struct rule {
    _Atomic uint32_t armed;
    uint32_t call;
    uint32_t after;  /* 0: before the call is made, 1: after it */
    int32_t error;   /* 0: kill the process */
    _Atomic int32_t skip;  /* matches that are let through first */
    _Atomic int32_t times; /* matches that it happens to */
    char role[8];    /* "api", "sync", "launch", "shim" */
    char name[40];   /* the end of the file's name; empty: any */
};

struct control {
    uint64_t magic;
    _Atomic int64_t clock_s; /* added to the wall clock, in seconds */
    _Atomic uint64_t fired;  /* how often a rule did something */
    struct rule rules[RULES];
};

static struct control *control;

__attribute__((constructor)) static void load(void)
{
    const char *path = getenv("BOLT_FAULTS");
    if (path == NULL)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED)
        control = page;
}

/* A shim is a fork of the launcher that has renamed itself. */
static int is_role(const char *role)
{
    const char *own = getenv("BOLT_FAULTS_ROLE");
    if (own != NULL)
        return strcmp(own, role) == 0;
    char name[16] = {0};
    prctl(PR_GET_NAME, name);
    return strcmp(strcmp(name, "bolt-shim") == 0 ? "shim" : "launch", role) == 0;
}

static int ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static int is_named(const struct rule *rule, const char *path, int fd)
{
    if (rule->name[0] == 0)
        return 1;
    char link[64], target[512];
    if (path == NULL) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, target, sizeof target - 1);
        if (length < 0)
            return 0;
        target[length] = 0;
        path = target;
    }
    return ends_with(path, rule->name);
}

/* The error that the call is to fail with, or 0. Does not return where the process is to die. */
static int hit(uint32_t call, uint32_t after, const char *path, int fd)
{
    if (control == NULL)
        return 0;
    for (int i = 0; i < RULES; i++) {
        struct rule *rule = &control->rules[i];
        if (!atomic_load(&rule->armed) || rule->call != call || rule->after != after)
            continue;
        if (!is_role(rule->role) || !is_named(rule, path, fd))
            continue;
        if (atomic_fetch_sub(&rule->skip, 1) > 0)
            continue;
        if (atomic_fetch_sub(&rule->times, 1) <= 0) {
            atomic_store(&rule->armed, 0);
            continue;
        }
        atomic_fetch_add(&control->fired, 1);
        if (rule->error == 0) {
            kill(getpid(), SIGKILL);
            for (;;)
                pause();
        }
        return rule->error;
    }
    return 0;
}

#define NEXT(name) \
    static __typeof__(&name) next; \
    if (next == NULL) \
        next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* What happens before; the call; what happens after, with the call's errno kept. */
#define AROUND(type, kind, path, fd, made) \
    int error = hit(kind, 0, path, fd); \
    if (error != 0) { \
        errno = error; \
        return -1; \
    } \
    type result = made; \
    int kept = errno; \
    hit(kind, 1, path, fd); \
    errno = kept; \
    return result

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { NEXT(open); MODE AROUND(int, OPEN, path, -1, next(path, flags, mode)); }
int open64(const char *path, int flags, ...) { NEXT(open64); MODE AROUND(int, OPEN, path, -1, next(path, flags, mode)); }
int openat(int dir, const char *path, int flags, ...)
{
    NEXT(openat);
    MODE AROUND(int, OPEN, path, -1, next(dir, path, flags, mode));
}
int openat64(int dir, const char *path, int flags, ...)
{
    NEXT(openat64);
    MODE AROUND(int, OPEN, path, -1, next(dir, path, flags, mode));
}

int mkdir(const char *path, mode_t mode) { NEXT(mkdir); AROUND(int, MKDIR, path, -1, next(path, mode)); }
int mkdirat(int dir, const char *path, mode_t mode) { NEXT(mkdirat); AROUND(int, MKDIR, path, -1, next(dir, path, mode)); }

int rename(const char *from, const char *to) { NEXT(rename); AROUND(int, RENAME, to, -1, next(from, to)); }
int renameat(int old, const char *from, int new, const char *to)
{
    NEXT(renameat);
    AROUND(int, RENAME, to, -1, next(old, from, new, to));
}

int unlink(const char *path) { NEXT(unlink); AROUND(int, UNLINK, path, -1, next(path)); }
int unlinkat(int dir, const char *path, int flags) { NEXT(unlinkat); AROUND(int, UNLINK, path, -1, next(dir, path, flags)); }
int rmdir(const char *path) { NEXT(rmdir); AROUND(int, UNLINK, path, -1, next(path)); }

ssize_t write(int fd, const void *data, size_t length) { NEXT(write); AROUND(ssize_t, WRITE, NULL, fd, next(fd, data, length)); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
    NEXT(pwrite);
    AROUND(ssize_t, WRITE, NULL, fd, next(fd, data, length, at));
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at)
{
    NEXT(pwrite64);
    AROUND(ssize_t, WRITE, NULL, fd, next(fd, data, length, at));
}
ssize_t send(int fd, const void *data, size_t length, int flags)
{
    NEXT(send);
    AROUND(ssize_t, WRITE, NULL, fd, next(fd, data, length, flags));
}

int fsync(int fd) { NEXT(fsync); AROUND(int, FSYNC, NULL, fd, next(fd)); }
int fdatasync(int fd) { NEXT(fdatasync); AROUND(int, FSYNC, NULL, fd, next(fd)); }

int ftruncate(int fd, off_t length) { NEXT(ftruncate); AROUND(int, RESIZE, NULL, fd, next(fd, length)); }
int ftruncate64(int fd, off64_t length) { NEXT(ftruncate64); AROUND(int, RESIZE, NULL, fd, next(fd, length)); }
int fallocate(int fd, int mode, off_t at, off_t length) { NEXT(fallocate); AROUND(int, RESIZE, NULL, fd, next(fd, mode, at, length)); }
int fallocate64(int fd, int mode, off64_t at, off64_t length)
{
    NEXT(fallocate64);
    AROUND(int, RESIZE, NULL, fd, next(fd, mode, at, length));
}

pid_t fork(void)
{
    NEXT(fork);
    int error = hit(FORK, 0, NULL, -1);
    if (error != 0) {
        errno = error;
        return -1;
    }
    pid_t child = next();
    int kept = errno;
    if (child != 0)
        hit(FORK, 1, NULL, -1);
    errno = kept;
    return child;
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    NEXT(accept4);
    AROUND(int, ACCEPT, NULL, fd, next(fd, address, length, flags));
}

static int64_t moved(void) { return control == NULL ? 0 : atomic_load(&control->clock_s); }

int clock_gettime(clockid_t clock, struct timespec *time)
{
    NEXT(clock_gettime);
    int result = next(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += moved();
    return result;
}
int gettimeofday(struct timeval *time, void *zone)
{
    NEXT(gettimeofday);
    int result = next(time, zone);
    if (result == 0)
        time->tv_sec += moved();
    return result;
}
time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}
