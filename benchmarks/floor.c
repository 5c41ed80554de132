/* SPDX-License-Identifier: MIT
 *
 * PURPOSE    The floor under a store hit: GET in a loop with hiredis, in C, with nothing
 *            decoded.
 * DESIGN     floor PORT PREFIX KEYS. Each line on stdin is a number of GETs to do, over
 *            PREFIX0 to PREFIX<KEYS - 1> in turn; each is answered by a line with the
 *            nanoseconds they took. A reply that is no string ends the program with 1.
 * THREADING  One thread.
 */
#include <hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long long
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int
get(redisContext *redis, const char *prefix, int number)
{
    redisReply *reply = redisCommand(redis, "GET %s%d", prefix, number);
    if (reply == NULL) {
        return -1;
    }
    int found = reply->type == REDIS_REPLY_STRING;
    freeReplyObject(reply);
    return found ? 0 : -1;
}

int
main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: floor PORT PREFIX KEYS\n");
        return 2;
    }
    int keys = atoi(argv[3]);
    redisContext *redis = redisConnect("127.0.0.1", atoi(argv[1]));
    if (redis == NULL || redis->err || keys < 1) {
        fprintf(stderr, "cannot connect\n");
        return 1;
    }
    char line[32];
    while (fgets(line, sizeof line, stdin) != NULL) {
        long count = atol(line);
        long long start = now_ns();
        for (long i = 0; i < count; i++) {
            if (get(redis, argv[2], (int)(i % keys)) < 0) {
                fprintf(stderr, "no value\n");
                return 1;
            }
        }
        printf("%lld\n", now_ns() - start);
        fflush(stdout);
    }
    redisFree(redis);
    return 0;
}
