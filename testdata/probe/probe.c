// What a process may do where this runs: tries system calls and accesses, each in a child of its own, and prints for
// each a line `NAME<tab>ANSWER`.
//
// ALLOW    it went through. For a system call, a complaint about its arguments counts: those are senseless on purpose,
//          so that nothing happens to a machine that allows what it should not.
// NOTHING  there is no such file, or it is empty: what is masked, and what this kernel does not have.
// EPERM    and so on: the answer, where it is a refusal. SIGSYS and so on: what ended the child.
//
// Answers of `fact` lines are values. Built by the test that runs it: cc -static -O1.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NOWHERE "/nowhere-of-the-probe"

// What an attempt answers beside 0 and an errno.
enum { NOTHING = 4096 };

// ---- How an attempt is made and its answer printed.

static const void *subject;

typedef int attempt(void);

static void print(const char *kind, const char *name, const char *answer) {
    printf("%s %s\t%s\n", kind, name, answer);
    fflush(stdout);
}

// Makes the attempt in a child, which may do to itself what it likes.
static void try(const char *kind, const char *name, attempt *attempt) {
    int answer[2], result = -1, status = 0;
    if (pipe2(answer, O_CLOEXEC) != 0) {
        perror("pipe");
        exit(1);
    }
    pid_t child = fork();
    if (child == 0) {
        alarm(10);
        result = attempt();
        if (write(answer[1], &result, sizeof result) != sizeof result)
            _exit(1);
        _exit(0);
    }
    close(answer[1]);
    ssize_t got = read(answer[0], &result, sizeof result);
    close(answer[0]);
    waitpid(child, &status, 0);
    char text[32];
    if (got != sizeof result && WIFSIGNALED(status))
        snprintf(text, sizeof text, "SIG%s", sigabbrev_np(WTERMSIG(status)));
    else if (got != sizeof result)
        snprintf(text, sizeof text, "exit %d", WEXITSTATUS(status));
    else if (result == 0)
        snprintf(text, sizeof text, "ALLOW");
    else if (result == NOTHING)
        snprintf(text, sizeof text, "NOTHING");
    else
        snprintf(text, sizeof text, "%s", strerrorname_np(result));
    print(kind, name, text);
}

// The answer to what returned a number: what is no refusal has been let through.
static int refusal(long result) {
    if (result >= 0)
        return 0;
    return errno == EPERM || errno == EACCES || errno == ENOSYS || errno == EROFS ? errno : 0;
}

// The answer to what must come out well to count.
static int outcome(long result) {
    return result >= 0 ? 0 : errno;
}

// ---- System calls with arguments that mean nothing.

struct call {
    const char *name;
    long number;
    long arguments[6];
};

#define P(it) ((long)(it))
#define CALL(name, ...) {#name, SYS_##name, {__VA_ARGS__}}
#define NUMBERED(name, number, ...) {#name, number, {__VA_ARGS__}}

