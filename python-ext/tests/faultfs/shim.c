// Watches and disturbs the file-system calls of one process below one folder.
//
// A seccomp filter makes every such system call a SIGSYS, whoever makes it: Python, Rust's standard
// library, a library that brings its own system calls. The handler counts those that concern the
// folder, makes them itself or lets them fail, and records them. Calls from `faultfs_gate` pass the
// filter. Nothing here may call libc functions that end in a trapped call.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

long faultfs_gate(long number, ...);
extern const char faultfs_gate_end[];

#if defined(__x86_64__)
__asm__(".text\n.globl faultfs_gate\n.hidden faultfs_gate\n.type faultfs_gate,@function\n"
        "faultfs_gate:\n"
        "mov %rdi,%rax\nmov %rsi,%rdi\nmov %rdx,%rsi\nmov %rcx,%rdx\nmov %r8,%r10\nmov %r9,%r8\n"
        "mov 8(%rsp),%r9\nsyscall\n"
        ".globl faultfs_gate_end\n.hidden faultfs_gate_end\nfaultfs_gate_end:\nret\n");
#define REGISTER(c, i) ((c)->uc_mcontext.gregs[(const int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9}[i]])
#define RESULT(c) ((c)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
__asm__(".text\n.globl faultfs_gate\n.hidden faultfs_gate\n.type faultfs_gate,@function\n"
        "faultfs_gate:\n"
        "mov x8,x0\nmov x0,x1\nmov x1,x2\nmov x2,x3\nmov x3,x4\nmov x4,x5\nmov x5,x6\nsvc #0\n"
        ".globl faultfs_gate_end\n.hidden faultfs_gate_end\nfaultfs_gate_end:\nret\n");
#define REGISTER(c, i) ((c)->uc_mcontext.regs[i])
#define RESULT(c) ((c)->uc_mcontext.regs[0])
#else
#error "faultfs knows x86-64 and AArch64"
#endif

// What a call does, for `plan.kinds` and for what may fail how.
enum { CHANGES = 1, SYNCS = 2, CLOSES = 4, LOCKS = 8, READS = 16, ALLOCATES = 32, WRITES = 64 };
// What happens at the chosen call.
enum {
    NOTHING,
    KILL_BEFORE,
    KILL_AFTER,
    KILL_HALFWAY, // of a write
    FAIL,         // without doing it
    FAIL_DONE,    // having done it
    SHORT,        // write a half, and say so
};

static struct {
    char root[4096];
    size_t root_length;
    int log;
    int kinds;  // which kinds of calls are counted
    long at;    // number of the call, from 1; 0 for none
    int action;
    int error;  // a positive errno
    int onward; // whether later calls fail too (of those that allocate, if the error is ENOSPC)
    int record; // whether to record what is written
} plan;
static volatile int armed;
static long counted;
static int lock;

struct call {
    const char *name;
    int kinds;
    char path[4096], other[4096];
    long flags;
};

static void enter(void) {
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE)) faultfs_gate(__NR_sched_yield);
}

static void leave(void) { __atomic_store_n(&lock, 0, __ATOMIC_RELEASE); }

static char *put(char *at, const char *text) {
    size_t length = strlen(text);
    memcpy(at, text, length);
    return at + length;
}

static char *put_number(char *at, long value) {
    char digits[24], *first = digits + sizeof digits;
    unsigned long left = value < 0 ? -(unsigned long)value : (unsigned long)value;
    *--first = 0;
    do *--first = (char)('0' + left % 10); while (left /= 10);
    if (value < 0) *--first = '-';
    return put(at, first);
}

