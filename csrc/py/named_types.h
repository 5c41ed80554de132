/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The classes that an annotation names: what may be stored besides the types
 *           of the format.
 * DESIGN    The annotation is walked once: unions, generics, aliases, and the fields of
 *           the dataclasses, named tuples and models found on the way. The result is a
 *           dict that maps each class to its stored name and a tuple of its fields (None
 *           for an enum, a converter of cachekit._models for a model), and the name back
 *           to the class. The name
 *           is the qualified name, with the module before it when two classes share one.
 *           Stored bytes can therefore only ever name a class that the reading function
 *           names too.
 * THREADING Holds the GIL. May run code (typing, properties of foreign annotations).
 */
#ifndef CKPY_NAMED_TYPES_H
#define CKPY_NAMED_TYPES_H

#include "py/ckpy.h"

/* The dict described above: a new reference, or NULL with an exception. `returns` may
 * be NULL or None. The last 256 annotations are remembered. */
PyObject *
ckpy_named_types(struct ckpy_state *state, PyObject *returns);

#endif