static const struct call calls[] = {
    // Mounts and roots.
    CALL(mount, P("none"), P(NOWHERE), P("tmpfs")),
    CALL(umount2, P(NOWHERE)),
    CALL(pivot_root, P(NOWHERE), P(NOWHERE)),
    CALL(fsopen, P("tmpfs")),
    CALL(fsconfig, -1),
    CALL(fsmount, -1),
    CALL(fspick, -1, P(NOWHERE)),
    CALL(move_mount, -1, P(""), -1, P("")),
    CALL(open_tree, -1, P(NOWHERE)),
    CALL(mount_setattr, -1, P("")),
    NUMBERED(statmount, 457),
    NUMBERED(listmount, 458),
    NUMBERED(open_tree_attr, 467, -1, P(NOWHERE)),
    CALL(chroot, P("/")),
    CALL(open_by_handle_at, -1),
    CALL(name_to_handle_at, -1, P("")),
    CALL(quotactl, 0, P(NOWHERE)),
    CALL(quotactl_fd, -1),
    CALL(swapon, P(NOWHERE)),
    CALL(swapoff, P(NOWHERE)),
    CALL(acct, P(NOWHERE)),
    CALL(fanotify_init, 0x8000000),
    CALL(fanotify_mark, -1),
    CALL(lookup_dcookie, 0),
    CALL(nfsservctl, 0),
    // Namespaces.
    CALL(unshare, CLONE_FILES),
    {"unshare(user)", SYS_unshare, {CLONE_NEWUSER}},
    {"unshare(mnt)", SYS_unshare, {CLONE_NEWNS}},
    {"unshare(net)", SYS_unshare, {CLONE_NEWNET}},
    CALL(setns, -1),
    CALL(clone3, 0, 0),
    // Keys.
    CALL(keyctl, 0, -3),
    CALL(add_key, P("user"), P("probe"), P("x"), 1, -2),
    CALL(request_key, P("user"), P("nowhere-of-the-probe")),
    // Ways into the kernel.
    CALL(bpf, 0x7fff),
    CALL(userfaultfd, 0),
    CALL(io_uring_setup, 1),
    CALL(io_uring_enter, -1),
    CALL(io_uring_register, -1),
    CALL(perf_event_open, 0),
    CALL(init_module, 0),
    CALL(finit_module, -1),
    CALL(delete_module, P("nowhere-of-the-probe")),
    CALL(kexec_load, 0, 0, 0, 0xffff),
    CALL(kexec_file_load, -1, -1, 0, 0, 0xffff),
    CALL(reboot, 0, 0, 0),
    CALL(syslog, 10),
    CALL(vhangup),
    // Other processes.
    CALL(kcmp, 1, 1, 99),
    CALL(pidfd_getfd, -1),
    CALL(process_madvise, -1),
    NUMBERED(process_mrelease, 448, -1),
    CALL(process_vm_readv, 0),
    CALL(process_vm_writev, 0),
    CALL(ptrace, PTRACE_TRACEME),
    CALL(pidfd_open, 1),
    CALL(pidfd_send_signal, -1),
    // Clocks and names.
    CALL(settimeofday, 0, 0),
    CALL(clock_settime, 99),
    CALL(clock_adjtime, 99),
    CALL(adjtimex, 0),
    CALL(sethostname, P("probe"), 5),
    CALL(setdomainname, P("probe"), 5),
    // Memory and processors.
    CALL(mbind, 0, 0, 99),
    CALL(set_mempolicy, 99),
    CALL(get_mempolicy, 0, 0, 0, 0, 99),
    CALL(move_pages, 0, 0, 0, 0, 0, 99),
    CALL(migrate_pages, 0),
    NUMBERED(set_mempolicy_home_node, 450, 0, 0, 99, 99),
    NUMBERED(memfd_secret, 447, 0),
    CALL(memfd_create, P("probe")),
    CALL(membarrier, 0),
    CALL(mlock, 0, 0),
    CALL(mincore, 0),
    NUMBERED(map_shadow_stack, 453, 0, 0, 99),
    NUMBERED(mseal, 462, 0, 0, 99),
    // What programs need.
    CALL(openat2, -1),
    CALL(statx, -1),
    CALL(faccessat2, -1, P("")),
    CALL(copy_file_range, -1),
    CALL(splice, -1),
    CALL(tee, -1),
    CALL(vmsplice, -1),
    CALL(close_range, 99, 99),
    CALL(inotify_init1, 0),
    CALL(epoll_create1, 0),
    CALL(eventfd2, 0),
    CALL(timerfd_create, 0),
    CALL(signalfd4, -1),
    CALL(io_setup, 0),
    CALL(futex, 0, 1),
    CALL(getrandom, 0, 0),
    CALL(rseq, 0),
    CALL(seccomp, 99),
    CALL(landlock_create_ruleset, 0, 0, 1),
    CALL(mq_open, P("probe"), 0),
    CALL(shmget, 1, 1, 0),
    CALL(semget, 1, 1, 0),
    CALL(msgget, 1, 0),
    CALL(setgroups, 0),
    CALL(setuid, 1000),
    CALL(setgid, 1000),
    CALL(sched_setaffinity, 0),
    CALL(sched_yield),
    CALL(fchown, -1),
    NUMBERED(cachestat, 451, -1),
    NUMBERED(fchmodat2, 452, -1, P("")),
    NUMBERED(lsm_list_modules, 461),
    NUMBERED(number 9999, 9999),
#ifdef __x86_64__
    CALL(iopl, 3),
    CALL(ioperm, 0, 1, 1),
    CALL(uselib, P(NOWHERE)),
    CALL(ustat, -1),
    CALL(sysfs, 99),
    CALL(_sysctl),
    CALL(create_module),
    CALL(get_kernel_syms),
    CALL(query_module),
    CALL(modify_ldt, 99),
    CALL(arch_prctl, 0),
    NUMBERED(mount as x32, 0x40000000 | 165, P("none"), P(NOWHERE), P("tmpfs")),
#endif
    // Arguments that count.
    {"socket(unix)", SYS_socket, {AF_UNIX, SOCK_STREAM}},
    {"socket(inet)", SYS_socket, {AF_INET, SOCK_STREAM}},
    {"socket(inet6)", SYS_socket, {AF_INET6, SOCK_STREAM}},
    {"socket(netlink)", SYS_socket, {AF_NETLINK, SOCK_RAW}},
    {"socket(raw icmp)", SYS_socket, {AF_INET, SOCK_RAW, IPPROTO_ICMP}},
    {"socket(packet)", SYS_socket, {AF_PACKET, SOCK_RAW}},
    {"socket(alg)", SYS_socket, {AF_ALG, SOCK_SEQPACKET}},
    {"socket(vsock)", SYS_socket, {AF_VSOCK, SOCK_STREAM}},
    {"personality(ask)", SYS_personality, {0xffffffff}},
    {"personality(linux32)", SYS_personality, {8}},
    {"personality(no randomness)", SYS_personality, {0x0040000}},
    {"personality(read implies exec)", SYS_personality, {0x0400000}},
    {"personality(map page 0)", SYS_personality, {0x0100000}},
    {"ioctl(TIOCSTI)", SYS_ioctl, {-1, TIOCSTI}},
};

