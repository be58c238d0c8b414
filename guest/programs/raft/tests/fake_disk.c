#define _GNU_SOURCE
#include "fake_disk.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

struct fake_disk the_disk;

/* What the linker puts in the place of the C library's. */
ssize_t __wrap_pread(int fd, void *data, size_t bytes, off_t at);
ssize_t __wrap_pwrite(int fd, const void *data, size_t bytes, off_t at);
int __wrap_fdatasync(int fd);

uint64_t disk_draw(void)
{
    uint64_t x = the_disk.random += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 29);
}

void disk_new(void)
{
    memset(&the_disk, 0, offsetof(struct fake_disk, random));
}

/* Count a request; the power may fail before it is done. True: it fails. */
static bool fails(enum disk_request request)
{
    the_disk.requests[request]++;
    if (the_disk.power_left != 0 && --the_disk.power_left == 0)
        longjmp(the_disk.power_lost, 1);
    return disk_draw() % 100 < the_disk.fail_percent[request];
}

static void check_place(size_t bytes, off_t at)
{
    assert(bytes > 0 && bytes % DISK_SECTOR_BYTES == 0 && at >= 0 && at % DISK_SECTOR_BYTES == 0);
    assert((uint64_t)at + bytes <= DISK_BYTES);
}

ssize_t __wrap_pread(int fd, void *data, size_t bytes, off_t at)
{
    (void)fd;
    check_place(bytes, at);
    if (fails(DISK_READ)) {
        errno = EIO;
        return -1;
    }
    memcpy(data, the_disk.now + at, bytes);
    return (ssize_t)bytes;
}

static void change(const void *data, size_t bytes, off_t at)
{
    assert(the_disk.unflushed_count < DISK_UNFLUSHED_MAX && bytes <= sizeof the_disk.unflushed[0].data);
    the_disk.unflushed[the_disk.unflushed_count].sector = (uint32_t)(at / DISK_SECTOR_BYTES);
    the_disk.unflushed[the_disk.unflushed_count].sectors = (uint32_t)(bytes / DISK_SECTOR_BYTES);
    memcpy(the_disk.unflushed[the_disk.unflushed_count++].data, data, bytes);
    memcpy(the_disk.now + at, data, bytes);
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    (void)fd;
    check_place(bytes, at);
    if (!fails(DISK_WRITE)) {
        change(data, bytes, at);
        return (ssize_t)bytes;
    }
    if (disk_draw() % 100 < the_disk.tear_percent)
        change(data, (1 + disk_draw() % (bytes / DISK_SECTOR_BYTES)) * DISK_SECTOR_BYTES, at);
    errno = EIO;
    return -1;
}

int __wrap_fdatasync(int fd)
{
    (void)fd;
    if (fails(DISK_FLUSH)) {
        errno = EIO;
        return -1;
    }
    memcpy(the_disk.flushed, the_disk.now, sizeof the_disk.now);
    the_disk.unflushed_count = 0;
    return 0;
}

static void keep_sector(uint32_t write, uint32_t i)
{
    size_t at = (size_t)(the_disk.unflushed[write].sector + i) * DISK_SECTOR_BYTES;
    memcpy(the_disk.flushed + at, the_disk.unflushed[write].data + i * DISK_SECTOR_BYTES, DISK_SECTOR_BYTES);
}

static void power_is_back(void)
{
    memcpy(the_disk.now, the_disk.flushed, sizeof the_disk.now);
    the_disk.unflushed_count = 0;
    the_disk.power_left = 0;
}

void disk_lose_power(uint32_t piece)
{
    for (uint32_t write = 0; write < the_disk.unflushed_count; write++) {
        uint32_t sector = the_disk.unflushed[write].sector;
        bool kept = disk_draw() % 2;
        for (uint32_t i = 0; i < the_disk.unflushed[write].sectors; i++) {
            if (i > 0 && (sector + i) % piece == 0)
                kept = disk_draw() % 2;
            if (kept)
                keep_sector(write, i);
        }
    }
    power_is_back();
}

void disk_keep_of_newest(uint32_t kept)
{
    uint32_t write = the_disk.unflushed_count - 1;
    assert(the_disk.unflushed_count == 1);
    for (uint32_t i = 0; i < the_disk.unflushed[write].sectors; i++)
        if (kept >> i & 1)
            keep_sector(write, i);
    power_is_back();
}
