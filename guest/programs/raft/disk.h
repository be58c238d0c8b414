/*
 * The file system under the log, in a guest. An I/O error in its journal makes ext4 refuse every write until it is mounted
 * anew, and one at boot leaves it unmounted: the node would be down for good, or begin with an empty log in memory.
 */
#ifndef RAFT_DISK_H
#define RAFT_DISK_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Mount the disk on `directory`, if the machine has one and it is not mounted there. False, and one line in `error`, if
 * that is not possible now.
 */
bool disk_ready(const char *directory, char *error, size_t error_room);

/*
 * The same, unmounting it first: what is found then is what a reboot would find, nothing of it from the page cache. No
 * file below `directory` may be open.
 */
bool disk_renew(const char *directory, char *error, size_t error_room);

#endif