static int make_call(void) {
    const struct call *it = subject;
    const long *a = it->arguments;
    return refusal(syscall(it->number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

static const struct call clones[] = {
    {"clone(nothing)", 0, {0}},
    {"clone(user)", 0, {CLONE_NEWUSER}},
    {"clone(mnt)", 0, {CLONE_NEWNS}},
    {"clone(pid)", 0, {CLONE_NEWPID}},
    {"clone(net)", 0, {CLONE_NEWNET}},
    {"clone(uts)", 0, {CLONE_NEWUTS}},
    {"clone(ipc)", 0, {CLONE_NEWIPC}},
    {"clone(cgroup)", 0, {CLONE_NEWCGROUP}},
};

static int make_clone(void) {
    const struct call *it = subject;
    long child = syscall(SYS_clone, it->arguments[0] | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    return refusal(child);
}

#ifdef __x86_64__
// Calls by the gate of 32-bit programs, which has other numbers. All arguments are 0.
static const struct call old_calls[] = {
    {"mount by int 0x80", 21, {0}},   {"unshare by int 0x80", 310, {0x10000000}}, {"keyctl by int 0x80", 288, {0}},
    {"bpf by int 0x80", 357, {0}},    {"reboot by int 0x80", 88, {0}},            {"getpid by int 0x80", 20, {0}},
    {"setns by int 0x80", 346, {0}},  {"init_module by int 0x80", 128, {0}},      {"ptrace by int 0x80", 26, {0}},
};

static int make_old_call(void) {
    const struct call *it = subject;
    long result = it->number;
    __asm__ volatile("int $0x80"
                     : "+a"(result)
                     : "b"(it->arguments[0]), "c"(0L), "d"(0L), "S"(0L), "D"(0L)
                     : "r8", "r9", "r10", "r11", "memory");
    int number = (int)result;
    errno = number < 0 ? -number : 0;
    return refusal(number < 0 ? -1 : 0);
}
#endif

// ---- Things that only some may do, whatever the filter says.

static char scratch[] = "/tmp/probe-XXXXXX";

static int own_file(void) {
    int file = mkstemp(scratch);
    if (file < 0) {
        perror(scratch);
        _exit(1);
    }
    unlink(scratch);
    return file;
}

static int give_a_file_away(void) { return outcome(fchown(own_file(), 1000, 1000)); }
static int become_another(void) { return outcome(setresuid(1000, 1000, 1000)); }
static int set_a_file_capability(void) {
    struct vfs_cap_data data = {.magic_etc = VFS_CAP_REVISION_2, .data = {{1, 0}, {0, 0}}};
    return outcome(fsetxattr(own_file(), "security.capability", &data, sizeof data, 0));
}
static int set_a_trusted_attribute(void) { return outcome(fsetxattr(own_file(), "trusted.probe", "x", 1, 0)); }
static int set_a_security_attribute(void) { return outcome(fsetxattr(own_file(), "security.probe", "x", 1, 0)); }
static int take_a_higher_priority(void) { return outcome(setpriority(PRIO_PROCESS, 0, -20)); }
static int run_in_real_time(void) {
    struct sched_param param = {.sched_priority = 1};
    return outcome(sched_setscheduler(0, SCHED_FIFO, &param));
}
static int raise_a_hard_limit(void) {
    struct rlimit limit = {16, 16};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return errno;
    limit.rlim_max = 17;
    return outcome(setrlimit(RLIMIT_NOFILE, &limit));
}
static int regain_a_capability(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) != 0)
        return errno;
    data[0].effective = data[0].permitted = data[0].permitted | 1u << CAP_SYS_ADMIN;
    return outcome(syscall(SYS_capset, &header, data));
}
static int drop_a_capability(void) { return outcome(prctl(PR_CAPBSET_DROP, CAP_MKNOD, 0, 0, 0)); }
static int keep_capabilities(void) { return outcome(prctl(PR_SET_SECUREBITS, 1, 0, 0, 0)); }
static int change_its_memory_map(void) { return outcome(prctl(PR_SET_MM, PR_SET_MM_BRK, 0, 0, 0)); }
static int signal_the_first_process(void) { return outcome(kill(1, 0)); }

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int socket_ = socket(AF_INET, SOCK_STREAM, 0);
    return outcome(bind(socket_, (struct sockaddr *)&address, sizeof address));
}
static int listen_on_a_low_port(void) { return listen_on(81); }
static int mark_packets(void) {
    int mark = 1;
    return outcome(setsockopt(socket(AF_INET, SOCK_DGRAM, 0), SOL_SOCKET, SO_MARK, &mark, sizeof mark));
}
static int force_a_buffer(void) {
    int size = 1 << 20;
    return outcome(setsockopt(socket(AF_INET, SOCK_DGRAM, 0), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size));
}
static int take_an_interface_down(void) {
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_LOOPBACK};
    return outcome(ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &request));
}

