/*
 * console.h: the host's side of the console and the machine's log.  Neither is guest-visible state; both follow it,
 * also when a snapshot is restored.
 */
#ifndef CC_CONSOLE_H
#define CC_CONSOLE_H

#include "machine.h"

/* FNV-1a, 64 bits: dev.console_hash of no bytes. */
#define CC_CONSOLE_HASH_START UINT64_C(0xCBF29CE484222325)

int cc_console_new(cc_machine *m);
void cc_console_free(cc_machine *m);
/* The guest has transmitted one byte; m->instret is as for cc_io_write(). */
void cc_console_put(cc_machine *m, uint8_t byte);

int cc_log_new(cc_machine *m);
void cc_log_free(cc_machine *m);

#endif