// The path of a descriptor, of the working folder too; 0 if it has none.
static size_t path_of(long descriptor, char *path) {
    char link[64];
    if ((int)descriptor == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else *put_number(put(link, "/proc/self/fd/"), (int)descriptor) = 0;
    long length = faultfs_gate(__NR_readlinkat, (long)AT_FDCWD, link, path, 4095L);
    if (length <= 0) return 0;
    path[length] = 0;
    return (size_t)length;
}

// An absolute path without empty, `.` and `..` parts. No symbolic link is followed.
static void resolve(long folder, const char *name, char *path) {
    size_t length = 0;
    path[0] = 0;
    if (!name || strlen(name) > 3000) return;
    if (name[0] != '/') {
        length = path_of(folder, path);
        if (!length || path[0] != '/') { path[0] = 0; return; }
        if (length == 1) length = 0;
    }
    while (*name) {
        size_t part = strcspn(name, "/");
        if (part == 2 && !memcmp(name, "..", 2)) {
            while (length && path[--length] != '/') {}
        } else if (part && !(part == 1 && *name == '.')) {
            if (length + part + 2 > 4096) { path[0] = 0; return; }
            path[length++] = '/';
            memcpy(path + length, name, part);
            length += part;
        }
        name += part;
        while (*name == '/') name++;
    }
    path[length] = 0;
}

static int inside(const char *path) {
    return !strncmp(path, plan.root, plan.root_length)
        && (path[plan.root_length] == '/' || path[plan.root_length] == 0);
}

// Write all of it to the log: lines of fields, tabs between them, and behind those of writes what
// was written.
static void log_all(const char *bytes, size_t length) {
    while (length) {
        long done = faultfs_gate(__NR_write, (long)plan.log, bytes, length);
        if (done <= 0) faultfs_gate(__NR_exit_group, 99L);
        bytes += done;
        length -= (size_t)done;
    }
}

static void record(const struct call *call, long result, int disturbed, long offset, long bytes) {
    static char line[9000]; // `lock` is held
    char *at = put_number(line, counted);
    at = put(put(at, "\t"), call->name);
    at = put_number(put(at, "\t"), result);
    at = put_number(put(at, "\t"), disturbed);
    at = put_number(put(at, "\t"), call->flags);
    at = put_number(put(at, "\t"), offset);
    at = put_number(put(at, "\t"), bytes);
    at = put(put(at, "\t"), call->path);
    at = put(put(at, "\t"), call->other);
    at = put(at, "\n");
    log_all(line, (size_t)(at - line));
}

// What a system call is. Calls that do not concern the folder have no kinds.
static void classify(long number, const long *a, struct call *call) {
    call->name = "";
    call->kinds = 0;
    call->path[0] = call->other[0] = 0;
    call->flags = 0;
#define PATH(FOLDER, NAME) resolve(FOLDER, (const char *)(NAME), call->path)
#define OTHER(FOLDER, NAME) resolve(FOLDER, (const char *)(NAME), call->other)
#define FILE_OF(DESCRIPTOR) path_of(DESCRIPTOR, call->path)
#define IS(NAME, KINDS) call->name = NAME, call->kinds = KINDS
    switch (number) {
#ifdef __NR_open
    case __NR_open: IS("open", 0); call->flags = a[1]; PATH(AT_FDCWD, a[0]); break;
    case __NR_creat: IS("open", 0); call->flags = O_CREAT | O_WRONLY | O_TRUNC; PATH(AT_FDCWD, a[0]); break;
    case __NR_rename: IS("rename", CHANGES | ALLOCATES); PATH(AT_FDCWD, a[0]); OTHER(AT_FDCWD, a[1]); break;
    case __NR_unlink: IS("unlink", CHANGES); PATH(AT_FDCWD, a[0]); break;
    case __NR_rmdir: IS("rmdir", CHANGES); PATH(AT_FDCWD, a[0]); break;
    case __NR_mkdir: IS("mkdir", CHANGES | ALLOCATES); PATH(AT_FDCWD, a[0]); break;
    case __NR_link: IS("link", CHANGES | ALLOCATES); PATH(AT_FDCWD, a[0]); OTHER(AT_FDCWD, a[1]); break;
    case __NR_symlink: IS("symlink", CHANGES | ALLOCATES); PATH(AT_FDCWD, a[1]); break;
    case __NR_stat: IS("stat", READS); PATH(AT_FDCWD, a[0]); break;
    case __NR_lstat: IS("stat", READS); PATH(AT_FDCWD, a[0]); break;
    case __NR_access: IS("access", READS); PATH(AT_FDCWD, a[0]); break;
#endif
#ifdef __NR_renameat
    case __NR_renameat: IS("rename", CHANGES | ALLOCATES); PATH(a[0], a[1]); OTHER(a[2], a[3]); break;
#endif
    case __NR_openat: IS("open", 0); call->flags = a[2]; PATH(a[0], a[1]); break;
    case __NR_openat2:
        IS("open", 0);
        call->flags = (long)((const struct open_how *)a[2])->flags;
        PATH(a[0], a[1]);
        break;
    case __NR_renameat2:
        IS("rename", CHANGES | ALLOCATES); PATH(a[0], a[1]); OTHER(a[2], a[3]);
        call->flags = a[4];
        break;
    case __NR_unlinkat: IS(a[2] & AT_REMOVEDIR ? "rmdir" : "unlink", CHANGES); PATH(a[0], a[1]); break;
    case __NR_mkdirat: IS("mkdir", CHANGES | ALLOCATES); PATH(a[0], a[1]); break;
    case __NR_linkat: IS("link", CHANGES | ALLOCATES); PATH(a[0], a[1]); OTHER(a[2], a[3]); break;
    case __NR_symlinkat: IS("symlink", CHANGES | ALLOCATES); PATH(a[1], a[2]); break;
    case __NR_newfstatat: IS("stat", READS); PATH(a[0], a[1]); break;
    case __NR_statx: IS("stat", READS); PATH(a[0], a[1]); break;
    case __NR_faccessat: IS("access", READS); PATH(a[0], a[1]); break;
    case __NR_faccessat2: IS("access", READS); PATH(a[0], a[1]); break;
    case __NR_write: IS("write", CHANGES | ALLOCATES | WRITES); FILE_OF(a[0]); break;
    case __NR_pwrite64: IS("write", CHANGES | ALLOCATES | WRITES); FILE_OF(a[0]); break;
    case __NR_writev: IS("write", CHANGES | ALLOCATES | WRITES); FILE_OF(a[0]); break;
    case __NR_ftruncate: IS("truncate", CHANGES | ALLOCATES); call->flags = a[1]; FILE_OF(a[0]); break;
    case __NR_truncate: IS("truncate", CHANGES | ALLOCATES); call->flags = a[1]; PATH(AT_FDCWD, a[0]); break;
    // Nobody should use these: what they write is not recorded.
    case __NR_pwritev: case __NR_pwritev2: case __NR_copy_file_range: case __NR_sendfile: case __NR_fallocate:
        IS("unknown", CHANGES | ALLOCATES);
        FILE_OF(number == __NR_copy_file_range ? a[2] : a[0]);
        break;
    case __NR_fsync: IS("fsync", SYNCS | ALLOCATES); FILE_OF(a[0]); break;
    case __NR_fdatasync: IS("fsync", SYNCS | ALLOCATES); FILE_OF(a[0]); break;
    case __NR_syncfs: IS("unknown", SYNCS); FILE_OF(a[0]); break;
    case __NR_close: {
        long flags = faultfs_gate(__NR_fcntl, a[0], (long)F_GETFL);
        // What was only read cannot fail.
        if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) break;
        IS("close", CLOSES);
        FILE_OF(a[0]);
        break;
    }
    case __NR_flock:
        call->flags = a[1];
        IS("flock", a[1] & LOCK_UN ? 0 : LOCKS);
        FILE_OF(a[0]);
        break;
    case __NR_read: case __NR_pread64: case __NR_readv: case __NR_getdents64: IS("read", READS); FILE_OF(a[0]); break;
    case __NR_fstat: IS("stat", READS); FILE_OF(a[0]); break;
    default: break;
    }
    if (!strcmp(call->name, "open"))
        call->kinds = call->flags & (O_CREAT | O_TRUNC) ? CHANGES | ALLOCATES : READS;
    if (!inside(call->path) && !(call->other[0] && inside(call->other))) call->kinds = 0;
}

