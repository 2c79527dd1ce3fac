// SPDX-License-Identifier: Apache-2.0
#include "codec/rdb.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "codec/crc64.h"
#include "codec/rdb_impl.h"
#include "codec/slot.h"

#define BUF_KEEP ((size_t)1 << 20) // a scratch buffer that grew past this is given back
#define OPCODE_LOWEST 128          // an unknown number from here on is taken for an opcode
#define ARGUMENTS_MAX 1048576      // of a command

struct rdb_reader *rdb_reader_new(bool check_crc)
{
    struct rdb_reader *r = xcalloc(1, sizeof(*r));
    r->check_crc = check_crc;
    r->crc_pos = check_crc ? 0 : RDB_NONE;
    r->keep = r->start = RDB_NONE;
    r->expire_ms = r->idle_s = r->freq = -1;
    rdb_stream_reset(&r->stream);
    return r;
}

void rdb_reader_free(struct rdb_reader *r)
{
    if (!r)
        return;
    buf_free(&r->key);
    buf_free(&r->text[0]);
    buf_free(&r->text[1]);
    lzf_stream_free(&r->part.z);
    rdb_stream_free(&r->stream);
    rdb_templates_free(r);
    free(r);
}

void rdb_reader_give_aux(struct rdb_reader *r)
{
    r->give_aux = true;
}

void rdb_reader_skip_unknown(struct rdb_reader *r, bool on)
{
    r->skip_unknown = on;
}

void rdb_reader_resume(struct rdb_reader *r, uint64_t at, int db, int version)
{
    r->pos = at;
    r->db = db;
    r->version = version;
    r->valkey = version >= RDB_VALKEY_MIN;
    r->check_crc = false;
    r->crc_pos = r->keep = RDB_NONE;
    r->mode = MODE_SKIP;
    r->part.kind = PART_NONE;
    rdb_stream_reset(&r->stream);
    r->bare = false;
    r->start = 0;
    rdb_value_end(r);
}

int rdb_reader_open_value(struct rdb_reader *r, uint8_t type, int version, struct err *e)
{
    rdb_reader_resume(r, 0, 0, version);
    r->bare = true;
    r->row = rdb_type_find(type, r->valkey);
    if (!r->row || !r->row->walk || r->row->dialect & RDB_FILE_ONLY)
        return rdb_fail(r, e, ERR_UNSUPPORTED, "value type %u is not one that can be read", type);
    r->stage = STAGE_VALUE;
    r->mode = MODE_FRESH;
    r->value_start = 0;
    return 0;
}

void rdb_feed(struct rdb_reader *r, const char *p, uint64_t from, size_t n)
{
    must(n == 0 || from <= rdb_needs_from(r));
    r->win = p;
    r->from = from;
    r->end = from + n;
}

uint64_t rdb_needs_from(const struct rdb_reader *r)
{
    uint64_t at = r->pos;
    if (r->stage == STAGE_VALUE && r->mode <= MODE_RAW)
        at = r->value_start;
    if (r->keep < at)
        at = r->keep;
    if (r->stream.pel.start < at)
        at = r->stream.pel.start;
    return r->crc_pos < at ? r->crc_pos : at;
}

int rdb_version(const struct rdb_reader *r)
{
    return r->version;
}

bool rdb_is_valkey(const struct rdb_reader *r)
{
    return r->valkey;
}

void rdb_crc_catch_up(struct rdb_reader *r)
{
    uint64_t to = r->pos < r->end ? r->pos : r->end;
    if (r->crc_pos < r->from || r->crc_pos >= to)
        return;
    r->crc = crc64_update(r->crc, r->win + (r->crc_pos - r->from), (size_t)(to - r->crc_pos));
    r->crc_pos = to;
}

