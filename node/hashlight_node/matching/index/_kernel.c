/* Exact search for PDQ hashes within a Hamming distance: the quick kernel.
 *
 * The algorithm and the arrays are described in layout.py; numpy_kernel.py does the
 * same, slower, where this file could not be compiled. Only the stable ABI is used,
 * so one build serves every Python from 3.11 on, and no instruction beyond what the
 * compiler's target offers: the loops are plain, and compilers vectorise them.
 *
 * Whatever the arrays hold, no access leaves them: offsets, postings and links are
 * compared with the sizes checked in `View`.
 *
 * The interpreter's lock is kept for what takes microseconds and released for
 * batches, scans and queries in crowded places. Rows are appended and marked dead by
 * one writer at the same time: what a search finds is compared with the row's id
 * again, with the lock held, before its bytes are given away.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BANDS 16
#define KEYS 65536
#define OFFSETS (KEYS + 1)
#define DIGEST 32
#define RECORD 64            /* a delta's row: digest, then 16 links of 16 bits */
#define MAX_INDEXED 31       /* beyond this distance the tables promise nothing */
#define STEP 32              /* postings filtered at a time */
#define PADDING STEP         /* entries behind the last posting, for whole steps */
#define AHEAD 4
#define GROUP 64             /* runs filtered at a time: near values of four bands */
#define DEAD UINT32_MAX
#define WAITING 256          /* postings collected before their rows are read */
#define SLICE 64             /* queries of a batch between two results */
#define UNLOCK_ROWS 4096     /* rows compared until a query counts as long */
#define UNLOCK_POSTINGS 262144
#define SMALL_DELTA 384      /* rows that are compared sooner than looked up */

#define FETCH(address) __builtin_prefetch((address), 0, 3)
#define INLINE static inline __attribute__((always_inline))

typedef struct {
    const uint8_t *rows;      /* n x 32, ascending */
    const uint32_t *ids;      /* n, DEAD where removed */
    const uint32_t *offsets;  /* 16 x 65537: where the postings of a key begin */
    const uint16_t *next;     /* 16 x n + padding: the next band of each posting */
    const uint32_t *postings; /* 15 x n: its row; band 0's are the rows in order */
    uint32_t n;
} Segment;

typedef struct {
    const uint8_t *records;        /* capacity x 64 */
    const uint32_t *ids;           /* capacity, DEAD where removed */
    const _Atomic uint16_t *heads; /* 16 x 65536: 1 + newest row with a key, or 0 */
    const _Atomic uint32_t *count; /* rows that are filled */
    uint32_t capacity;
} Delta;

typedef struct {
    PyObject_HEAD
    PyTypeObject *hit; /* a subclass of tuple */
    Py_ssize_t segment_count, delta_count, buffer_count;
    Segment *segments;
    Delta *deltas;
    Py_buffer *buffers;
} View;

typedef struct {
    uint64_t key; /* distance, then signal id: the order of an answer */
    uint32_t part, row;
} Hit;

typedef struct {
    const uint8_t *query;
    Hit *hits;
    size_t count, capacity, limit;
    unsigned radius; /* nothing beyond it can be in the answer any more */
    int truncated, exhausted, may_unlock;
    size_t rows, posted; /* work done: rows compared, postings filtered */
    PyThreadState *unlocked;
    uint16_t keys[BANDS];
    uint8_t limits[2][BANDS]; /* how far the next band could be when a band was read */
} Search;

/* ---- distances ---- */

static inline uint64_t lane(const uint8_t *bytes, int i)
{
    uint64_t value;
    memcpy(&value, bytes + 8 * i, 8);
    return value;
}

static inline unsigned near_half(const uint8_t *a, const uint8_t *b)
{
    return (unsigned)(__builtin_popcountll(lane(a, 0) ^ lane(b, 0)) +
                      __builtin_popcountll(lane(a, 1) ^ lane(b, 1)));
}

static inline unsigned far_half(const uint8_t *a, const uint8_t *b)
{
    return (unsigned)(__builtin_popcountll(lane(a, 2) ^ lane(b, 2)) +
                      __builtin_popcountll(lane(a, 3) ^ lane(b, 3)));
}

static inline uint16_t key_of(const uint8_t *digest, int band)
{
    return (uint16_t)(digest[2 * band] << 8 | digest[2 * band + 1]);
}

static inline unsigned band_distance(const uint8_t *a, const uint8_t *b, int band)
{
    return (unsigned)__builtin_popcount(
        (unsigned)(key_of(a, band) ^ key_of(b, band)));
}

/* ---- hits: the nearest `limit`, as far as they are known ---- */

/* Sort by key: a few by insertion, many by radix, so that no order of them is slow. */
static int sort_hits(Hit *hits, size_t count)
{
    if (count <= 24) {
        for (size_t i = 1; i < count; i++) {
            Hit moved = hits[i];
            size_t at = i;
            for (; at && hits[at - 1].key > moved.key; at--) hits[at] = hits[at - 1];
            hits[at] = moved;
        }
        return 1;
    }
    Hit *other = malloc(count * sizeof(Hit)), *from = hits, *to = other;
    if (other == NULL) return 0;
    for (int shift = 0; shift < 48; shift += 8) {
        size_t ends[257] = {0};
        for (size_t i = 0; i < count; i++) ends[(from[i].key >> shift & 255) + 1]++;
        if (ends[(from[0].key >> shift & 255) + 1] == count) continue;
        for (int byte = 0; byte < 256; byte++) ends[byte + 1] += ends[byte];
        for (size_t i = 0; i < count; i++) to[ends[from[i].key >> shift & 255]++] = from[i];
        Hit *swapped = from;
        from = to;
        to = swapped;
    }
    if (from != hits) memcpy(hits, from, count * sizeof(Hit));
    free(other);
    return 1;
}

