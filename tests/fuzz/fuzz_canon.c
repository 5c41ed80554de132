/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Fuzzes canonical argument bytes: a tree of arguments from the input is
 *           written with ck_canon and read by a reader of its own.
 * DESIGN    The reader is written from the table in ck_canon.h. What it finds must be
 *           what was written, to the last byte: that no encoding is the prefix of
 *           another, and that a sequence can be told apart, is what makes the bytes an
 *           identity. Items of a set and keys of a dict must be in the order of their
 *           bytes.
 * THREADING One thread.
 */
#include "codec/ck_canon.h"

#include "fuzz.h"

#include <math.h>

enum { ITEMS_MAX = 96, DEPTH_MAX = 8, NODES_MAX = 512 };

/* What was written, in order; of a sorted container as it was before sorting. */
struct writer {
    struct fuzz_feed feed;
    struct ck_buf *out; /* borrowed */
    unsigned nodes;
};

static void
write_value(struct writer *writer, unsigned depth);

static void
write_sorted(struct writer *writer, char tag, size_t count, unsigned depth)
{
    struct ck_canon_item items[ITEMS_MAX];
    ck_canon_tag(writer->out, tag);
    ck_canon_count(writer->out, count);
    for (size_t i = 0; i < count; i++) {
        items[i].start = writer->out->len;
        write_value(writer, depth + 1);
        if (tag == '{')
            write_value(writer, depth + 1);
        items[i].len = writer->out->len - items[i].start;
    }
    if (count != 0)
        ck_canon_sort(writer->out, items, count);
}

static void
write_float(struct writer *writer, char kind)
{
    double parts[2];
    for (int i = 0; i < 2; i++) {
        uint64_t bits = fuzz_u64(&writer->feed, i == 0 || kind == 'z' ? 8 : 0);
        memcpy(&parts[i], &bits, 8);
    }
    if (kind == 'z')
        ck_canon_complex(writer->out, parts[0], parts[1]);
    else
        ck_canon_float(writer->out, parts[0]);
}

static void
write_text(struct writer *writer)
{
    static const unsigned widths[] = {1, 2, 4};
    unsigned width = widths[fuzz_u8(&writer->feed) % 3];
    size_t size, most = fuzz_u8(&writer->feed);
    const uint8_t *bytes = fuzz_bytes(&writer->feed, most * width, &size);
    ck_canon_text(writer->out, bytes, size / width, width);
}

static void
write_value(struct writer *writer, unsigned depth)
{
    static const char kinds[] = "NTFiIzftYyH({<x{<(";
    size_t size;
    char kind = kinds[fuzz_u8(&writer->feed) % (sizeof kinds - 1)];
    if (++writer->nodes > NODES_MAX || depth > DEPTH_MAX)
        kind = 'N';
    switch (kind) {
    case 'i': ck_canon_int(writer->out, (int64_t)fuzz_u64(&writer->feed, 8)); break;
    case 'I': ck_canon_int(writer->out, (int8_t)fuzz_u8(&writer->feed)); break;
    case 'f':
    case 'z': write_float(writer, kind); break;
    case 't': write_text(writer); break;
    case 'y':
    case 'Y': {
        size_t most = fuzz_u8(&writer->feed);
        const uint8_t *bytes = fuzz_bytes(&writer->feed, most, &size);
        ck_canon_bytes(writer->out, kind, bytes, size);
        break;
    }
    case 'H': {
        uint8_t digest[32] = {fuzz_u8(&writer->feed)};
        ck_canon_tag(writer->out, kind);
        ck_buf_put(writer->out, digest, sizeof digest);
        break;
    }
    case '(':
        size = fuzz_u8(&writer->feed) % ITEMS_MAX;
        ck_canon_tag(writer->out, kind);
        ck_canon_count(writer->out, size);
        for (size_t i = 0; i < size; i++)
            write_value(writer, depth + 1);
        break;
    case 'x':
        ck_canon_tag(writer->out, kind);
        ck_canon_tag(writer->out, '(');
        ck_canon_count(writer->out, 1);
        write_value(writer, depth + 1);
        break;
    case '{':
    case '<':
        write_sorted(writer, kind, fuzz_u8(&writer->feed) % ITEMS_MAX, depth);
        break;
    default: ck_canon_tag(writer->out, kind);
    }
}

