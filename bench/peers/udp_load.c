/*
 * Loads a UDP balancer: one thread that is all clients and all backends, on loopback.
 *
 *   udp_load <port> <first backend port> <backends> <flows> <window> <seconds> <rate> <pid,pid…>
 *
 * A flow is a source address of its own (127.16.0.0 and on), so that any number of them needs one
 * socket. Backends echo. With rate 0 it keeps `window` datagrams on their way (closed loop); else it
 * sends so many a second and counts latency from when a datagram was due (open loop). Every reply's
 * flow, length and destination are compared. Prints one line:
 *
 *   round trips, seconds, lost, wrong, CPU seconds of the pids, p50 us, p99 us
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 32, SIZE = 64, BACKENDS_MAX = 16, BUCKETS = 4096, BUFFER = 16 << 20 };
enum { FIRST_CLIENT = 0x7f100000, MAGIC = 0x75647031 };
#define SETTLE_NS 300000000ull

struct payload {
  uint32_t magic, flow, epoch, unused;
  uint64_t due;
};

static struct mmsghdr to[BATCH], from[BATCH];
static struct iovec to_parts[BATCH], from_parts[BATCH];
static char to_bytes[BATCH][SIZE], from_bytes[BATCH][2048];
static char to_control[BATCH][64], from_control[BATCH][64];
static struct sockaddr_in from_names[BATCH];
static uint32_t histogram[BUCKETS];
static uint32_t epoch;

static uint64_t clock_ns(clockid_t id) {
  struct timespec time;
  return clock_gettime(id, &time) ? 0 : time.tv_sec * 1000000000ull + time.tv_nsec;
}

static uint64_t now(void) { return clock_ns(CLOCK_MONOTONIC); }

static uint64_t cpu_of(const char *pids) {
  uint64_t sum = 0;
  for (char *at = (char *)pids; *at != 0; at += *at == ',') {
    clockid_t id;
    if (clock_getcpuclockid(strtol(at, &at, 10), &id) == 0) sum += clock_ns(id);
  }
  return sum;
}

/* Buckets grow by a 64th of each power of two. */
static int bucket(uint64_t ns) {
  if (ns < 64) return ns;
  int power = 63 - __builtin_clzll(ns);
  int at = (power - 5) * 64 + ((ns >> (power - 6)) & 63);
  return at < BUCKETS ? at : BUCKETS - 1;
}

static double quantile_us(double part, uint64_t total) {
  uint64_t seen = 0;
  for (int at = 0; at < BUCKETS; at++) {
    seen += histogram[at];
    if (seen <= (uint64_t)(part * total)) continue;
    if (at < 64) return at / 1e3;
    int power = at / 64 + 5;
    return ((1ull << power) + ((uint64_t)(at % 64) << (power - 6))) / 1e3;
  }
  return 0;
}

static int open_socket(uint32_t address, int port) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  int size = BUFFER, one = 1;
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
  name.sin_addr.s_addr = htonl(address);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one);
  if (bind(fd, (void *)&name, sizeof name) < 0) {
    perror("bind");
    exit(1);
  }
  return fd;
}

static int receive(int fd) {
  for (int at = 0; at < BATCH; at++) {
    from[at].msg_hdr.msg_namelen = sizeof from_names[at];
    from[at].msg_hdr.msg_controllen = sizeof from_control[at];
    from_parts[at].iov_len = sizeof from_bytes[at];
  }
  int count = recvmmsg(fd, from, BATCH, 0, NULL);
  return count < 0 ? 0 : count;
}

static void echo(int fd) {
  int count = receive(fd);
  for (int at = 0; at < count; at++) {
    from_parts[at].iov_len = from[at].msg_len;
    from[at].msg_hdr.msg_controllen = 0;
  }
  for (int at = 0; at < count;) {
    int sent = sendmmsg(fd, from + at, count - at, 0);
    at += sent > 0 ? sent : 1;
  }
}

static int send_to(int fd, uint32_t *flow, uint32_t flows, int count, uint64_t due, double gap) {
  for (int at = 0; at < count; at++) {
    struct payload *payload = (void *)to_bytes[at];
    *payload = (struct payload){MAGIC, *flow, epoch, 0, due + (uint64_t)(at * gap)};
    struct in_pktinfo *info = (void *)CMSG_DATA((struct cmsghdr *)to_control[at]);
    info->ipi_spec_dst.s_addr = htonl(FIRST_CLIENT + *flow);
    *flow = *flow + 1 < flows ? *flow + 1 : 0;
  }
  int done = 0;
  while (done < count) {
    int sent = sendmmsg(fd, to + done, count - done, 0);
    if (sent > 0) done += sent;
    else if (errno != ECONNREFUSED) break;
  }
  return done;
}

