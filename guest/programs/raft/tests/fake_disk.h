/*
 * A disk of sectors with a volatile cache, in the place of the file behind pread, pwrite and fdatasync (the linker's
 * --wrap). It loses power after so many requests, and then keeps any part of what was not flushed; or its requests fail.
 */
#ifndef RAFT_FAKE_DISK_H
#define RAFT_FAKE_DISK_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

enum { DISK_BYTES = 256 << 10, DISK_SECTOR_BYTES = 512, DISK_UNFLUSHED_MAX = 64 };

enum disk_request { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_REQUESTS };

struct fake_disk {
    uint8_t now[DISK_BYTES];     /* what is read */
    uint8_t flushed[DISK_BYTES]; /* what a power loss leaves in any case */
    struct { uint32_t sector, sectors; uint8_t data[8192]; } unflushed[DISK_UNFLUSHED_MAX]; /* the oldest first */
    uint32_t unflushed_count;
    uint32_t fail_percent[DISK_REQUESTS];
    uint32_t tear_percent; /* of the writes that fail: the first of their sectors are written */
    uint32_t requests[DISK_REQUESTS]; /* so many there were */
    uint32_t power_left; /* requests until the power fails; 0: never */
    jmp_buf power_lost;  /* where it goes on then */
    uint64_t random;
};

extern struct fake_disk the_disk;

uint64_t disk_draw(void);

/* All zeros, nothing fails; the random numbers go on. */
void disk_new(void);

/* What a power loss leaves: of each write that was not flushed those pieces of `piece` sectors for which the coin falls so. */
void disk_lose_power(uint32_t piece);

/* ... of the only such write the sectors whose bit is set. */
void disk_keep_of_newest(uint32_t kept);

#endif
