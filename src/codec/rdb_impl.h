// SPDX-License-Identifier: Apache-2.0
// The insides of the RDB reader, shared by its files only.
#ifndef GUNYU_CODEC_RDB_IMPL_H
#define GUNYU_CODEC_RDB_IMPL_H

#include "base/bytes.h"
#include "codec/lzf.h"
#include "codec/packed.h"
#include "codec/rdb.h"
#include "codec/rdb_types.h"

#define RDB_STRING_MAX ((uint64_t)1 << 30) // the longest that is ever copied or decompressed whole
#define RDB_LENGTH_MAX ((uint64_t)1 << 62) // longer is no length: sums of two stay positive
#define RDB_CRC_STEP 65536                 // consumed bytes that wait for the checksum
#define RDB_NONE UINT64_MAX
#define RDB_LOOPS 4 // depth of loops in a walk program

// Results of parsing from bytes in hand; a positive one means success.
enum { SCAN_BAD = -1, SCAN_MORE = 0, SCAN_OK = 1 };

struct rdb_scan {
    const uint8_t *p, *end;
};

enum rdb_str_kind { STR_RAW, STR_INT, STR_LZF };

// A string's header.
struct rdb_str {
    enum rdb_str_kind kind;
    uint64_t n;     // serialized bytes that follow the header
    uint64_t total; // bytes of the string; unknown (0) for STR_INT
    int64_t num;    // STR_INT
};

// A string that was passed on the way to the end of its element.
struct rdb_token {
    struct rdb_str str;
    uint64_t at; // file index of its bytes
};

enum rdb_stage {
    STAGE_HEADER,
    STAGE_NEXT,
    STAGE_VALUE,
    STAGE_MODULE_AUX,
    STAGE_KEY_META,
    STAGE_CHECKSUM,
    STAGE_DONE,
    STAGE_FAILED
};

enum rdb_mode { MODE_FRESH, MODE_RAW, MODE_ELEMENTS, MODE_SKIP };

// Where the walk over a serialized value stands.
struct rdb_walk {
    const char *pc;
    uint64_t skip; // bytes of the current string that are still to be passed
    int depth;
    const char *broken;            // what is, in words; NULL: "a value"
    const struct rdb_meter *meter; // is told what is passed; NULL: nobody is
    const struct rdb_type *row;    // of the value, for the meter
    bool packed_node;              // the quicklist node to come is a blob, for the meter
    bool metered;                  // the meter was told the end
    struct {
        const char *body;
        uint64_t left;
    } loop[RDB_LOOPS];
};

enum rdb_part_kind { PART_NONE, PART_STRING, PART_PACKED, PART_STREAM, PART_TEMPLATE };

// The string that is being taken apart: a string value, a packed blob, a stream node.
struct rdb_part {
    enum rdb_part_kind kind;
    bool lzf;
    uint64_t end;  // file index behind the serialized string
    uint64_t size; // decoded bytes
    uint64_t given;
    struct packed packed;
    struct lzf_stream z;
};

struct rdb_pel_mark {
    uint64_t ms, seq, at;
};

// Names of fields that hashes share.
struct rdb_template {
    uint64_t id, count;
    struct buf fields; // each a 4-byte length and its bytes
};

// Those of a file; readers of the same file may share them.
struct rdb_templates {
    size_t refs, count, cap, bytes;
    struct rdb_template **list; // owns; in order of id
};

#define RDB_PEL_MARKS 4096

// A group's pending entries stand before its consumers, whose lists hold only IDs. Instead of a
// copy of them all, marks at every stride-th one find an ID again in the window.
struct rdb_pel {
    struct rdb_pel_mark *marks; // owns; RDB_PEL_MARKS, on first use
    size_t marked;
    uint64_t stride, count, taken;
    uint64_t start, end;          // file indexes; start is RDB_NONE without entries
    uint64_t last_ms, last_seq;   // of the entry read last
    uint64_t cursor;              // where the search for the next ID may start
    uint64_t found_ms, found_seq; // ID before cursor
};

enum rdb_node_step {
    NODE_LIVE,
    NODE_DELETED,
    NODE_WIDTH,
    NODE_MASTER,
    NODE_ZERO,
    NODE_FLAGS,
    NODE_MS,
    NODE_SEQ,
    NODE_PAIRS,
    NODE_FIELDS,
    NODE_COUNT
};

struct rdb_stream_state {
    uint64_t master_ms, master_seq; // ID that the node's entries are relative to
    enum rdb_node_step step;
    int64_t live, deleted, width; // by the node's header; width: master fields
    int64_t flags, pairs, left;   // of the entry; left: pairs still to come
    uint64_t ms, seq;
    struct buf master; // master fields, each a 4-byte length and its bytes
    size_t master_at;  // the next one of an entry that uses them
    uint64_t nums[8];  // lengths kept for the next step
    int num_count;
    bool any; // an entry was seen
    uint64_t first_ms, first_seq;
    struct buf group, consumer; // names
    int64_t seen_ms, active_ms;
    struct rdb_pel pel;
};