int rdb_fail(struct rdb_reader *r, struct err *e, int code, const char *fmt, ...)
{
    char what[256], key[80];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    size_t n = 0;
    for (; n < r->key.n && n < sizeof(key) - 1; n++)
        key[n] = isprint((unsigned char)r->key.p[n]) ? r->key.p[n] : '?';
    key[n] = '\0';
    bool in_key = r->stage == STAGE_VALUE && !r->bare;
    bool in_header = r->stage == STAGE_HEADER;
    r->stage = STAGE_FAILED;
    if (in_header) { // nothing of it is known yet, but what the text says
        err_set(&r->failure, code, "%s", what);
        if (e)
            *e = r->failure;
        return code;
    }
    err_set(&r->failure, code, "RDB version %d, byte %llu, db %d%s%s%s: %s", r->version,
            (unsigned long long)r->pos, r->db, in_key ? ", key '" : "", in_key ? key : "",
            in_key ? "'" : "", what);
    if (e)
        *e = r->failure;
    return code;
}

int rdb_scan_failed(struct rdb_reader *r, struct err *e, int rc, const char *what)
{
    if (rc == SCAN_MORE) {
        rdb_crc_catch_up(r);
        return RDB_MORE;
    }
    return rdb_fail(r, e, ERR_CORRUPT, "%s", what);
}

// Gives back what an unusually long string needed.
static void shrink_buffers(struct rdb_reader *r)
{
    struct buf *const all[] = {&r->key, &r->text[0], &r->text[1], &r->part.z.out};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (all[i]->cap >= BUF_KEEP)
            buf_free(all[i]);
}

void rdb_value_end(struct rdb_reader *r)
{
    if (r->mode == MODE_ELEMENTS) {
        r->keep = RDB_NONE;
        r->part.kind = PART_NONE;
        if (r->row->object == RDB_OBJ_STREAM)
            rdb_stream_reset(&r->stream);
    }
    r->stage = r->bare ? STAGE_DONE : STAGE_NEXT;
    // Most keys have none of these.
    if (r->start != RDB_NONE) {
        r->start = RDB_NONE;
        r->expire_ms = r->idle_s = r->freq = -1;
        r->key_meta = 0;
    }
}

// Whether reading can be tried: the version is newer than those of its family that are known.
static bool version_is_newer(int version, bool valkey)
{
    return valkey ? version > RDB_VALKEY_VERSION_MAX
                  : version > RDB_VERSION_MAX && version < RDB_VALKEY_MIN;
}

static int read_header(struct rdb_reader *r, struct rdb_item *item, struct err *e)
{
    if (rdb_avail(r) < 9)
        return RDB_MORE;
    const char *p = rdb_at(r);
    bool valkey = memcmp(p, "VALKEY", 6) == 0;
    if (!valkey && memcmp(p, "REDIS", 5) != 0)
        return rdb_fail(r, e, ERR_CORRUPT,
                        "this is no RDB file: it starts with neither REDIS nor VALKEY");
    int version = 0;
    for (int i = valkey ? 6 : 5; i < 9; i++) {
        if (p[i] < '0' || p[i] > '9')
            return rdb_fail(r, e, ERR_CORRUPT, "the version in the header is not a number");
        version = version * 10 + (p[i] - '0');
    }
    r->version = version;
    r->valkey = valkey;
    bool known = rdb_version_known(version, valkey);
    if (!known && !(r->skip_unknown && version_is_newer(version, valkey)))
        return rdb_fail(r, e, ERR_UNSUPPORTED,
                        "RDB version %d of %s is not supported, this build reads 1 to %d of Redis "
                        "and %d to %d of Valkey",
                        version, valkey ? "Valkey" : "Redis", RDB_VERSION_MAX, RDB_VALKEY_MIN,
                        RDB_VALKEY_VERSION_MAX);
    r->pos += 9;
    r->stage = STAGE_NEXT;
    if (known)
        return RDB_DONE;
    buf_clear(&r->text[0]);
    buf_printf(&r->text[0], "%s RDB version %d, which is newer than this build",
               valkey ? "Valkey" : "Redis", version);
    item->start = 0;
    item->kind = RDB_KIND_SKIPPED;
    item->value = buf_slice(&r->text[0]);
    return RDB_ITEM;
}

// What an opcode did: see scan results; OP_ITEM has filled the item, OP_FAILED has set the error.
enum { OP_FAILED = -2, OP_ITEM = 2 };

typedef int opcode_fn(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item,
                      struct err *e);

static int op_slot_info(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item,
                        struct err *e)
{
    (void)r, (void)item, (void)e;
    uint64_t v;
    int rc = SCAN_OK;
    for (int i = 0; i < 3 && rc > 0; i++)
        rc = scan_len(s, &v);
    return rc;
}

