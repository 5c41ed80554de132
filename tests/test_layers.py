"""The project keeps the rules of tools/lint.py, and the lint catches each breach."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.no_sanitizer,
    pytest.mark.skipif(not (TOP / "tools").exists(), reason="not a source tree"),
]
PREAMBLE = "/* SPDX-License-Identifier: MIT\n *\n * PURPOSE   To be looked at.\n */\n"


@pytest.fixture(scope="module")
def lint():
    spec = importlib.util.spec_from_file_location("lint", TOP / "tools" / "lint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path):
    """A small project in order."""
    for layer in ("base", "codec", "engine", "net", "store", "py"):
        put(tmp_path, f"csrc/{layer}/ck_{layer}.h", "#include <stdint.h>\n")
        put(
            tmp_path, f"csrc/{layer}/ck_{layer}.c", f'#include "{layer}/ck_{layer}.h"\n'
        )
    return tmp_path


def put(root, name, text, preamble=PREAMBLE):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(preamble + text)


CHECKS = (
    "check_layers",
    "check_own_header_first",
    "check_preambles",
    "check_sizes",
    "check_allocation",
)


@pytest.mark.parametrize("check", CHECKS)
def test_the_project_keeps(lint, check):
    assert list(getattr(lint, check)(TOP)) == []


@pytest.mark.parametrize("check", CHECKS)
def test_a_tree_in_order_has_no_findings(lint, tree, check):
    assert list(getattr(lint, check)(tree)) == []


@pytest.mark.parametrize(
    ("layer", "included"),
    [
        ("base", "codec"),
        ("base", "py"),
        ("codec", "engine"),
        ("codec", "py"),
        ("engine", "store"),
        ("net", "codec"),
        ("store", "net"),
    ],
)
def test_an_include_that_points_up_or_sideways_is_found(lint, tree, layer, included):
    text = f'#include "{layer}/ck_{layer}.h"\n#include "{included}/ck_{included}.h"\n'
    put(tree, f"csrc/{layer}/ck_{layer}.c", text)
    (finding,) = lint.check_layers(tree)
    assert finding.startswith(f"csrc/{layer}/ck_{layer}.c:6: {layer} must not include")


@pytest.mark.parametrize("layer", ["base", "codec", "engine", "net", "store"])
def test_python_outside_the_binding_is_found(lint, tree, layer):
    put(tree, f"csrc/{layer}/ck_{layer}.h", "#  include <Python.h>\n")
    (finding,) = lint.check_layers(tree)
    assert "Python.h outside csrc/py/" in finding


def test_an_include_in_a_comment_is_none(lint, tree):
    put(tree, "csrc/base/ck_base.h", '/*\n#include "py/ck_py.h"\n*/\n')
    assert list(lint.check_layers(tree)) == []


def test_an_include_without_its_layer_is_found(lint, tree):
    put(tree, "csrc/py/ck_more.c", '#include "ck_py.h"\n')
    (finding,) = lint.check_layers(tree)
    assert 'write it as "py/ck_py.h"' in finding


def test_an_unknown_layer_is_found(lint, tree):
    put(tree, "csrc/misc/ck_misc.c", "")
    (finding,) = lint.check_layers(tree)
    assert "no such layer: misc" in finding


def test_another_header_before_its_own_is_found(lint, tree):
    put(tree, "csrc/net/ck_net.c", '#include <stdio.h>\n#include "net/ck_net.h"\n')
    (finding,) = lint.check_own_header_first(tree)
    assert finding.startswith("csrc/net/ck_net.c:5: includes stdio.h before")


def test_a_missing_licence_line_is_found(lint, tree):
    put(tree, "csrc/net/ck_net.h", "/* PURPOSE */\n", preamble="")
    (finding,) = lint.check_preambles(tree)
    assert finding == "csrc/net/ck_net.h:1: does not start with its licence line"


def test_a_missing_purpose_is_found(lint, tree):
    put(tree, "csrc/net/ck_x.c", "", preamble="/* SPDX-License-Identifier: MIT */\n")
    (finding,) = lint.check_preambles(tree)
    assert finding.startswith("csrc/net/ck_x.c:1: neither the file nor its header")


def test_a_file_too_long_is_found(lint, tree):
    put(tree, "csrc/net/ck_net.h", "\n" * 1000)
    (finding,) = lint.check_sizes(tree)
    assert "more than 1000" in finding


def test_a_function_too_long_is_found(lint, tree):
    put(tree, "csrc/net/ck_x.c", "int\nf(void)\n{\n" + "    ;\n" * 130 + "}\n")
    (finding,) = lint.check_sizes(tree)
    assert finding.startswith("csrc/net/ck_x.c:7: a function of")


def test_an_allocation_past_the_hook_is_found(lint, tree):
    put(tree, "csrc/store/ck_x.c", "void *p = malloc(1);\nck_free(p);\nq->free(p);\n")
    (finding,) = lint.check_allocation(tree)
    assert finding == "csrc/store/ck_x.c:5: malloc() instead of ck_malloc()"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("word", ["ODOT"[::-1], "EMXIF"[::-1], "/{}/x".format("root")])
def test_a_word_left_behind_is_found(lint, tree, word):
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    put(tree, "README.md", f"one\n{word} two\n", preamble="")
    findings = list(lint.check_words(tree))
    assert len(findings) == 1
    assert findings[0].startswith("README.md:2: the word")


def test_tables_keep_their_lines(lint):
    text = "int a;\nstatic PyType_Slot slots[] = {\n    {0, NULL},\n};\nint b;"
    assert lint.lines_to_lay_out(text) == ["--lines=1:1", "--lines=5:5"]
