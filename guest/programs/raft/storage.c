#define _GNU_SOURCE /* O_DIRECTORY, pread */
#include "storage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec.h"

/* Offsets in a log record; the checksum covers everything after itself. */
enum {
    RECORD_CHAIN = 0,
    RECORD_INDEX = 4,
    RECORD_SYNCED = 8,
    RECORD_TERM = 12,
    RECORD_OP = 16,
    RECORD_KEY = 18,
    RECORD_CLIENT = 20,
    RECORD_SEQ = 24,
    RECORD_ZERO = 28,
    RECORD_VALUE = 32,
    RECORD_EXPECT = 40,
};

/* Offsets in a metadata slot. */
enum { SLOT_MAGIC = 0, SLOT_SEQUENCE = 8, SLOT_TERM = 16, SLOT_VOTE = 20, SLOT_BOOT = 24, SLOT_ZERO = 28, SLOT_CRC = 36 };
static const uint64_t slot_magic = 0x4154454d54464152u; /* "RAFTMETA" */

static enum storage_result failed(struct storage *storage, const char *what)
{
    snprintf(storage->error, sizeof storage->error, "%s: %s", what, strerror(errno));
    return STORAGE_ERROR;
}

static bool write_all(int fd, const uint8_t *data, size_t bytes, uint64_t at)
{
    while (bytes > 0) {
        ssize_t done = pwrite(fd, data, bytes, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            errno = done == 0 ? ENOSPC : errno;
            return false;
        }
        data += done;
        bytes -= (size_t)done;
        at += (uint64_t)done;
    }
    return true;
}