/* Forget all but the nearest, and look no farther from now on. */
static void keep_nearest(Search *s)
{
    if (!sort_hits(s->hits, s->count)) s->exhausted = 1;
    if (s->count <= s->limit) return;
    s->count = s->limit;
    s->truncated = 1;
    s->radius = (unsigned)(s->hits[s->count - 1].key >> 32);
}

static void push(Search *s, unsigned distance, uint32_t id, uint32_t part, uint32_t row)
{
    if (s->count == s->capacity) {
        if (s->capacity >= 2 * s->limit) {
            keep_nearest(s);
            if (distance > s->radius) return;
        } else {
            size_t capacity = s->capacity ? 2 * s->capacity : 16;
            if (capacity > 2 * s->limit) capacity = 2 * s->limit;
            Hit *hits = realloc(s->hits, capacity * sizeof(Hit));
            if (hits == NULL) {
                s->exhausted = 1;
                return;
            }
            s->hits = hits;
            s->capacity = capacity;
        }
    }
    s->hits[s->count++] = (Hit){(uint64_t)distance << 32 | id, part, row};
}

/* ---- work ---- */

static inline void unlock_if_long(Search *s)
{
    if (s->may_unlock && s->unlocked == NULL &&
        (s->rows > UNLOCK_ROWS || s->posted > UNLOCK_POSTINGS))
        s->unlocked = PyEval_SaveThread();
}

/* Whether an earlier band of this part has brought up the row already. */
static int seen_before(const Search *s, const uint8_t *row, int pass, int band)
{
    int end = pass ? BANDS : band;
    unsigned first = band_distance(s->query, row, 0), here = first;
    for (int i = 0; i < end; i++) {
        unsigned after =
            i + 1 < BANDS ? band_distance(s->query, row, i + 1) : first;
        if (here == 0 && after <= s->limits[0][i]) return 1;
        if (pass && i < band && here == 1 && after <= s->limits[1][i]) return 1;
        here = after;
    }
    return 0;
}

static void compare_all(Search *s, const uint8_t *rows, size_t stride,
                        const uint32_t *ids, uint32_t n, uint32_t part)
{
    const uint8_t *query = s->query;
    s->rows += n;
    unlock_if_long(s);
    for (uint32_t row = 0; row < n; row++) {
        const uint8_t *digest = rows + stride * row;
        unsigned distance = near_half(query, digest);
        if (distance > s->radius) continue;
        distance += far_half(query, digest);
        if (distance <= s->radius && ids[row] != DEAD)
            push(s, distance, ids[row], part, row);
    }
}

static void forget(Search *s, uint32_t part)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++)
        if (s->hits[i].part != part) s->hits[kept++] = s->hits[i];
    s->count = kept;
}

/* ---- a segment ---- */

typedef struct {
    uint32_t at[WAITING];
    uint8_t band[WAITING];
    unsigned count;
    size_t compared, enough; /* then comparing all rows is cheaper than going on */
} Waiting;

static void compare_waiting(Search *s, const Segment *segment, Waiting *waiting,
                            int pass, uint32_t part)
{
    uint32_t rows[WAITING];
    for (unsigned i = 0; i < waiting->count; i++) {
        uint32_t at = waiting->at[i];
        int band = waiting->band[i];
        uint32_t row = band ? segment->postings[(size_t)segment->n * (band - 1) + at]
                            : at;
        rows[i] = row < segment->n ? row : 0;
        FETCH(segment->rows + (size_t)DIGEST * rows[i]);
    }
    for (unsigned i = 0; i < waiting->count; i++) {
        const uint8_t *digest = segment->rows + (size_t)DIGEST * rows[i];
        unsigned distance = near_half(s->query, digest) + far_half(s->query, digest);
        if (distance <= s->radius && segment->ids[rows[i]] != DEAD &&
            !seen_before(s, digest, pass, waiting->band[i]))
            push(s, distance, segment->ids[rows[i]], part, rows[i]);
    }
    s->rows += waiting->count;
    waiting->compared += waiting->count;
    waiting->count = 0;
}

typedef uint16_t Lanes __attribute__((vector_size(16)));

typedef struct {
    uint32_t start, end;
    uint16_t wanted; /* the query's value in the band after `band` */
    uint8_t band;
} Run;

/* Whether one of so many next bands may be near enough: clearing the lowest bit that
 * is set `far` times leaves nothing. May be of what lies behind the run, too. */
INLINE uint64_t any_near(const uint16_t *next, uint16_t wanted, const int far)
{
    Lanes some[STEP / 8], near = {0};
    uint64_t halves[2];
    memcpy(some, next, sizeof some);
    for (int i = 0; i < STEP / 8; i++) {
        some[i] ^= wanted;
        for (int k = 0; k < far; k++) some[i] &= some[i] - 1;
        near |= (Lanes)(some[i] == 0);
    }
    memcpy(halves, &near, sizeof halves);
    return halves[0] | halves[1];
}

