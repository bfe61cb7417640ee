// What a process does that means harm: `storm ROUNDS SEED` makes that many system calls with senseless numbers and
// arguments; `exhaust` takes as much as it gets of what the machine has only so much of, and prints what stopped it.
//
// Built by the test that runs it: cc -static -O1.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
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

int main(int count, char **words) {
    if (count == 4 && strcmp(words[1], "storm") == 0) {
        state = strtoull(words[3], NULL, 10) * 2654435761u + 1;
        return storm(strtol(words[2], NULL, 10));
    }
    take_all("pipes", one_pipe);
    take_all("terminals", one_terminal);
    take_all("inotify", one_inotify);
    take_all("files", one_file);
    take_all("network namespaces", one_namespace);
    take_all("message queues", one_queue);
    return 0;
}
