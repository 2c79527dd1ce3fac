// SPDX-License-Identifier: Apache-2.0
#include "rdb/memory.h"

#include <math.h>

// Sizes of the structures of 64-bit servers.
enum {
    ROBJ = 16,
    DICT = 56,
    DICT_ENTRY = 24,
    DICT_ENTRY_NO_VALUE = 16,
    QUICKLIST = 40,
    QUICKLIST_NODE = 40,
    LIST_ENTRY = 3, // head and tail of an entry in a listpack
    ZSET = 16,
    ZSKIPLIST = 32,
    SKIPLIST_NODE = 24,
    SKIPLIST_NODE_INSIDE = 17, // the member, and where it begins, instead of a pointer to it
    ZSKIPLIST_HEADER = 24 + 32 * 16,
    ARRAY_ELEMENT = 16, // about
    LISTPACK_EX = 40,   // listpack with field expiries
    FIELD_EXPIRY = 24,
    FIRST_EXPIRY_TYPE = 22, // of hashes whose fields may expire
    FIELD_HEADER = 6,       // of a field that might expire, about
    STREAM = 80,
    STREAM_ID = 16,
    STREAM_GROUP = 40,
    STREAM_CONSUMER = 24,
    STREAM_CONSUMER_ACTIVE = 32, // since it has an active time
    RAX = 32,
    RAX_NODE = 4,
    RAX_NODE_GUESS = RAX_NODE + 30 * 8, // what Redis reckons for each
    HASHTABLE = 72,
    BUCKET = 64,
    BUCKET_ENTRIES = 7,
    EMBSTR_MAX = 44,         // Redis: length of a string that shares the object's allocation
    HASH_EMBEDDED_MAX = 128, // Valkey: of a field with its value
    INT_TEXT_MAX = 20,
    LIST_PACKED_MAX = 8192 + 512 // a list of one node is no quicklist up to here
};

static const struct memory_layout layouts[] = {
    {.name = "redis", .pending = 24},
    {.name = "redis-8.2",
     .since = 802,
     .key_inside = true,
     .embedded = 64,
     .member_inside = true,
     .real_trees = true,
     .pending = 120},
    {.name = "valkey-7", .valkey = true, .lean_sets = true, .pending = 24},
    {.name = "valkey-8.1",
     .valkey = true,
     .since = 801,
     .buckets = true,
     .key_inside = true,
     .embedded = 64,
     .real_trees = true,
     .pending = 24},
    {.name = "valkey-9",
     .valkey = true,
     .since = 900,
     .buckets = true,
     .key_inside = true,
     .embedded = 128,
     .pointer = 8,
     .member_inside = true,
     .real_trees = true,
     .pending = 24},
};
#define LAYOUTS (sizeof(layouts) / sizeof(*layouts))

static int version_number(struct slice version)
{
    int part[2] = {0, 0}, at = 0;
    for (size_t i = 0; i < version.n && at < 2; i++) {
        char c = version.p[i];
        if (c >= '0' && c <= '9' && part[at] < 100)
            part[at] = part[at] * 10 + (c - '0');
        else
            at++;
    }
    return part[0] * 100 + part[1];
}

const struct memory_layout *memory_layout_of(bool valkey, struct slice version)
{
    const struct memory_layout *found = NULL;
    for (size_t i = 0; i < LAYOUTS; i++)
        if (layouts[i].valkey == valkey && version_number(version) >= layouts[i].since)
            found = &layouts[i];
    return found;
}

const struct memory_layout *memory_layout_named(const char *name)
{
    for (size_t i = 0; i < LAYOUTS; i++)
        if (strcmp(layouts[i].name, name) == 0)
            return &layouts[i];
    return NULL;
}