/* Collect what is near enough of a run. */
INLINE void read_run(Search *s, const Segment *segment, const Run *run,
                     Waiting *waiting, int pass, uint32_t part, const int far)
{
    const uint16_t *next = segment->next + (size_t)segment->n * run->band;
    for (uint32_t at = run->start; at < run->end; at += STEP) {
        if (!any_near(next + at, run->wanted, far)) continue;
        uint32_t end = run->end - at < STEP ? run->end : at + STEP;
        for (uint32_t i = at; i < end; i++) {
            uint16_t left = next[i] ^ run->wanted;
            for (int k = 0; k < far; k++) left &= (uint16_t)(left - 1);
            if (left) continue;
            if (waiting->count == WAITING) {
                compare_waiting(s, segment, waiting, pass, part);
                if (waiting->compared > waiting->enough) return;
            }
            waiting->at[waiting->count] = i;
            waiting->band[waiting->count++] = run->band;
            if (run->band)
                FETCH(segment->postings + (size_t)segment->n * (run->band - 1) + i);
        }
    }
}

/* Fetch what `find_run` has not; beyond it the processor sees a straight line. */
INLINE void fetch_rest(const Segment *segment, const Run *run)
{
    const uint16_t *next = segment->next + (size_t)segment->n * run->band;
    uint32_t end = run->end - run->start > 320 ? run->start + 320 : run->end;
    for (uint32_t at = run->start + 64; at < end + 31; at += 32) FETCH(next + at);
}

/* Most runs are short and hold nothing: sort these out without a branch, so that the
 * processor waits for many cache lines at once, and never guesses wrong. */
INLINE void read_runs(Search *s, const Segment *segment, const Run *runs, int count,
                      Waiting *waiting, int pass, uint32_t part, const int far)
{
    uint16_t worth[GROUP];
    int kept = 0;
    for (int k = 0; k < count; k++) {
        const uint16_t *next = segment->next + (size_t)segment->n * runs[k].band;
        uint32_t size = runs[k].end - runs[k].start;
        uint64_t any = any_near(next + runs[k].start, runs[k].wanted, far);
        worth[kept] = (uint16_t)k;
        kept += (size > STEP) | (any != 0);
        s->posted += size;
    }
    for (int k = 0; k < kept; k++) {
        if (k + AHEAD < kept) fetch_rest(segment, &runs[worth[k + AHEAD]]);
        read_run(s, segment, &runs[worth[k]], waiting, pass, part, far);
    }
}

/* Read some bands' runs; 0 if that is no longer worth it. */
static int read_group(Search *s, const Segment *segment, const Run *runs, int count,
                      Waiting *waiting, int pass, uint32_t part)
{
    int far = (int)(s->radius / 8) - pass;
    for (int k = 0; k < count; k++) s->limits[pass][runs[k].band] = (uint8_t)far;
    switch (far) {
    case 0: read_runs(s, segment, runs, count, waiting, pass, part, 0); break;
    case 1: read_runs(s, segment, runs, count, waiting, pass, part, 1); break;
    case 2: read_runs(s, segment, runs, count, waiting, pass, part, 2); break;
    default: read_runs(s, segment, runs, count, waiting, pass, part, 3); break;
    }
    if (waiting->count > WAITING / 4) compare_waiting(s, segment, waiting, pass, part);
    unlock_if_long(s);
    return waiting->compared <= waiting->enough;
}

static void find_run(Run *run, const Search *s, const Segment *segment, int band,
                     unsigned key)
{
    const uint32_t *offsets = segment->offsets + (size_t)OFFSETS * band + key;
    uint32_t end = offsets[1] <= segment->n ? offsets[1] : segment->n;
    run->start = offsets[0] <= end ? offsets[0] : end;
    run->end = end;
    run->band = (uint8_t)band;
    run->wanted = s->keys[(band + 1) % BANDS];
    const uint16_t *next = segment->next + (size_t)segment->n * band;
    FETCH(next + run->start);
    FETCH(next + run->start + 31);
}

/* The places of a query's 272 values; those of the four low bits share a line. */
static void fetch_offsets(const Segment *segment, const uint8_t *query)
{
    for (int band = 0; band < BANDS; band++) {
        const uint32_t *offsets = segment->offsets + (size_t)OFFSETS * band;
        unsigned key = key_of(query, band);
        FETCH(offsets + key);
        for (int bit = 4; bit < 16; bit++) FETCH(offsets + (key ^ 1u << bit));
    }
}

static void search_segment(Search *s, const Segment *segment, uint32_t part)
{
    Run equal[BANDS], near[BANDS * 16];
    int going = 1;
    Waiting waiting;
    waiting.count = 0;
    waiting.compared = 0;
    waiting.enough = 16384 + segment->n / 2;
    fetch_offsets(segment, s->query);
    for (int band = 0; band < BANDS; band++)
        find_run(&equal[band], s, segment, band, s->keys[band]);
    for (int band = 0; band < BANDS && s->radius >= 16; band++)
        for (int bit = 0; bit < 16; bit++)
            find_run(&near[16 * band + bit], s, segment, band,
                     s->keys[band] ^ 1u << bit);
    for (int k = 0; k < BANDS && going; k += 4)
        going = read_group(s, segment, equal + k, 4, &waiting, 0, part);
    compare_waiting(s, segment, &waiting, 0, part);
    for (int k = 0; k < 16 * BANDS && going && s->radius >= 16; k += GROUP)
        going = read_group(s, segment, near + k, GROUP, &waiting, 1, part);
    compare_waiting(s, segment, &waiting, 1, part);
    if (going) return;
    /* So many share bands with the query that comparing all is cheaper. */
    forget(s, part);
    compare_all(s, segment->rows, DIGEST, segment->ids, segment->n, part);
}

