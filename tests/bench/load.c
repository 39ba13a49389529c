/* Load that wrk does not make: tunnels that are set up and closed, and one that carries bulk.
 *
 *   load setups direct|connect|socks PROXY-PORT HOST ORIGIN-PORT PATH SECONDS WORKERS
 *   load bulk   direct|connect|socks PROXY-PORT HOST ORIGIN-PORT PATH SECONDS
 *   load idle   direct|connect|socks PROXY-PORT HOST ORIGIN-PORT PATH TUNNELS
 *
 * The proxy is on 127.0.0.1. A set-up is: connect, handshake, one small HTTP/1.0 request, its
 * answer, close. Prints one JSON object. Blocking sockets, a thread per worker: the simplest load
 * that is the same for everyone. */

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum mode { DIRECT, CONNECT, SOCKS };

static enum mode mode;
static int proxy_port, origin_port;
static const char *host, *path;
static double seconds;
static atomic_long done, failed;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int dial(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    struct timeval limit = {.tv_sec = 10};
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (s >= 0 && connect(s, (struct sockaddr *)&to, sizeof to) == 0) return s;
    if (s >= 0) close(s);
    return -1;
}

static int say(int s, const void *bytes, size_t n) {
    return send(s, bytes, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static int hear(int s, void *into, size_t n) {
    return recv(s, into, n, MSG_WAITALL) == (ssize_t)n;
}

/* Reads the head of the answer byte by byte, so that nothing after it is taken. */
static int connected(int s) {
    char head[4096];
    size_t n = 0;
    while (n < sizeof head - 1 && hear(s, head + n, 1)) {
        head[++n] = 0;
        if (n >= 4 && !strcmp(head + n - 4, "\r\n\r\n")) return !strncmp(head + 9, "200", 3);
    }
    return 0;
}

static int http_connect(int s) {
    char ask[512];
    int n = snprintf(ask, sizeof ask, "CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\n\r\n", host,
                     origin_port, host, origin_port);
    return say(s, ask, (size_t)n) && connected(s);
}

static int socks_connect(int s) {
    unsigned char ask[300] = {5, 1, 0, 3}, answer[10];
    size_t n = strlen(host);
    if (n > 255 || !say(s, "\5\1\0", 3) || !hear(s, answer, 2) || answer[1] != 0) return 0;
    ask[4] = (unsigned char)n;
    memcpy(ask + 5, host, n);
    ask[5 + n] = (unsigned char)(origin_port >> 8);
    ask[6 + n] = (unsigned char)origin_port;
    return say(s, ask, n + 7) && hear(s, answer, 10) && answer[1] == 0;
}

/* A connection on which the request was sent, or -1. */
static int open_one(void) {
    char ask[512];
    int s = dial(mode == DIRECT ? origin_port : proxy_port);
    int n = snprintf(ask, sizeof ask, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", path, host);
    int stands = s >= 0 && (mode == DIRECT || (mode == CONNECT ? http_connect(s) : socks_connect(s)));
    if (stands && say(s, ask, (size_t)n)) return s;
    if (s >= 0) close(s);
    return -1;
}

static void *set_up(void *until) {
    char answer[4096];
    while (now() < *(double *)until) {
        int s = open_one();
        ssize_t n = 0, got = 0;
        while (s >= 0 && (n = recv(s, answer, sizeof answer, 0)) > 0) got += n;
        if (s >= 0) close(s);
        if (s >= 0 && n == 0 && got > 0) done++;
        else failed++;
    }
    return NULL;
}

static void setups(int workers) {
    pthread_t threads[256];
    double begun = now(), until = begun + seconds;
    for (int i = 0; i < workers; i++) pthread_create(&threads[i], NULL, set_up, &until);
    for (int i = 0; i < workers; i++) pthread_join(threads[i], NULL);
    printf("{\"count\": %ld, \"failed\": %ld, \"seconds\": %f}\n", done, failed, now() - begun);
}

static void bulk(void) {
    enum { SIZE = 1 << 18 };
    char *buffer = malloc(SIZE);
    double begun = now();
    long total = 0;
    int s = -1;
    while (now() < begun + seconds) {
        ssize_t n = s < 0 ? 0 : recv(s, buffer, SIZE, 0);
        if (n > 0) {
            total += n;
            continue;
        }
        if (s >= 0) close(s);
        s = open_one();
        if (s < 0) {
            failed++;
            break;
        }
    }
    printf("{\"count\": %ld, \"failed\": %ld, \"seconds\": %f}\n", total, failed, now() - begun);
}

/* Opens tunnels, asks once through each and keeps them. Says so, and ends with its input. */
static void idle(int tunnels) {
    char ask[512], answer[4096];
    int n = snprintf(ask, sizeof ask, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host);
    for (int i = 0; i < tunnels; i++) {
        int s = dial(mode == DIRECT ? origin_port : proxy_port);
        int stands = s >= 0 && (mode == DIRECT || (mode == CONNECT ? http_connect(s) : socks_connect(s)));
        if (stands && say(s, ask, (size_t)n) && recv(s, answer, sizeof answer, 0) > 0) done++;
        else failed++;
    }
    printf("{\"count\": %ld, \"failed\": %ld, \"seconds\": 0}\n", done, failed);
    fflush(stdout);
    while (getchar() != EOF) {}
}

int main(int argc, char **argv) {
    if (argc < 8) return 2;
    mode = !strcmp(argv[2], "direct") ? DIRECT : !strcmp(argv[2], "connect") ? CONNECT : SOCKS;
    proxy_port = atoi(argv[3]);
    host = argv[4];
    origin_port = atoi(argv[5]);
    path = argv[6];
    seconds = atof(argv[7]);
    if (!strcmp(argv[1], "idle")) idle(atoi(argv[7]));
    else if (!strcmp(argv[1], "bulk")) bulk();
    else setups(argc > 8 && atoi(argv[8]) < 256 ? atoi(argv[8]) : 32);
    return failed > 0 && done == 0 && strcmp(argv[1], "bulk");
}
