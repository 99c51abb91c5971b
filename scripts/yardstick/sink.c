/* The far end of a measurement: receives syslog on 127.0.0.1 and counts it, so cheaply that it does not limit the result.
 *
 *     sink PORT STATISTICS KEPT|- TRACE|- OCTETS_A_SECOND
 *
 * A connection speaks octet-counted syslog (RFC 6587 section 3.4.1), LF-ended syslog (section 3.4.2), RELP, or the auditd
 * remote protocol, recognised by their first octets; the latter two are answered as soon as a frame is read. At the
 * sender's end of file it closes.
 * STATISTICS is mapped memory: struct statistics below, which adds up over restarts.
 * KEPT: each message and a LF, appended; one write for the messages of one read.
 * TRACE: one struct trace for each message, in the order of arrival.
 * OCTETS_A_SECOND above 0 reads no faster than that.
 * A message that holds several audit records counts as several records. A malformed frame closes its connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 256
#define ROOM (1 << 20)       /* the longest frame, and the most octets of one read */
#define LONGEST_NUMBER 9     /* digits */
#define SLOW_READ 16384      /* octets a read when the pace is limited */
#define ANSWER_ROOM (1 << 20)

struct statistics {
    uint64_t messages, octets, connections, malformed, truncated, records, serials;
    double first, last; /* when the first record came, and the last: CLOCK_MONOTONIC, seconds */
};

struct trace {
    uint64_t serial;  /* of the message's first record; 0: it has none */
    uint64_t records;
    double at;
};

enum outcome { WHOLE, MORE, BAD };
enum protocol { UNKNOWN, SYSLOG, RELP, AUDITD };

struct audit_header { /* little-endian, as this machine is assumed to be */
    uint32_t magic;
    uint8_t version, message_version;
    uint16_t type[2], length, sequence[2];
};
#define AUDIT_MAGIC 0xff0000feu
#define AUDIT_ACK 0x4000 /* the upper half of the type */

struct connection {
    int descriptor;
    enum protocol protocol;
    int closing;
    size_t held, answered;
    char *data, *answer;
};

static struct statistics *statistics;
static struct connection connections[CONNECTIONS];
static int connected, kept = -1, trace = -1;
static double pace;
static char *keeping;
static size_t keeping_octets;
static struct trace *tracing;
static size_t tracing_messages;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Count the audit records of a message: `audit(SECONDS.MILLIS:SERIAL)` after `msg=`. Returns how many; the first serial. */
static uint64_t count_records(const char *message, size_t length, uint64_t *first) {
    static const char mark[] = "msg=audit";
    const size_t before = sizeof mark - 1;
    const char *end = message + length, *at = message;
    uint64_t records = 0;
    *first = 0;
    while ((at = memchr(at, '(', end - at))) {
        const char *colon;
        at++;
        if ((size_t)(at - message) <= before || memcmp(at - 1 - before, mark, before) != 0) continue;
        if (!(colon = memchr(at, ':', end - at))) break;
        uint64_t serial = strtoull(colon + 1, 0, 10); /* the bracket ends it */
        if (!records++) *first = serial;
        statistics->serials += serial;
    }
    return records;
}

static void take(const char *message, size_t length) {
    uint64_t first, records = count_records(message, length, &first);
    statistics->messages++;
    statistics->records += records;
    if (kept >= 0) {
        memcpy(keeping + keeping_octets, message, length);
        keeping_octets += length;
        if (!length || message[length - 1] != '\n') keeping[keeping_octets++] = '\n';
    }
    if (trace >= 0) tracing[tracing_messages++] = (struct trace){first, records, 0};
}

/* Read a decimal number that a space (or, for RELP's last number, a LF) ends. */
static enum outcome number(const char **place, const char *end, size_t *value) {
    const char *at = *place;
    *value = 0;
    while (at < end && *at >= '0' && *at <= '9' && at - *place <= LONGEST_NUMBER) *value = *value * 10 + (*at++ - '0');
    if (at == end) return MORE;
    if (at == *place || at - *place > LONGEST_NUMBER || (*at != ' ' && *at != '\n')) return BAD;
    *place = at;
    return WHOLE;
}

