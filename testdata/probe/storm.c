// What a process does that means harm.
//
//   storm ROUNDS SEED    makes that many system calls with senseless numbers and arguments
//   exhaust              takes as much as it gets of what the machine has only so much of, and says what stopped it
//   exchange ONE OTHER   exchanges two names over and over, until it is ended; fails if it never could
//   end SIGNAL MICROSECONDS COMMAND...
//                        runs a command, sends it the signal that much later, and ends as it does (128 and the signal)
//   listen NAME          listens on an abstract socket; `connect NAME` asks whether it is there
//   sniff DIRECTORY      looks at all packets that pass, from when `started` is there until `sent` is
//   send DIRECTORY IP... sends packets that nobody else should see, from `started` on, and says `sent`
//   netlink              asks the kernel for changes of the network, the filters and the audit
//   share                makes shared memory, semaphores and a queue; `shared` looks for them
//   keys                 asks for keys
//
// Built by the test that runs it: cc -static -O1.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/if_ether.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stddef.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t state;

// xorshift: the same for the same seed.
static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static long argument(char *memory) {
    static const long special[] = {0, 1, -1, 2, 3, 4096, 0x7fffffff, -4096, 0x10000000};
    switch (next() % 4) {
    case 0: return special[next() % (sizeof special / sizeof *special)];
    case 1: return (long)(memory + next() % 4096);
    case 2: return (long)(next() % 64);
    default: return (long)next();
    }
}

// Makes calls until one of them ends it, puts it to sleep or makes another process of it.
static void blow(long rounds) {
    static char memory[8192];
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (char)next();
    pid_t self = getpid();
    // Who sleeps is woken, and ended by that.
    struct itimerval soon = {.it_value = {.tv_usec = 50000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    for (long i = 0; i < rounds; i++) {
        long number = (long)(next() % 601);
        if (number == SYS_exit || number == SYS_exit_group)
            continue;
        syscall(number, argument(memory), argument(memory), argument(memory), argument(memory), argument(memory), argument(memory));
        if (syscall(SYS_getpid) != self)
            _exit(0);
    }
    _exit(0);
}

static int storm(long rounds) {
    // What they print, change or close is their own.
    for (long done = 0; done < rounds; done += 100) {
        next();
        pid_t child = fork();
        if (child == 0) {
            setsid();
            int nowhere = open("/dev/null", O_RDWR);
            for (int fd = 0; fd < 3; fd++)
                dup2(nowhere, fd);
            blow(100);
        }
        // Who has put itself to sleep or to a stop for good, and has seen to it that nothing wakes it, is ended here.
        int status, patience = 200;
        while (child > 0 && waitpid(child, &status, WNOHANG) == 0 && patience-- > 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        // What they left running goes too.
        kill(-1, SIGKILL);
        while (waitpid(-1, &status, WNOHANG) > 0)
            ;
    }
    puts("over");
    return 0;
}

static int one_pipe(void) {
    int ends[2];
    return pipe(ends);
}
static int one_terminal(void) { return open("/dev/ptmx", O_RDWR | O_NOCTTY); }
static int one_inotify(void) { return inotify_init(); }
static int one_file(void) { return open("/dev/null", O_RDONLY); }
static int one_namespace(void) { return unshare(CLONE_NEWNET); }
static int one_queue(void) {
    static char name[16];
    static int number;
    snprintf(name, sizeof name, "q%d", number++);
    return (int)syscall(SYS_mq_open, name, O_CREAT | O_RDWR, 0600, NULL);
}

static void take_all(const char *what, int (*take)(void)) {
    fflush(stdout);
    if (fork() == 0) {
        for (long count = 0; count < 1000000; count++)
            if (take() < 0) {
                printf("%s: %s\n", what, strerrorname_np(errno));
                exit(0);
            }
        printf("%s: no end\n", what);
        exit(0);
    }
    wait(NULL);
}


static void say(const char *what, long answer) {
    printf("%s: %s\n", what, answer < 0 ? strerrorname_np(errno) : "done");
}

static volatile sig_atomic_t ended;
static void end(int signal) { (void)signal, ended = 1; }

static int exchange(const char *one, const char *other) {
    // Not longer than whoever started it.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGTERM, end);
    long exchanged = 0;
    for (state = 88172645463325252u; !ended; usleep(next() % 300)) {
        if (renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0)
            exchanged++;
        // One of them may be on its way to being made anew.
        else if (errno != ENOENT)
            return perror("exchange"), 1;
    }
    return exchanged == 0;
}

// A shell would do, but for signals that come before it has become the command: those it can lose.
static int run_and_end(int number, useconds_t after, char **command) {
    // Whoever is in the background of a shell was told to ignore them.
    int heeded[] = {SIGHUP, SIGINT, SIGTERM};
    for (size_t i = 0; i < sizeof heeded / sizeof *heeded; i++)
        signal(heeded[i], SIG_DFL);
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        execvp(*command, command);
        _exit(127);
    }
    // To -1, the signal would go to everybody.
    if (child < 0)
        return 126;
    usleep(after);
    kill(child, number);
    int status;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static socklen_t abstract(struct sockaddr_un *address, const char *name) {
    address->sun_family = AF_UNIX;
    strncpy(address->sun_path + 1, name, sizeof address->sun_path - 2);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static int listens(const char *name) {
    struct sockaddr_un address = {0};
    socklen_t length = abstract(&address, name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, 1) != 0)
        return perror("listen"), 1;
    puts("listening");
    fflush(stdout);
    for (;;)
        pause();
}

static int connects(const char *name) {
    struct sockaddr_un address = {0};
    socklen_t length = abstract(&address, name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    say("abstract socket", connect(fd, (struct sockaddr *)&address, length));
    return 0;
}

static const char *in(const char *directory, const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void touch(const char *path) { close(open(path, O_WRONLY | O_CREAT, 0644)); }

static void shout(int fd, const char *to, const char *what) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9)};
    inet_pton(AF_INET, to, &address.sin_addr);
    sendto(fd, what, strlen(what), 0, (struct sockaddr *)&address, sizeof address);
}

static int talker(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0), yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &yes, sizeof yes);
    return fd;
}