// Sends one message and waits for the word on it.
static int ask_netlink(int protocol, int type, int flags, int body) {
    struct {
        struct nlmsghdr header;
        char body[64];
    } request = {.header = {.nlmsg_len = NLMSG_LENGTH(body), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags}};
    char answer[8192];
    int link = socket(AF_NETLINK, SOCK_RAW, protocol);
    if (link < 0 || send(link, &request, request.header.nlmsg_len, 0) < 0)
        return errno;
    ssize_t length = recv(link, answer, sizeof answer, 0);
    struct nlmsghdr *header = (void *)answer;
    if (length < (ssize_t)sizeof *header || header->nlmsg_type != NLMSG_ERROR)
        return 0;
    errno = -((struct nlmsgerr *)NLMSG_DATA(header))->error;
    return refusal(errno == 0 ? 0 : -1);
}
static int make_an_interface(void) {
    return ask_netlink(NETLINK_ROUTE, RTM_NEWLINK, NLM_F_CREATE, sizeof(struct ifinfomsg));
}
static int remove_the_firewall(void) {
    // A message outside a batch: who may not, hears that first.
    return ask_netlink(NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES << 8, NLM_F_CREATE, sizeof(struct nfgenmsg));
}
static int ask_for_the_audit_state(void) { return ask_netlink(NETLINK_AUDIT, AUDIT_SET, 0, sizeof(struct audit_status)); }

static int write_text(const char *path, const char *text) {
    int file = open(path, O_WRONLY);
    return file < 0 ? errno : outcome(write(file, text, strlen(text)));
}
static int be_spared_by_want_of_memory(void) { return write_text("/proc/self/oom_score_adj", "-1000"); }

static int write_through_the_memory_of_the_first(void) {
    int file = open("/proc/1/mem", O_RDWR);
    return file < 0 ? errno : 0;
}
// Makes a directory the root while it stands outside of that, from where ".." leads on, and goes up as far as it gets.
static int climb_above_the_root(void) {
    struct stat root, top;
    if (stat("/", &root) != 0 || mkdtemp(scratch) == NULL || chdir("/") != 0)
        return errno;
    int made = chroot(scratch);
    for (int i = 0; i < 64; i++)
        made |= chdir("..");
    if (made != 0 || stat(".", &top) != 0)
        return errno;
    rmdir(scratch + 1);
    return top.st_dev == root.st_dev && top.st_ino == root.st_ino ? NOTHING : 0;
}
static int set_the_identity_map(void) { return write_text("/proc/self/uid_map", "0 0 1"); }