/* ---- a delta ---- */

static int follow_chain(Search *s, const Delta *delta, int pass, int band,
                        unsigned key, uint32_t part, uint32_t *left)
{
    uint32_t link = atomic_load_explicit(delta->heads + (size_t)KEYS * band + key,
                                         memory_order_acquire);
    while (link) {
        if (link > delta->capacity || (*left)-- == 0) return 0;
        const uint8_t *record = delta->records + (size_t)RECORD * (link - 1);
        unsigned distance = near_half(s->query, record) + far_half(s->query, record);
        uint32_t id = delta->ids[link - 1];
        if (distance <= s->radius && id != DEAD && !seen_before(s, record, pass, band))
            push(s, distance, id, part, link - 1);
        uint16_t after;
        memcpy(&after, record + DIGEST + 2 * band, 2);
        link = after;
    }
    return 1;
}

static void search_delta(Search *s, const Delta *delta, uint32_t part)
{
    uint32_t count = atomic_load_explicit(delta->count, memory_order_acquire);
    if (count > delta->capacity) count = delta->capacity;
    uint32_t left = count / 2;
    if (count <= SMALL_DELTA) goto all;
    memset(s->limits, BANDS, sizeof s->limits); /* chains do not filter */
    for (int band = 0; band < BANDS; band++) {
        if (!follow_chain(s, delta, 0, band, s->keys[band], part, &left)) goto crowded;
    }
    for (int band = 0; band < BANDS && s->radius >= 16; band++)
        for (int bit = 0; bit < 16; bit++)
            if (!follow_chain(s, delta, 1, band, s->keys[band] ^ 1u << bit, part,
                              &left))
                goto crowded;
    s->rows += count / 2 - left;
    return;
crowded:
    forget(s, part);
all:
    compare_all(s, delta->records, RECORD, delta->ids, count, part);
}

/* ---- a query ---- */

static void run_query(Search *s, const View *view)
{
    uint32_t part = 0;
    for (int band = 0; band < BANDS; band++) s->keys[band] = key_of(s->query, band);
    for (Py_ssize_t i = 0; i < view->segment_count; i++, part++) {
        const Segment *segment = &view->segments[i];
        if (s->radius <= MAX_INDEXED) search_segment(s, segment, part);
        else compare_all(s, segment->rows, DIGEST, segment->ids, segment->n, part);
    }
    for (Py_ssize_t i = 0; i < view->delta_count; i++, part++) {
        const Delta *delta = &view->deltas[i];
        uint32_t count = atomic_load_explicit(delta->count, memory_order_acquire);
        if (s->radius <= MAX_INDEXED) search_delta(s, delta, part);
        else
            compare_all(s, delta->records, RECORD, delta->ids,
                        count < delta->capacity ? count : delta->capacity, part);
    }
    keep_nearest(s);
}

/* Make a named tuple the way its own class does, which is most of a large answer. */
static PyObject *new_hit(PyTypeObject *type, unsigned distance, uint32_t id,
                         const uint8_t *digest)
{
    PyObject *fields[3] = {
        PyLong_FromUnsignedLong(distance), PyLong_FromUnsignedLong(id),
        PyBytes_FromStringAndSize((const char *)digest, DIGEST)};
    PyObject *hit = NULL;
    if (fields[0] && fields[1] && fields[2])
        hit = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 3);
    for (int i = 0; i < 3; i++)
        if (hit != NULL) PyTuple_SetItem(hit, i, fields[i]);
        else Py_XDECREF(fields[i]);
    return hit;
}

/* With the lock held: what is still live becomes ([Hit], truncated). */
static PyObject *give_hits(const Search *s, const View *view)
{
    if (s->exhausted) return PyErr_NoMemory();
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found != NULL && i < s->count; i++) {
        const Hit *hit = &s->hits[i];
        uint32_t id = (uint32_t)hit->key;
        const uint8_t *digest;
        if (hit->part < view->segment_count) {
            const Segment *segment = &view->segments[hit->part];
            if (segment->ids[hit->row] != id) continue;
            digest = segment->rows + (size_t)DIGEST * hit->row;
        } else {
            const Delta *delta = &view->deltas[hit->part - view->segment_count];
            if (delta->ids[hit->row] != id) continue;
            digest = delta->records + (size_t)RECORD * hit->row;
        }
        PyObject *item = new_hit(view->hit, (unsigned)(hit->key >> 32), id, digest);
        if (item == NULL || PyList_Append(found, item) < 0) Py_CLEAR(found);
        Py_XDECREF(item);
    }
    if (found == NULL) return NULL;
    return Py_BuildValue("(NO)", found, s->truncated ? Py_True : Py_False);
}

static int parse_query(PyObject *args, Py_buffer *queries, int *distance,
                       Py_ssize_t *limit)
{
    if (!PyArg_ParseTuple(args, "y*in", queries, distance, limit)) return 0;
    if (queries->len % DIGEST != 0)
        PyErr_SetString(PyExc_ValueError, "a query is 32 bytes");
    else if (*distance < 0 || *distance > 8 * DIGEST)
        PyErr_SetString(PyExc_ValueError, "a distance is 0 to 256 bits");
    else if (*limit < 1)
        PyErr_SetString(PyExc_ValueError, "a limit is at least 1");
    else {
        if (*limit > UINT32_MAX) *limit = UINT32_MAX;
        return 1;
    }
    PyBuffer_Release(queries);
    return 0;
}

