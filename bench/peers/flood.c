/*
 * Sends UDP datagrams as fast as it can, or at a given rate.
 *
 *   flood <address> <packets> <packets a second, 0 for no limit> <payload bytes> <ports>
 *
 * The destination port goes round from 10000; the first bytes of each payload are its number.
 * Prints one line: packets sent, packets refused, seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { FIRST_PORT = 10000, PAYLOAD_MAX = 65000, PACE_EVERY = 8 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

/* Sleeps most of the way, then spins: a sleep alone is late by some 50 microseconds. */
static void wait_until(double due) {
  double left = due - now();
  if (left > 0.0002) {
    struct timespec nap = {0, (long)((left - 0.0001) * 1e9)};
    nanosleep(&nap, NULL);
  }
  while (now() < due) {
  }
}

int main(int argc, char **argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: flood <address> <packets> <rate> <payload> <ports>\n");
    return 2;
  }
  long packets = atol(argv[2]);
  double rate = atof(argv[3]);
  int size = atoi(argv[4]);
  long ports = atol(argv[5]);
  if (size < 8 || size > PAYLOAD_MAX || ports < 1 || ports > 50000) return 2;
  struct sockaddr_in to = {.sin_family = AF_INET};
  if (inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) return 2;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0) {
    perror("socket");
    return 1;
  }
  static char payload[PAYLOAD_MAX];
  long refused = 0;
  double began = now();
  for (long number = 0; number < packets; number++) {
    memcpy(payload, &number, sizeof number);
    to.sin_port = htons(FIRST_PORT + number % ports);
    /* A rule that drops in the output hook answers EPERM: it was seen, and that is the point. */
    if (sendto(fd, payload, size, 0, (void *)&to, sizeof to) < 0 && errno != EPERM) refused++;
    if (rate > 0 && number % PACE_EVERY == PACE_EVERY - 1) wait_until(began + (number + 1) / rate);
  }
  printf("%ld %ld %.6f\n", packets, refused, now() - began);
  return 0;
}