// A whole string as text; OP_FAILED when it cannot be decoded.
static int take_text(struct rdb_reader *r, struct rdb_scan *s, struct buf *text, struct slice *out,
                     struct err *e)
{
    struct rdb_str str;
    const char *bytes;
    int rc = scan_str(s, &str, &bytes);
    if (rc > 0 && !rdb_str_text(&str, bytes, text, out)) {
        rdb_fail(r, e, ERR_CORRUPT, "a compressed string cannot be decompressed");
        return OP_FAILED;
    }
    return rc;
}

static int op_function(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item,
                       struct err *e)
{
    int rc = take_text(r, s, &r->text[0], &item->value, e);
    if (rc <= 0)
        return rc;
    item->kind = RDB_KIND_FUNCTION;
    return OP_ITEM;
}

// The 7.0 previews stored name, engine and code apart; FUNCTION LOAD wants them in a first line.
static int op_function_pre_ga(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item,
                              struct err *e)
{
    struct slice part;
    uint64_t described = 0;
    int rc = take_text(r, s, &r->text[0], &part, e);
    if (rc <= 0)
        return rc;
    buf_clear(&r->key);
    buf_append_slice(&r->key, part);
    rc = take_text(r, s, &r->text[0], &part, e);
    if (rc <= 0)
        return rc;
    buf_clear(&r->text[1]);
    buf_append_cstr(&r->text[1], "#!");
    for (size_t i = 0; i < part.n; i++)
        buf_append_char(&r->text[1], (char)tolower((unsigned char)part.p[i]));
    buf_append_cstr(&r->text[1], " name=");
    buf_append(&r->text[1], r->key.p, r->key.n);
    buf_append_char(&r->text[1], '\n');
    rc = scan_len(s, &described);
    if (rc > 0 && described)
        rc = take_text(r, s, &r->text[0], &part, e);
    if (rc > 0)
        rc = take_text(r, s, &r->text[0], &part, e);
    if (rc <= 0)
        return rc;
    buf_append_slice(&r->text[1], part);
    item->kind = RDB_KIND_FUNCTION;
    item->value = buf_slice(&r->text[1]);
    return OP_ITEM;
}

// "<mark><number>\r\n"
static int scan_header_line(struct rdb_scan *s, char mark, uint64_t *v)
{
    const uint8_t *p = s->p;
    if (p == s->end)
        return SCAN_MORE;
    if (*p++ != (uint8_t)mark)
        return SCAN_BAD;
    const uint8_t *digits = p;
    for (*v = 0; p < s->end && isdigit(*p); p++) {
        *v = *v * 10 + (uint64_t)(*p - '0');
        if (*v > RDB_STRING_MAX)
            return SCAN_BAD;
    }
    if (s->end - p < 2)
        return p == s->end || *p == '\r' ? SCAN_MORE : SCAN_BAD;
    if (p == digits || p[0] != '\r' || p[1] != '\n')
        return SCAN_BAD;
    s->p = p + 2;
    return SCAN_OK;
}

static int scan_command(struct rdb_scan *s)
{
    uint64_t args, n;
    int rc = scan_header_line(s, '*', &args);
    if (rc > 0 && (args == 0 || args > ARGUMENTS_MAX))
        rc = SCAN_BAD;
    for (; rc > 0 && args > 0; args--) {
        const uint8_t *p;
        rc = scan_header_line(s, '$', &n);
        if (rc > 0)
            rc = scan_bytes(s, (size_t)n + 2, &p);
        if (rc > 0 && (p[n] != '\r' || p[n + 1] != '\n'))
            rc = SCAN_BAD;
    }
    return rc;
}

static void module_name(uint64_t id, char out[10])
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    id >>= 10;
    for (int i = 8; i >= 0; i--, id >>= 6)
        out[i] = letters[id & 63];
    out[9] = '\0';
}

static int op_module_aux(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item,
                         struct err *e)
{
    (void)item, (void)e;
    uint64_t id;
    int rc = scan_len(s, &id);
    if (rc <= 0)
        return rc;
    module_name(id, r->module_name);
    r->module_id = id;
    rdb_walk_begin(&r->walk, "W");
    r->mode = MODE_FRESH;
    r->stage = STAGE_MODULE_AUX;
    return SCAN_OK;
}