static PyObject *view_search(PyObject *self, PyObject *args)
{
    Py_buffer query;
    int distance;
    Py_ssize_t limit;
    PyObject *result = NULL;
    if (!parse_query(args, &query, &distance, &limit)) return NULL;
    if (query.len != DIGEST) {
        PyErr_SetString(PyExc_ValueError, "a query is 32 bytes");
    } else {
        Search s = {.query = query.buf, .limit = (size_t)limit,
                    .radius = (unsigned)distance, .may_unlock = 1};
        run_query(&s, (View *)self);
        if (s.unlocked != NULL) PyEval_RestoreThread(s.unlocked);
        result = give_hits(&s, (View *)self);
        free(s.hits);
    }
    PyBuffer_Release(&query);
    return result;
}

static PyObject *view_search_many(PyObject *self, PyObject *args)
{
    Py_buffer queries;
    int distance;
    Py_ssize_t limit;
    Search slice[SLICE];
    const View *view = (View *)self;
    if (!parse_query(args, &queries, &distance, &limit)) return NULL;
    Py_ssize_t count = queries.len / DIGEST;
    PyObject *results = PyList_New(count);
    for (Py_ssize_t done = 0; results != NULL && done < count; done += SLICE) {
        Py_ssize_t some = count - done < SLICE ? count - done : SLICE;
        PyThreadState *unlocked = PyEval_SaveThread();
        for (Py_ssize_t i = 0; i < some; i++) {
            slice[i] = (Search){.query = (uint8_t *)queries.buf + DIGEST * (done + i),
                                .limit = (size_t)limit, .radius = (unsigned)distance};
            run_query(&slice[i], view);
        }
        PyEval_RestoreThread(unlocked);
        for (Py_ssize_t i = 0; i < some; i++) {
            PyObject *found =
                results == NULL ? NULL : give_hits(&slice[i], view);
            free(slice[i].hits);
            if (found == NULL) Py_CLEAR(results);
            else PyList_SetItem(results, done + i, found);
        }
    }
    PyBuffer_Release(&queries);
    return results;
}

/* ---- what a view is made of ---- */

/* Borrow an array; `length` < 0 allows any. The view releases it. */
static const void *borrow(View *view, PyObject *array, const char *format,
                          Py_ssize_t length, Py_ssize_t *found)
{
    Py_buffer *buffer = &view->buffers[view->buffer_count];
    if (PyObject_GetBuffer(array, buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return NULL;
    view->buffer_count++;
    Py_ssize_t count = buffer->itemsize ? buffer->len / buffer->itemsize : 0;
    if (buffer->format == NULL || strcmp(buffer->format, format) != 0 ||
        (length >= 0 && count != length)) {
        PyErr_Format(PyExc_ValueError, "an array is not %zd items of format %s",
                     length, format);
        return NULL;
    }
    if (found != NULL) *found = count;
    return buffer->buf;
}

static int is_tuple(PyObject *arrays)
{
    if (PyTuple_Check(arrays)) return 1;
    PyErr_SetString(PyExc_TypeError, "the arrays of a part are a tuple");
    return 0;
}

static int borrow_segment(View *view, PyObject *arrays)
{
    PyObject *rows, *ids, *offsets, *next, *postings;
    Py_ssize_t n;
    Segment *it = &view->segments[view->segment_count];
    if (!is_tuple(arrays) ||
        !PyArg_ParseTuple(arrays, "OOOOO", &rows, &ids, &offsets, &next, &postings))
        return 0;
    if ((it->ids = borrow(view, ids, "I", -1, &n)) == NULL) return 0;
    if (n >= UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "a segment has too many rows");
        return 0;
    }
    it->n = (uint32_t)n;
    view->segment_count++;
    return (it->rows = borrow(view, rows, "B", n * DIGEST, NULL)) != NULL &&
           (it->offsets = borrow(view, offsets, "I", BANDS * OFFSETS, NULL)) != NULL &&
           (it->next = borrow(view, next, "H", n * BANDS + PADDING, NULL)) != NULL &&
           (it->postings = borrow(view, postings, "I", n * (BANDS - 1), NULL)) != NULL;
}

static int borrow_delta(View *view, PyObject *arrays)
{
    PyObject *records, *ids, *heads, *count;
    Py_ssize_t capacity;
    Delta *it = &view->deltas[view->delta_count];
    if (!is_tuple(arrays) ||
        !PyArg_ParseTuple(arrays, "OOOO", &records, &ids, &heads, &count))
        return 0;
    if ((it->ids = borrow(view, ids, "I", -1, &capacity)) == NULL) return 0;
    if (capacity > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "a delta has too many rows");
        return 0;
    }
    it->capacity = (uint32_t)capacity;
    view->delta_count++;
    return (it->records = borrow(view, records, "B", capacity * RECORD, NULL)) &&
           (it->heads = borrow(view, heads, "H", BANDS * KEYS, NULL)) &&
           (it->count = borrow(view, count, "I", 1, NULL));
}