static int sniff(const char *directory) {
    static char packet[65536];
    int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), voice = talker();
    if (fd < 0)
        return perror("packets"), 0;
    touch(in(directory, "started"));
    for (int own = 0;;) {
        // It speaks itself until it has heard that, so that it is known to hear.
        if (!own)
            shout(voice, "255.255.255.255", "of-its-own");
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, 20) == 0) {
            if (own && access(in(directory, "sent"), F_OK) == 0)
                return puts("saw its own packets and no others"), 0;
            continue;
        }
        ssize_t length = recv(fd, packet, sizeof packet, 0);
        if (length > 0 && memmem(packet, (size_t)length, "of-others", 9))
            return puts("saw a packet of others"), 1;
        own |= length > 0 && memmem(packet, (size_t)length, "of-its-own", 10) != NULL;
    }
}

static int sends(const char *directory, char **addresses) {
    while (access(in(directory, "started"), F_OK) != 0)
        usleep(5000);
    int fd = talker();
    for (int round = 0; round < 200; round++) {
        for (char **address = addresses; *address; address++)
            shout(fd, *address, "of-others");
        usleep(500);
    }
    touch(in(directory, "sent"));
    return 0;
}

// Sends one request and says what the kernel answers.
static void ask(const char *what, int protocol, void *request, size_t length) {
    char answer[4096];
    int fd = socket(AF_NETLINK, SOCK_RAW, protocol);
    struct timeval patience = {.tv_sec = 1};
    if (fd < 0) {
        say(what, -1);
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    if (sendto(fd, request, length, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0) {
        say(what, -1);
        close(fd);
        return;
    }
    ssize_t got = recv(fd, answer, sizeof answer, 0);
    struct nlmsghdr *header = (struct nlmsghdr *)answer;
    if (got > 0 && header->nlmsg_type == NLMSG_ERROR) {
        errno = -((struct nlmsgerr *)NLMSG_DATA(header))->error;
        say(what, errno ? -1 : 0);
    } else
        printf("%s: no answer\n", what);
    close(fd);
}

static int netlink(void) {
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
        struct rtattr name;
        char text[8];
        struct rtattr info, kind;
        char type[8];
    } link = {.header = {sizeof link, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, 1, 0},
              .name = {sizeof link.name + 8, IFLA_IFNAME}, .text = "evil0",
              .info = {sizeof link.info + sizeof link.kind + 8, IFLA_LINKINFO},
              .kind = {sizeof link.kind + 6, IFLA_INFO_KIND}, .type = "dummy"};
    ask("a new link", NETLINK_ROUTE, &link, sizeof link);
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } gone = {.header = {sizeof gone, RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 2, 0}, .link = {.ifi_index = 2}};
    ask("a link removed", NETLINK_ROUTE, &gone, sizeof gone);
    struct {
        struct nlmsghdr begin;
        struct nfgenmsg begin_of;
        struct nlmsghdr header;
        struct nfgenmsg table;
        struct nlattr name;
        char text[8];
        struct nlmsghdr end;
        struct nfgenmsg end_of;
    } table = {.begin = {sizeof table.begin + sizeof table.begin_of, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 1, 0},
               .begin_of = {.res_id = htons(NFNL_SUBSYS_NFTABLES)},
               .header = {sizeof table.header + sizeof table.table + sizeof table.name + 8,
                          NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, 2, 0},
               .table = {.nfgen_family = 1}, .name = {sizeof table.name + 5, NFTA_TABLE_NAME}, .text = "evil",
               .end = {sizeof table.end + sizeof table.end_of, NFNL_MSG_BATCH_END, NLM_F_REQUEST, 3, 0},
               .end_of = {.res_id = htons(NFNL_SUBSYS_NFTABLES)}};
    ask("a table of filters", NETLINK_NETFILTER, &table, sizeof table);
    struct {
        struct nlmsghdr header;
        struct audit_status status;
    } audit = {.header = {sizeof audit, AUDIT_SET, NLM_F_REQUEST | NLM_F_ACK, 1, 0},
               .status = {.mask = AUDIT_STATUS_ENABLED}};
    ask("no more audit", NETLINK_AUDIT, &audit, sizeof audit);
    return 0;
}

