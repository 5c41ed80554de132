/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The open calls of a function, and which of them an invalidation or a newer
 *           value has overtaken: what those make is returned and kept nowhere.
 * THREADING Guarded by the GIL.
 */
#include "py/call.h"

/* Functions that share entries share the list. */
static struct ckpy_call **
open_calls(struct ckpy_function *function)
{
    return function->names_of != NULL ? &function->names_of->calls : &function->calls;
}

void
ckpy_call_list(struct ckpy_call *call)
{
    struct ckpy_call **head = open_calls(call->function);
    call->next = *head;
    if (call->next != NULL)
        call->next->link = &call->next;
    call->link = head;
    *head = call;
}

void
ckpy_call_unlist(struct ckpy_call *call)
{
    if (call->link == NULL)
        return;
    *call->link = call->next;
    if (call->next != NULL)
        call->next->link = call->link;
    call->link = NULL;
}

static void
mark(struct ckpy_call *call)
{
    call->marked = true;
    if (call->machine.leads && call->flight != NULL)
        call->flight->marked = true;
}

void
ckpy_call_forget_list(struct ckpy_function *function)
{
    for (struct ckpy_call *call = function->calls; call != NULL; call = call->next)
        call->link = NULL;
    function->calls = NULL;
}

void
ckpy_call_mark(struct ckpy_function *function, const uint8_t *key, size_t key_len)
{
    for (struct ckpy_call *call = *open_calls(function); call != NULL;
         call = call->next) {
        size_t len;
        const uint8_t *name = ckpy_call_key(call, &len);
        if (key == NULL || (len == key_len && memcmp(name, key, len) == 0))
            mark(call);
    }
}

void
ckpy_call_mark_unheard(struct ckpy_function *function)
{
    struct ckpy_call *call = *open_calls(function);
    for (; call != NULL; call = call->next)
        call->unheard = true;
}

void
ckpy_call_mark_tagged(struct ckpy_function *function, PyObject *name)
{
    for (struct ckpy_call *call = *open_calls(function); call != NULL;
         call = call->next) {
        Py_ssize_t count = call->sides == NULL ? 0 : PyTuple_GET_SIZE(call->sides);
        for (Py_ssize_t i = 0; i < count; i++)
            if (PyUnicode_Compare(PyTuple_GET_ITEM(call->sides, i), name) == 0)
                mark(call);
    }
}

void
ckpy_call_mark_others(struct ckpy_call *call)
{
    struct ckpy_call *other = *open_calls(call->function);
    for (; other != NULL; other = other->next) {
        size_t len, own_len;
        const uint8_t *name = ckpy_call_key(other, &len),
                      *own = ckpy_call_key(call, &own_len);
        if (other != call && len == own_len && memcmp(name, own, len) == 0)
            mark(other);
    }
}