struct rdb_reader {
    const char *win;
    uint64_t from, end; // file indexes of the window
    uint64_t pos;       // next byte to read
    uint64_t keep;      // a field or value that waits for the rest of its element; RDB_NONE
    uint64_t crc_pos, crc;
    bool check_crc, valkey, bare, give_aux, skip_unknown;
    enum rdb_stage stage;
    enum rdb_mode mode;
    int version, db;
    // of the item that is being read
    uint64_t start; // RDB_NONE until its first opcode
    int64_t expire_ms, idle_s;
    int freq;
    uint64_t key_meta;
    struct buf key, text[2];
    char module_name[10];
    uint64_t module_id;
    const struct rdb_type *row;
    uint64_t value_start;
    struct rdb_walk walk;
    // of the element that is being read
    struct rdb_part part;
    struct rdb_token field, value;
    double score;
    uint64_t container;
    int64_t expire_base, field_expire_ms;
    char num_text[3][32];
    struct rdb_templates *templates;  // NULL: none yet
    struct rdb_template own;          // of a value that brings its fields
    const struct rdb_template *tmpl;  // of the value; NULL: none
    size_t tmpl_at;                   // its next field
    uint64_t tmpl_left;               // fields from there on
    bool tmpl_id_due;                 // the blob's first entry is to come
    uint64_t array_count, array_last; // last insert index, or RDB_NO_INDEX
    uint64_t array_index;
    struct rdb_stream_state stream;
    struct err failure;
};

static inline size_t rdb_avail(const struct rdb_reader *r)
{
    return r->end > r->pos ? (size_t)(r->end - r->pos) : 0;
}

static inline const char *rdb_at(const struct rdb_reader *r)
{
    return r->win + (r->pos - r->from);
}

static inline struct rdb_scan rdb_scan_here(const struct rdb_reader *r)
{
    static const uint8_t none[1];
    if (r->end <= r->pos)
        return (struct rdb_scan){none, none};
    const uint8_t *p = (const uint8_t *)rdb_at(r);
    return (struct rdb_scan){p, p + (r->end - r->pos)};
}

static inline size_t scan_left(const struct rdb_scan *s)
{
    return (size_t)(s->end - s->p);
}

static inline int scan_len(struct rdb_scan *s, uint64_t *v)
{
    size_t n = scan_left(s);
    if (n == 0)
        return SCAN_MORE;
    uint8_t b = *s->p;
    if (b < 0x40) {
        *v = b;
        s->p++;
        return SCAN_OK;
    }
    size_t size = b < 0x80 ? 2 : b == 0x80 ? 5 : b == 0x81 ? 9 : 0;
    if (size == 0)
        return SCAN_BAD;
    if (n < size)
        return SCAN_MORE;
    *v = size == 2   ? (uint64_t)(b & 0x3f) << 8 | s->p[1]
         : size == 5 ? load_be32(s->p + 1)
                     : load_be64(s->p + 1);
    s->p += size;
    return SCAN_OK;
}

static inline int scan_bytes(struct rdb_scan *s, size_t n, const uint8_t **p)
{
    if (scan_left(s) < n)
        return SCAN_MORE;
    *p = s->p;
    s->p += n;
    return SCAN_OK;
}

// Reads a string's header; s then stands at its bytes.
int scan_str_encoded(struct rdb_scan *s, struct rdb_str *str);
static inline int scan_str_head(struct rdb_scan *s, struct rdb_str *str)
{
    if (scan_left(s) == 0)
        return SCAN_MORE;
    if (*s->p >= 0xc0)
        return scan_str_encoded(s, str);
    uint64_t n;
    int rc = scan_len(s, &n);
    if (rc <= 0)
        return rc;
    *str = (struct rdb_str){.kind = STR_RAW, .n = n, .total = n};
    return n <= RDB_LENGTH_MAX ? SCAN_OK : SCAN_BAD;
}
// The common case by itself: a plain string with a short header that is there as a whole.
static inline bool scan_plain(struct rdb_scan *s, const char **bytes, size_t *n)
{
    size_t avail = scan_left(s);
    if (avail < 2 || *s->p >= 0x80)
        return false;
    size_t head = *s->p < 0x40 ? 1 : 2;
    size_t size = head == 1 ? *s->p : (size_t)(*s->p & 0x3f) << 8 | s->p[1];
    if (avail - head < size)
        return false;
    *bytes = (const char *)s->p + head;
    *n = size;
    s->p += head + size;
    return true;
}
// Reads a whole string; *bytes is its serialized form.
static inline int scan_str(struct rdb_scan *s, struct rdb_str *str, const char **bytes)
{
    const uint8_t *start = s->p;
    int rc = scan_str_head(s, str);
    if (rc > 0 && scan_left(s) >= str->n) {
        *bytes = (const char *)s->p;
        s->p += str->n;
        return SCAN_OK;
    }
    s->p = start;
    return rc > 0 ? SCAN_MORE : rc;
}

