/* Many senders at once: sends each FILE, which is framed, on its own connection to 127.0.0.1:PORT.
 *
 *     loader PORT stream|relp FILE...
 *
 * stream: everything as fast as the receiver accepts it, then a half-close, then wait for the receiver's end of file.
 * relp: the file is a session from `open` on, transactions rising by one from 1; at most WINDOW are unanswered; done
 * when the last is answered. An answer other than 200 is an error.
 * Prints two numbers: the seconds until everything was sent, and until the last sender was done. The exit code is 1, with a
 * reason on standard error, when a receiver closes early or answers badly.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SENDERS 256
#define WINDOW 10000
#define WRITE (256 * 1024)
#define ANSWER_ROOM 65536

struct sender {
    int descriptor, done;
    const char *data;
    size_t length, sent;
    size_t allowed;            /* RELP: frames up to here are within the window */
    long framed, answered, frames; /* RELP: transactions within `allowed`, answered; in all, once known */
    size_t held;
    char answers[ANSWER_ROOM];
};

static struct sender senders[SENDERS];
static int is_relp;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *what) {
    fprintf(stderr, "loader: %s: %s\n", what, errno ? strerror(errno) : "the receiver broke off");
    exit(1);
}

/* Move `allowed` over further whole frames, as far as the window reaches. */
static void allow(struct sender *one) {
    while (one->framed - one->answered < WINDOW && one->allowed < one->length) {
        const char *at = one->data + one->allowed;
        const char *command = memchr(at, ' ', 16), *length;
        if (!command || !(length = memchr(command + 1, ' ', 33))) fail("a frame in the file");
        char *after;
        size_t octets = strtoul(length + 1, &after, 10);
        one->allowed = after - one->data + (octets ? octets + 2 : 1);
        one->framed++;
    }
    if (one->allowed == one->length) one->frames = one->framed;
}

/* `TXNR rsp 6 200 OK LF`; the answer to `open` has more lines, which do not begin with a digit and are ignored. */
static void read_answers(struct sender *one) {
    char *line = one->answers, *end = one->answers + one->held, *line_feed;
    for (; (line_feed = memchr(line, '\n', end - line)); line = line_feed + 1) {
        if (*line < '0' || *line > '9') continue;
        char *body = memmem(line, line_feed - line, " rsp ", 5);
        errno = 0;
        if (!body || !(body = memchr(body + 5, ' ', line_feed - body - 5)) || memcmp(body, " 200", 4)) fail("an answer");
        one->answered++;
    }
    one->held = end - line;
    memmove(one->answers, line, one->held);
    allow(one);
    one->done = one->frames && one->answered == one->frames;
}

static void receive(struct sender *one) {
    ssize_t got = recv(one->descriptor, one->answers + one->held, ANSWER_ROOM - one->held, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0) fail("recv");
    if (got == 0) {
        errno = 0;
        if (is_relp || one->sent < one->length) fail("end of file");
        one->done = 1;
    } else if (is_relp) {
        one->held += got;
        read_answers(one);
    }
}

static void transmit(struct sender *one) {
    size_t count = one->allowed - one->sent;
    ssize_t went = send(one->descriptor, one->data + one->sent, count < WRITE ? count : WRITE, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (went < 0 && errno != EAGAIN) fail("send");
    if (went > 0) one->sent += went;
    if (one->sent == one->length && !is_relp) shutdown(one->descriptor, SHUT_WR);
}

static void begin(struct sender *one, const char *path, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct stat about;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &about) || about.st_size == 0) fail(path);
    one->length = about.st_size;
    one->data = mmap(0, one->length, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (one->data == MAP_FAILED) fail("mmap");
    one->descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(one->descriptor, (struct sockaddr *)&address, sizeof address)) fail("connect");
    one->allowed = one->length;
    if (is_relp) {
        one->allowed = 0;
        allow(one);
    }
}

int main(int count, char **words) {
    if (count < 4 || count - 3 > SENDERS) {
        fprintf(stderr, "loader PORT stream|relp FILE...  (at most %d)\n", SENDERS);
        return 64;
    }
    is_relp = !strcmp(words[2], "relp");
    int number = count - 3, waiting = number, unsent = number;
    double start = now(), sent = 0;
    for (int each = 0; each < number; each++) begin(&senders[each], words[3 + each], atoi(words[1]));
    while (waiting) {
        struct pollfd watched[SENDERS];
        for (int each = 0; each < number; each++) {
            struct sender *one = &senders[each];
            watched[each] = (struct pollfd){.fd = one->done ? -1 : one->descriptor, .events = POLLIN};
            if (one->sent < one->allowed) watched[each].events |= POLLOUT;
        }
        if (poll(watched, number, -1) < 0) fail("poll");
        waiting = unsent = 0;
        for (int each = 0; each < number; each++) {
            struct sender *one = &senders[each];
            if (watched[each].revents & POLLOUT) transmit(one);
            if (watched[each].revents & (POLLIN | POLLHUP | POLLERR)) receive(one);
            waiting += !one->done;
            unsent += one->sent < one->length;
        }
        if (!unsent && !sent) sent = now();
    }
    printf("%.6f %.6f\n", sent - start, now() - start);
}
