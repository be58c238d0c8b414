#define _GNU_SOURCE /* umount2 */
#include "disk.h"

#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define DEVICE "/dev/vda" /* as init mounts it */
#define MOUNTS "/proc/self/mounts"

static bool failed(const char *what, const char *directory, char *error, size_t error_room)
{
    snprintf(error, error_room, "%s %s: %s", what, directory, strerror(errno));
    return false;
}

static bool is_mounted(const char *directory)
{
    FILE *mounts = setmntent(MOUNTS, "r");
    bool found = false;
    for (struct mntent *entry; mounts != NULL && (entry = getmntent(mounts)) != NULL;)
        found |= strcmp(entry->mnt_dir, directory) == 0;
    if (mounts != NULL)
        endmntent(mounts);
    return found;
}

bool disk_ready(const char *directory, char *error, size_t error_room)
{
    if (access(DEVICE, F_OK) != 0 || is_mounted(directory) || mount(DEVICE, directory, "ext4", 0, NULL) == 0)
        return true;
    return failed("mounting", directory, error, error_room);
}

bool disk_renew(const char *directory, char *error, size_t error_room)
{
    if (access(DEVICE, F_OK) == 0 && is_mounted(directory) && umount2(directory, 0) != 0)
        return failed("unmounting", directory, error, error_room);
    return disk_ready(directory, error, error_room);
}