static int op_idle(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item, struct err *e)
{
    (void)item, (void)e;
    uint64_t v;
    int rc = scan_len(s, &v);
    if (rc > 0)
        r->idle_s = v > INT64_MAX ? INT64_MAX : (int64_t)v;
    return rc;
}

static int op_freq(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item, struct err *e)
{
    (void)item, (void)e;
    const uint8_t *p;
    int rc = scan_bytes(s, 1, &p);
    if (rc > 0)
        r->freq = *p;
    return rc;
}

static int op_aux(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item, struct err *e)
{
    struct slice name;
    int rc = take_text(r, s, &r->text[0], &name, e);
    if (rc <= 0)
        return rc;
    struct rdb_scan value = *s;
    struct rdb_str str;
    const char *bytes;
    rc = scan_str(&value, &str, &bytes);
    if (rc <= 0)
        return rc;
    buf_clear(&r->key);
    buf_append_slice(&r->key, name);
    item->key = buf_slice(&r->key);
    item->kind = RDB_KIND_AUX;
    rc = take_text(r, s, &r->text[0], &item->value, e);
    return rc <= 0 ? rc : OP_ITEM;
}

static int op_resizedb(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item,
                       struct err *e)
{
    (void)r, (void)e;
    int rc = scan_len(s, &item->db_size);
    if (rc > 0)
        rc = scan_len(s, &item->expires_size);
    if (rc <= 0)
        return rc;
    item->kind = RDB_KIND_RESIZEDB;
    return OP_ITEM;
}

static int op_expire_ms(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item,
                        struct err *e)
{
    (void)item, (void)e;
    const uint8_t *p;
    int rc = scan_bytes(s, 8, &p);
    if (rc > 0)
        r->expire_ms = (int64_t)load_le64(p);
    return rc;
}

static int op_expire_s(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item,
                       struct err *e)
{
    (void)item, (void)e;
    const uint8_t *p;
    int rc = scan_bytes(s, 4, &p);
    if (rc > 0)
        r->expire_ms = (int64_t)load_le32(p) * 1000;
    return rc;
}

static int op_selectdb(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item,
                       struct err *e)
{
    uint64_t db;
    int rc = scan_len(s, &db);
    if (rc <= 0)
        return rc;
    if (db > INT_MAX) {
        rdb_fail(r, e, ERR_CORRUPT, "%llu is no number of a db", (unsigned long long)db);
        return OP_FAILED;
    }
    r->db = item->db = (int)db;
    item->kind = RDB_KIND_SELECTDB;
    return OP_ITEM;
}

// A list of field names in Redis, a command in Valkey.
static int op_242(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item, struct err *e)
{
    (void)e;
    const uint8_t *start = s->p;
    int rc = r->valkey ? scan_command(s) : rdb_template_record(r, s);
    if (rc <= 0)
        return rc;
    item->kind = r->valkey ? RDB_KIND_COMMAND : RDB_KIND_TEMPLATE;
    item->value = slice_make((const char *)start, (size_t)(s->p - start));
    return OP_ITEM;
}

static int op_slot_import(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item,
                          struct err *e)
{
    struct slice job;
    uint64_t count, from, to;
    int rc = take_text(r, s, &r->key, &job, e);
    if (rc <= 0)
        return rc;
    rc = scan_len(s, &count);
    if (rc > 0 && count > SLOT_COUNT)
        return SCAN_BAD;
    buf_clear(&r->text[1]);
    for (; rc > 0 && count > 0; count--) {
        rc = scan_len(s, &from);
        if (rc > 0)
            rc = scan_len(s, &to);
        if (rc > 0 && (from > to || to >= SLOT_COUNT))
            return SCAN_BAD;
        if (rc > 0)
            buf_printf(&r->text[1], "%s%d-%d", r->text[1].n ? "," : "", (int)from, (int)to);
    }
    if (rc <= 0)
        return rc;
    item->kind = RDB_KIND_SLOT_IMPORT;
    item->key = job;
    item->value = buf_slice(&r->text[1]);
    return OP_ITEM;
}