/* --- the reader --- */

struct reader {
    const uint8_t *at, *end;
    unsigned nodes;
};

static const uint8_t *
take(struct reader *reader, size_t size)
{
    const uint8_t *at = reader->at;
    HOLDS(size <= (size_t)(reader->end - reader->at));
    reader->at += size;
    return at;
}

static size_t
read_count(struct reader *reader)
{
    size_t count = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
        byte = *take(reader, 1);
        count |= (size_t)(byte & 0x7f) << shift;
        shift += 7;
    } while ((byte & 0x80) != 0);
    HOLDS(byte != 0 || shift == 7); /* the shortest form */
    return count;
}

/* An int of `width` bytes is one that no fewer hold. */
static void
read_int(struct reader *reader, unsigned width)
{
    const uint8_t *at = take(reader, width);
    uint8_t top = at[width - 1];
    if (width == 1)
        HOLDS(top >= 0x80); /* 0 to 127 have a form of their own */
    else
        HOLDS(!(top == 0 && at[width - 2] < 0x80) &&
              !(top == 0xff && at[width - 2] >= 0x80));
}

static void
read_double(struct reader *reader)
{
    double value;
    uint64_t bits = 0;
    const uint8_t *at = take(reader, 8);
    for (int i = 7; i >= 0; i--)
        bits = bits << 8 | at[i];
    memcpy(&value, &bits, 8);
    HOLDS(!isnan(value) || bits == UINT64_C(0x7ff8000000000000));
}

static void
read_value(struct reader *reader);

/* Items by their bytes; a dict's with their values. */
static void
read_sorted(struct reader *reader, bool pairs)
{
    const uint8_t *last = NULL;
    size_t last_len = 0, count = read_count(reader);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *start = reader->at;
        read_value(reader);
        if (pairs)
            read_value(reader);
        size_t len = (size_t)(reader->at - start);
        if (last != NULL) {
            int order = memcmp(last, start, last_len < len ? last_len : len);
            HOLDS(order < 0 || (order == 0 && last_len <= len));
            /* No encoding is the prefix of another. */
            HOLDS(order != 0 || last_len == len);
        }
        last = start;
        last_len = len;
    }
}

static void
read_value(struct reader *reader)
{
    uint8_t tag = *take(reader, 1);
    reader->nodes++;
    if (tag >= 0x80)
        return;
    if (tag >= 1 && tag <= 8) {
        read_int(reader, tag);
        return;
    }
    switch (tag) {
    case 'N':
    case 'T':
    case 'F': break;
    case 'z':
        read_double(reader);
        read_double(reader);
        break;
    case 'f': read_double(reader); break;
    case 's':
    case 'y':
    case 'Y': (void)take(reader, read_count(reader)); break;
    case 'u': (void)take(reader, 2 * read_count(reader)); break;
    case 'U': (void)take(reader, 4 * read_count(reader)); break;
    case 'H': (void)take(reader, 32); break;
    case 'x':
        HOLDS(*reader->at == '(');
        read_value(reader);
        reader->nodes--;
        break;
    case '(':
        for (size_t count = read_count(reader); count > 0; count--)
            read_value(reader);
        break;
    case '{': read_sorted(reader, true); break;
    case '<': read_sorted(reader, false); break;
    default: HOLDS(!"a tag that is in the table");
    }
}

static void
fuzz_input(const uint8_t *data, size_t size)
{
    uint8_t space[64];
    struct ck_buf out;
    struct writer writer = {.feed = {data, size}, .out = &out};
    unsigned values = 0;
    ck_buf_init(&out, space, sizeof space);
    do {
        write_value(&writer, 0);
        values++;
    } while (writer.feed.left != 0 && writer.nodes < NODES_MAX);
    HOLDS(fuzz_starved ? out.status == CK_OK || out.status == CK_ERR_NOMEM
                       : out.status == CK_OK);
    if (out.status == CK_OK) {
        uint8_t *exact = fuzz_copy(out.data, out.len);
        struct reader reader = {.at = exact, .end = exact + out.len};
        for (; values != 0; values--)
            read_value(&reader);
        HOLDS(reader.at == reader.end && reader.nodes == writer.nodes);
        free(exact);
    }
    ck_buf_fini(&out);
}