static enum outcome counted(const char **place, const char *end) {
    const char *at = *place;
    size_t length;
    enum outcome found = number(&at, end, &length);
    if (found != WHOLE) return found;
    if (*at++ != ' ' || length > ROOM - 32) return BAD;
    if ((size_t)(end - at) < length) return MORE;
    take(at, length);
    *place = at + length;
    return WHOLE;
}

static enum outcome trailed(const char **place, const char *end) {
    const char *line_feed = memchr(*place, '\n', end - *place);
    if (!line_feed) return MORE;
    if (line_feed > *place) {
        if (**place != '<') return BAD;
        take(*place, line_feed - *place);
    }
    *place = line_feed + 1;
    return WHOLE;
}

static void answer(struct connection *to, size_t transaction, const char *body) {
    int written = snprintf(to->answer + to->answered, ANSWER_ROOM - to->answered, "%zu rsp %zu%s%s\n", transaction,
                           strlen(body), *body ? " " : "", body);
    to->answered += written;
}

/* TXNR SP COMMAND SP DATALEN [SP DATA] LF */
static enum outcome relp(struct connection *from, const char **place, const char *end) {
    const char *at = *place, *command;
    size_t transaction, length, command_length;
    enum outcome found = number(&at, end, &transaction);
    if (found != WHOLE) return found;
    command = ++at;
    if (!(at = memchr(command, ' ', end - command))) return end - command > 32 ? BAD : MORE;
    command_length = at++ - command;
    if ((found = number(&at, end, &length)) != WHOLE) return found;
    if (length > ROOM - 64 || (length && *at++ != ' ')) return BAD;
    if ((size_t)(end - at) < length + 1) return MORE;
    if (at[length] != '\n') return BAD;
    if (command_length == 6 && !memcmp(command, "syslog", 6)) {
        take(at, length);
        answer(from, transaction, "200 OK");
    } else if (command_length == 4 && !memcmp(command, "open", 4)) {
        answer(from, transaction, "200 OK\nrelp_version=0\nrelp_software=sink\ncommands=syslog");
    } else if (command_length == 5 && !memcmp(command, "close", 5)) {
        answer(from, transaction, "");
        from->closing = 1;
    } else {
        return BAD;
    }
    *place = at + length + 1;
    return WHOLE;
}

/* A header of 16 octets and a body: a record (type 0) or a heartbeat (type 1), both acknowledged. */
static enum outcome audit(struct connection *from, const char **place, const char *end) {
    struct audit_header header;
    if ((size_t)(end - *place) < sizeof header) return MORE;
    memcpy(&header, *place, sizeof header);
    if (header.magic != AUDIT_MAGIC || header.type[1] || header.type[0] > 1) return BAD;
    if ((size_t)(end - *place) < sizeof header + header.length) return MORE;
    if (!header.type[0]) take(*place + sizeof header, header.length);
    *place += sizeof header + header.length;
    header.type[0] = header.length = 0;
    header.type[1] = AUDIT_ACK;
    memcpy(from->answer + from->answered, &header, sizeof header);
    from->answered += sizeof header;
    return WHOLE;
}

static enum outcome recognise(struct connection *from, const char *place, const char *end) {
    if (*place == (char)(AUDIT_MAGIC & 0xff)) {
        from->protocol = AUDITD;
    } else if (*place >= '0' && *place <= '9') {
        const char *space = memchr(place, ' ', end - place);
        if (!space || space + 1 == end) return end - place > LONGEST_NUMBER + 1 ? BAD : MORE;
        from->protocol = space[1] == '<' ? SYSLOG : RELP;
    } else {
        from->protocol = SYSLOG;
    }
    return WHOLE;
}

static enum outcome frame(struct connection *from, const char **place, const char *end) {
    enum outcome found = from->protocol == UNKNOWN ? recognise(from, *place, end) : WHOLE;
    if (found != WHOLE) return found;
    if (from->protocol != SYSLOG && from->answered > ANSWER_ROOM - 256) return MORE;
    if (from->protocol == RELP) return relp(from, place, end);
    if (from->protocol == AUDITD) return audit(from, place, end);
    if (**place >= '0' && **place <= '9') return counted(place, end);
    return trailed(place, end);
}

static void hand_on(int descriptor, const void *data, size_t length) {
    if (descriptor >= 0 && length && write(descriptor, data, length) != (ssize_t)length) fail("write");
}

static void finish(struct connection *from) {
    if (from->held) statistics->truncated++;
    close(from->descriptor);
    free(from->data);
    free(from->answer);
    *from = connections[--connected];
}