// What modules have stored about the key that follows: for each a number and opcodes up to an end
// mark. In Valkey: slots that are being imported.
static int op_243(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item, struct err *e)
{
    if (r->valkey)
        return op_slot_import(r, s, item, e);
    uint64_t count;
    int rc = scan_len(s, &count);
    if (rc <= 0)
        return rc;
    if (r->start == RDB_NONE)
        r->start = r->pos;
    r->key_meta += count;
    rdb_walk_begin(&r->walk, "(oW)");
    rdb_walk_loop(&r->walk, count);
    r->stage = STAGE_KEY_META;
    return SCAN_OK;
}

static int op_eof(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item, struct err *e)
{
    (void)s, (void)item, (void)e;
    r->stage = STAGE_CHECKSUM;
    return SCAN_OK;
}

static const struct {
    opcode_fn *fn;
    bool of_key; // says something about the key that follows
} opcodes[256] = {
    [RDB_OP_HASH_TEMPLATE] = {op_242, false},
    [RDB_OP_KEY_META] = {op_243, false},
    [RDB_OP_SLOT_INFO] = {op_slot_info, false},
    [RDB_OP_FUNCTION2] = {op_function, false},
    [RDB_OP_FUNCTION_PRE_GA] = {op_function_pre_ga, false},
    [RDB_OP_MODULE_AUX] = {op_module_aux, false},
    [RDB_OP_IDLE] = {op_idle, true},
    [RDB_OP_FREQ] = {op_freq, true},
    [RDB_OP_AUX] = {op_aux, false},
    [RDB_OP_RESIZEDB] = {op_resizedb, false},
    [RDB_OP_EXPIRE_MS] = {op_expire_ms, true},
    [RDB_OP_EXPIRE_S] = {op_expire_s, true},
    [RDB_OP_SELECTDB] = {op_selectdb, false},
    [RDB_OP_EOF] = {op_eof, false},
};

static int read_checksum(struct rdb_reader *r, struct err *e)
{
    rdb_crc_catch_up(r);
    if (r->version >= 5) {
        if (rdb_avail(r) < 8)
            return RDB_MORE;
        uint64_t stored = load_le64(rdb_at(r));
        if (r->check_crc && stored != 0 && stored != r->crc)
            return rdb_fail(r, e, ERR_CORRUPT,
                            "the checksum is %016llx, but the file's content has %016llx",
                            (unsigned long long)stored, (unsigned long long)r->crc);
        r->pos += 8;
        r->crc_pos = RDB_NONE;
    }
    r->stage = STAGE_DONE;
    return RDB_DONE;
}

static int read_key_text(struct rdb_reader *r, struct rdb_scan *s, struct err *e)
{
    const char *bytes;
    size_t n;
    if (scan_plain(s, &bytes, &n)) {
        r->key.n = 0;
        memcpy(n <= r->key.cap && n ? r->key.p : buf_reserve(&r->key, n + 1), bytes, n);
        r->key.n = n;
        return RDB_ITEM;
    }
    struct rdb_str str;
    struct slice key;
    int rc = scan_str(s, &str, &bytes);
    if (rc <= 0)
        return rdb_scan_failed(r, e, rc, "the length of a key is broken");
    if (str.n > RDB_STRING_MAX || !rdb_str_text(&str, bytes, &r->text[0], &key))
        return rdb_fail(r, e, ERR_CORRUPT, "a key cannot be decompressed or is too long");
    buf_clear(&r->key);
    buf_append_slice(&r->key, key);
    return RDB_ITEM;
}

