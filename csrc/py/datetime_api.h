/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   <datetime.h> for its field macros.
 * DESIGN    The header keeps its interface pointer in a static variable of each file,
 *           which is left alone: ours is in the module's state.
 * THREADING Nothing of its own.
 */
#ifndef CKPY_DATETIME_API_H
#define CKPY_DATETIME_API_H

#include "py/ckpy.h"

#include <datetime.h>

static inline const void *
ckpy_datetime_static(void)
{
    return PyDateTimeAPI; /* keeps the compiler from calling it unused */
}

#endif
