"""What the build promises: a message in one line, one symbol, one version."""

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.no_sanitizer,
    pytest.mark.skipif(not (TOP / "setup.py").exists(), reason="not a source tree"),
]


def build(tmp_path, **environment):
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path)],
        cwd=TOP,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
        capture_output=True,
        text=True,
    )


def test_missing_libraries_are_named_in_one_line_with_their_packages(tmp_path):
    done = build(tmp_path, PKG_CONFIG_LIBDIR=str(tmp_path), PKG_CONFIG_PATH="")
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    for word in (
        "hiredis",
        "libhiredis-dev",
        "hiredis-devel",
        "libmsgpack-dev",
        "openssl-devel",
        "openssl@3",
        "liblz4-dev",
        "xxhash-devel",
        "libb2",
    ):
        assert word in done.stderr


def test_only_the_missing_library_is_named(tmp_path):
    for name in ("hiredis", "msgpack", "openssl", "liblz4", "libxxhash"):
        (tmp_path / f"{name}.pc").write_text(
            f"Name: {name}\nDescription: a stand-in\nVersion: 1\nLibs:\nCflags:\n"
        )
    done = build(tmp_path, PKG_CONFIG_LIBDIR=str(tmp_path), PKG_CONFIG_PATH="")
    assert done.returncode != 0
    assert done.stderr == (
        "cachekit: cannot build without libb2. "
        "Packages: Debian: libb2-dev; Fedora: libb2-devel; Homebrew: libb2\n"
    )


def test_missing_pkg_config_is_named_in_one_line(tmp_path):
    done = build(tmp_path, PKG_CONFIG="no-such-pkg-config")
    assert done.returncode != 0
    assert done.stderr.startswith("cachekit: cannot build without pkg-config.")
    assert done.stderr.count("\n") == 1


def test_missing_compiler_is_named_in_one_line(tmp_path):
    done = build(tmp_path, CC="no-such-compiler")
    assert done.returncode != 0
    assert done.stderr.startswith("cachekit: cannot build without a C compiler.")
    assert done.stderr.count("\n") == 1


def test_the_extension_exports_one_symbol():
    extension = importlib.util.find_spec("cachekit._core").origin
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    done = subprocess.run(
        ["nm", "-D", "--defined-only", extension],
        capture_output=True,
        check=True,
        text=True,
    )
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["PyInit__core"]


def test_the_version_stands_in_one_place():
    tree = ast.parse((TOP / "cachekit" / "_version.py").read_text())
    version = ast.literal_eval(tree.body[-1].value)
    assert importlib.metadata.version("cachekit") == version
    assert version not in (TOP / "pyproject.toml").read_text().split("[project.opt")[0]
    assert version not in (TOP / "setup.py").read_text()


def test_nothing_is_required_at_run_time():
    required = importlib.metadata.requires("cachekit") or []
    assert [one for one in required if "extra ==" not in one] == []


def test_help_lists_every_public_target():
    done = subprocess.run(
        ["make", "-s", "help"], cwd=TOP, capture_output=True, check=True, text=True
    )
    lines = done.stdout.partition("\n\n")[0].splitlines()
    targets = {line.split()[0] for line in lines}
    assert targets >= {
        *("build", "demo", "test", "test-all", "bench", "lint", "sanitize"),
        *("clean", "help"),
    }
    makefile = (TOP / "Makefile").read_text()
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@pytest.fixture
def bare_path(tmp_path):
    """A PATH with what tools/setup-system itself needs, and no package manager."""
    for name in "bash cat command id mktemp rm sort tr xargs echo".split():
        if path := shutil.which(name):
            (tmp_path / name).symlink_to(path)
    for name in ("gcc", "cc", "redis-server", "memcached", "openssl"):
        stand_in(tmp_path, name, "exit 0")
    stand_in(tmp_path, "python3", "exit 0")
    stand_in(tmp_path, "pkg-config", "exit 0")
    return tmp_path


def stand_in(folder, name, line):
    path = folder / name
    path.write_text(f"#!{shutil.which('bash')}\n{line}\n")
    path.chmod(0o755)


def setup_system(path):
    return subprocess.run(
        [shutil.which("bash"), str(TOP / "tools" / "setup-system")],
        env={"PATH": str(path), "PYTHON": "python3"},
        capture_output=True,
        text=True,
    )


def test_setup_says_nothing_when_nothing_is_missing(bare_path):
    done = setup_system(bare_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_setup_names_what_it_cannot_install_in_one_line(bare_path):
    stand_in(bare_path, "pkg-config", '[ "$2" != libb2 ] && [ "$2" != hiredis ]')
    done = setup_system(bare_path)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert done.stderr.split(": ")[-1] == "libb2-dev libhiredis-dev\n"


def test_setup_goes_on_without_a_server(bare_path):
    (bare_path / "redis-server").unlink()
    done = setup_system(bare_path)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "redis-server" in done.stderr


def test_setup_installs_only_what_is_missing(bare_path, tmp_path):
    if os.getuid() != 0:
        pytest.skip("needs root")
    stand_in(bare_path, "pkg-config", '[ "$2" != liblz4 ]')
    stand_in(bare_path, "env", f'echo "$@" >>{tmp_path}/calls')
    stand_in(bare_path, "apt-get", "exit 0")
    for name in ("tee", "chmod"):
        stand_in(bare_path, name, "exit 0")
    done = setup_system(bare_path)
    assert done.returncode == 0, done.stderr
    assert (
        (tmp_path / "calls")
        .read_text()
        .split("\n")[0]
        .endswith("install --no-install-recommends liblz4-dev")
    )
