/*
 * What a node must not forget, in two files of a directory.
 *
 * `log`: 48 bytes per entry, entry i at (i - 1) * 48. Each record's checksum continues that of the record before, so a
 * record left over from a suffix that was cut never passes for one of the new log. A tail that does not check is what
 * a power loss leaves of writes that were not flushed: it is cut off. But each record also says up to where the log
 * was flushed when it was written, so a damaged record that had been flushed is told from a torn one: such a node may
 * have forgotten what it promised, and does not start.
 *
 * `meta`: term, vote and boot count in two slots that are written in turn, each with a sequence number and a checksum:
 * one torn write leaves the other slot.
 *
 * Every function that fails leaves one line in `storage->error`; after a failed write nothing more may be written:
 * what the page cache then holds is not what the disk holds.
 */
#ifndef RAFT_STORAGE_H
#define RAFT_STORAGE_H

#include "raft_core.h"

enum {
    STORAGE_RECORD_BYTES = 48,
    STORAGE_SLOT_BYTES = 40,
    STORAGE_SLOT_DISTANCE = 4096,    /* the slots lie in different sectors and pages */
    STORAGE_PREALLOCATED = 64 << 10, /* bytes: within them a flush writes data only, no file size */
    STORAGE_WRITE_RECORDS = 64,
};

enum storage_result { STORAGE_OK, STORAGE_ERROR, STORAGE_DAMAGED };

struct storage {
    int log_fd, meta_fd;
    uint32_t last;        /* records in the file */
    uint32_t chain;       /* checksum of the last one */
    uint64_t file_bytes;  /* of the log, what is preallocated included */
    uint64_t sequence;    /* of the last slot written */
    uint32_t *chains;     /* [i]: checksum of record i; what an append after a cut continues */
    uint32_t cut;         /* records of a torn tail that were dropped at opening */
    char error[160];
};

struct storage_state {
    uint32_t term;
    uint8_t vote;
    uint32_t boot; /* counts openings, from 1 */
    uint32_t last;
};

/*
 * Open or create the files in `directory` (which exists), recover, count the boot and make that durable. Fills `log`
 * from [1]; `log` and `chains` have log_max + 1 elements.
 */
enum storage_result storage_open(struct storage *storage, const char *directory, struct raft_entry *log,
                                 uint32_t *chains, uint32_t log_max, struct storage_state *state);

/* Make term and vote durable. */
enum storage_result storage_meta(struct storage *storage, uint32_t term, uint8_t vote, uint32_t boot);

/* Make entries from..last durable and drop every other from `from` on. */
enum storage_result storage_log(struct storage *storage, const struct raft_entry *log, uint32_t from, uint32_t last);

void storage_close(struct storage *storage);

#endif
