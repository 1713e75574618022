/*
 * The least that a UDP balancer can do, as the machine's limit: epoll, recvmmsg, a connected socket
 * a flow, sendmmsg for replies. No timeouts, no health, no counters, IPv4.
 *
 *   udp_proxy <port> <first backend port> <backends> <flows at most>
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 32, SLOT = 2048, EVENTS = 256, DRAIN = 32, RECEIVE_BUFFER = 4 << 20 };

static uint32_t *keys; /* two words a place: family and port, address */
static int *places;    /* flow + 1 */
static uint32_t mask;
static int *sockets;
static struct sockaddr_in *clients;
static int flows, flows_max, backends, backend_port, poll_fd, listener;

static struct mmsghdr in[BATCH], out[BATCH];
static struct iovec in_parts[BATCH], out_parts[BATCH];
static struct sockaddr_in in_names[BATCH];
static char in_bytes[BATCH][SLOT], out_bytes[BATCH][SLOT];
static int waiting;

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
  int fd = udp_socket();
  struct sockaddr_in backend = loopback(backend_port + flows % backends);
  if (fd < 0) return -1;
  if (connect(fd, (void *)&backend, sizeof backend) < 0) {
    close(fd);
    return -1;
  }
  watch(fd, flows + 1);
  sockets[flows] = fd;
  clients[flows] = *client;
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

static void from_clients(void) {
  for (int at = 0; at < BATCH; at++) in[at].msg_hdr.msg_namelen = sizeof in_names[at];
  int count = recvmmsg(listener, in, BATCH, 0, NULL);
  for (int at = 0; at < count; at++) {
    int flow = flow_of(&in_names[at]);
    if (flow >= 0) send(sockets[flow], in_bytes[at], in[at].msg_len, 0);
  }
}

static void send_replies(void) {
  for (int at = 0; at < waiting;) {
    int sent = sendmmsg(listener, out + at, waiting - at, 0);
    at += sent > 0 ? sent : 1;
  }
  waiting = 0;
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
  if (argc != 5) {
    fprintf(stderr, "usage: udp_proxy <port> <backend port> <backends> <flows>\n");
    return 2;
  }
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
  listener = udp_socket();
  int size = RECEIVE_BUFFER;
  setsockopt(listener, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  struct sockaddr_in name = loopback(atoi(argv[1]));
  if (bind(listener, (void *)&name, sizeof name) < 0) {
    perror("bind");
    return 1;
  }
  poll_fd = epoll_create1(EPOLL_CLOEXEC);
  watch(listener, 0);
  puts("ready");
  fflush(stdout);
  static struct epoll_event events[EVENTS];
  for (;;) {
    int ready = epoll_wait(poll_fd, events, EVENTS, -1);
    int limit = ready < BATCH ? DRAIN : 1;
    for (int at = 0; at < ready; at++) {
      if (events[at].data.u64 == 0) from_clients();
      else from_backend((int)events[at].data.u64 - 1, limit);
    }
    send_replies();
  }
}
