"""Names of version keys, and what may be a tag."""

from __future__ import annotations

import enum
import re
import subprocess
import sys
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekit import _core
from cachekit._names import store_prefix
from cachekit._versions import (
    function_id,
    function_key,
    is_tag_key,
    judge_tags,
    namespace_key,
    tag_key,
    tag_slot,
)

SECRET = partial(_core.Keyring("73" * 32).names_digest, "")
OTHER = partial(_core.Keyring("74" * 32).names_digest, "")
HEX = re.compile("[0-9a-f]{32}")
printable = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1
).filter(lambda text: len(text.encode()) <= 200)


def digits(name: str) -> str:
    found = name.rpartition(":")[2]
    assert HEX.fullmatch(found)
    return found


# -- the names ------------------------------------------------------------------------


def test_a_function_is_named_after_its_prefix():
    name = function_key("shop:app.load:", b"identity")
    assert name.startswith("shop:app.load:v:")
    assert function_id(name) == bytes.fromhex(digits(name))
    assert len(function_id(name)) == 16


def test_a_namespace_is_named():
    assert namespace_key("shop").startswith("shop:v:")
    assert namespace_key(None) == namespace_key("") == namespace_key("cachekit")


def test_a_tag_is_named_readably():
    name = tag_key("shop", "product {1} größe")
    assert name.startswith("shop:tag:product__1__gr__e:")
    assert tag_key(None, "x").startswith("cachekit:tag:x:")


def test_a_long_tag_is_cut_and_stays_apart():
    one, two = (tag_key("shop", "x" * 150 + end) for end in "ab")
    assert one.startswith("shop:tag:" + "x" * 64 + ":")
    assert one != two


def test_the_names_do_not_change_from_version_to_version():
    assert function_key("a:b:", b"c") == "a:b:v:aee27a546e232cef7522909ff0c8d1a1"
    assert namespace_key("a") == "a:v:7d92bd078fce5ad48d8f3f5e2a91dba8"
    assert tag_key("a", "b") == "a:tag:b:e390dea1c978f47e209df4df1c027986"
    assert tag_key("a", "b", key=SECRET) == "a:tag:c6d3deecdda0bf228fea155282aad8b9"


def test_names_are_the_same_in_another_process():
    code = "from cachekit._versions import tag_key; print(tag_key('a', 'b'))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == tag_key("a", "b")


def test_meanings_stay_apart():
    names = [
        function_key("a:b:", b"c"),
        function_key("a:b:", b"d"),
        function_key("a:c:", b"c"),
        function_key("a:b", b":c"),
        namespace_key("a"),
        namespace_key("b"),
        tag_key("a", "b"),
        tag_key("b", "b"),
        tag_key("a", "B"),
        tag_key("a", "é"),
        tag_key("a", "e\u0301"),
        function_key("a:tag:", b""),
        tag_key("a", "v"),
    ]
    assert len({digits(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "make",
    [
        lambda key: function_key("a:b:", b"c", key=key),
        lambda key: namespace_key("a", key=key),
        lambda key: tag_key("a", "b", key=key),
    ],
)
def test_a_key_makes_other_names(make):
    names = {digits(make(key)) for key in (None, SECRET, OTHER)}
    assert len(names) == 3


def test_a_key_hides_the_tag():
    name = tag_key("shop", "patient:ada", key=SECRET)
    assert name == "shop:tag:" + digits(name)
    assert is_tag_key(name)


@given(
    printable,
    st.text(
        st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64
    ),
    st.sampled_from([None, SECRET]),
)
def test_every_name_is_a_fine_key(tag, space, key):
    space = space.replace("{", "_").replace("}", "_")
    prefix = store_prefix(space, tag)
    for name in (
        function_key(prefix, tag.encode(), key=key),
        namespace_key(space, key=key),
        tag_key(space, tag, key=key),
    ):
        assert len(name) <= 250
        assert all("!" <= c <= "~" and c not in "{}" for c in name)
        assert digits(name)


@given(printable)
def test_a_tag_has_a_slot(tag):
    name = tag_key("shop", tag)
    assert is_tag_key(name)
    assert tag_slot(name) == int(digits(name), 16) & 0xFFFF


@pytest.mark.parametrize(
    "name",
    [
        "",
        "tag",
        ":tag:",
        "a:tag:b:",
        "a:tag:b:" + "0" * 31,
        "a:tag:b:" + "0" * 31 + "g",
        "a:tag:b:" + "0" * 31 + "A",
        "a:tag:b:" + "0" * 33,
        "a:tag:b:" + "0" * 15 + "_" + "0" * 16,
        "a:tag:" + "\u0660" * 32,
        namespace_key("a"),
        function_key("a:b:", b"c"),
    ],
)
def test_other_names_are_no_tags(name):
    assert not is_tag_key(name)


@given(st.text())
def test_any_text_may_be_asked_about(text):
    for name in (text, "a:tag:" + text, "a:tag:b:" + text):
        if is_tag_key(name):
            assert 0 <= tag_slot(name) < 65536


# -- what may be a tag ----------------------------------------------------------------


class Color(str, enum.Enum):
    RED = "red"


def test_tags_are_put_in_order_and_repeated_ones_dropped():
    assert judge_tags(["b", "a", "b"]) == ("a", "b")
    assert judge_tags(()) == ()
    assert judge_tags({"b", "a"}) == judge_tags(tag for tag in ("a", "b"))


def test_nothing_is_normalised():
    assert len(judge_tags(["é", "e\u0301", "E\u0301", " a", "a"])) == 5


def test_the_text_of_a_subclass_is_taken():
    (tag,) = judge_tags([Color.RED])
    assert type(tag) is str and tag == "red"


@given(st.lists(printable, max_size=32))
def test_printable_text_may_be_a_tag(tags):
    assert judge_tags(tags) == tuple(sorted(set(tags)))


@pytest.mark.parametrize("tag", ["x" * 200, "é" * 100, "a b", "商品", "🦊" * 50])
def test_up_to_200_bytes(tag):
    assert judge_tags([tag]) == (tag,)


@pytest.mark.parametrize(
    "tag, named",
    [
        ("", "''"),
        ("x" * 201, "xxx"),
        ("é" * 101, r"\\xe9"),
        ("a\n", r"'a\\n'"),
        ("a\0", r"'a\\x00'"),
        ("a\x7f", r"\\x7f"),
        ("a\u200b", r"\\u200b"),
        ("\ud800", r"\\ud800"),
        (5, "int: 5"),
        (None, "NoneType: None"),
        (b"bytes", "bytes: b'bytes'"),
    ],
)
def test_what_is_no_tag_is_named(tag, named):
    with pytest.raises(ValueError, match=named) as caught:
        judge_tags(["fine", tag])
    assert len(str(caught.value)) < 160


class Rude:
    def __repr__(self):
        raise RuntimeError


def test_a_repr_that_raises_is_no_excuse():
    with pytest.raises(ValueError, match="Rude"):
        judge_tags([Rude()])


@pytest.mark.parametrize("tags", ["products", b"products", 5, None])
def test_tags_that_are_no_list_are_a_type_error(tags):
    with pytest.raises(TypeError, match="tags must be a list of texts, not"):
        judge_tags(tags)


def test_at_most_32():
    tags = [f"tag:{number}" for number in range(33)]
    assert len(judge_tags(tags[:32] * 2)) == 32
    with pytest.raises(ValueError, match="more than 32 tags"):
        judge_tags(tags)