/* Return whether the connection stays open. */
static int decode(struct connection *from) {
    const char *place = from->data, *end = from->data + from->held;
    uint64_t before = statistics->records;
    enum outcome found = WHOLE;
    while (place < end && found == WHOLE) found = frame(from, &place, end);
    hand_on(kept, keeping, keeping_octets);
    double at = now();
    if (statistics->records != before) {
        statistics->last = at;
        if (!statistics->first) statistics->first = at;
    }
    if (tracing_messages) {
        for (size_t each = 0; each < tracing_messages; each++) tracing[each].at = at;
        hand_on(trace, tracing, tracing_messages * sizeof *tracing);
    }
    keeping_octets = tracing_messages = 0;
    if (found == BAD || (found == MORE && place == from->data && from->held == ROOM)) {
        statistics->malformed++;
        from->held = 0;
        return 0;
    }
    from->held = end - place;
    memmove(from->data, place, from->held);
    return 1;
}

static int read_some(struct connection *from) {
    size_t room = ROOM - from->held;
    if (pace > 0 && room > SLOW_READ) room = SLOW_READ;
    ssize_t got = read(from->descriptor, from->data + from->held, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (got <= 0) return 0;
    if (pace > 0) usleep(got / pace * 1e6);
    from->held += got;
    from->data[from->held] = 0; /* strtoull stops here */
    statistics->octets += got;
    return decode(from);
}

static int write_some(struct connection *to) {
    ssize_t sent = send(to->descriptor, to->answer, to->answered, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    to->answered -= sent;
    memmove(to->answer, to->answer + sent, to->answered);
    if (to->held && to->answered < ANSWER_ROOM / 2 && !decode(to)) return 0; /* frames that waited for space */
    return to->answered || !to->closing;
}

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) fail("listen");
    return listener;
}

static void begin(int listener) {
    int descriptor = accept4(listener, 0, 0, SOCK_CLOEXEC);
    if (descriptor < 0) return;
    struct connection *new = &connections[connected++];
    *new = (struct connection){.descriptor = descriptor};
    new->data = malloc(ROOM + 1);
    new->answer = malloc(ANSWER_ROOM);
    if (!new->data || !new->answer) fail("malloc");
    statistics->connections++;
}

static void serve(int listener) {
    struct pollfd watched[CONNECTIONS + 1];
    int count = connected;
    watched[count] = (struct pollfd){.fd = listener, .events = connected < CONNECTIONS ? POLLIN : 0};
    for (int each = 0; each < count; each++) {
        struct connection *one = &connections[each];
        watched[each] = (struct pollfd){.fd = one->descriptor};
        if (one->held < ROOM && one->answered < ANSWER_ROOM / 2) watched[each].events |= POLLIN;
        if (one->answered) watched[each].events |= POLLOUT;
    }
    if (poll(watched, count + 1, -1) < 0) return;
    for (int each = count - 1; each >= 0; each--) { /* from the end: finish() moves the last into the gap */
        struct connection *one = &connections[each];
        int wanted = 1;
        if (watched[each].revents & POLLOUT) wanted = write_some(one);
        if (wanted && watched[each].revents & (POLLIN | POLLHUP | POLLERR)) wanted = read_some(one);
        if (!wanted) finish(one);
    }
    if (watched[count].revents) begin(listener);
}

static int append_to(const char *path) {
    if (!strcmp(path, "-")) return -1;
    int descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (descriptor < 0) fail(path);
    return descriptor;
}

int main(int count, char **words) {
    if (count != 6) {
        fprintf(stderr, "sink PORT STATISTICS KEPT|- TRACE|- OCTETS_A_SECOND\n");
        return 64;
    }
    int file = open(words[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof *statistics)) fail(words[2]);
    statistics = mmap(0, sizeof *statistics, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (statistics == MAP_FAILED) fail("mmap");
    kept = append_to(words[3]);
    trace = append_to(words[4]);
    pace = atof(words[5]);
    keeping = malloc(2 * ROOM); /* every message gains a LF at most, and has three octets of frame */
    tracing = malloc((ROOM / 2 + 1) * sizeof *tracing);
    if (!keeping || !tracing) fail("malloc");
    int listener = listen_on(atoi(words[1]));
    for (;;) serve(listener);
}
