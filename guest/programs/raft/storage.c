#define _GNU_SOURCE /* O_DIRECT, pread */
#include "storage.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec.h"

enum {
    SECTOR_RECORDS = STORAGE_SECTOR_BYTES / STORAGE_RECORD_BYTES,
    WRITE_RECORDS = STORAGE_WRITE_BYTES / STORAGE_RECORD_BYTES,
    READ_RECORDS = STORAGE_READ_BYTES / STORAGE_RECORD_BYTES,
    HEAD_BYTES = STORAGE_LOG_BLOCK * STORAGE_BLOCK_BYTES,
};
_Static_assert(STORAGE_SECTOR_BYTES % STORAGE_RECORD_BYTES == 0, "a sector has whole records");
_Static_assert((int)HEAD_BYTES <= (int)STORAGE_READ_BYTES, "what is before the log is read at once");
_Static_assert(STORAGE_READ_BYTES >= 2 * STORAGE_WRITE_BYTES, "evidence lies within one write that was torn");

/* Offsets in a log record; the checksum covers everything after itself. */
enum {
    RECORD_CHECKSUM = 0,
    RECORD_PREVIOUS = 4, /* checksum of the record before */
    RECORD_EPOCH = 8,
    RECORD_INDEX = 16,
    RECORD_FLUSHED = 20, /* records that were flushed when this one was written */
    RECORD_TERM = 24,
    RECORD_OP = 28,
    RECORD_KEY = 30,
    RECORD_CLIENT = 32,
    RECORD_SEQ = 36,
    RECORD_VALUE = 40,
    RECORD_EXPECT = 48,
    RECORD_ZERO = 56,
};

/* Offsets in a metadata slot. */
enum { SLOT_MAGIC = 0, SLOT_SEQUENCE = 8, SLOT_TERM = 16, SLOT_BOOT = 20, SLOT_VOTE = 24, SLOT_CHECKSUM = 32 };
static const uint64_t slot_magic = 0x4154454d54464152u; /* "RAFTMETA" */

/* What is the same on every disk of this format. */
static const char format_mark[STORAGE_SECTOR_BYTES] = "raft log, format 1: sectors of 512 bytes, records of 64\n";

/* The newest records among those that are not part of the log. */
struct evidence {
    uint64_t epoch;
    uint32_t flushed; /* the highest index that one of them says was flushed */
    uint32_t records;
};

static enum storage_result failed(struct storage *storage, const char *what)
{
    snprintf(storage->error, sizeof storage->error, "%s: %s", what, strerror(errno));
    return STORAGE_ERROR;
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static bool is_blank(const uint8_t *data, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 8)
        if (get64(data + at) != 0)
            return false;
    return true;
}

/* --- the disk, to and from storage->buffer ------------------------------------------------------------------------- */

static enum storage_result disk_read(struct storage *storage, uint64_t at, size_t bytes, const char *what)
{
    assert(at % STORAGE_SECTOR_BYTES == 0 && bytes % STORAGE_SECTOR_BYTES == 0 && bytes <= STORAGE_READ_BYTES);
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(storage->fd, storage->buffer + done, bytes - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO; /* the disk was long enough when it was opened */
        if (got <= 0)
            return failed(storage, what);
        done += (size_t)got;
    }
    return STORAGE_OK;
}