/* Bytes read, fewer only at the end of the file; -1 on error. */
static ssize_t read_all(int fd, uint8_t *data, size_t bytes, uint64_t at)
{
    size_t have = 0;
    while (have < bytes) {
        ssize_t done = pread(fd, data + have, bytes - have, (off_t)(at + have));
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -1;
        if (done == 0)
            break;
        have += (size_t)done;
    }
    return (ssize_t)have;
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* --- log records -------------------------------------------------------------------------------------------------- */

static uint32_t record_chain(uint32_t previous, const uint8_t *record)
{
    return crc32_more(previous, record + RECORD_INDEX, STORAGE_RECORD_BYTES - RECORD_INDEX);
}

static uint32_t record_write(uint8_t *record, uint32_t previous, uint32_t index, uint32_t synced,
                             const struct raft_entry *entry)
{
    memset(record, 0, STORAGE_RECORD_BYTES);
    memcpy(record + RECORD_INDEX, &index, 4);
    memcpy(record + RECORD_SYNCED, &synced, 4);
    memcpy(record + RECORD_TERM, &entry->term, 4);
    memcpy(record + RECORD_OP, &entry->op, 2);
    memcpy(record + RECORD_KEY, &entry->key, 2);
    memcpy(record + RECORD_CLIENT, &entry->client, 4);
    memcpy(record + RECORD_SEQ, &entry->seq, 4);
    memcpy(record + RECORD_VALUE, &entry->value, 8);
    memcpy(record + RECORD_EXPECT, &entry->expect, 8);
    uint32_t chain = record_chain(previous, record);
    memcpy(record + RECORD_CHAIN, &chain, 4);
    return chain;
}

static bool record_valid(const uint8_t *record, uint32_t previous, uint32_t index)
{
    return get32(record + RECORD_INDEX) == index && get32(record + RECORD_ZERO) == 0 &&
           get32(record + RECORD_TERM) != 0 && get32(record + RECORD_CHAIN) == record_chain(previous, record);
}

static void record_read(const uint8_t *record, struct raft_entry *entry)
{
    entry->term = get32(record + RECORD_TERM);
    memcpy(&entry->op, record + RECORD_OP, 2);
    memcpy(&entry->key, record + RECORD_KEY, 2);
    entry->client = get32(record + RECORD_CLIENT);
    entry->seq = get32(record + RECORD_SEQ);
    memcpy(&entry->value, record + RECORD_VALUE, 8);
    memcpy(&entry->expect, record + RECORD_EXPECT, 8);
}

/*
 * Record `bad` does not check. Is there a later one that does, written when `bad` had been flushed? A later record can
 * be checked although the one before it is not to be trusted: its checksum continues the one that is written there.
 */
static enum storage_result scan_damage(struct storage *storage, uint32_t bad, uint32_t log_max)
{
    uint8_t pair[2 * STORAGE_RECORD_BYTES];
    for (uint32_t index = bad; index < log_max; index++) {
        ssize_t have = read_all(storage->log_fd, pair, sizeof pair, (uint64_t)(index - 1) * STORAGE_RECORD_BYTES);
        if (have < 0)
            return failed(storage, "reading the log");
        if (have < (ssize_t)sizeof pair)
            return STORAGE_OK;
        const uint8_t *later = pair + STORAGE_RECORD_BYTES;
        if (!record_valid(later, get32(pair + RECORD_CHAIN), index + 1))
            continue;
        storage->cut++;
        if (get32(later + RECORD_SYNCED) >= bad) {
            snprintf(storage->error, sizeof storage->error,
                     "log record %" PRIu32 " is damaged, and it had been flushed", bad);
            return STORAGE_DAMAGED;
        }
    }
    return STORAGE_OK;
}

/* Read records until one does not check. `*synced` is the highest index known to have been flushed. */
static enum storage_result load_log(struct storage *storage, struct raft_entry *log, uint32_t log_max,
                                    uint32_t *synced)
{
    uint8_t block[STORAGE_WRITE_RECORDS * STORAGE_RECORD_BYTES];
    bool whole = true;
    while (whole && storage->last < log_max) {
        ssize_t have = read_all(storage->log_fd, block, sizeof block, (uint64_t)storage->last * STORAGE_RECORD_BYTES);
        if (have < 0)
            return failed(storage, "reading the log");
        whole = have == (ssize_t)sizeof block;
        for (ssize_t at = 0; at + STORAGE_RECORD_BYTES <= have && storage->last < log_max; at += STORAGE_RECORD_BYTES) {
            const uint8_t *record = block + at;
            uint32_t index = storage->last + 1;
            if (!record_valid(record, storage->chain, index))
                return scan_damage(storage, index, log_max);
            record_read(record, &log[index]);
            storage->chain = storage->chains[index] = get32(record + RECORD_CHAIN);
            storage->last = index;
            if (get32(record + RECORD_SYNCED) > *synced)
                *synced = get32(record + RECORD_SYNCED);
        }
    }
    return STORAGE_OK;
}

static enum storage_result sync_log(struct storage *storage)
{
    return fdatasync(storage->log_fd) == 0 ? STORAGE_OK : failed(storage, "flushing the log");
}

static enum storage_result truncate_log(struct storage *storage, uint32_t last)
{
    uint64_t bytes = (uint64_t)last * STORAGE_RECORD_BYTES;
    if (ftruncate(storage->log_fd, (off_t)bytes) != 0)
        return failed(storage, "cutting the log");
    storage->file_bytes = bytes;
    storage->last = last;
    storage->chain = last == 0 ? 0 : storage->chains[last];
    return sync_log(storage);
}

static enum storage_result preallocate(struct storage *storage, uint64_t needed_bytes)
{
    static const uint8_t zeros[4096];
    uint64_t end = (needed_bytes / STORAGE_PREALLOCATED + 1) * STORAGE_PREALLOCATED;
    while (storage->file_bytes < end) {
        size_t bytes = sizeof zeros - storage->file_bytes % sizeof zeros;
        if (!write_all(storage->log_fd, zeros, bytes, storage->file_bytes))
            return failed(storage, "writing the log");
        storage->file_bytes += bytes;
    }
    return STORAGE_OK;
}

/* Write records from..last at their places. */
static enum storage_result write_records(struct storage *storage, const struct raft_entry *log, uint32_t from,
                                         uint32_t last, uint32_t synced)
{
    uint8_t block[STORAGE_WRITE_RECORDS * STORAGE_RECORD_BYTES];
    uint64_t end = (uint64_t)last * STORAGE_RECORD_BYTES;
    enum storage_result result = STORAGE_OK;
    if (end > storage->file_bytes)
        result = preallocate(storage, end);
    uint32_t chain = from == 1 ? 0 : storage->chains[from - 1];
    while (result == STORAGE_OK && from <= last) {
        uint64_t at = (uint64_t)(from - 1) * STORAGE_RECORD_BYTES;
        size_t bytes = 0;
        for (; from <= last && bytes < sizeof block; from++, bytes += STORAGE_RECORD_BYTES)
            chain = storage->chains[from] = record_write(block + bytes, chain, from, synced, &log[from]);
        if (!write_all(storage->log_fd, block, bytes, at))
            result = failed(storage, "writing the log");
    }
    if (result == STORAGE_OK) {
        storage->last = last;
        storage->chain = chain;
        result = sync_log(storage);
    }
    return result;
}

enum storage_result storage_log(struct storage *storage, const struct raft_entry *log, uint32_t from, uint32_t last)
{
    /* Cut and flush before writing over what was cut: a crash in between must not leave new and old entries mixed. */
    if (from <= storage->last) {
        enum storage_result result = truncate_log(storage, from - 1);
        if (result != STORAGE_OK)
            return result;
    }
    return from <= last ? write_records(storage, log, from, last, storage->last) : STORAGE_OK;
}

/* --- metadata ----------------------------------------------------------------------------------------------------- */

static bool slot_read(const uint8_t *slot, uint64_t *sequence, struct storage_state *state)
{
    uint64_t magic;
    memcpy(&magic, slot + SLOT_MAGIC, 8);
    if (magic != slot_magic || get32(slot + SLOT_CRC) != crc32_more(0, slot, SLOT_CRC))
        return false;
    memcpy(sequence, slot + SLOT_SEQUENCE, 8);
    state->term = get32(slot + SLOT_TERM);
    state->vote = slot[SLOT_VOTE];
    state->boot = get32(slot + SLOT_BOOT);
    return true;
}

enum storage_result storage_meta(struct storage *storage, uint32_t term, uint8_t vote, uint32_t boot)
{
    uint8_t slot[STORAGE_SLOT_BYTES] = {0};
    uint64_t sequence = storage->sequence + 1;
    memcpy(slot + SLOT_MAGIC, &slot_magic, 8);
    memcpy(slot + SLOT_SEQUENCE, &sequence, 8);
    memcpy(slot + SLOT_TERM, &term, 4);
    slot[SLOT_VOTE] = vote;
    memcpy(slot + SLOT_BOOT, &boot, 4);
    uint32_t crc = crc32_more(0, slot, SLOT_CRC);
    memcpy(slot + SLOT_CRC, &crc, 4);
    if (!write_all(storage->meta_fd, slot, sizeof slot, sequence % 2 * STORAGE_SLOT_DISTANCE))
        return failed(storage, "writing term and vote");
    if (fdatasync(storage->meta_fd) != 0)
        return failed(storage, "flushing term and vote");
    storage->sequence = sequence;
    return STORAGE_OK;
}

static enum storage_result load_meta(struct storage *storage, struct storage_state *state)
{
    bool valid = false, written = false;
    for (uint64_t place = 0; place < 2; place++) {
        uint8_t slot[STORAGE_SLOT_BYTES] = {0};
        ssize_t have = read_all(storage->meta_fd, slot, sizeof slot, place * STORAGE_SLOT_DISTANCE);
        if (have < 0)
            return failed(storage, "reading term and vote");
        uint64_t sequence;
        struct storage_state found = {0};
        written |= get32(slot) != 0;
        if (have == (ssize_t)sizeof slot && slot_read(slot, &sequence, &found) &&
            (!valid || sequence > storage->sequence)) {
            valid = true;
            storage->sequence = sequence;
            *state = found;
        }
    }
    /* No node votes or writes entries before its first slot is durable, so an empty log goes with a torn first slot. */
    if (!valid && written && storage->last > 0) {
        snprintf(storage->error, sizeof storage->error, "both copies of term and vote are damaged");
        return STORAGE_DAMAGED;
    }
    return STORAGE_OK;
}

/* --- opening ------------------------------------------------------------------------------------------------------ */

static enum storage_result open_files(struct storage *storage, const char *directory)
{
    int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return failed(storage, directory);
    storage->log_fd = openat(dir, "log", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    storage->meta_fd = openat(dir, "meta", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    bool good = storage->log_fd >= 0 && storage->meta_fd >= 0 && fsync(dir) == 0;
    enum storage_result result = good ? STORAGE_OK : failed(storage, directory);
    close(dir);
    return result;
}

enum storage_result storage_open(struct storage *storage, const char *directory, struct raft_entry *log,
                                 uint32_t *chains, uint32_t log_max, struct storage_state *state)
{
    memset(storage, 0, sizeof *storage);
    storage->log_fd = storage->meta_fd = -1;
    storage->chains = chains;
    *state = (struct storage_state){.vote = RAFT_NOBODY};
    enum storage_result result = open_files(storage, directory);
    uint32_t synced = 0;
    if (result == STORAGE_OK)
        result = load_log(storage, log, log_max, &synced);
    if (result == STORAGE_OK)
        result = load_meta(storage, state);
    struct stat status;
    if (result == STORAGE_OK && fstat(storage->log_fd, &status) != 0)
        result = failed(storage, "log");
    if (result == STORAGE_OK)
        storage->file_bytes = (uint64_t)status.st_size;
    state->last = storage->last;
    state->boot++;
    if (result == STORAGE_OK)
        result = truncate_log(storage, storage->last);
    /* What was read may be in the page cache only, left by a process whose flush failed: write the tail again. */
    if (result == STORAGE_OK && synced < storage->last)
        result = write_records(storage, log, synced + 1, storage->last, synced);
    if (result == STORAGE_OK)
        result = storage_meta(storage, state->term, state->vote, state->boot);
    return result;
}

void storage_close(struct storage *storage)
{
    if (storage->log_fd >= 0)
        close(storage->log_fd);
    if (storage->meta_fd >= 0)
        close(storage->meta_fd);
    storage->log_fd = storage->meta_fd = -1;
}
