/* Load on an HTTP API behind a unix socket: one request, over and over, on kept connections.
 *
 *   ask SOCKET REQUEST-FILE CONNECTIONS SECONDS
 *
 * The file holds one whole HTTP/1.1 request; answers are read by their Content-Length. Prints one
 * JSON object: how many were answered with 200 and how many with something else, and how long an
 * answer took (median and 99th percentile, in microseconds). One thread and epoll. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 256, ROOM = 1 << 16, SLOTS = 1 << 20 };

struct connection {
    int socket;
    size_t got;
    double asked;
    char answer[ROOM];
};

static struct connection all[MOST];
static char request[ROOM];
static size_t request_size;
static long done, failed;
/* Answers by the whole microseconds that they took. */
static unsigned took[SLOTS];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void give_up(const char *why) {
    perror(why);
    exit(1);
}

static void ask(struct connection *c) {
    c->got = 0;
    c->asked = now();
    if (send(c->socket, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size)
        give_up("send");
}

/* Size of the whole answer, or 0 while its head is not there. */
static size_t size_of(const struct connection *c) {
    const char *end = memmem(c->answer, c->got, "\r\n\r\n", 4);
    if (!end) return 0;
    for (const char *line = c->answer; line < end; line = strstr(line, "\r\n") + 2)
        if (!strncasecmp(line, "content-length:", 15))
            return (size_t)(end + 4 - c->answer) + strtoul(line + 15, NULL, 10);
    fprintf(stderr, "an answer without a length\n");
    exit(1);
}

static void take(struct connection *c) {
    ssize_t n = recv(c->socket, c->answer + c->got, ROOM - 1 - c->got, 0);
    if (n <= 0) give_up("recv");
    c->got += (size_t)n;
    c->answer[c->got] = 0;
    size_t whole = size_of(c);
    if (whole >= ROOM) give_up("an answer is too large");
    if (!whole || c->got < whole) return;
    long us = (long)((now() - c->asked) * 1e6);
    took[us < SLOTS ? us : SLOTS - 1]++;
    if (!strncmp(c->answer, "HTTP/1.1 200", 12)) done++;
    else failed++;
    ask(c);
}

static long percentile(double share) {
    double left = share * (double)(done + failed);
    long us = 0;
    while (us < SLOTS - 1 && (left -= took[us]) > 0) us++;
    return us;
}

int main(int argc, char **argv) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct epoll_event ready[MOST];
    if (argc != 5) return 2;
    int connections = atoi(argv[3]);
    FILE *file = fopen(argv[2], "rb");
    if (!file || connections < 1 || connections > MOST) return 2;
    request_size = fread(request, 1, ROOM, file);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", argv[1]);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < connections; i++) {
        struct epoll_event watch = {.events = EPOLLIN, .data.ptr = &all[i]};
        all[i].socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(all[i].socket, (struct sockaddr *)&to, sizeof to)) give_up("connect");
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].socket, &watch);
        ask(&all[i]);
    }
    double begun = now(), until = begun + atof(argv[4]);
    while (now() < until) {
        int n = epoll_wait(poll, ready, MOST, 1000);
        for (int i = 0; i < n; i++) take(ready[i].data.ptr);
    }
    printf("{\"count\": %ld, \"failed\": %ld, \"seconds\": %f, \"p50_us\": %ld, \"p99_us\": %ld}\n",
           done, failed, now() - begun, percentile(0.5), percentile(0.99));
    return failed > 0;
}
