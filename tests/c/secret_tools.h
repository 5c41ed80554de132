/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   For the tests of encryption: hex, a libcrypto whose allocations fail on
 *           demand, a look at all of this process' memory, children with a verdict.
 */
#ifndef SECRET_TOOLS_H
#define SECRET_TOOLS_H

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The bytes of `hex`, in memory that the next seven calls leave alone. */
__attribute__((unused)) static const uint8_t *
unhex(const char *hex)
{
    static uint8_t space[8][256];
    static unsigned turn;
    uint8_t *out = space[turn++ % 8];
    for (size_t i = 0; hex[2 * i] != '\0'; i++) {
        unsigned byte = 0;
        (void)sscanf(hex + 2 * i, "%2x", &byte);
        out[i] = (uint8_t)byte;
    }
    return out;
}

/* --- libcrypto's allocations --- */

static int64_t libcrypto_left = -1; /* successes before every allocation fails */
static int64_t libcrypto_live;

static bool
libcrypto_must_fail(void)
{
    if (libcrypto_left < 0)
        return false;
    if (libcrypto_left == 0)
        return true;
    libcrypto_left--;
    return false;
}

static void *
libcrypto_malloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    if (libcrypto_must_fail())
        return NULL;
    void *block = malloc(size);
    if (block != NULL)
        __atomic_fetch_add(&libcrypto_live, 1, __ATOMIC_RELAXED);
    return block;
}

static void
libcrypto_free(void *block, const char *file, int line)
{
    (void)file, (void)line;
    if (block != NULL)
        __atomic_fetch_sub(&libcrypto_live, 1, __ATOMIC_RELAXED);
    free(block);
}

static void *
libcrypto_realloc(void *block, size_t size, const char *file, int line)
{
    if (block == NULL)
        return libcrypto_malloc(size, file, line);
    return libcrypto_must_fail() ? NULL : realloc(block, size);
}

__attribute__((constructor)) static void
watch_libcrypto(void)
{
    if (CRYPTO_set_mem_functions(libcrypto_malloc, libcrypto_realloc, libcrypto_free) !=
        1)
        abort();
}

/* --- memory --- */

static int
times_in_chunk(const uint8_t *chunk, size_t size, const uint8_t *masked, size_t len)
{
    int found = 0;
    const uint8_t *at = chunk, *end = chunk + size;
    while (at < end &&
           (at = memchr(at, masked[0] ^ 0x5a, (size_t)(end - at))) != NULL) {
        size_t same = 1;
        while (same < len && at + same < end && (at[same] ^ 0x5a) == masked[same])
            same++;
        found += same == len;
        at++;
    }
    return found;
}

/* How often the bytes that `masked` holds, each of them XOR 0x5a, are in the memory of
 * this process. Only the mask's side is ever held here. */
__attribute__((unused)) static int
times_in_memory(const uint8_t *masked, size_t len)
{
    static uint8_t chunk[1 << 16];
    const size_t overlap = 64;
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    int memory = open("/proc/self/mem", O_RDONLY);
    char line[512], rights[8];
    unsigned long from, to;
    while (maps != NULL && memory >= 0 && fgets(line, sizeof line, maps) != NULL) {
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3 || rights[0] != 'r' ||
            rights[1] != 'w' || to - from > 64UL << 20)
            continue; /* what is that large is a sanitizer's */
        for (unsigned long at = from; at < to; at += sizeof chunk - overlap) {
            size_t want = to - at < sizeof chunk ? to - at : sizeof chunk;
            if (at <= (unsigned long)chunk + sizeof chunk &&
                at + want >= (unsigned long)chunk)
                continue;
            ssize_t got = pread(memory, chunk, want, (off_t)at);
            found += got > 0 ? times_in_chunk(chunk, (size_t)got, masked, len) : 0;
            memset(chunk, 0, sizeof chunk);
        }
    }
    if (maps != NULL)
        fclose(maps);
    if (memory >= 0)
        close(memory);
    return maps != NULL && memory >= 0 ? found : -1;
}

/* --- children --- */

/* Run `work` in a forked child that has ten seconds; true when it returned true. */
__attribute__((unused)) static bool
in_child(bool (*work)(void *), void *argument)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(10);
        _exit(work(argument) ? 0 : 1);
    }
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

#endif
