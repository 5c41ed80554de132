/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Fuzzes the reader of MessagePack: a whole document through ck_unpack.
 * DESIGN    Two bytes of limits, then the document. Every token lies within the input,
 *           no more items are announced and no more levels entered than allowed, a
 *           failure leaves the reader where it was. A document that was read is written
 *           again with ck_pack, and what was written reads the same.
 * THREADING One thread.
 */
#include "codec/ck_pack.h"
#include "codec/ck_unpack.h"

#include "fuzz.h"

struct walk {
    struct ck_unpack in;
    const uint8_t *start;
    uint64_t tokens;
    uint32_t level, max_level;
    struct ck_buf *out; /* the document again; borrowed */
};

static enum ck_status
walk_value(struct walk *walk);

static enum ck_status
walk_items(struct walk *walk, uint64_t count)
{
    enum ck_status status = ck_unpack_enter(&walk->in);
    if (status != CK_OK) {
        HOLDS(status == CK_ERR_LIMIT && walk->level == walk->max_level);
        return status;
    }
    walk->level++;
    HOLDS(walk->level <= walk->max_level);
    for (uint64_t i = 0; i < count && status == CK_OK; i++)
        status = walk_value(walk);
    walk->level--;
    ck_unpack_leave(&walk->in);
    return status;
}

/* Content of an extension that holds values: the reader sees nothing else. */
static enum ck_status
walk_content(struct walk *walk, const struct ck_token *token)
{
    const uint8_t *end = walk->in.end;
    enum ck_status status = CK_OK;
    walk->in.at = token->bytes;
    walk->in.end = token->bytes + token->size;
    size_t start = ck_pack_ext_begin(walk->out, (enum ck_ext)token->ext);
    while (status == CK_OK && walk->in.at != walk->in.end)
        status = walk_value(walk);
    ck_pack_ext_end(walk->out, start);
    walk->in.end = end;
    return status;
}

static enum ck_status
walk_ext(struct walk *walk, const struct ck_token *token)
{
    if (token->ext == CK_EXT_TUPLE || token->ext == CK_EXT_SET)
        return walk_content(walk, token);
    if (token->ext == CK_EXT_INT) {
        size_t start = ck_pack_ext8_begin(walk->out, CK_EXT_INT);
        ck_buf_put(walk->out, token->bytes, token->size);
        ck_pack_ext8_end(walk->out, start);
        return CK_OK;
    }
    ck_pack_ext(walk->out, token->size, token->ext);
    ck_pack_ext_body(walk->out, token->bytes, token->size);
    return CK_OK;
}

static void
within(const struct walk *walk, const struct ck_token *token)
{
    HOLDS(token->bytes >= walk->start && token->bytes <= walk->in.end);
    HOLDS(token->size <= (size_t)(walk->in.end - token->bytes));
    HOLDS(token->bytes + token->size == walk->in.at);
}

static enum ck_status
walk_token(struct walk *walk, const struct ck_token *token)
{
    struct ck_buf *out = walk->out;
    switch (token->type) {
    case CK_TOKEN_NIL: ck_pack_nil(out); break;
    case CK_TOKEN_TRUE: ck_pack_true(out); break;
    case CK_TOKEN_FALSE: ck_pack_false(out); break;
    case CK_TOKEN_INT: ck_pack_int64(out, token->i); break;
    case CK_TOKEN_UINT:
        HOLDS(token->u > INT64_MAX);
        ck_pack_uint64(out, token->u);
        break;
    case CK_TOKEN_FLOAT: ck_pack_double(out, token->f); break;
    case CK_TOKEN_STR:
        within(walk, token);
        ck_pack_str(out, token->size);
        ck_pack_str_body(out, token->bytes, token->size);
        break;
    case CK_TOKEN_BIN:
        within(walk, token);
        ck_pack_bin(out, token->size);
        ck_pack_bin_body(out, token->bytes, token->size);
        break;
    case CK_TOKEN_EXT: within(walk, token); return walk_ext(walk, token);
    case CK_TOKEN_ARRAY: ck_pack_array(out, token->size); break;
    case CK_TOKEN_MAP: ck_pack_map(out, token->size); break;
    }
    if (token->type != CK_TOKEN_ARRAY && token->type != CK_TOKEN_MAP)
        return CK_OK;
    uint64_t count = (uint64_t)token->size << (token->type == CK_TOKEN_MAP);
    HOLDS(count <= ck_unpack_left(&walk->in));
    return walk_items(walk, count);
}

static enum ck_status
walk_value(struct walk *walk)
{
    struct ck_token token, other;
    struct ck_unpack before = walk->in, general = walk->in;
    enum ck_status status = ck_unpack_next(&walk->in, &token);
    HOLDS(ck_unpack_any(&general, &other) == status);
    HOLDS(memcmp(&general, &walk->in, sizeof general) == 0);
    if (status != CK_OK) {
        HOLDS(status == CK_ERR_CORRUPT || status == CK_ERR_LIMIT);
        HOLDS(memcmp(&before, &walk->in, sizeof before) == 0);
        return status;
    }
    HOLDS(other.type == token.type);
    HOLDS(walk->in.at > before.at && walk->in.at <= walk->in.end);
    HOLDS(walk->in.items <= before.items);
    walk->tokens++;
    return walk_token(walk, &token);
}

/* One value, which may leave bytes behind it. */
static enum ck_status
read_document(const uint8_t *data, size_t size, uint32_t items, uint32_t depth,
              struct ck_buf *out)
{
    struct walk walk = {.start = data, .max_level = depth, .out = out};
    ck_unpack_init(&walk.in, data, size, items, depth);
    enum ck_status status = walk_value(&walk);
    HOLDS(walk.level == 0 && walk.in.depth == depth);
    /* Content of an extension is announced by nobody, a byte a token at most. */
    HOLDS(walk.tokens <= size);
    return status;
}

static void
fuzz_input(const uint8_t *data, size_t size)
{
    struct fuzz_feed feed = {data, size};
    uint32_t items = (uint32_t)fuzz_u8(&feed) * 16, depth = fuzz_u8(&feed) & 127;
    struct ck_buf first, second;
    ck_buf_init(&first, NULL, 0);
    ck_buf_init(&second, NULL, 0);
    uint8_t *exact = fuzz_copy(feed.at, feed.left);
    enum ck_status status = read_document(exact, feed.left, items, depth, &first);
    if (status == CK_OK && first.status == CK_OK) {
        HOLDS(read_document(first.data, first.len, items, depth, &second) == CK_OK);
        if (second.status == CK_OK)
            HOLDS(first.len == second.len &&
                  memcmp(first.data, second.data, first.len) == 0);
        /* Bytes that are missing are noticed. */
        size_t less = (size_t)(fuzz_hash(data, size) % first.len);
        uint8_t *cut = fuzz_copy(first.data, less);
        second.len = 0;
        HOLDS(read_document(cut, less, items, depth, &second) != CK_OK);
        free(cut);
    }
    HOLDS(fuzz_starved || (first.status == CK_OK && second.status == CK_OK));
    free(exact);
    ck_buf_fini(&first);
    ck_buf_fini(&second);
}
