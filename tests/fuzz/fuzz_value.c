/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Fuzzes the decoder of values, csrc/py/decode*.c: see check_value in
 *           targets.py.
 * THREADING One thread.
 */
#define PY_SSIZE_T_CLEAN
#define FUZZ_FUNCTION "check_value"
#include "embed.h"
