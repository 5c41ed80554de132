/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Fuzzes the version 3 frame, and the JSON reader under it.
 * DESIGN    The first byte chooses: the input as it is, a JSON header whose magic and
 *           length are put before it here, or a text to be quoted. Everything that
 *           parses borrows from the input or the scratch, and is the same after it was
 *           written again.
 * THREADING One thread.
 */
#include "codec/ck_wire3.h"

#include "fuzz.h"

static void
within(const void *at, size_t len, const void *data, size_t size)
{
    HOLDS((const uint8_t *)at >= (const uint8_t *)data);
    HOLDS(len <= size - (size_t)((const uint8_t *)at - (const uint8_t *)data));
}

static void
check_text(const struct ck_json_text *text, const uint8_t *data, size_t size)
{
    struct ck_buf plain;
    if (text->bytes == NULL) {
        HOLDS(text->len == 0 && !ck_json_text_is(text, "", 0));
        return;
    }
    within(text->bytes, text->len, data, size);
    HOLDS(text->escaped == (memchr(text->bytes, '\\', text->len) != NULL));
    ck_buf_init(&plain, NULL, 0);
    if (ck_json_text_put(text, &plain) == CK_OK) {
        HOLDS(plain.len <= text->len);
        HOLDS(ck_json_text_is(text, (const char *)plain.data, plain.len));
        if (plain.len != 0)
            HOLDS(!ck_json_text_is(text, (const char *)plain.data, plain.len - 1));
    }
    else {
        HOLDS(fuzz_starved);
    }
    ck_buf_fini(&plain);
}

/* The bytes of a text as ck_wire3_begin takes them: with its escapes resolved. */
static bool
resolve(struct ck_json_text *text, struct ck_buf *space)
{
    if (text->bytes == NULL)
        return true;
    ck_buf_init(space, NULL, 0);
    if (ck_json_text_put(text, space) != CK_OK)
        return false;
    text->bytes = space->data != NULL ? (const char *)space->data : "";
    text->len = space->len;
    text->escaped = false;
    return true;
}

static void
same_text(const struct ck_json_text *plain, const struct ck_json_text *read)
{
    HOLDS((plain->bytes == NULL) == (read->bytes == NULL));
    if (plain->bytes != NULL)
        HOLDS(ck_json_text_is(read, plain->bytes, plain->len));
}

static void
read_again(const struct ck_wire3 *frame, const struct ck_buf *written)
{
    struct ck_wire3 again;
    struct ck_buf scratch;
    ck_buf_init(&scratch, NULL, 0);
    HOLDS(ck_wire3_parse(&again, &scratch, written->data, written->len) == CK_OK);
    HOLDS(scratch.len == 0);
    same_text(&frame->serializer, &again.serializer);
    same_text(&frame->format, &again.format);
    same_text(&frame->original_type, &again.original_type);
    HOLDS(frame->compressed == again.compressed);
    HOLDS(frame->encrypted == again.encrypted);
    if (frame->encrypted) {
        same_text(&frame->tenant, &again.tenant);
        HOLDS(memcmp(frame->fingerprint, again.fingerprint, CK_WIRE3_FINGERPRINT) == 0);
    }
    HOLDS(frame->payload_len == again.payload_len);
    HOLDS(frame->payload_len == 0 ||
          memcmp(frame->payload, again.payload, again.payload_len) == 0);
    ck_buf_fini(&scratch);
}

static void
write_again(const struct ck_wire3 *parsed)
{
    struct ck_wire3 frame = *parsed;
    struct ck_buf texts[4] = {{0}}, out;
    ck_buf_init(&out, NULL, 0);
    bool ready =
        resolve(&frame.serializer, &texts[0]) && resolve(&frame.format, &texts[1]) &&
        resolve(&frame.original_type, &texts[2]) && resolve(&frame.tenant, &texts[3]);
    enum ck_status status = ready ? ck_wire3_begin(&out, &frame) : CK_ERR_NOMEM;
    if (status == CK_OK) {
        ck_buf_put(&out, frame.payload, frame.payload_len);
        status = out.status;
    }
    if (status == CK_OK)
        read_again(&frame, &out);
    else if (status == CK_ERR_NOMEM)
        HOLDS(fuzz_starved);
    else
        HOLDS(status == CK_ERR_ARGUMENT || status == CK_ERR_LIMIT);
    for (int i = 0; i < 4; i++)
        ck_buf_fini(&texts[i]);
    ck_buf_fini(&out);
}