static int borrow_parts(View *view, PyObject *segments, PyObject *deltas)
{
    Py_ssize_t segment_count = PyTuple_Size(segments);
    Py_ssize_t delta_count = PyTuple_Size(deltas);
    view->segments = calloc((size_t)segment_count + 1, sizeof(Segment));
    view->deltas = calloc((size_t)delta_count + 1, sizeof(Delta));
    view->buffers =
        calloc((size_t)(5 * segment_count + 4 * delta_count) + 1, sizeof(Py_buffer));
    if (!view->segments || !view->deltas || !view->buffers) {
        PyErr_NoMemory();
        return 0;
    }
    for (Py_ssize_t i = 0; i < segment_count; i++)
        if (!borrow_segment(view, PyTuple_GetItem(segments, i))) return 0;
    for (Py_ssize_t i = 0; i < delta_count; i++)
        if (!borrow_delta(view, PyTuple_GetItem(deltas, i))) return 0;
    return 1;
}

static PyObject *view_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    PyObject *segments, *deltas, *hit;
    if (names != NULL && PyDict_Size(names)) {
        PyErr_SetString(PyExc_TypeError, "View takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!O!O!", &PyTuple_Type, &segments, &PyTuple_Type,
                          &deltas, &PyType_Type, &hit))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)hit, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "hits are tuples");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    View *view = (View *)allocate(type, 0);
    if (view != NULL) view->hit = (PyTypeObject *)Py_NewRef(hit);
    if (view != NULL && !borrow_parts(view, segments, deltas)) Py_CLEAR(view);
    return (PyObject *)view;
}

static void view_dealloc(PyObject *self)
{
    View *view = (View *)self;
    PyTypeObject *type = Py_TYPE(self);
    for (Py_ssize_t i = 0; i < view->buffer_count; i++)
        PyBuffer_Release(&view->buffers[i]);
    Py_XDECREF((PyObject *)view->hit);
    free(view->segments);
    free(view->deltas);
    free(view->buffers);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* ---- building and changing ---- */

/* Borrow arrays of these formats; those in lower case are only read. */
static int borrow_all(PyObject **arrays, Py_buffer *buffers, const char *formats)
{
    for (int i = 0; formats[i]; i++) {
        int is_read = formats[i] >= 'a';
        const char format[2] = {(char)(is_read ? formats[i] - 32 : formats[i]), 0};
        int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (is_read ? 0 : PyBUF_WRITABLE);
        if (PyObject_GetBuffer(arrays[i], &buffers[i], flags) == 0) {
            if (buffers[i].format != NULL && strcmp(buffers[i].format, format) == 0)
                continue;
            PyErr_Format(PyExc_ValueError, "an array is not of format %s", format);
            PyBuffer_Release(&buffers[i]);
        }
        while (i--) PyBuffer_Release(&buffers[i]);
        return 0;
    }
    return 1;
}

static PyObject *release_all(Py_buffer *buffers, int count, PyObject *result)
{
    while (count--) PyBuffer_Release(&buffers[count]);
    return result;
}

typedef struct {
    uint64_t begins; /* bytes 2 to 9, as a number: those before are equal */
    const uint8_t *digest;
    uint32_t id;
} Sorted;

static int by_digest(const void *a, const void *b)
{
    const Sorted *x = a, *y = b;
    if (x->begins != y->begins) return x->begins < y->begins ? -1 : 1;
    int order = memcmp(x->digest + 10, y->digest + 10, DIGEST - 10);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

static uint64_t ten_bytes(const uint8_t *digest)
{
    uint64_t value = 0;
    for (int i = 2; i < 10; i++) value = value << 8 | digest[i];
    return value;
}

/* Sort by digest, then id; what is there twice is kept once. By the first band as a
 * counting sort, so that everything after it happens within the cache. */
static int sort_rows(const uint8_t *from, const uint32_t *ids, uint32_t n,
                     uint8_t *to, uint32_t *to_ids, uint32_t *kept)
{
    uint32_t *offsets = calloc(OFFSETS + 1, sizeof *offsets), largest = 0, out = 0;
    if (offsets == NULL) return 0;
    for (uint32_t i = 0; i < n; i++)
        offsets[key_of(from + (size_t)DIGEST * i, 0) + 2]++;
    for (int key = 0; key < KEYS; key++) {
        if (offsets[key + 2] > largest) largest = offsets[key + 2];
        offsets[key + 2] += offsets[key + 1];
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *digest = from + (size_t)DIGEST * i;
        uint32_t at = offsets[key_of(digest, 0) + 1]++;
        memcpy(to + (size_t)DIGEST * at, digest, DIGEST);
        to_ids[at] = ids[i];
    }
    Sorted *sorted = malloc(((size_t)largest + 1) * sizeof *sorted);
    uint8_t *copy = malloc(((size_t)largest + 1) * DIGEST);
    for (int key = 0; sorted && copy && key < KEYS; key++) {
        uint32_t start = offsets[key], count = offsets[key + 1] - start;
        memcpy(copy, to + (size_t)DIGEST * start, (size_t)DIGEST * count);
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t *digest = copy + (size_t)DIGEST * i;
            sorted[i] = (Sorted){ten_bytes(digest), digest, to_ids[start + i]};
        }
        if (count > 1) qsort(sorted, count, sizeof *sorted, by_digest);
        for (uint32_t i = 0; i < count; i++) {
            if (i && by_digest(&sorted[i - 1], &sorted[i]) == 0) continue;
            memcpy(to + (size_t)DIGEST * out, sorted[i].digest, DIGEST);
            to_ids[out++] = sorted[i].id;
        }
    }
    int done = sorted && copy;
    free(offsets);
    free(sorted);
    free(copy);
    *kept = out;
    return done;
}

static PyObject *kernel_sort(PyObject *module, PyObject *args)
{
    PyObject *arrays[4];
    Py_buffer b[4];
    uint32_t kept = 0;
    int done;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO", &arrays[0], &arrays[1], &arrays[2],
                          &arrays[3]) ||
        !borrow_all(arrays, b, "biBI"))
        return NULL;
    Py_ssize_t n = b[1].len / 4;
    if (b[0].len != n * DIGEST || b[2].len != n * DIGEST || b[3].len != n * 4 ||
        n >= UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "the arrays' sizes do not fit");
        return release_all(b, 4, NULL);
    }
    Py_BEGIN_ALLOW_THREADS
    done = sort_rows(b[0].buf, b[1].buf, (uint32_t)n, b[2].buf, b[3].buf, &kept);
    Py_END_ALLOW_THREADS
    return release_all(b, 4, done ? PyLong_FromUnsignedLong(kept) : PyErr_NoMemory());
}