enum { KEY = 0x5eed };

static int share(int flags) {
    say("shared memory", shmget(KEY, 4096, flags | 0666));
    say("semaphores", semget(KEY, 1, flags | 0666));
    say("a queue", msgget(KEY, flags | 0666));
    return 0;
}

static int keys(void) {
    enum { GET = 0, JOIN = 1, SESSION = -3 };
    say("the session's keys", syscall(SYS_keyctl, GET, SESSION, 0));
    say("a session of its own", syscall(SYS_keyctl, JOIN, NULL));
    say("a new key", syscall(SYS_add_key, "user", "evil", "x", 1, SESSION));
    say("a key of others", syscall(SYS_request_key, "user", "canary", NULL, SESSION));
    return 0;
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    if (count == 4 && strcmp(what, "storm") == 0) {
        state = strtoull(words[3], NULL, 10) * 2654435761u + 1;
        return storm(strtol(words[2], NULL, 10));
    }
    if (count == 4 && strcmp(what, "exchange") == 0)
        return exchange(words[2], words[3]);
    if (count > 4 && strcmp(what, "end") == 0)
        return run_and_end(atoi(words[2]), (useconds_t)atol(words[3]), words + 4);
    if (count == 3 && strcmp(what, "listen") == 0)
        return listens(words[2]);
    if (count == 3 && strcmp(what, "connect") == 0)
        return connects(words[2]);
    if (count == 3 && strcmp(what, "sniff") == 0)
        return sniff(words[2]);
    if (count > 3 && strcmp(what, "send") == 0)
        return sends(words[2], words + 3);
    if (strcmp(what, "netlink") == 0)
        return netlink();
    if (strcmp(what, "share") == 0)
        return share(IPC_CREAT);
    if (strcmp(what, "shared") == 0)
        return share(0);
    if (strcmp(what, "keys") == 0)
        return keys();
    take_all("pipes", one_pipe);
    take_all("terminals", one_terminal);
    take_all("inotify", one_inotify);
    take_all("files", one_file);
    take_all("network namespaces", one_namespace);
    take_all("message queues", one_queue);
    return 0;
}