static void
check_frame(const uint8_t *data, size_t size)
{
    struct ck_wire3 frame;
    struct ck_buf scratch;
    ck_buf_init(&scratch, NULL, 0);
    enum ck_status status = ck_wire3_parse(&frame, &scratch, data, size);
    HOLDS(scratch.cap <= 2 * size + 512);
    if (status == CK_OK) {
        check_text(&frame.serializer, data, size);
        check_text(&frame.format, data, size);
        check_text(&frame.original_type, data, size);
        check_text(&frame.tenant, data, size);
        HOLDS(frame.serializer.bytes != NULL);
        HOLDS(!frame.encrypted || frame.tenant.bytes != NULL);
        if (scratch.len != 0)
            within(frame.payload, frame.payload_len, scratch.data, scratch.len);
        else if (frame.payload_len != 0)
            HOLDS(frame.payload + frame.payload_len == data + size);
        write_again(&frame);
    }
    else {
        HOLDS(status == CK_MISS || status == CK_ERR_CORRUPT || status == CK_ERR_LIMIT ||
              (fuzz_starved && status == CK_ERR_NOMEM));
    }
    ck_buf_fini(&scratch);
}

static void
check_header(const uint8_t *data, size_t size)
{
    static const uint8_t payload[3] = {1, 2, 3};
    size_t whole = 7 + size + sizeof payload;
    uint8_t *frame = malloc(whole);
    HOLDS(frame != NULL);
    memcpy(frame, "CK\x03", 3);
    for (int i = 0; i < 4; i++)
        frame[3 + i] = (uint8_t)(size >> (24 - 8 * i));
    if (size != 0)
        memcpy(frame + 7, data, size);
    memcpy(frame + 7 + size, payload, sizeof payload);
    check_frame(frame, whole);
    free(frame);
}

/* Bytes of any kind as a text: refused, or quoted so that they read the same. */
static void
check_quote(const uint8_t *data, size_t size)
{
    struct ck_buf out;
    struct ck_json json;
    struct ck_json_text text;
    ck_buf_init(&out, NULL, 0);
    enum ck_status status = ck_json_quote(&out, (const char *)data, size);
    if (status == CK_OK) {
        ck_json_init(&json, out.data, out.len);
        HOLDS(ck_json_string(&json, &text) == CK_OK && ck_json_end(&json) == CK_OK);
        HOLDS(ck_json_text_is(&text, (const char *)data, size));
        check_text(&text, out.data, out.len);
        for (size_t i = 0; i < out.len; i++)
            HOLDS(out.data[i] >= 0x20 && out.data[i] < 0x7f);
    }
    else {
        HOLDS(status == CK_ERR_ARGUMENT || (fuzz_starved && status == CK_ERR_NOMEM));
    }
    ck_buf_fini(&out);
}

/* Headers over the limit are refused, whichever way they come. */
static void
check_large(void)
{
    struct ck_buf out, scratch;
    struct ck_wire3 frame = {.compressed = true};
    char *name = malloc(CK_WIRE3_HEADER_MAX);
    HOLDS(name != NULL);
    memset(name, 'x', CK_WIRE3_HEADER_MAX);
    ck_buf_init(&out, NULL, 0);
    ck_buf_init(&scratch, NULL, 0);
    HOLDS(ck_wire3_begin(&out, &frame) == CK_ERR_ARGUMENT);
    frame.serializer = (struct ck_json_text){name, CK_WIRE3_HEADER_MAX, false};
    frame.format = (struct ck_json_text){"m", 1, false};
    enum ck_status status = ck_wire3_begin(&out, &frame);
    HOLDS(status == CK_ERR_LIMIT || (fuzz_starved && status == CK_ERR_NOMEM));
    if (status == CK_ERR_LIMIT) {
        uint32_t size = (uint32_t)(out.len - 7);
        for (int i = 0; i < 4; i++)
            out.data[3 + i] = (uint8_t)(size >> (24 - 8 * i));
        HOLDS(ck_wire3_parse(&frame, &scratch, out.data, out.len) == CK_ERR_LIMIT);
    }
    free(name);
    ck_buf_fini(&out);
    ck_buf_fini(&scratch);
}

static void
fuzz_input(const uint8_t *data, size_t size)
{
    struct fuzz_feed feed = {data, size};
    uint8_t mode = fuzz_u8(&feed);
    uint8_t *exact = fuzz_copy(feed.at, feed.left);
    switch (mode & 3) {
    case 0: check_header(exact, feed.left); break;
    case 1: check_quote(exact, feed.left); break;
    default: check_frame(exact, feed.left);
    }
    if (mode == 0xff && size == 1)
        check_large();
    free(exact);
}