uint64_t memory_class(const struct memory_model *m, uint64_t n)
{
    if (n <= 8)
        return 8;
    unsigned quantum = m->quantum;
    // Four classes for each doubling, but none closer than the quantum.
    unsigned lg = 63 - (unsigned)__builtin_clzll(n - 1);
    uint64_t step = lg >= 2 ? (uint64_t)1 << (lg - 2) : 1;
    if (step < quantum)
        step = quantum;
    return n > UINT64_MAX - step ? n : (n + step - 1) & ~(step - 1);
}

static uint64_t sds_header(uint64_t n)
{
    return n < 32 ? 1 : n < 256 ? 3 : n < 65536 ? 5 : n <= UINT32_MAX ? 9 : 17;
}

static uint64_t sds_size(uint64_t n)
{
    return sds_header(n) + n + 1;
}

// A string that is a value or may be appended to has no header of the smallest kind.
static uint64_t sds_value_size(uint64_t n)
{
    return (n < 32 ? 3 : sds_header(n)) + n + 1;
}

static uint64_t sds(const struct memory_model *m, uint64_t n)
{
    return memory_class(m, n == 0 ? sds_value_size(0) : sds_size(n));
}

static uint64_t power_of_two(uint64_t n)
{
    return n <= 1 ? 1 : (uint64_t)1 << (64 - __builtin_clzll(n - 1));
}

// The buckets that hang on `buckets` full ones: entries fall as a Poisson process does.
static double overflow_buckets(double n, double buckets)
{
    double lambda = n / buckets, p = exp(-lambda), expected = 0;
    for (int k = 0; k < 64; k++) {
        // One place of a full bucket leads to the next one.
        int chained = k > BUCKET_ENTRIES ? (k - 2) / (BUCKET_ENTRIES - 1) : 0;
        expected += p * chained;
        p *= lambda / (k + 1);
    }
    return expected * buckets;
}

uint64_t memory_table(const struct memory_model *m, uint64_t n)
{
    if (n >= (uint64_t)1 << 56)
        return UINT64_MAX >> 2;
    if (!m->layout->buckets)
        return 8 * (n <= 4 ? 4 : power_of_two(n));
    if (n == 0)
        return 0;
    uint64_t buckets = power_of_two((n * 5 - 1) / 32 + 1);
    return BUCKET * (buckets + (uint64_t)overflow_buckets((double)n, (double)buckets));
}

const char *memory_encoding_name(enum memory_encoding e)
{
    static const char *const names[] = {
        [MEMORY_INT] = "int",
        [MEMORY_EMBSTR] = "embstr",
        [MEMORY_RAW] = "raw",
        [MEMORY_LISTPACK] = "listpack",
        [MEMORY_QUICKLIST] = "quicklist",
        [MEMORY_INTSET] = "intset",
        [MEMORY_HASHTABLE] = "hashtable",
        [MEMORY_SKIPLIST] = "skiplist",
        [MEMORY_STREAM] = "stream",
        [MEMORY_ARRAY] = "array",
        [MEMORY_MODULE] = "module",
    };
    return names[e];
}

void memory_rax_begin(struct memory_rax *r, const struct memory_model *m)
{
    r->model = m;
    r->keys = r->nodes = r->bytes = 0;
    r->open = 0;
}

static void rax_node(struct memory_rax *r, unsigned chars, unsigned pointers)
{
    uint64_t size = RAX_NODE + chars;
    size = (size + 7) / 8 * 8 + 8u * pointers;
    r->nodes++;
    r->bytes += r->model->layout->real_trees ? memory_class(r->model, size) : RAX_NODE_GUESS;
}

// A branch or leaf at `depth` is complete; what lies between its parent and it is one node.
static void rax_close(struct memory_rax *r, int depth, unsigned children, int parent)
{
    rax_node(r, children, depth == 16 ? 1 : children);
    int gap = depth - (parent + 1);
    if (gap > 0)
        rax_node(r, (unsigned)gap, 1);
}

