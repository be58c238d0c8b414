/*
 * exports.h: included before everything else by the build (-include): the library is compiled with hidden
 * visibility, and what the public header declares is the exception.
 */
#pragma GCC visibility push(default)
#include "include/cc.h"
#pragma GCC visibility pop
