/*
 * sdk.h: the guest SDK's requests and the property table.  Internal to native/; the layouts are in the public header.
 */
#ifndef CC_SDK_H
#define CC_SDK_H

#include "machine.h"

void cc_sdk_reset(cc_machine *m);
void cc_sdk_request(cc_machine *m, uint32_t value);     /* the guest wrote this to port 0x510 */
void cc_sdk_coverage(cc_machine *m, uint32_t value);    /* the guest wrote this to port 0x511 */

#endif
