/*
 * What a node must not forget, on a raw disk: nothing below it that an I/O error could break for good, or that costs
 * more than the write itself. Everything has a fixed place, is written in whole sectors past the page cache, and is
 * flushed before the call returns:
 *
 *     sector 0        the format mark, written once
 *     block 1, 2      term, vote and boot count in two slots, written in turn, each with a sequence number
 *     block 4 on      the log: entry i in a record of 64 bytes at (i - 1) * 64
 *
 * Each has a checksum, and a record names that of the record before it, so what is left of a suffix that was cut never
 * passes for part of the new log. The log ends at the first record that does not check: a power loss leaves any part
 * of a write that was not flushed. But had that record been flushed? Then the node may have forgotten what it promised,
 * and must not start. Later records are evidence of it: each says up to where the log was flushed when it was written.
 * Those of a suffix that was cut must not count, so each also has an epoch, which grows with every boot and every cut;
 * only the newest that is found counts. A cut is made durable by the records that take the place of what is cut, in a
 * new epoch, and by nothing else: before the first of them is on the disk the old log is there as it was, and from then
 * on what is left of it is of an older epoch.
 *
 * The disk is trusted to write a sector wholly or not at all, and to keep what it said was flushed. Every function that
 * fails leaves one line in `storage->error`. After STORAGE_ERROR nobody knows what the disk holds, so the only way on
 * is to open it again.
 */
#ifndef RAFT_STORAGE_H
#define RAFT_STORAGE_H

#include "raft_core.h"

enum {
    STORAGE_SECTOR_BYTES = 512,
    STORAGE_BLOCK_BYTES = 4096, /* what lies in different blocks is never torn by one write */
    STORAGE_RECORD_BYTES = 64,
    STORAGE_SLOT_BYTES = 40,
    STORAGE_SLOT_BLOCK = 1, /* and the one after it */
    STORAGE_LOG_BLOCK = 4,
    STORAGE_WRITE_BYTES = 4 << 10, /* at most, between two flushes */
    STORAGE_READ_BYTES = 32 << 10, /* at once, and how far evidence is looked for */
};

enum storage_result { STORAGE_OK, STORAGE_ERROR, STORAGE_DAMAGED };

struct storage {
    int fd;
    uint32_t last;     /* records in the log */
    uint64_t sequence; /* of the last slot written */
    uint64_t epoch;    /* of the next record */
    uint32_t dropped;  /* records of a torn tail that were found at opening */
    char error[160];
    uint8_t tail[STORAGE_SECTOR_BYTES]; /* the sector of record `last`, as it is on the disk */
    _Alignas(STORAGE_BLOCK_BYTES) uint8_t buffer[STORAGE_READ_BYTES];
};

struct storage_state {
    uint32_t term;
    uint8_t vote;
    uint32_t boot; /* counts openings, from 1 */
    uint32_t last;
};

/*
 * Open `path`, a disk or a file of the size of one, format it if it is blank, recover, count the boot and make that
 * durable. Fills `log` from [1]; it has log_max + 1 elements.
 */
enum storage_result storage_open(struct storage *storage, const char *path, struct raft_entry *log, uint32_t log_max,
                                 struct storage_state *state);

/* Make term and vote durable. */
enum storage_result storage_meta(struct storage *storage, uint32_t term, uint8_t vote, uint32_t boot);

/* Make entries from..last, at least one, durable in the place of all that were there from `from` on. */
enum storage_result storage_log(struct storage *storage, const struct raft_entry *log, uint32_t from, uint32_t last);

void storage_close(struct storage *storage);

#endif
