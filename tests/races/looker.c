// The hostile container of security.md T13: looks, as fast as it can, at every process of its pid namespace that runs
// the runtime's executable, through all of /proc/PID and through pidfds. Says once what it could reach of the host.
//
// looker CANARY TERCES HOST_MNT_NS PASSES_FILE: a path that exists on the host alone; a word backwards that only the
// runtime's caller has; the inode of the host's mount namespace; a file whose first 8 bytes count the passes.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *canary, *secret;
static uint64_t host_mnt_ns;

static void say(const char *what, const char *detail) {
    static char said[256][160];
    static int count;
    char line[160];
    snprintf(line, sizeof line, "%s %s\n", what, detail);
    for (int i = 0; i < count; i++)
        if (!strcmp(said[i], line)) return;
    if (count < 256) strcpy(said[count++], line);
    if (write(1, line, strlen(line)) < 0) _exit(1);
}

// Whether the host's canary can be found from this directory, by going up as far as it goes.
static int leads_to_host(int dir) {
    struct stat is;
    int at = openat(dir, ".", O_PATH | O_DIRECTORY);
    for (int up = 0; at >= 0 && up < 32; up++) {
        if (!fstatat(at, canary + 1, &is, 0)) return close(at), 1;
        int above = openat(at, "..", O_PATH | O_DIRECTORY);
        close(at);
        at = above;
    }
    if (at >= 0) close(at);
    return 0;
}

static void directory(int pid, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int fd = open(path, O_PATH | O_DIRECTORY);
    if (fd < 0) return;
    if (leads_to_host(fd)) say("HOST", name);
    close(fd);
}

// A descriptor of the process, reached in whichever way: no directory that leads to the host, no file, no device.
static void descriptor(int fd, const char *name, const char *way) {
    struct stat is;
    char detail[96];
    if (fstat(fd, &is)) return;
    snprintf(detail, sizeof detail, "%s of %s", way, name);
    if (S_ISDIR(is.st_mode) && leads_to_host(fd)) say("HOST", detail);
    if (S_ISBLK(is.st_mode)) say("HOST", detail);
}

static void descriptors(int pid) {
    char path[160];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    if (!dir) return;
    int pidfd = syscall(SYS_pidfd_open, pid, 0);
    for (struct dirent *entry; (entry = readdir(dir));) {
        int number = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || number < 3) continue;
        char to[96] = "";
        if (readlinkat(dirfd(dir), entry->d_name, to, sizeof to - 1) < 0) continue;
        int fd = openat(dirfd(dir), entry->d_name, O_PATH);
        if (fd >= 0) descriptor(fd, to, "fd"), close(fd);
        // A regular file that can be opened anew, for writing even where the process has it for reading. What is in the
        // process's root is the other container's own.
        struct stat is, own;
        snprintf(path, sizeof path, "/proc/%d/root%s", pid, to);
        if (!fstatat(dirfd(dir), entry->d_name, &is, 0) && S_ISREG(is.st_mode) &&
            (stat(path, &own) || own.st_ino != is.st_ino || own.st_dev != is.st_dev)) {
            fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_NONBLOCK);
            if (fd >= 0) say("HOST", to), close(fd);
        }
        fd = pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, number, 0);
        if (fd >= 0) descriptor(fd, to, "pidfd_getfd"), close(fd);
    }
    if (pidfd >= 0) close(pidfd);
    closedir(dir);
}

static int found(const char *bytes, ssize_t length) {
    return length > 0 && memmem(bytes, length, secret, strlen(secret)) != NULL;
}

// What the process remembers: its environment, and all that it may read of itself.
static void memory(int pid) {
    static char bytes[1 << 20];
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    int fd = open(path, O_RDONLY);
    if (fd >= 0) {
        if (found(bytes, read(fd, bytes, sizeof bytes))) say("HOST", "environ");
        close(fd);
    }
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "r");
    if (!maps) return;
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char rights[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3 || rights[1] != 'w') continue;
        struct iovec here = {bytes, sizeof bytes}, there = {(void *)from, to - from};
        if (found(bytes, process_vm_readv(pid, &here, 1, &there, 1, 0))) say("HOST", "process_vm_readv");
        snprintf(path, sizeof path, "/proc/%d/map_files/%lx-%lx", pid, from, to);
        fd = open(path, O_RDWR);
        if (fd >= 0) say("HOST", "map_files"), close(fd);
    }
    fclose(maps);
}

static void look(int pid) {
    char path[64], exe[256] = "";
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    if (readlink(path, exe, sizeof exe - 1) < 0 || !strstr(exe, "orlop")) return;
    say("SAW", "an orlop process");
    int fd = open(path, O_RDWR);
    if (fd >= 0) say("HOST", "exe, for writing"), close(fd);
    directory(pid, "root");
    directory(pid, "cwd");
    descriptors(pid);
    memory(pid);
    struct stat is;
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
    if (!stat(path, &is) && is.st_ino == host_mnt_ns) say("HOST", "ns/mnt");
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    canary = argv[1];
    // Backwards, because the arguments stand in the container's config, which the runtime reads.
    char *word = argv[2];
    for (size_t i = 0, j = strlen(word); i + 1 < j; i++, j--) {
        char first = word[i];
        word[i] = word[j - 1];
        word[j - 1] = first;
    }
    secret = word;
    host_mnt_ns = strtoull(argv[3], NULL, 10);
    int passes = open(argv[4], O_RDWR | O_CREAT, 0644);
    for (uint64_t pass = 1;; pass++) {
        DIR *proc = opendir("/proc");
        for (struct dirent *entry; proc && (entry = readdir(proc));) {
            int pid = atoi(entry->d_name);
            if (pid > 0 && pid != getpid()) look(pid);
        }
        if (proc) closedir(proc);
        if (pwrite(passes, &pass, sizeof pass, 0) != sizeof pass) return 1;
    }
}
