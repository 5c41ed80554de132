# SPDX-License-Identifier: MIT
"""The exception tree: what each is, what it says, that it travels."""

from __future__ import annotations

import copy
import pickle

import pytest

import cachekit._errors as errors

CLASSES = [getattr(errors, name) for name in errors.__all__]

BASES = {
    "ConfigurationError": (errors.CacheKitError, ValueError),
    "NotBuiltYet": (errors.ConfigurationError, NotImplementedError),
    "CacheMiss": (errors.CacheKitError, LookupError),
    "UncacheableArgument": (errors.CacheKitError, TypeError),
    "SerializationError": (errors.CacheKitError, ValueError),
    "DecodeError": (errors.SerializationError,),
    "DecryptionError": (errors.CacheKitError,),
    "LoaderTimeout": (errors.CacheKitError, TimeoutError),
    "BackendError": (errors.CacheKitError,),
    "BackendTimeout": (errors.BackendError, TimeoutError),
    "BackendConnectionError": (errors.BackendError, ConnectionError),
    "BackendAuthenticationError": (errors.BackendError,),
    "BackendProtocolError": (errors.BackendError,),
    "BackendReplyError": (errors.BackendError,),
    "PoolTimeout": (errors.BackendError,),
    "BackendUnavailable": (errors.BackendError,),
}


@pytest.mark.parametrize("name", sorted(BASES))
def test_error_has_its_place_in_the_tree(name):
    assert getattr(errors, name).__bases__ == BASES[name]


def test_the_docstring_draws_every_class():
    assert set(BASES) | {"CacheKitError"} == set(errors.__all__)
    for name in errors.__all__:
        assert f" {name} " in errors.__doc__.replace("\n", " \n")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_error_is_public_under_cachekit(kind):
    assert kind.__module__ == "cachekit"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_error_survives_pickle_and_copy(kind):
    error = kind("what", code="E009", hint="Do this")
    error.extra = 1
    for twin in (
        *(pickle.loads(pickle.dumps(error, p)) for p in range(2, 6)),
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert (twin.code, twin.message, twin.hint) == (
            "E009",
            error.message,
            "Do this",
        )
        assert twin.args == error.args
        assert twin.extra == 1


def test_backend_error_keeps_kind_and_counts_through_pickle():
    error = pickle.loads(pickle.dumps(errors.BackendReplyError("no", kind="oom")))
    assert (error.kind, error.counts) == ("oom", False)


def test_text_holds_code_message_and_hint():
    error = errors.CacheKitError("It broke", code="E001", hint="Mend it")
    assert str(error) == "E001: It broke. Mend it"


@pytest.mark.parametrize(
    "error, text",
    [
        (errors.CacheKitError(), ""),
        (errors.CacheKitError("It broke"), "It broke"),
        (errors.CacheKitError("It broke.", hint="Mend it"), "It broke. Mend it"),
        (errors.CacheKitError(hint="Mend it"), "Mend it"),
        (errors.SerializationError("No"), "E004: No"),
        (errors.DecodeError("No"), "No"),
    ],
)
def test_text_holds_what_is_set(error, text):
    assert str(error) == text


def test_fields_default_to_none():
    error = errors.CacheMiss("nothing there")
    assert (error.code, error.hint) == (None, None)


@pytest.mark.parametrize(
    "error, code, message",
    [
        (
            errors.missing_master_key(),
            "E001",
            "CACHEKIT_MASTER_KEY environment variable must be set",
        ),
        (
            errors.invalid_master_key(),
            "E002",
            "CACHEKIT_MASTER_KEY must be hex-encoded, minimum 32 bytes",
        ),
        (
            errors.DecryptionError(),
            "E003",
            "Decryption failed: authentication tag verification failed",
        ),
    ],
)
def test_coded_error_says_exactly_its_sentence(error, code, message):
    assert (error.code, error.message) == (code, message)
    assert error.hint
    assert str(error) == f"{code}: {message}. {error.hint}"


def test_not_built_yet_names_the_option():
    error = errors.NotBuiltYet("tags")
    assert error.option == "tags"
    assert "tags" in str(error)


@pytest.mark.parametrize(
    "kind, counts",
    [
        ("refused", True),
        ("timeout", True),
        ("reset", True),
        ("auth", True),
        ("loading", True),
        ("maxclients", True),
        ("protocol", True),
        ("server", True),
        ("oom", False),
        ("readonly", False),
        ("noreplicas", False),
        ("misconf", False),
        ("pool", False),
        ("skipped", False),
    ],
)
def test_kind_decides_whether_the_breaker_counts(kind, counts):
    assert errors.BackendReplyError("x", kind=kind).counts is counts


def test_counts_can_be_given():
    assert errors.BackendReplyError("x", kind="oom", counts=True).counts is True
    assert errors.BackendError("x", counts=False).counts is False


@pytest.mark.parametrize(
    "kind, word, counts",
    [
        (errors.BackendTimeout, "timeout", True),
        (errors.BackendConnectionError, "refused", True),
        (errors.BackendAuthenticationError, "auth", True),
        (errors.BackendProtocolError, "protocol", True),
        (errors.BackendReplyError, "server", True),
        (errors.PoolTimeout, "pool", False),
        (errors.BackendUnavailable, "skipped", False),
    ],
)
def test_backend_error_class_has_a_kind(kind, word, counts):
    error = kind("x")
    assert (error.kind, error.counts) == (word, counts)


def test_uncacheable_argument_names_the_parameter_and_the_ways_out():
    error = errors.uncacheable_argument(
        "db", errors.UncacheableArgument("it is a lock")
    )
    assert isinstance(error, TypeError)
    assert "'db'" in error.message and "it is a lock" in error.message
    for way in ("key=", "ignore=", "__cache_key__", 'on_uncacheable="call"'):
        assert way in error.hint


def test_uncacheable_argument_without_a_name():
    assert errors.uncacheable_argument(None).message == (
        "an argument cannot be part of a key"
    )
    assert "the result of key=" in errors.uncacheable_argument("key=").message
