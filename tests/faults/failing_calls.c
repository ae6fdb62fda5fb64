/* Makes one call of the C library fail: the n-th that opens, writes, renames, makes or closes a file below FAULTS_BELOW, or the n-th
   that opens or reads one. What is to fail stands in the file FAULTS_CONTROL, which all processes share and count in.

   cc -O1 -shared -fPIC -o failing_calls.so failing_calls.c -ldl; LD_PRELOAD=./failing_calls.so … */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING, WRITES, READS };
enum { FILES = 4096 };

/* One control for all processes. */
struct control {
    int64_t kind;     /* of call that fails: NOTHING, WRITES or READS */
    int64_t at;       /* which of them fails, from 1 */
    int64_t error;    /* with this errno */
    int64_t sticky;   /* and all that follow */
    int64_t process;  /* of this process alone; 0 is any */
    int64_t count[3]; /* calls so far, of every kind */
    char where[400];  /* the first call that failed, in words */
};

static struct control *control;
static const char *below;
static size_t length;
static unsigned char kind_of[FILES]; /* file descriptor -> WRITES or READS, if it is one of ours */

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("FAULTS_CONTROL");
    below = getenv("FAULTS_BELOW");
    if (!file || !below)
        return;
    length = strlen(below);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (shared != MAP_FAILED)
        control = shared;
}

static int is_ours(int folder, const char *path)
{
    char whole[2 * PATH_MAX];
    if (!control || !path)
        return 0;
    if (path[0] == '/')
        snprintf(whole, sizeof whole, "%s", path);
    else if (folder != AT_FDCWD || !getcwd(whole, PATH_MAX))
        return 0;
    else
        snprintf(whole + strlen(whole), PATH_MAX, "/%s", path);
    return strncmp(whole, below, length) == 0;
}

/* Whether this call fails; errno is set then. */
static int fails(int kind, const char *call, const char *path)
{
    if (!control || (control->process && control->process != getpid()))
        return 0;
    int64_t n = __sync_add_and_fetch(&control->count[kind], 1);
    if (control->kind != kind || (control->sticky ? n < control->at : n != control->at))
        return 0;
    if (!control->where[0])
        snprintf(control->where, sizeof control->where, "%s %s", call, path);
    errno = (int)control->error;
    return 1;
}

static int fd_fails(int fd, int kind, const char *call)
{
    if (fd < 0 || fd >= FILES || kind_of[fd] != kind)
        return 0;
    char link[64], path[300];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = 0;
    return fails(kind, call, path);
}

static int opened(int folder, const char *path, int flags, mode_t mode)
{
    int ours = is_ours(folder, path) && !(flags & (O_DIRECTORY | O_PATH));
    int kind = (flags & O_ACCMODE) == O_RDONLY ? READS : WRITES;
    if (ours && fails(kind, "open", path))
        return -1;
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0 && fd < FILES)
        kind_of[fd] = ours ? kind : NOTHING;
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return opened(folder, path, flags | O_LARGEFILE, mode); }

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name);

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t)
    return fd_fails(fd, WRITES, "write") ? -1 : real(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t)
    return fd_fails(fd, WRITES, "pwrite") ? -1 : real(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(ssize_t, "writev", int, const struct iovec *, int)
    return fd_fails(fd, WRITES, "writev") ? -1 : real(fd, parts, count);
}

ssize_t read(int fd, void *data, size_t size)
{
    REAL(ssize_t, "read", int, void *, size_t)
    return fd_fails(fd, READS, "read") ? -1 : real(fd, data, size);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at)
{
    REAL(ssize_t, "pread64", int, void *, size_t, off64_t)
    return fd_fails(fd, READS, "pread") ? -1 : real(fd, data, size, at);
}

ssize_t pread(int fd, void *data, size_t size, off_t at)
{
    REAL(ssize_t, "pread", int, void *, size_t, off_t)
    return fd_fails(fd, READS, "pread") ? -1 : real(fd, data, size, at);
}

/* A close that fails has closed its file all the same: so do Linux and NFS. */
int close(int fd)
{
    REAL(int, "close", int)
    int fault = fd_fails(fd, WRITES, "close"), error = errno;
    if (fd >= 0 && fd < FILES)
        kind_of[fd] = NOTHING;
    int result = real(fd);
    if (!fault)
        return result;
    errno = error;
    return -1;
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *)
    return is_ours(AT_FDCWD, to) && fails(WRITES, "rename", to) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, "mkdir", const char *, mode_t)
    int new = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0; /* nobody minds if one that is there cannot be made */
    return new && is_ours(AT_FDCWD, path) && fails(WRITES, "mkdir", path) ? -1 : real(path, mode);
}