// A key that starts at r->pos with its type byte.
static int read_key(struct rdb_reader *r, struct rdb_scan *s, struct rdb_item *item, struct err *e)
{
    uint8_t type = *s->p++;
    int rc = read_key_text(r, s, e);
    if (rc != RDB_ITEM)
        return rc;
    const uint64_t size = (uint64_t)(s->p - (const uint8_t *)rdb_at(r));
    r->stage = STAGE_VALUE;
    r->mode = MODE_FRESH;
    r->row = rdb_type_find(type, r->valkey);
    if (!r->row)
        return rdb_fail(r, e, ERR_UNSUPPORTED, "value type %u is not known", type);
    if (!r->row->walk)
        return rdb_fail(r, e, ERR_UNSUPPORTED, "value type %u (%s) cannot be read", type,
                        r->row->name);
    const uint64_t item_start = r->pos;
    r->pos += size;
    r->value_start = r->pos;
    item->kind = RDB_KIND_KEY;
    item->start = r->start == RDB_NONE ? item_start : r->start;
    item->db = r->db;
    item->key = buf_slice(&r->key);
    item->type = type;
    item->object = r->row->object;
    item->expire_ms = r->expire_ms;
    item->idle_s = r->idle_s;
    item->freq = r->freq;
    item->key_meta = r->key_meta;
    item->value_start = r->value_start;
    if (r->pos - r->crc_pos >= RDB_CRC_STEP && r->pos > r->crc_pos)
        rdb_crc_catch_up(r);
    return RDB_ITEM;
}

// One opcode or key: RDB_ITEM, RDB_MORE, an error, or RDB_DONE for "go on".
static int read_one(struct rdb_reader *r, struct rdb_item *item, struct err *e)
{
    struct rdb_scan s = rdb_scan_here(r);
    if (scan_left(&s) == 0)
        return rdb_scan_failed(r, e, SCAN_MORE, "");
    uint8_t op = *s.p;
    if (!opcodes[op].fn) {
        if (op >= OPCODE_LOWEST)
            return rdb_fail(r, e, ERR_UNSUPPORTED, "opcode %u is not known", op);
        return read_key(r, &s, item, e);
    }
    const uint8_t *start = s.p++;
    item->start = r->pos;
    int rc = opcodes[op].fn(r, &s, item, e);
    if (rc == OP_FAILED)
        return r->failure.code;
    if (rc <= 0)
        return rdb_scan_failed(r, e, rc, "the operand of an opcode is broken");
    if (opcodes[op].of_key && r->start == RDB_NONE)
        r->start = r->pos;
    if (r->stage == STAGE_MODULE_AUX)
        r->value_start = r->pos;
    r->pos += (uint64_t)(s.p - start);
    return rc == OP_ITEM ? RDB_ITEM : RDB_DONE;
}

// The item, before or behind its bytes; RDB_DONE when it was given before.
static int read_module_aux(struct rdb_reader *r, struct rdb_item *item, struct err *e)
{
    bool give = r->mode == MODE_FRESH;
    if (!give || !r->give_aux) {
        int rc = rdb_walk_on(r, RDB_NONE, e);
        if (rc != RDB_DONE)
            return rc;
        r->stage = STAGE_NEXT;
    }
    r->mode = MODE_SKIP;
    if (!give)
        return RDB_DONE;
    item->module_id = r->module_id;
    item->kind = RDB_KIND_MODULE_AUX;
    item->start = r->value_start;
    memcpy(item->module_name, r->module_name, sizeof(item->module_name));
    return RDB_ITEM;
}

int rdb_next(struct rdb_reader *r, struct rdb_item *item, struct err *e)
{
    item->db = r->db;
    for (;;) {
        int rc;
        switch (r->stage) {
        case STAGE_NEXT:
            // One test for all: capacities with a bit at or above a power of two are big.
            if ((r->key.cap | r->text[0].cap | r->text[1].cap | r->part.z.out.cap) >= BUF_KEEP)
                shrink_buffers(r);
            rc = read_one(r, item, e);
            if (rc != RDB_DONE)
                return rc;
            break;
        case STAGE_VALUE:
            rc = rdb_value_skip(r, e);
            if (rc != RDB_DONE)
                return rc;
            break;
        case STAGE_HEADER:
            rc = read_header(r, item, e);
            if (rc != RDB_DONE)
                return rc;
            break;
        case STAGE_MODULE_AUX:
            rc = read_module_aux(r, item, e);
            if (rc != RDB_DONE)
                return rc;
            break;
        case STAGE_KEY_META:
            rc = rdb_walk_on(r, RDB_NONE, e);
            if (rc != RDB_DONE)
                return rc;
            r->stage = STAGE_NEXT;
            break;
        case STAGE_CHECKSUM:
            return read_checksum(r, e);
        case STAGE_DONE:
            return RDB_DONE;
        default:
            if (e)
                *e = r->failure;
            return r->failure.code;
        }
    }
}