static const struct {
    const char *name;
    attempt *attempt;
} deeds[] = {
    {"give a file away", give_a_file_away},
    {"become another user", become_another},
    {"set a file capability", set_a_file_capability},
    {"set a trusted attribute", set_a_trusted_attribute},
    {"set a security attribute", set_a_security_attribute},
    {"take a higher priority", take_a_higher_priority},
    {"run in real time", run_in_real_time},
    {"raise a hard limit", raise_a_hard_limit},
    {"take CAP_SYS_ADMIN", regain_a_capability},
    {"drop a capability", drop_a_capability},
    {"set the secure bits", keep_capabilities},
    {"change its memory map", change_its_memory_map},
    {"signal the first process", signal_the_first_process},
    {"open the first process's memory", write_through_the_memory_of_the_first},
    {"set the identity map", set_the_identity_map},
    {"climb above the root", climb_above_the_root},
    {"be spared by want of memory", be_spared_by_want_of_memory},
    {"listen on a low port", listen_on_a_low_port},
    {"mark packets", mark_packets},
    {"force a buffer", force_a_buffer},
    {"change an interface", take_an_interface_down},
    {"make an interface", make_an_interface},
    {"change the firewall", remove_the_firewall},
    {"set the audit state", ask_for_the_audit_state},
};

// ---- Files that tell of the host or change it.

static const char *const reads[] = {
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/scsi",
    "/proc/sched_debug", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap",
    "/sys/devices/system/cpu/cpu0/thermal_throttle", "/sys/fs/selinux", "/sys/kernel/debug", "/sys/kernel/tracing",
    "/sys/kernel/security", "/sys/fs/bpf", "/proc/kmsg", "/proc/kpagecount", "/proc/1/environ", "/proc/meminfo", "/proc/cpuinfo",
    "/proc/sys/kernel/ostype", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/null",
};

// Whether something is there to read: bytes of a file, entries of a directory.
static int read_something(void) {
    const char *path = subject;
    int file = open(path, O_RDONLY | O_NONBLOCK);
    if (file < 0)
        return errno == ENOENT ? NOTHING : errno;
    struct stat stat;
    if (fstat(file, &stat) == 0 && S_ISDIR(stat.st_mode)) {
        DIR *directory = fdopendir(file);
        struct dirent *entry;
        while (directory && (entry = readdir(directory)))
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                return 0;
        return directory ? NOTHING : errno;
    }
    // Some of these files are read by eights only.
    char bytes[8];
    ssize_t got = read(file, bytes, sizeof bytes);
    return got < 0 ? errno : got == 0 ? NOTHING : 0;
}

static const char *const writes[] = {
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname", "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/shmmax", "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/panic_on_oom", "/proc/sys/fs/file-max",
    "/proc/sys/net/ipv4/ip_forward", "/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
    "/proc/keys", "/proc/kcore", "/proc/interrupts", "/proc/timer_list",
    "/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", "/sys/module/overlay/parameters/metacopy",
    "/sys/block/loop0/queue/read_ahead_kb", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cgroup.subtree_control",
    "/sys/fs/cgroup/devices/devices.allow", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/pids/pids.max", "/sys/kernel/debug/sched/features", "/etc/hosts", "/etc/resolv.conf", "/dev/null", "/dev/full",
};

static int open_to_write(void) {
    int file = open(subject, O_WRONLY | O_NONBLOCK);
    // What is masked by the device that swallows everything is not what was meant.
    struct stat stat;
    if (file >= 0 && strcmp(subject, "/dev/null") != 0 && fstat(file, &stat) == 0 && S_ISCHR(stat.st_mode) &&
        stat.st_rdev == makedev(1, 3))
        return NOTHING;
    return file >= 0 ? 0 : errno == ENOENT || errno == ENOTDIR ? NOTHING : errno;
}

static const char *const makes[] = {
    "/sys/fs/cgroup/probe", "/sys/fs/cgroup/memory/probe", "/proc/probe", "/sys/probe", "/dev/probe", "/tmp/probe", "/probe",
};

static int make_a_directory(void) {
    int result = outcome(mkdir(subject, 0700));
    if (result == 0)
        rmdir(subject);
    return result == ENOENT ? NOTHING : result;
}

