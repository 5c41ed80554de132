/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Fuzzes whole entries of version 3 and the values in them, csrc/py/wire3*.c:
 *           see check_wire3 in targets.py.
 * THREADING One thread.
 */
#define PY_SSIZE_T_CLEAN
#define FUZZ_FUNCTION "check_wire3"
#include "embed.h"
