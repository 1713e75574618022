/*
 * The least that a UDP balancer can do, as the machine's limit: epoll, recvmmsg, a connected socket
 * a flow, sendmmsg for replies. No timeouts, no health, no counters, IPv4.
 *
 *   udp_proxy <port> <first backend port> <backends> <flows at most> <workers> [sources]
 *
 * With `sources` a flow has no socket, but an own address (127.128.0.1 and on): one unconnected
 * socket sends from it, and a reply's destination says whose it is.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 32, SLOT = 2048, EVENTS = 256, DRAIN = 32, RECEIVE_BUFFER = 4 << 20 };
enum { LISTENER = 0, SOURCE = -1, FIRST_SOURCE = 0x7f800001 };

static uint32_t *keys; /* two words a place: family and port, address */
static int *places;    /* flow + 1 */
static uint32_t mask;
static int *sockets;
static struct sockaddr_in *clients;
static int flows, flows_max, backends, backend_port, poll_fd, listener, source = -1;

static struct mmsghdr in[BATCH], out[BATCH];
static struct iovec in_parts[BATCH], out_parts[BATCH];
static struct sockaddr_in in_names[BATCH];
static char in_bytes[BATCH][SLOT], out_bytes[BATCH][SLOT];
static int waiting;

static struct mmsghdr up[BATCH];
static struct iovec up_parts[BATCH];
static struct sockaddr_in up_names[BATCH], reply_names[BATCH];
static char up_control[BATCH][64], reply_control[BATCH][64];
static int upward;

static int udp_socket(void) {
  return socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return name;
}

static void watch(int fd, uint64_t tag) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int open_flow(const struct sockaddr_in *client) {
  if (flows == flows_max) return -1;
  clients[flows] = *client;
  if (source >= 0) return flows++;
  int fd = udp_socket();
  struct sockaddr_in backend = loopback(backend_port + flows % backends);
  if (fd < 0) return -1;
  if (connect(fd, (void *)&backend, sizeof backend) < 0) {
    close(fd);
    return -1;
  }
  watch(fd, flows + 1);
  sockets[flows] = fd;
  return flows++;
}

static int flow_of(const struct sockaddr_in *client) {
  const uint32_t *words = (const void *)client;
  uint32_t hash = words[0] * 0x9e3779b1u ^ words[1] * 0x85ebca6bu;
  hash = (hash ^ hash >> 15) * 0x2c1b3c6du;
  for (uint32_t at = (hash ^ hash >> 12) & mask;; at = (at + 1) & mask) {
    if (places[at] == 0) {
      int flow = open_flow(client);
      if (flow < 0) return -1;
      keys[2 * at] = words[0];
      keys[2 * at + 1] = words[1];
      places[at] = flow + 1;
      return flow;
    }
    if (keys[2 * at] == words[0] && keys[2 * at + 1] == words[1]) return places[at] - 1;
  }
}

static void flush_up(void) {
  for (int at = 0; at < upward;) {
    int sent = sendmmsg(source, up + at, upward - at, 0);
    at += sent > 0 ? sent : 1;
  }
  upward = 0;
}

static void send_up(int flow, void *bytes, size_t size) {
  struct cmsghdr *control = (void *)up_control[upward];
  *control = (struct cmsghdr){CMSG_LEN(sizeof(struct in_pktinfo)), IPPROTO_IP, IP_PKTINFO};
  struct in_pktinfo *info = (void *)CMSG_DATA(control);
  *info = (struct in_pktinfo){0};
  info->ipi_spec_dst.s_addr = htonl(FIRST_SOURCE + flow);
  up_names[upward] = loopback(backend_port + flow % backends);
  up_parts[upward] = (struct iovec){bytes, size};
  up[upward].msg_hdr = (struct msghdr){&up_names[upward], sizeof up_names[upward],
                                       &up_parts[upward], 1, control,
                                       CMSG_SPACE(sizeof *info), 0};
  upward++;
}

static void from_clients(void) {
  for (int at = 0; at < BATCH; at++) in[at].msg_hdr.msg_namelen = sizeof in_names[at];
  int count = recvmmsg(listener, in, BATCH, 0, NULL);
  for (int at = 0; at < count; at++) {
    int flow = flow_of(&in_names[at]);
    if (flow < 0) continue;
    if (source >= 0) send_up(flow, in_bytes[at], in[at].msg_len);
    else send(sockets[flow], in_bytes[at], in[at].msg_len, 0);
  }
  if (upward > 0) flush_up();
}

static void send_replies(void) {
  for (int at = 0; at < waiting;) {
    int sent = sendmmsg(listener, out + at, waiting - at, 0);
    at += sent > 0 ? sent : 1;
  }
  waiting = 0;
}

