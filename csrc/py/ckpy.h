/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   What every file of the binding layer starts with: Python.h, the state of the
 *           module, a few helpers.
 * DESIGN    Multi-phase initialisation, state per module, heap types. Every object keeps
 *           the state pointer of the module that made its type: valid while the object
 *           lives, since object -> type -> module is strong.
 * THREADING The state is immutable after module execution, the lazily imported
 *           references aside (guarded by the GIL).
 */
#ifndef CKPY_CKPY_H
#define CKPY_CKPY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/ck_status.h"

struct ckpy_state;

#include <structmember.h>

#endif