// The string's text: `bytes` itself, or decoded into text. false when it cannot be decoded.
bool rdb_str_text(const struct rdb_str *str, const char *bytes, struct buf *text,
                  struct slice *out) must_check;

// Remembers and returns a failure; the message gets version, index, db and key in front.
int rdb_fail(struct rdb_reader *r, struct err *e, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), cold));
// For SCAN_BAD and SCAN_MORE: a failure that names `what`, or RDB_MORE.
int rdb_scan_failed(struct rdb_reader *r, struct err *e, int rc, const char *what);

// Takes the checksum over what was read so far.
void rdb_crc_catch_up(struct rdb_reader *r);
// The value was read to its end.
void rdb_value_end(struct rdb_reader *r);

void rdb_walk_begin(struct rdb_walk *w, const char *program);
// Enters or repeats loops; shared by both interpreters.
void rdb_walk_loop(struct rdb_walk *w, uint64_t count);
void rdb_walk_loop_end(struct rdb_walk *w);
// Passes over the rest of the value, not reading beyond file index `end`.
int rdb_walk_on(struct rdb_reader *r, uint64_t end, struct err *e) must_check;
// One step of the walk: RDB_ITEM with its bytes, RDB_MORE, RDB_DONE at the end.
int rdb_walk_step(struct rdb_reader *r, char *op, struct slice *piece, struct err *e) must_check;

// Tell the walk's meter. rdb_meter_str, with s at the string's bytes, may want more of them first.
int rdb_meter_str(struct rdb_walk *w, const struct rdb_str *str, const struct rdb_scan *s);
void rdb_meter_number(struct rdb_walk *w, uint64_t v);

// Part: a string of the value that is read piece by piece.
int rdb_part_begin(struct rdb_reader *r, enum rdb_part_kind kind, struct err *e) must_check;
// Reads `n` packed entries at once: RDB_ITEM, RDB_MORE, RDB_DONE when the blob is at its end.
int rdb_part_entries(struct rdb_reader *r, struct packed_entry *out, int n,
                     struct err *e) must_check;
// The next piece of a string value: RDB_ITEM, RDB_MORE.
int rdb_part_piece(struct rdb_reader *r, size_t limit, struct rdb_element *out,
                   struct err *e) must_check;
struct slice rdb_entry_text(const struct packed_entry *entry, char num_text[24]);

// Templates. The scans take a whole list of fields: SCAN_*.
int rdb_template_inline(struct rdb_reader *r, struct rdb_scan *s); // and begins to use it
int rdb_template_record(struct rdb_reader *r, struct rdb_scan *s);
const struct rdb_template *rdb_template_find(const struct rdb_reader *r, uint64_t id);
void rdb_template_use(struct rdb_reader *r, const struct rdb_template *t);
struct slice rdb_template_next(struct rdb_reader *r); // while tmpl_left > 0
void rdb_templates_free(struct rdb_reader *r);

// Arrays. A head is a count, a flag and, if that is set, an index.
int rdb_array_head(struct rdb_reader *r, struct rdb_scan *s);
// Passes an element's tag, and its value unless that is a string.
int rdb_array_skip(struct rdb_scan *s, bool *string);
int rdb_array_element(struct rdb_reader *r, struct rdb_element *out, struct err *e) must_check;
// As the server writes it; dst has room for 32 bytes. Returns the length.
size_t rdb_array_double(char *dst, double v);

// Streams.
void rdb_stream_reset(struct rdb_stream_state *s);
void rdb_stream_free(struct rdb_stream_state *s);
void rdb_stream_node_begin(struct rdb_stream_state *s);
int rdb_stream_node(struct rdb_reader *r, struct rdb_element *out, struct err *e) must_check;
int rdb_stream_meta(struct rdb_reader *r, struct rdb_element *out);
int rdb_stream_group(struct rdb_reader *r, struct rdb_element *out);
int rdb_stream_consumer(struct rdb_reader *r, struct rdb_element *out);
// Every pending entry of the group that ends has found its consumer.
int rdb_stream_group_end(struct rdb_reader *r, struct err *e) must_check;
int rdb_stream_pel(struct rdb_reader *r, struct err *e) must_check;
// A consumer's pending entry, or one that no consumer has (nacked).
int rdb_stream_pending(struct rdb_reader *r, bool nacked, struct rdb_element *out,
                       struct err *e) must_check;
// What producers have sent: settings, an entry, totals.
int rdb_stream_idmp(struct rdb_reader *r, char op, struct rdb_element *out,
                    struct err *e) must_check;

#endif