void memory_rax_add(struct memory_rax *r, const uint8_t key[16])
{
    if (r->keys++ == 0) {
        memcpy(r->last, key, 16);
        return;
    }
    int common = 0;
    while (common < 16 && r->last[common] == key[common])
        common++;
    if (common == 16) {
        r->keys--;
        return;
    }
    memcpy(r->last, key, 16);
    int depth = 16;
    unsigned children = 0;
    while (r->open > 0 && r->branch[r->open - 1].depth > common) {
        int parent = r->branch[r->open - 1].depth;
        rax_close(r, depth, children, parent);
        depth = parent;
        children = r->branch[--r->open].children;
    }
    rax_close(r, depth, children, common);
    if (r->open > 0 && r->branch[r->open - 1].depth == common) {
        r->branch[r->open - 1].children++;
    } else {
        r->branch[r->open].depth = common;
        r->branch[r->open++].children = 2;
    }
}

uint64_t memory_rax_end(struct memory_rax *r)
{
    if (r->keys > 0) {
        int depth = 16;
        unsigned children = 0;
        for (; r->open > 0; r->open--) {
            int parent = r->branch[r->open - 1].depth;
            rax_close(r, depth, children, parent);
            depth = parent;
            children = r->branch[r->open - 1].children;
        }
        rax_close(r, depth, children, -1);
    }
    if (r->keys == 0)
        rax_node(r, 0, 1);
    return r->bytes + (r->model->layout->real_trees ? RAX : r->keys * STREAM_ID);
}

void memory_begin(struct memory_meter *m, const struct memory_model *model,
                  const struct rdb_item *item, const struct rdb_type *row, int rdb_version)
{
    m->model = model;
    m->row = row;
    m->key_n = item->key.n;
    m->expires = item->expire_ms >= 0;
    m->rdb_version = rdb_version;
    m->elements = m->strings = m->blobs = m->entries = 0;
    m->list_nodes = m->packed_nodes = m->field_n = m->node_256ths = 0;
    m->field_expiries = row->tuple == 3;
    m->counted = m->pel_open = m->consumer_open = m->is_int = false;
    if (row->object == RDB_OBJ_STREAM)
        memory_rax_begin(&m->nodes, model);
}

static bool is_integer(struct slice head, uint64_t size)
{
    int64_t v;
    return size <= INT_TEXT_MAX && slice_i64(head, &v);
}

static void hash_value(struct memory_meter *m, uint64_t size)
{
    const struct memory_model *model = m->model;
    uint64_t value = size == 0 ? sds_value_size(0) : sds_size(size);
    if (!model->layout->buckets) {
        m->strings += sds(model, m->field_n) + memory_class(model, value);
        return;
    }
    uint64_t embedded = sds_size(m->field_n) + sds_value_size(size);
    m->strings += embedded <= HASH_EMBEDDED_MAX
                      ? memory_class(model, embedded)
                      : memory_class(model, 8 + sds_size(m->field_n)) + memory_class(model, value);
}

// The mean of a node with a level more at a chance of a quarter, in 256ths of a byte. One in 64 is
// higher than four levels.
static uint64_t skiplist_node(const struct memory_model *m, uint64_t head)
{
    static const unsigned chance[] = {192, 48, 12, 4};
    uint64_t mean = 0;
    for (unsigned i = 0; i < sizeof(chance) / sizeof(*chance); i++)
        mean += chance[i] * memory_class(m, head + 16 * (i + 1));
    return mean;
}

static void zset_member(struct memory_meter *m, uint64_t size)
{
    if (m->model->layout->member_inside) {
        m->node_256ths += skiplist_node(m->model, SKIPLIST_NODE_INSIDE + sds_size(size));
        return;
    }
    m->node_256ths += skiplist_node(m->model, SKIPLIST_NODE);
    m->strings += sds(m->model, size);
}

static void pel_close(struct memory_meter *m)
{
    if (m->pel_open)
        m->strings += memory_rax_end(&m->pel);
    m->pel_open = false;
}

static void consumer_close(struct memory_meter *m)
{
    if (m->consumer_open)
        m->strings += memory_rax_end(&m->consumer);
    m->consumer_open = false;
}