int main(int argc, char **argv) {
  if (argc != 9) {
    fprintf(stderr, "usage: udp_load port backend-port backends flows window seconds rate pid\n");
    return 2;
  }
  int port = atoi(argv[1]), backend_port = atoi(argv[2]), backends = atoi(argv[3]);
  uint32_t flows = atoi(argv[4]);
  long window = atol(argv[5]);
  double seconds = atof(argv[6]), rate = atof(argv[7]);
  const char *pid = argv[8];
  if (backends > BACKENDS_MAX) return 2;
  int servers[BACKENDS_MAX];
  for (int at = 0; at < backends; at++) {
    servers[at] = open_socket(INADDR_LOOPBACK, backend_port + at);
  }
  /* A second load is of the same flows. */
  int client = open_socket(INADDR_ANY, port + 50);
  static struct sockaddr_in target;
  target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
  target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int at = 0; at < BATCH; at++) {
    struct cmsghdr *control = (void *)to_control[at];
    control->cmsg_level = IPPROTO_IP;
    control->cmsg_type = IP_PKTINFO;
    control->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
    to_parts[at] = (struct iovec){to_bytes[at], SIZE};
    to[at].msg_hdr = (struct msghdr){&target, sizeof target, &to_parts[at], 1, to_control[at],
                                     CMSG_SPACE(sizeof(struct in_pktinfo)), 0};
    from_parts[at] = (struct iovec){from_bytes[at], sizeof from_bytes[at]};
    from[at].msg_hdr = (struct msghdr){&from_names[at], sizeof from_names[at], &from_parts[at], 1,
                                       from_control[at], sizeof from_control[at], 0};
  }
  uint64_t sent = 0, got = 0, lost = 0, wrong = 0, got_before = 0, cpu_before = 0, timed = 0;
  uint64_t lost_before = 0;
  long on_way = 0;
  uint32_t flow = 0;
  uint64_t began = now(), measure = 0, due = 0, progress = began;
  double gap = rate > 0 ? 1e9 / rate : 0;
  for (;;) {
    uint64_t time = now();
    /* Every flow has been seen, and the first rush is over. */
    if (measure == 0 && sent >= flows && time > began + SETTLE_NS && on_way <= window) {
      measure = due = time;
      got_before = got;
      lost_before = lost;
      cpu_before = cpu_of(pid);
      memset(histogram, 0, sizeof histogram);
      timed = 0;
    }
    if (measure != 0 && time > measure + (uint64_t)(seconds * 1e9)) break;
    int count = 0;
    /* Flows are opened a few at a time, and in a closed loop. */
    long open = sent < flows && window > 16 ? 16 : window;
    if (measure == 0 || rate == 0) {
      long room = open - on_way;
      count = room > BATCH ? BATCH : room < 0 ? 0 : room;
      if (count > 0) count = send_to(client, &flow, flows, count, time, 0);
    } else if (time >= due) {
      count = (int)((time - due) / gap) + 1;
      if (count > BATCH) count = BATCH;
      count = send_to(client, &flow, flows, count, due, gap);
      due += (uint64_t)(count * gap);
    }
    sent += count;
    on_way += count;
    for (int at = 0; at < backends; at++) echo(servers[at]);
    int replies = receive(client);
    time = now();
    for (int at = 0; at < replies; at++) {
      struct payload *payload = (void *)from_bytes[at];
      struct cmsghdr *control = CMSG_FIRSTHDR(&from[at].msg_hdr);
      struct in_pktinfo *info = control ? (void *)CMSG_DATA(control) : NULL;
      if (from[at].msg_len != SIZE || payload->magic != MAGIC || info == NULL ||
          from_names[at].sin_port != target.sin_port ||
          ntohl(info->ipi_addr.s_addr) != FIRST_CLIENT + payload->flow) {
        wrong++;
        continue;
      }
      got++;
      if (payload->epoch != epoch) continue;
      on_way--;
      histogram[bucket(time > payload->due ? time - payload->due : 0)]++;
      timed++;
    }
    if (replies > 0) progress = time;
    /* Nothing comes any more: what is on its way is lost. */
    if (on_way > 0 && time > progress + SETTLE_NS) {
      lost += on_way;
      on_way = 0;
      epoch++;
      progress = time;
    }
  }
  double took = (now() - measure) / 1e9;
  double cpu = (cpu_of(pid) - cpu_before) / 1e9;
  printf("%lu %.6f %lu %lu %.6f %.1f %.1f\n", got - got_before, took, lost - lost_before, wrong,
         cpu, quantile_us(0.5, timed), quantile_us(0.99, timed));
  return 0;
}