static long pass(long number, const long *a) {
    return faultfs_gate(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// Write the first half: of all pieces if there are some, or none.
static long write_half(long number, const long *a) {
    if (number != __NR_writev) {
        if (a[2] < 2) return -ENOSPC;
        long half[6] = {a[0], a[1], a[2] / 2, a[3], a[4], a[5]};
        return pass(number, half);
    }
    const struct iovec *pieces = (const struct iovec *)a[1];
    if (!a[2] || pieces[0].iov_len < 2) return -ENOSPC;
    return faultfs_gate(__NR_write, a[0], pieces[0].iov_base, pieces[0].iov_len / 2);
}

static void die(void) {
    faultfs_gate(__NR_kill, faultfs_gate(__NR_getpid), (long)SIGKILL);
    for (;;) faultfs_gate(__NR_sched_yield);
}

static int may_fail(const struct call *call) {
    return plan.error != ENOSPC || call->kinds & ALLOCATES;
}

static long disturb(long number, const long *a, const struct call *call) {
    int chosen = counted == plan.at;
    if (!chosen && !(plan.onward && plan.at && counted > plan.at && may_fail(call)))
        return pass(number, a);
    switch (chosen ? plan.action : FAIL) {
    case KILL_BEFORE: record(call, 0, 1, 0, 0); die(); break;
    case KILL_AFTER: record(call, pass(number, a), 1, 0, 0); die(); break;
    case KILL_HALFWAY:
        record(call, call->kinds & WRITES ? write_half(number, a) : 0, 1, 0, 0);
        die();
        break;
    case FAIL:
        // A descriptor is closed whatever `close` says.
        if (call->kinds & CLOSES) pass(number, a);
        return -plan.error;
    case FAIL_DONE: {
        long result = pass(number, a);
        // The caller does not get the descriptor, which stays open then.
        if (result >= 0 && !strcmp(call->name, "open")) faultfs_gate(__NR_close, result);
        return result < 0 ? result : -plan.error;
    }
    case SHORT: return call->kinds & WRITES ? write_half(number, a) : pass(number, a);
    default: break;
    }
    return pass(number, a);
}

static void written(long number, const long *a, long count) {
    if (number != __NR_writev) {
        log_all((const char *)a[1], (size_t)count);
        return;
    }
    const struct iovec *pieces = (const struct iovec *)a[1];
    for (long i = 0; i < a[2] && count; i++) {
        size_t some = (size_t)count < pieces[i].iov_len ? (size_t)count : pieces[i].iov_len;
        log_all(pieces[i].iov_base, some);
        count -= (long)some;
    }
}

static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal;
    ucontext_t *caller = context;
    long number = info->si_syscall, a[6];
    int saved = errno;
    for (int i = 0; i < 6; i++) a[i] = (long)REGISTER(caller, i);
    struct call call;
    if (armed) classify(number, a, &call);
    if (!armed || !(call.kinds & plan.kinds)) {
        RESULT(caller) = pass(number, a);
        errno = saved;
        return;
    }
    enter();
    counted++;
    long result = disturb(number, a, &call);
    int disturbed = plan.at && (counted == plan.at || (plan.onward && counted > plan.at));
    long offset = 0, bytes = 0;
    if (plan.record && call.kinds & WRITES && result > 0) {
        bytes = result;
        offset = number == __NR_pwrite64
            ? a[3] : faultfs_gate(__NR_lseek, a[0], 0L, (long)SEEK_CUR) - result;
    }
    record(&call, result, disturbed, offset, bytes);
    if (bytes) written(number, a, bytes);
    leave();
    RESULT(caller) = result;
    errno = saved;
}

// Put a line of the caller's between the calls that are recorded.
void faultfs_note(const char *text) {
    enter();
    log_all("0\tnote\t0\t0\t0\t0\t0\t", 17);
    log_all(text, strlen(text));
    log_all("\t\n", 2);
    leave();
}

// Let everything pass from now on.
void faultfs_disarm(void) { armed = 0; }

// Begin, for the rest of this process; 0 or an errno.
int faultfs_arm(const char *root, int log, int kinds, long at, int action, int error, int onward, int recording) {
    static const int calls[] = {
#ifdef __NR_open
        __NR_open, __NR_creat, __NR_rename, __NR_unlink, __NR_rmdir, __NR_mkdir, __NR_link, __NR_symlink,
#endif
#ifdef __NR_renameat
        __NR_renameat,
#endif
        __NR_openat, __NR_openat2, __NR_renameat2, __NR_unlinkat, __NR_mkdirat, __NR_linkat, __NR_symlinkat,
        __NR_write, __NR_pwrite64, __NR_writev, __NR_pwritev, __NR_pwritev2, __NR_copy_file_range, __NR_sendfile,
        __NR_fallocate, __NR_ftruncate, __NR_truncate, __NR_fsync, __NR_fdatasync, __NR_syncfs, __NR_close,
        __NR_flock,
    };
    static const int reads[] = {
#ifdef __NR_open
        __NR_stat, __NR_lstat, __NR_access,
#endif
        __NR_read, __NR_pread64, __NR_readv, __NR_getdents64, __NR_newfstatat, __NR_fstat, __NR_statx,
        __NR_faccessat, __NR_faccessat2,
    };
    enum { CALLS = sizeof calls / sizeof *calls, EXTRA = sizeof reads / sizeof *reads };
    struct sock_filter filter[8 + CALLS + EXTRA];
    unsigned n = 0;
    uint64_t gate = (uint64_t)(uintptr_t)faultfs_gate_end;
    size_t length = strlen(root);
    if (length >= sizeof plan.root) return ENAMETOOLONG;
    memcpy(plan.root, root, length + 1);
    plan.root_length = length;
    plan.log = log;
    plan.kinds = kinds;
    plan.at = at;
    plan.action = action;
    plan.error = error;
    plan.onward = onward;
    plan.record = recording;

#define ADD(...) filter[n++] = (struct sock_filter)__VA_ARGS__
    // What the handler calls passes: its instruction pointer is behind the gate's.
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)gate, 0, 3));
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(gate >> 32), 0, 1));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
    unsigned total = CALLS + (kinds & READS ? EXTRA : 0);
    for (unsigned i = 0; i < total; i++) {
        int number = i < CALLS ? calls[i] : reads[i - CALLS];
        ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, (uint8_t)(total - i), 0));
    }
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
    struct sock_fprog program = {(unsigned short)n, filter};

    struct sigaction action_of_signal = {0};
    action_of_signal.sa_sigaction = handler;
    action_of_signal.sa_flags = SA_SIGINFO;
    sigfillset(&action_of_signal.sa_mask);
    if (sigaction(SIGSYS, &action_of_signal, NULL)) return errno;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L)) return errno;
    armed = 1;
    if (syscall(__NR_seccomp, (long)SECCOMP_SET_MODE_FILTER, (long)SECCOMP_FILTER_FLAG_TSYNC, &program))
        return errno;
    return 0;
}