void memory_string(void *arg, char op, uint64_t size, struct slice head, uint64_t entries)
{
    struct memory_meter *m = arg;
    switch (op) {
    case 'S':
        m->string_n = size;
        m->is_int = is_integer(head, size);
        break;
    case 'F':
        m->field_n = size;
        if (m->row->object != RDB_OBJ_HASH)
            m->strings += sds(m->model, size);
        m->strings +=
            m->row->type >= FIRST_EXPIRY_TYPE && m->row->dialect == RDB_REDIS ? FIELD_HEADER : 0;
        break;
    case 'V':
        if (m->row->object == RDB_OBJ_HASH)
            hash_value(m, size);
        else if (m->row->object == RDB_OBJ_ZSET)
            zset_member(m, size);
        else if (m->row->object == RDB_OBJ_LIST)
            m->strings += size + LIST_ENTRY;
        else
            m->strings += sds(m->model, size);
        break;
    case 'Q':
        m->list_nodes++;
        m->packed_nodes += entries > 0;
        m->entries += entries ? entries : 1;
        m->blobs += memory_class(m->model, size);
        break;
    case 'E':
    case 'p':
        m->strings += sds(m->model, size);
        break;
    case 'U': // the first entry names the template
        m->list_nodes++;
        m->entries += entries > 0 ? entries - 1 : 0;
        m->blobs += memory_class(m->model, size);
        break;
    case 'B':
        m->list_nodes++;
        m->packed_nodes++;
        m->entries += entries;
        m->blobs += memory_class(m->model, size);
        break;
    case 'N':
        if (head.n >= 16)
            memory_rax_add(&m->nodes, (const uint8_t *)head.p);
        break;
    case 'P':
        m->blobs += memory_class(m->model, size);
        break;
    case 'G':
        consumer_close(m);
        pel_close(m);
        m->strings += STREAM_GROUP;
        memory_rax_begin(&m->pel, m->model);
        m->pel_open = true;
        break;
    case 'C':
        pel_close(m);
        consumer_close(m);
        m->strings += size + (m->rdb_version >= 11 ? STREAM_CONSUMER_ACTIVE : STREAM_CONSUMER);
        memory_rax_begin(&m->consumer, m->model);
        m->consumer_open = true;
        break;
    default:
        break;
    }
}

void memory_number(void *arg, char op, uint64_t v)
{
    struct memory_meter *m = arg;
    // The first count is that of the elements, but a stream's loop runs over its nodes.
    bool counts =
        m->row->object == RDB_OBJ_STREAM ? op == 'x' : op == '(' || op == '[' || op == '{';
    if (counts && !m->counted) {
        m->elements = v;
        m->counted = true;
    }
    if ((op == 'T' || op == 't') && v > 0) {
        m->strings += FIELD_EXPIRY;
        m->field_expiries = true;
    }
}

void memory_stream_id(void *arg, char op, const uint8_t id[16])
{
    struct memory_meter *m = arg;
    if (op == 'Y' && m->pel_open) {
        memory_rax_add(&m->pel, id);
        m->strings += m->model->layout->pending;
    } else if (op == 'J' && m->consumer_open) {
        memory_rax_add(&m->consumer, id);
    }
}

// The key with its place in the db and the object's own allocation.
static uint64_t key_and_object(const struct memory_meter *m)
{
    if (!m->model->layout->key_inside)
        return sds(m->model, m->key_n) + DICT_ENTRY + ROBJ;
    return memory_class(m->model, ROBJ + (m->expires ? 8u : 0) + 1 + sds_size(m->key_n));
}