static void build_band(const uint8_t *rows, uint32_t n, int band, uint32_t *offsets,
                       uint16_t *next, uint32_t *postings)
{
    int after = (band + 1) % BANDS;
    memset(offsets, 0, OFFSETS * sizeof *offsets);
    for (uint32_t row = 0; row < n; row++)
        offsets[key_of(rows + (size_t)DIGEST * row, band) + 1]++;
    for (int key = 0; key < KEYS; key++) offsets[key + 1] += offsets[key];
    for (uint32_t row = 0; row < n; row++) {
        const uint8_t *digest = rows + (size_t)DIGEST * row;
        uint32_t at = offsets[key_of(digest, band)]++;
        next[at] = key_of(digest, after);
        if (band) postings[at] = row;
    }
    /* Filling moved every offset to where its key ends, the next one's place. */
    memmove(offsets + 1, offsets, KEYS * sizeof *offsets);
    offsets[0] = 0;
}

static PyObject *kernel_build(PyObject *module, PyObject *args)
{
    PyObject *arrays[4];
    Py_buffer b[4];
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO", &arrays[0], &arrays[1], &arrays[2],
                          &arrays[3]) ||
        !borrow_all(arrays, b, "bIHI"))
        return NULL;
    Py_ssize_t n = b[0].len / DIGEST;
    if (b[0].len != n * DIGEST || n >= UINT32_MAX || b[1].len != BANDS * OFFSETS * 4 ||
        b[2].len != (BANDS * n + PADDING) * 2 || b[3].len != (BANDS - 1) * n * 4) {
        PyErr_SetString(PyExc_ValueError, "the arrays' sizes do not fit");
        return release_all(b, 4, NULL);
    }
    Py_BEGIN_ALLOW_THREADS
    for (int band = 0; band < BANDS; band++)
        build_band(b[0].buf, (uint32_t)n, band, (uint32_t *)b[1].buf + OFFSETS * band,
                   (uint16_t *)b[2].buf + n * band,
                   band ? (uint32_t *)b[3].buf + n * (band - 1) : NULL);
    memset((uint16_t *)b[2].buf + BANDS * n, 0, PADDING * sizeof(uint16_t));
    Py_END_ALLOW_THREADS
    Py_INCREF(Py_None);
    return release_all(b, 4, Py_None);
}

static PyObject *kernel_insert(PyObject *module, PyObject *args)
{
    PyObject *arrays[4];
    Py_buffer b[4];
    unsigned int id;
    const uint8_t *digest;
    Py_ssize_t length;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOIy#", &arrays[0], &arrays[1], &arrays[2],
                          &arrays[3], &id, &digest, &length) ||
        !borrow_all(arrays, b, "BIHI"))
        return NULL;
    Py_ssize_t capacity = b[1].len / 4;
    uint32_t row = b[3].len == 4 ? *(uint32_t *)b[3].buf : UINT32_MAX;
    if (length != DIGEST || b[0].len != capacity * RECORD || capacity > UINT16_MAX ||
        b[2].len != BANDS * KEYS * 2 || row >= capacity) {
        PyErr_SetString(PyExc_ValueError, "the arrays' sizes do not fit");
        return release_all(b, 4, NULL);
    }
    uint8_t *record = (uint8_t *)b[0].buf + (size_t)RECORD * row;
    _Atomic uint16_t *heads = b[2].buf;
    memcpy(record, digest, DIGEST);
    ((uint32_t *)b[1].buf)[row] = id;
    for (int band = 0; band < BANDS; band++) {
        _Atomic uint16_t *head = heads + (size_t)KEYS * band + key_of(digest, band);
        uint16_t before = atomic_load_explicit(head, memory_order_relaxed);
        memcpy(record + DIGEST + 2 * band, &before, 2);
    }
    /* Readers that hold no lock see a row only once all of it is there. */
    for (int band = 0; band < BANDS; band++)
        atomic_store_explicit(heads + (size_t)KEYS * band + key_of(digest, band),
                              (uint16_t)(row + 1), memory_order_release);
    atomic_store_explicit((_Atomic uint32_t *)b[3].buf, row + 1, memory_order_release);
    Py_INCREF(Py_None);
    return release_all(b, 4, Py_None);
}