static const struct device {
    const char *name;
    mode_t kind;
    unsigned major, minor;
} devices[] = {
    {"null", S_IFCHR, 1, 3},          {"zero", S_IFCHR, 1, 5},         {"full", S_IFCHR, 1, 7},        {"random", S_IFCHR, 1, 8},
    {"urandom", S_IFCHR, 1, 9},       {"mem", S_IFCHR, 1, 1},          {"port", S_IFCHR, 1, 4},        {"kmsg", S_IFCHR, 1, 11},
    {"tty1", S_IFCHR, 4, 1},          {"serial", S_IFCHR, 4, 64},      {"console", S_IFCHR, 5, 1},     {"loop0", S_IFBLK, 7, 0},
    {"sda", S_IFBLK, 8, 0},           {"vda", S_IFBLK, 254, 0},        {"md0", S_IFBLK, 9, 0},         {"dm-0", S_IFBLK, 253, 0},
    {"nvme", S_IFBLK, 259, 0},        {"watchdog", S_IFCHR, 10, 130},  {"rtc", S_IFCHR, 10, 135},      {"tun", S_IFCHR, 10, 200},
    {"cuse", S_IFCHR, 10, 203},       {"hpet", S_IFCHR, 10, 228},      {"fuse", S_IFCHR, 10, 229},     {"snapshot", S_IFCHR, 10, 231},
    {"kvm", S_IFCHR, 10, 232},        {"btrfs", S_IFCHR, 10, 234},     {"mapper", S_IFCHR, 10, 236},   {"loop-control", S_IFCHR, 10, 237},
    {"vhost-net", S_IFCHR, 10, 238},  {"input", S_IFCHR, 13, 64},      {"sg0", S_IFCHR, 21, 0},        {"graphics", S_IFCHR, 29, 0},
    {"drm", S_IFCHR, 226, 0},         {"msr", S_IFCHR, 202, 0},
};

static char node[] = "/tmp/probe-node";

static int make_a_node(void) {
    const struct device *it = subject;
    unlink(node);
    return outcome(mknod(node, it->kind | 0600, makedev(it->major, it->minor)));
}

// A device that nobody serves has been let through all the same.
static int open_a_node(void) {
    if (make_a_node() != 0)
        return NOTHING;
    int file = open(node, O_RDONLY | O_NONBLOCK);
    return file >= 0 || errno == ENXIO || errno == ENODEV || errno == EIO || errno == EBUSY || errno == ENOMEDIUM ? 0 : errno;
}

// ---- Who this is.

static void print_status(void) {
    static const char *const wanted[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Groups"};
    char line[512];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) {
        char *value = strchr(line, ':');
        if (!value)
            continue;
        *value++ = 0;
        value += strspn(value, " \t");
        value[strcspn(value, "\n")] = 0;
        for (size_t end = strlen(value); end > 0 && value[end - 1] == ' ';)
            value[--end] = 0;
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (strcmp(line, wanted[i]) == 0)
                print("fact", line, value);
    }
}

static void print_number(const char *name, long value) {
    char text[32];
    snprintf(text, sizeof text, "%ld", value);
    print("fact", name, text);
}

static long descriptors(void) {
    long count = 0;
    for (int fd = 3; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static long processes(void) {
    long count = 0;
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        count += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
    return count;
}

#define EACH(kind, list, attempt, name_of)                               \
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {            \
        subject = (name_of(list[i]));                                    \
        try(kind, NAME(list[i]), attempt);                               \
    }

#define SELF(it) (it)
#define ADDRESS(it) (&(it))

int main(void) {
    print_number("descriptors beyond the first three", descriptors());
    print_number("own number", getpid());
    print_number("processes seen", processes());
    mode_t mask = umask(0);
    umask(mask);
    print_number("umask", mask);
    print_status();
#define NAME(it) ((it).name)
    EACH("call", calls, make_call, ADDRESS)
    EACH("call", clones, make_clone, ADDRESS)
#ifdef __x86_64__
    EACH("call", old_calls, make_old_call, ADDRESS)
#endif
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++)
        try("deed", deeds[i].name, deeds[i].attempt);
    EACH("make node", devices, make_a_node, ADDRESS)
    EACH("open node", devices, open_a_node, ADDRESS)
#undef NAME
#define NAME(it) (it)
    EACH("read", reads, read_something, SELF)
    EACH("write", writes, open_to_write, SELF)
    EACH("make", makes, make_a_directory, SELF)
    unlink(node);
    return 0;
}