static void from_backends(void) {
  for (int round = 0; round < 8; round++) {
    for (int at = 0; at < BATCH; at++) {
      out_parts[at].iov_len = SLOT;
      out[at].msg_hdr = (struct msghdr){&reply_names[at], sizeof reply_names[at], &out_parts[at], 1,
                                        reply_control[at], sizeof reply_control[at], 0};
    }
    int count = recvmmsg(source, out, BATCH, 0, NULL);
    int kept = 0;
    for (int at = 0; at < count; at++) {
      struct cmsghdr *control = CMSG_FIRSTHDR(&out[at].msg_hdr);
      struct in_pktinfo *info = control ? (void *)CMSG_DATA(control) : NULL;
      uint32_t flow = info ? ntohl(info->ipi_addr.s_addr) - FIRST_SOURCE : UINT32_MAX;
      if (flow >= (uint32_t)flows ||
          ntohs(reply_names[at].sin_port) != backend_port + (int)flow % backends) continue;
      size_t size = out[at].msg_len;
      struct iovec *part = &up_parts[kept];
      *part = (struct iovec){out_bytes[at], size};
      up[kept].msg_hdr = (struct msghdr){&clients[flow], sizeof clients[flow], part, 1, NULL, 0, 0};
      kept++;
    }
    for (int at = 0; at < kept;) {
      int sent = sendmmsg(listener, up + at, kept - at, 0);
      at += sent > 0 ? sent : 1;
    }
    if (count < BATCH) break;
  }
}

static void from_backend(int flow, int limit) {
  for (int taken = 0; taken < limit; taken++) {
    if (waiting == BATCH) send_replies();
    ssize_t size = recv(sockets[flow], out_bytes[waiting], SLOT, 0);
    if (size < 0) return;
    out_parts[waiting].iov_len = size;
    out[waiting].msg_hdr.msg_name = &clients[flow];
    out[waiting].msg_hdr.msg_namelen = sizeof clients[flow];
    waiting++;
  }
}

int main(int argc, char **argv) {
  if (argc < 6) {
    fprintf(stderr, "usage: udp_proxy port backend-port backends flows workers [sources]\n");
    return 2;
  }
  int workers = atoi(argv[5]), one = 1;
  backend_port = atoi(argv[2]);
  backends = atoi(argv[3]);
  flows_max = atoi(argv[4]);
  for (mask = 1; mask < 2u * flows_max; mask <<= 1) {
  }
  keys = calloc(mask, 8);
  places = calloc(mask--, sizeof *places);
  sockets = calloc(flows_max, sizeof *sockets);
  clients = calloc(flows_max, sizeof *clients);
  for (int at = 0; at < BATCH; at++) {
    in_parts[at] = (struct iovec){in_bytes[at], SLOT};
    out_parts[at] = (struct iovec){out_bytes[at], SLOT};
    in[at].msg_hdr = (struct msghdr){
        .msg_name = &in_names[at], .msg_iov = &in_parts[at], .msg_iovlen = 1};
    out[at].msg_hdr = (struct msghdr){.msg_iov = &out_parts[at], .msg_iovlen = 1};
  }
  for (int worker = 1; worker < workers; worker++) {
    if (fork() != 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    break;
  }
  listener = udp_socket();
  if (workers > 1) setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
  int size = RECEIVE_BUFFER;
  setsockopt(listener, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  struct sockaddr_in name = loopback(atoi(argv[1]));
  if (bind(listener, (void *)&name, sizeof name) < 0) {
    perror("bind");
    return 1;
  }
  poll_fd = epoll_create1(EPOLL_CLOEXEC);
  watch(listener, LISTENER);
  if (argc > 6) {
    struct sockaddr_in any = {.sin_family = AF_INET};
    source = udp_socket();
    setsockopt(source, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(source, IPPROTO_IP, IP_PKTINFO, &one, sizeof one);
    if (bind(source, (void *)&any, sizeof any) < 0) return 1;
    watch(source, (uint64_t)SOURCE);
  }
  puts("ready");
  fflush(stdout);
  static struct epoll_event events[EVENTS];
  for (;;) {
    int ready = epoll_wait(poll_fd, events, EVENTS, -1);
    int limit = ready < BATCH ? DRAIN : 1;
    for (int at = 0; at < ready; at++) {
      if (events[at].data.u64 == LISTENER) from_clients();
      else if (events[at].data.u64 == (uint64_t)SOURCE) from_backends();
      else from_backend((int)events[at].data.u64 - 1, limit);
    }
    send_replies();
  }
}