/* Order of a row and what is looked for. */
static int order(const uint8_t *row, uint32_t row_id, const uint8_t *digest, uint32_t id)
{
    int by_bytes = memcmp(row, digest, DIGEST);
    return by_bytes ? by_bytes : (row_id > id) - (row_id < id);
}

/* The first live row from here on, or one from `high` on. A dead row's skip leads over
 * dead rows only, to where somebody got before; each on the way is told how far it is,
 * so that rows that were removed in order are not passed over one by one every time. */
static Py_ssize_t next_live(const uint32_t *ids, uint32_t *skips, Py_ssize_t n,
                            Py_ssize_t start, Py_ssize_t high)
{
    Py_ssize_t end = start;
    while (end < high && ids[end] == DEAD) {
        end += skips != NULL && skips[end] ? skips[end] : 1;
        if (end > n) end = n;
    }
    for (Py_ssize_t at = start; skips != NULL && at < end && at < high;) {
        uint32_t skip = skips[at] ? skips[at] : 1;
        if (ids[at] == DEAD) skips[at] = (uint32_t)(end - at);
        at += skip;
    }
    return end;
}

/* Search by halves; removed rows are no longer in order and are passed over. `skips`
 * may be NULL. */
static Py_ssize_t find_row(const uint8_t *rows, const uint32_t *ids, uint32_t *skips,
                           Py_ssize_t n, const uint8_t *digest, uint32_t id)
{
    Py_ssize_t low = 0, high = n;
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        Py_ssize_t live = next_live(ids, skips, n, middle, high);
        if (live >= high) {
            high = middle;
            continue;
        }
        int compared = order(rows + DIGEST * live, ids[live], digest, id);
        if (compared == 0) return live;
        if (compared < 0) low = live + 1;
        else high = middle;
    }
    return -1;
}

static PyObject *kernel_find(PyObject *module, PyObject *args)
{
    PyObject *arrays[3];
    Py_buffer b[3];
    unsigned int id;
    const uint8_t *digest;
    Py_ssize_t length;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOIy#", &arrays[0], &arrays[1], &arrays[2], &id,
                          &digest, &length) ||
        !borrow_all(arrays, b, "biI"))
        return NULL;
    Py_ssize_t n = b[1].len / 4;
    if (length != DIGEST || b[0].len != n * DIGEST ||
        (b[2].len != 0 && b[2].len != n * 4)) {
        PyErr_SetString(PyExc_ValueError, "the arrays' sizes do not fit");
        return release_all(b, 3, NULL);
    }
    uint32_t *skips = b[2].len ? b[2].buf : NULL;
    Py_ssize_t row = find_row(b[0].buf, b[1].buf, skips, n, digest, id);
    return release_all(b, 3, PyLong_FromSsize_t(row));
}

static PyObject *kernel_mark_known(PyObject *module, PyObject *args)
{
    PyObject *arrays[6];
    Py_buffer b[6];
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOOO", &arrays[0], &arrays[1], &arrays[2],
                          &arrays[3], &arrays[4], &arrays[5]) ||
        !borrow_all(arrays, b, "biIbiB"))
        return NULL;
    Py_ssize_t n = b[1].len / 4, count = b[4].len / 4;
    if (b[0].len != n * DIGEST || (b[2].len != 0 && b[2].len != n * 4) ||
        b[3].len != count * DIGEST || b[5].len != count) {
        PyErr_SetString(PyExc_ValueError, "the arrays' sizes do not fit");
        return release_all(b, 6, NULL);
    }
    uint32_t *skips = b[2].len ? b[2].buf : NULL;
    const uint32_t *ids = b[4].buf;
    for (Py_ssize_t i = 0; i < count; i++)
        if (find_row(b[0].buf, b[1].buf, skips, n, (uint8_t *)b[3].buf + DIGEST * i,
                     ids[i]) >= 0)
            ((uint8_t *)b[5].buf)[i] = 1;
    Py_INCREF(Py_None);
    return release_all(b, 6, Py_None);
}

/* ---- the module ---- */

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST ""
#endif

static PyMethodDef view_methods[] = {
    {"search", view_search, METH_VARARGS, NULL},
    {"search_many", view_search_many, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot view_slots[] = {
    {Py_tp_new, (void *)view_new},
    {Py_tp_dealloc, (void *)view_dealloc},
    {Py_tp_methods, view_methods},
    {0, NULL},
};

static PyType_Spec view_spec = {
    .name = "hashlight_node.matching.index._kernel.View",
    .basicsize = sizeof(View),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = view_slots,
};

static PyMethodDef kernel_methods[] = {
    {"sort", kernel_sort, METH_VARARGS, NULL},
    {"build", kernel_build, METH_VARARGS, NULL},
    {"insert", kernel_insert, METH_VARARGS, NULL},
    {"find", kernel_find, METH_VARARGS, NULL},
    {"mark_known", kernel_mark_known, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int kernel_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &view_spec, NULL);
    int failed = type == NULL || PyModule_AddObjectRef(module, "View", type) < 0 ||
                 PyModule_AddStringConstant(module, "source", SOURCE_DIGEST) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot kernel_slots[] = {
    {Py_mod_exec, (void *)kernel_exec},
    {0, NULL},
};

static struct PyModuleDef kernel_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_kernel",
    .m_methods = kernel_methods,
    .m_slots = kernel_slots,
};

PyMODINIT_FUNC PyInit__kernel(void)
{
    return PyModuleDef_Init(&kernel_module);
}