static uint64_t string_size(const struct memory_meter *m, enum memory_encoding *encoding)
{
    const struct memory_model *model = m->model;
    uint64_t n = m->string_n;
    *encoding = MEMORY_INT;
    if (m->is_int)
        return key_and_object(m);
    *encoding = MEMORY_EMBSTR;
    if (!model->layout->key_inside && n <= EMBSTR_MAX)
        return key_and_object(m) - ROBJ + memory_class(model, ROBJ + 3 + n + 1);
    uint64_t whole =
        ROBJ + (m->expires ? 8u : 0) + 1 + sds_size(m->key_n) + 3 + n + 1 - model->layout->pointer;
    if (whole <= model->layout->embedded)
        return memory_class(model, whole);
    *encoding = MEMORY_RAW;
    return key_and_object(m) + memory_class(model, sds_value_size(n));
}

// A table with its entries, but without what they point to.
static uint64_t table_size(const struct memory_meter *m)
{
    const struct memory_model *model = m->model;
    uint64_t n = m->elements, table = memory_table(model, n);
    if (model->layout->buckets)
        return HASHTABLE + table;
    if (model->layout->lean_sets && m->row->object == RDB_OBJ_SET) {
        // The first member of a bucket has no entry.
        double buckets = (double)table / 8;
        double first = buckets * -expm1(-(double)n / buckets);
        return DICT + table + (uint64_t)(((double)n - first) * DICT_ENTRY_NO_VALUE);
    }
    return DICT + table + n * DICT_ENTRY;
}

static uint64_t collection_size(struct memory_meter *m, enum memory_encoding *encoding)
{
    const struct memory_model *model = m->model;
    if (m->row->object == RDB_OBJ_LIST) {
        // Type 1 is a list without nodes; servers put its elements into listpacks.
        uint64_t nodes = m->list_nodes ? m->list_nodes : 1;
        *encoding = MEMORY_LISTPACK;
        if (m->rdb_version >= 11 && m->packed_nodes == 1 && nodes == 1 &&
            m->blobs <= LIST_PACKED_MAX)
            return m->blobs;
        *encoding = MEMORY_QUICKLIST;
        return QUICKLIST + nodes * QUICKLIST_NODE + m->blobs + m->strings;
    }
    if (m->list_nodes > 0) {
        *encoding = m->row->packed == PACKED_INTSET ? MEMORY_INTSET : MEMORY_LISTPACK;
        return m->blobs + (m->row->tuple == 3 ? LISTPACK_EX : 0);
    }
    if (m->row->object == RDB_OBJ_ARRAY) {
        *encoding = MEMORY_ARRAY;
        return m->elements * ARRAY_ELEMENT + m->strings;
    }
    if (m->row->object != RDB_OBJ_ZSET) {
        *encoding = MEMORY_HASHTABLE;
        return table_size(m) + m->strings;
    }
    *encoding = MEMORY_SKIPLIST;
    return ZSET + ZSKIPLIST + memory_class(model, ZSKIPLIST_HEADER) + table_size(m) + m->strings +
           m->node_256ths / 256;
}

struct memory_result memory_end(struct memory_meter *m, uint64_t serialized)
{
    struct memory_result r = {.elements = 1, .encoding = MEMORY_MODULE};
    if (m->list_nodes > 0)
        m->elements = m->entries / (m->row->tuple ? m->row->tuple : 1);
    switch (m->row->object) {
    case RDB_OBJ_STRING:
        r.bytes = string_size(m, &r.encoding);
        return r;
    case RDB_OBJ_MODULE:
        r.bytes = key_and_object(m) + serialized;
        return r;
    case RDB_OBJ_STREAM:
        pel_close(m);
        consumer_close(m);
        r.encoding = MEMORY_STREAM;
        // The length stands apart from the entries; a damaged file may claim any, but each
        // entry has a byte at least.
        if (m->elements > m->blobs)
            m->elements = m->blobs;
        r.bytes = STREAM + memory_rax_end(&m->nodes) + m->blobs + m->strings;
        break;
    default:
        r.bytes = collection_size(m, &r.encoding);
        break;
    }
    r.bytes += key_and_object(m);
    r.elements = m->elements;
    return r;
}
