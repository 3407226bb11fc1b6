/* Asks a name server as fast as it answers, and says how fast that was.
 *
 *   load [-b FROM] [-p PORT] SERVER NAME TYPE ANSWERS ASKING SECONDS
 *
 * ASKING sockets each have one question under way. An answer must have the code NOERROR and ANSWERS records. What is not answered
 * within a second is lost and asked again. One line of JSON: questions per second, and percentiles of the time to the answer in
 * microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOST_NS 1000000000ull
#define MOST 8000000

struct asking {
    int fd;
    uint16_t id;
    uint64_t since;
};

static unsigned char question[512];
static size_t question_len;
static uint32_t *taken; /* nanoseconds */
static size_t count, lost, wrong;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void write_question(const char *name, int type)
{
    unsigned char *at = question;
    memcpy(at, "\0\0\1\0\0\1\0\0\0\0\0\0", 12);
    at += 12;
    while (*name) {
        size_t len = strcspn(name, ".");
        if (len == 0 || len > 63 || (at - question) + len > 400)
            errx(2, "no name");
        *at++ = (unsigned char)len;
        memcpy(at, name, len);
        at += len;
        name += len + (name[len] == '.');
    }
    memcpy(at, "\0\0\0\0\1", 5);
    at[2] = (unsigned char)type;
    question_len = (size_t)(at + 5 - question);
}

static void ask(struct asking *a)
{
    a->id++;
    question[0] = a->id >> 8;
    question[1] = a->id & 255;
    a->since = now();
    if (send(a->fd, question, question_len, 0) < 0 && errno != ECONNREFUSED)
        err(2, "send");
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(double part)
{
    return count ? taken[(size_t)((double)(count - 1) * part)] / 1000.0 : 0;
}

int main(int argc, char **argv)
{
    const char *from = NULL;
    int port = 53, option;
    while ((option = getopt(argc, argv, "b:p:")) != -1) {
        if (option == 'b')
            from = optarg;
        else if (option == 'p')
            port = atoi(optarg);
        else
            return 2;
    }
    argv += optind;
    if (argc - optind != 6)
        errx(2, "load [-b FROM] [-p PORT] SERVER NAME TYPE ANSWERS ASKING SECONDS");
    struct sockaddr_in server = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct sockaddr_in own = { .sin_family = AF_INET };
    if (!inet_aton(argv[0], &server.sin_addr) || (from && !inet_aton(from, &own.sin_addr)))
        errx(2, "no address");
    write_question(argv[1], atoi(argv[2]));
    int answers = atoi(argv[3]), askers = atoi(argv[4]);
    double seconds = atof(argv[5]);
    taken = malloc(MOST * sizeof *taken);
    struct asking *all = calloc((size_t)askers, sizeof *all);
    int epoll = epoll_create1(0);
    if (!taken || !all || epoll < 0)
        err(2, "begin");
    uint64_t begin = now(), end = begin + (uint64_t)(seconds * 1e9), looked = begin;
    for (int i = 0; i < askers; i++) {
        all[i].fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        all[i].id = (uint16_t)(i * 37);
        if (all[i].fd < 0 || (from && bind(all[i].fd, (struct sockaddr *)&own, sizeof own) < 0)
            || connect(all[i].fd, (struct sockaddr *)&server, sizeof server) < 0)
            err(2, "connect");
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = &all[i] };
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event) < 0)
            err(2, "epoll");
        ask(&all[i]);
    }
    for (;;) {
        struct epoll_event events[64];
        int ready = epoll_wait(epoll, events, 64, 100);
        uint64_t time = now();
        for (int i = 0; i < ready; i++) {
            struct asking *a = events[i].data.ptr;
            unsigned char answer[4096];
            ssize_t len = recv(a->fd, answer, sizeof answer, 0);
            if (len < 12 || (answer[0] << 8 | answer[1]) != a->id)
                continue;
            if ((answer[3] & 15) != 0 || (answer[6] << 8 | answer[7]) != answers)
                wrong++;
            if (count < MOST)
                taken[count++] = (uint32_t)(now() - a->since);
            if (time < end)
                ask(a);
        }
        if (time >= end)
            break;
        if (time - looked > LOST_NS / 4) {
            looked = time = now();
            for (int i = 0; i < askers; i++)
                if (time - all[i].since > LOST_NS) {
                    lost++;
                    ask(&all[i]);
                }
        }
    }
    double took = (double)(now() - begin) / 1e9;
    qsort(taken, count, sizeof *taken, compare);
    printf("{\"per_second\": %.0f, \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"most\": %.1f, \"answers\": %zu, \"lost\": %zu, "
           "\"wrong\": %zu}\n",
           (double)count / took, percentile(.5), percentile(.99), percentile(.999), percentile(1), count, lost, wrong);
    return 0;
}