/* Write and flush. */
static enum storage_result disk_write(struct storage *storage, uint64_t at, size_t bytes, const char *what)
{
    assert(at % STORAGE_SECTOR_BYTES == 0 && bytes % STORAGE_SECTOR_BYTES == 0 && bytes <= STORAGE_WRITE_BYTES);
    for (size_t done = 0; done < bytes;) {
        ssize_t put = pwrite(storage->fd, storage->buffer + done, bytes - done, (off_t)(at + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0)
            errno = ENOSPC;
        if (put <= 0)
            return failed(storage, what);
        done += (size_t)put;
    }
    return fdatasync(storage->fd) == 0 ? STORAGE_OK : failed(storage, what);
}

/* --- log records -------------------------------------------------------------------------------------------------- */

/* The first record of the sector that has record `index`. */
static uint32_t sector_start(uint32_t index)
{
    return index - (index - 1) % SECTOR_RECORDS;
}

static uint64_t record_at(uint32_t index)
{
    return HEAD_BYTES + (uint64_t)(index - 1) * STORAGE_RECORD_BYTES;
}

/* What `count` records from the start of a sector take up. */
static size_t sectors_bytes(uint32_t count)
{
    return (size_t)(count + SECTOR_RECORDS - 1) / SECTOR_RECORDS * STORAGE_SECTOR_BYTES;
}

static uint32_t record_checksum(const uint8_t *record)
{
    return checksum32(record + RECORD_PREVIOUS, STORAGE_RECORD_BYTES - RECORD_PREVIOUS);
}

/* By itself: whether it continues the log is another question. */
static bool record_valid(const uint8_t *record, uint32_t index)
{
    return get32(record + RECORD_INDEX) == index && get32(record + RECORD_TERM) != 0 &&
           get32(record + RECORD_CHECKSUM) == record_checksum(record);
}

static void record_read(const uint8_t *record, struct raft_entry *entry)
{
    entry->term = get32(record + RECORD_TERM);
    memcpy(&entry->op, record + RECORD_OP, 2);
    memcpy(&entry->key, record + RECORD_KEY, 2);
    entry->client = get32(record + RECORD_CLIENT);
    entry->seq = get32(record + RECORD_SEQ);
    entry->value = get64(record + RECORD_VALUE);
    entry->expect = get64(record + RECORD_EXPECT);
}

static uint32_t record_write(uint8_t *record, uint32_t previous, uint64_t epoch, uint32_t index, uint32_t flushed,
                             const struct raft_entry *entry)
{
    memcpy(record + RECORD_PREVIOUS, &previous, 4);
    memcpy(record + RECORD_EPOCH, &epoch, 8);
    memcpy(record + RECORD_INDEX, &index, 4);
    memcpy(record + RECORD_FLUSHED, &flushed, 4);
    memcpy(record + RECORD_TERM, &entry->term, 4);
    memcpy(record + RECORD_OP, &entry->op, 2);
    memcpy(record + RECORD_KEY, &entry->key, 2);
    memcpy(record + RECORD_CLIENT, &entry->client, 4);
    memcpy(record + RECORD_SEQ, &entry->seq, 4);
    memcpy(record + RECORD_VALUE, &entry->value, 8);
    memcpy(record + RECORD_EXPECT, &entry->expect, 8);
    memset(record + RECORD_ZERO, 0, STORAGE_RECORD_BYTES - RECORD_ZERO);
    uint32_t checksum = record_checksum(record);
    memcpy(record + RECORD_CHECKSUM, &checksum, 4);
    return checksum;
}

/* --- the log ------------------------------------------------------------------------------------------------------ */

/* Record `last` in the tail; there is one. */
static const uint8_t *last_record(const struct storage *storage)
{
    return storage->tail + (storage->last - sector_start(storage->last)) * STORAGE_RECORD_BYTES;
}

static uint32_t last_checksum(const struct storage *storage)
{
    return storage->last == 0 ? 0 : get32(last_record(storage) + RECORD_CHECKSUM);
}

/* The log ends at `last`, whose sector stands in the buffer as if record `first`, of a sector's start, were its first. */
static void keep_tail(struct storage *storage, uint32_t first, uint32_t last)
{
    storage->last = last;
    if (last >= first) {
        size_t at = (size_t)(sector_start(last) - first) * STORAGE_RECORD_BYTES;
        memcpy(storage->tail, storage->buffer + at, STORAGE_SECTOR_BYTES);
    }
}

static void weigh(struct evidence *evidence, const uint8_t *record)
{
    uint64_t epoch = get64(record + RECORD_EPOCH);
    uint32_t flushed = get32(record + RECORD_FLUSHED);
    if (epoch > evidence->epoch)
        *evidence = (struct evidence){.epoch = epoch};
    if (epoch < evidence->epoch)
        return;
    evidence->records++;
    if (flushed > evidence->flushed)
        evidence->flushed = flushed;
}

/*
 * The log ends before record `bad`. Had that been flushed? Evidence is as near as the longest write: had there been one
 * after `bad`, its records would begin within that distance. More is read, as a damaged block may be among them.
 */
static enum storage_result scan_damage(struct storage *storage, uint32_t bad, uint32_t log_max)
{
    struct evidence evidence = {.epoch = bad == 1 ? 0 : get64(last_record(storage) + RECORD_EPOCH)};
    uint32_t first = sector_start(bad), count = log_max - first + 1;
    count = count < READ_RECORDS ? count : READ_RECORDS;
    enum storage_result result = disk_read(storage, record_at(first), sectors_bytes(count), "reading the log");
    if (result != STORAGE_OK)
        return result;
    for (uint32_t index = bad; index < first + count; index++) {
        const uint8_t *record = storage->buffer + (index - first) * STORAGE_RECORD_BYTES;
        if (record_valid(record, index))
            weigh(&evidence, record);
    }
    storage->dropped = evidence.records;
    if (evidence.flushed < bad)
        return STORAGE_OK;
    snprintf(storage->error, sizeof storage->error, "log record %" PRIu32 " is damaged, and it had been flushed", bad);
    return STORAGE_DAMAGED;
}

/* Read records until one does not continue the log. */
static enum storage_result load_log(struct storage *storage, struct raft_entry *log, uint32_t log_max)
{
    uint32_t previous = 0;
    for (uint32_t first = 1; first <= log_max; first += READ_RECORDS) {
        uint32_t count = log_max - first + 1;
        count = count < READ_RECORDS ? count : READ_RECORDS;
        enum storage_result result = disk_read(storage, record_at(first), sectors_bytes(count), "reading the log");
        if (result != STORAGE_OK)
            return result;
        for (uint32_t index = first; index < first + count; index++) {
            const uint8_t *record = storage->buffer + (index - first) * STORAGE_RECORD_BYTES;
            if (!record_valid(record, index) || get32(record + RECORD_PREVIOUS) != previous) {
                keep_tail(storage, first, index - 1);
                return scan_damage(storage, index, log_max);
            }
            previous = get32(record + RECORD_CHECKSUM);
            record_read(record, &log[index]);
        }
        keep_tail(storage, first, first + count - 1);
    }
    return STORAGE_OK;
}

/* Go back to `last`: what follows takes the place of all that was there. */
static enum storage_result cut(struct storage *storage, uint32_t last)
{
    enum storage_result result = STORAGE_OK;
    storage->epoch++;
    if (last > 0 && sector_start(last) != sector_start(storage->last)) {
        result = disk_read(storage, record_at(sector_start(last)), STORAGE_SECTOR_BYTES, "reading the log");
        if (result != STORAGE_OK)
            return result;
        keep_tail(storage, sector_start(last), last);
    }
    storage->last = last;
    if (last == 0 || record_valid(last_record(storage), last))
        return result;
    snprintf(storage->error, sizeof storage->error, "log record %" PRIu32 " is damaged, and it had been flushed", last);
    return STORAGE_DAMAGED;
}

/* Append entries up to `last`, or as many as one write may have. */
static enum storage_result append(struct storage *storage, const struct raft_entry *log, uint32_t last)
{
    uint32_t flushed = storage->last, checksum = last_checksum(storage), first = sector_start(flushed + 1);
    if (last - first >= WRITE_RECORDS)
        last = first + WRITE_RECORDS - 1;
    size_t bytes = sectors_bytes(last - first + 1), at = (flushed + 1 - first) * STORAGE_RECORD_BYTES;
    memcpy(storage->buffer, storage->tail, at);
    for (uint32_t index = flushed + 1; index <= last; index++, at += STORAGE_RECORD_BYTES)
        checksum = record_write(storage->buffer + at, checksum, storage->epoch, index, flushed, &log[index]);
    memset(storage->buffer + at, 0, bytes - at);
    keep_tail(storage, first, last);
    return disk_write(storage, record_at(first), bytes, "writing the log");
}

enum storage_result storage_log(struct storage *storage, const struct raft_entry *log, uint32_t from, uint32_t last)
{
    assert(from >= 1 && from <= last && from <= storage->last + 1);
    enum storage_result result = STORAGE_OK;
    if (from <= storage->last)
        result = cut(storage, from - 1);
    while (result == STORAGE_OK && storage->last < last)
        result = append(storage, log, last);
    return result;
}

/* --- metadata ----------------------------------------------------------------------------------------------------- */

static uint64_t slot_at(uint64_t sequence)
{
    return (STORAGE_SLOT_BLOCK + sequence % 2) * STORAGE_BLOCK_BYTES;
}

static bool slot_read(const uint8_t *slot, uint64_t *sequence, struct storage_state *state)
{
    if (get64(slot + SLOT_MAGIC) != slot_magic || get32(slot + SLOT_CHECKSUM) != checksum32(slot, SLOT_CHECKSUM))
        return false;
    *sequence = get64(slot + SLOT_SEQUENCE);
    state->term = get32(slot + SLOT_TERM);
    state->vote = slot[SLOT_VOTE];
    state->boot = get32(slot + SLOT_BOOT);
    return true;
}

enum storage_result storage_meta(struct storage *storage, uint32_t term, uint8_t vote, uint32_t boot)
{
    uint8_t *slot = storage->buffer;
    uint64_t sequence = ++storage->sequence;
    memset(slot, 0, STORAGE_SECTOR_BYTES);
    memcpy(slot + SLOT_MAGIC, &slot_magic, 8);
    memcpy(slot + SLOT_SEQUENCE, &sequence, 8);
    memcpy(slot + SLOT_TERM, &term, 4);
    slot[SLOT_VOTE] = vote;
    memcpy(slot + SLOT_BOOT, &boot, 4);
    uint32_t checksum = checksum32(slot, SLOT_CHECKSUM);
    memcpy(slot + SLOT_CHECKSUM, &checksum, 4);
    return disk_write(storage, slot_at(sequence), STORAGE_SECTOR_BYTES, "writing term and vote");
}

/* The newer slot of those in the buffer, which has the head of the disk. */
static enum storage_result load_meta(struct storage *storage, struct storage_state *state)
{
    uint32_t valid = 0, blank = 0;
    for (uint64_t place = 0; place < 2; place++) {
        const uint8_t *slot = storage->buffer + slot_at(place);
        uint64_t sequence;
        struct storage_state found = {0};
        blank += is_blank(slot, STORAGE_SLOT_BYTES);
        if (!slot_read(slot, &sequence, &found))
            continue;
        valid++;
        if (sequence > storage->sequence) {
            storage->sequence = sequence;
            *state = found;
        }
    }
    /* The first slot written may be a torn one. A node promises nothing before it is durable. */
    if (valid > 0 || blank > 0)
        return STORAGE_OK;
    snprintf(storage->error, sizeof storage->error, "both copies of term and vote are damaged");
    return STORAGE_DAMAGED;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static enum storage_result open_disk(struct storage *storage, const char *path, uint32_t log_max)
{
    struct stat status;
    uint64_t needed = HEAD_BYTES + sectors_bytes(log_max);
    if (stat(path, &status) != 0)
        return failed(storage, path);
    /* Past the page cache, which after an error may hold what the disk does not. A file stands for a disk on a host. */
    storage->fd = open(path, O_RDWR | O_CLOEXEC | (S_ISBLK(status.st_mode) ? O_DIRECT : 0));
    off_t bytes = storage->fd < 0 ? -1 : lseek(storage->fd, 0, SEEK_END);
    if (bytes < 0)
        return failed(storage, path);
    if ((uint64_t)bytes >= needed)
        return STORAGE_OK;
    snprintf(storage->error, sizeof storage->error, "%.60s has %" PRIu64 " bytes, but a log of %" PRIu32
             " entries takes %" PRIu64, path, (uint64_t)bytes, log_max, needed);
    return STORAGE_ERROR;
}

/* Format mark and metadata; a blank disk is formatted. */
static enum storage_result load_head(struct storage *storage, struct storage_state *state)
{
    enum storage_result result = disk_read(storage, 0, HEAD_BYTES, "reading the format mark");
    if (result != STORAGE_OK)
        return result;
    if (memcmp(storage->buffer, format_mark, sizeof format_mark) == 0)
        return load_meta(storage, state);
    if (is_blank(storage->buffer, HEAD_BYTES)) {
        memcpy(storage->buffer, format_mark, sizeof format_mark);
        return disk_write(storage, 0, sizeof format_mark, "writing the format mark");
    }
    snprintf(storage->error, sizeof storage->error, "the disk is not blank and has not this program's format mark");
    return STORAGE_DAMAGED;
}

enum storage_result storage_open(struct storage *storage, const char *path, struct raft_entry *log, uint32_t log_max,
                                 struct storage_state *state)
{
    memset(storage, 0, offsetof(struct storage, buffer));
    storage->fd = -1;
    *state = (struct storage_state){.vote = RAFT_NOBODY};
    enum storage_result result = open_disk(storage, path, log_max);
    if (result == STORAGE_OK)
        result = load_head(storage, state);
    if (result == STORAGE_OK)
        result = load_log(storage, log, log_max);
    if (result != STORAGE_OK)
        return result;
    state->last = storage->last;
    state->boot++;
    storage->epoch = (uint64_t)state->boot << 32;
    /* Term and vote are durable before any entry of that term is. */
    if (storage->last > 0 && log[storage->last].term > state->term) {
        snprintf(storage->error, sizeof storage->error, "the log is of term %" PRIu32 ", but term %" PRIu32
                 " was written last", log[storage->last].term, state->term);
        return STORAGE_DAMAGED;
    }
    /* This flushes what was read as well: it may have been in the disk's cache only. */
    return storage_meta(storage, state->term, state->vote, state->boot);
}

void storage_close(struct storage *storage)
{
    if (storage->fd >= 0)
        close(storage->fd);
    storage->fd = -1;
}
