/*
 * Beats over a Unix datagram socket, both sides of them.
 *
 *   beats sink <path> <beats>              receives that many: recvmmsg with credentials and a pidfd each
 *                                          (closed), the checksum, and nothing else
 *   beats flood <path> <beats> <processes> sends that many from so many processes, waiting where it must
 *
 * The sink prints "up", then beats, bad ones, seconds from the first beat to the last, and seconds
 * of processor time. Each side stays on
 * one processor: the sink on the first, the flood on the last.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

enum { FRAME_BYTES = 32, SLOTS = 64, CONTROL_BYTES = 160 };

static uint32_t table[8][256];

static void make_table(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
    table[0][byte] = crc;
  }
  for (int slice = 1; slice < 8; slice++)
    for (int byte = 0; byte < 256; byte++)
      table[slice][byte] = (table[slice - 1][byte] >> 8) ^ table[0][table[slice - 1][byte] & 0xff];
}

static uint32_t crc32c(const uint8_t *bytes, size_t length) {
  uint32_t crc = 0xffffffff;
  for (; length >= 8; bytes += 8, length -= 8) {
    uint32_t first, second;
    memcpy(&first, bytes, 4);
    memcpy(&second, bytes + 4, 4);
    first ^= crc;
    crc = table[7][first & 0xff] ^ table[6][first >> 8 & 0xff] ^ table[5][first >> 16 & 0xff] ^
          table[4][first >> 24] ^ table[3][second & 0xff] ^ table[2][second >> 8 & 0xff] ^
          table[1][second >> 16 & 0xff] ^ table[0][second >> 24];
  }
  while (length--) crc = (crc >> 8) ^ table[0][(crc ^ *bytes++) & 0xff];
  return crc ^ 0xffffffff;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static void stay_on(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  sched_setaffinity(0, sizeof set, &set);
}

static struct sockaddr_un address_of(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  return address;
}

static int fail(const char *what) {
  perror(what);
  return 1;
}

/* A socket has the queue that is set when it is made: ten datagrams on most machines. */
static void set_queue(const char *text) {
  FILE *file = fopen("/proc/sys/net/unix/max_dgram_qlen", "w");
  if (file == NULL) return;
  fputs(text, file);
  fclose(file);
}

static int open_with_queue(void) {
  char before[32] = "10";
  FILE *file = fopen("/proc/sys/net/unix/max_dgram_qlen", "r");
  if (file != NULL) {
    if (fgets(before, sizeof before, file) == NULL) strcpy(before, "10");
    fclose(file);
  }
  set_queue("16384");
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  set_queue(before);
  return fd;
}

/* Waits for a beat, and a moment longer: one wake-up for many, as the observer has it. */
static void gather(int fd) {
  struct pollfd wanted = {fd, POLLIN, 0};
  struct timespec nap = {0, 1000000};
  poll(&wanted, 1, -1);
  nanosleep(&nap, NULL);
}

static double cpu_seconds(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
         (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static int sink(const char *path, long wanted) {
  static uint8_t frames[SLOTS][FRAME_BYTES + 1];
  static uint8_t controls[SLOTS][CONTROL_BYTES];
  struct mmsghdr messages[SLOTS];
  struct iovec vectors[SLOTS];
  int one = 1;
  int fd = open_with_queue();
  struct sockaddr_un address = address_of(path);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return fail("bind");
  setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_PASSPIDFD, &one, sizeof one);
  stay_on(0);
  puts("up");
  fflush(stdout);
  long taken = 0, bad = 0;
  double first = 0;
  while (taken < wanted) {
    memset(messages, 0, sizeof messages);
    for (int at = 0; at < SLOTS; at++) {
      vectors[at] = (struct iovec){frames[at], FRAME_BYTES + 1};
      messages[at].msg_hdr.msg_iov = &vectors[at];
      messages[at].msg_hdr.msg_iovlen = 1;
      messages[at].msg_hdr.msg_control = controls[at];
      messages[at].msg_hdr.msg_controllen = CONTROL_BYTES;
    }
    int count = recvmmsg(fd, messages, SLOTS, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, NULL);
    if (count < 0) {
      if (errno != EINTR && errno != EAGAIN) return fail("recvmmsg");
      if (errno == EAGAIN) gather(fd);
      continue;
    }
    if (taken == 0) first = now();
    for (int at = 0; at < count; at++) {
      uint32_t sum, pid, sender = 0;
      struct msghdr *header = &messages[at].msg_hdr;
      for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item)) {
        if (item->cmsg_level != SOL_SOCKET) continue;
        if (item->cmsg_type == SCM_CREDENTIALS) memcpy(&sender, CMSG_DATA(item), 4);
        if (item->cmsg_type == SCM_PIDFD) {
          int pidfd;
          memcpy(&pidfd, CMSG_DATA(item), 4);
          if (pidfd >= 0) close(pidfd);
        }
      }
      memcpy(&sum, frames[at] + 28, 4);
      memcpy(&pid, frames[at] + 4, 4);
      if (messages[at].msg_len != FRAME_BYTES || pid != sender || crc32c(frames[at], 28) != sum) bad++;
    }
    taken += count;
  }
  printf("%ld %ld %.6f %.6f\n", taken, bad, now() - first, cpu_seconds());
  return 0;
}

static int flood_one(const char *path, long beats) {
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = address_of(path);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return fail("connect");
  stay_on((int)sysconf(_SC_NPROCESSORS_ONLN) - 1);
  uint8_t frame[FRAME_BYTES] = {'V', 'A', 2, 0};
  uint32_t pid = (uint32_t)getpid();
  memcpy(frame + 4, &pid, 4);
  for (uint64_t nonce = 1; nonce <= (uint64_t)beats; nonce++) {
    memcpy(frame + 8, &nonce, 8);
    memcpy(frame + 16, &nonce, 8);
    uint32_t sum = crc32c(frame, 28);
    memcpy(frame + 28, &sum, 4);
    while (send(fd, frame, FRAME_BYTES, 0) < 0)
      if (errno != EINTR && errno != ENOBUFS && errno != EAGAIN) return fail("send");
  }
  return 0;
}

int main(int count, char **words) {
  make_table();
  if (count == 4 && strcmp(words[1], "sink") == 0) return sink(words[2], atol(words[3]));
  if (count != 5 || strcmp(words[1], "flood") != 0) return 2;
  int processes = atoi(words[4]);
  for (int at = 0; at < processes; at++)
    if (fork() == 0) _exit(flood_one(words[2], atol(words[3]) / processes));
  int status = 0, worst = 0;
  while (wait(&status) > 0)
    if (status != 0) worst = 1;
  return worst;
}
