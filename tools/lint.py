"""Checks what the compilers do not: layers, preambles, sizes, symbols, words, layout.

    python tools/lint.py [--root DIR] [--clang-format PROGRAM]
                         [--archive LIBCK.A] [--extension CORE.SO]
    python tools/lint.py --write --clang-format PROGRAM

Prints one line per finding, "path:line: what is wrong", and fails when there is any.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MIDDLE = ("codec", "engine", "net", "store")
# A file of the key's folder may include headers of its own folder and of these.
BELOW = {
    "base": (),
    **dict.fromkeys(MIDDLE, ("base",)),
    "py": ("base", *MIDDLE),
}
MAX_LINES = 1000
LONG_LINES = 800
MAX_FUNCTION_LINES = 120
WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|(?<![\w.])/(work|root)/")
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')
ALLOCATION = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|strndup)\s*\(")
TABLE = re.compile(r"(static )?[\w *]+\[\w*\] = \{$")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def c_files(root: Path, *folders: str) -> list[Path]:
    return sorted(
        path for folder in folders for path in (root / folder).rglob("*.[ch]")
    )


def without_comments(text: str) -> str:
    """The text with comments blanked and line numbers kept."""
    return COMMENT.sub(lambda match: "\n" * match.group().count("\n"), text)


def includes(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, delimiter, name) of each #include."""
    for number, line in enumerate(without_comments(path.read_text()).split("\n"), 1):
        if match := INCLUDE.match(line):
            yield number, match[1], match[2]


def check_layers(root: Path) -> Iterator[str]:
    """Includes point down only, and only csrc/py/ knows Python."""
    csrc = root / "csrc"
    for path in c_files(root, "csrc"):
        where, layer = path.relative_to(root), path.relative_to(csrc).parts[0]
        if layer not in BELOW:
            yield f"{where}:1: no such layer: {layer}"
            continue
        for number, _, name in includes(path):
            if name in ("Python.h", "structmember.h") and layer != "py":
                yield f"{where}:{number}: {name} outside csrc/py/"
            above = name.partition("/")[0]
            if (csrc / name).is_file():
                if above != layer and above not in BELOW[layer]:
                    yield f"{where}:{number}: {layer} must not include {above}: {name}"
            elif (path.parent / name).is_file():
                yield f'{where}:{number}: write it as "{layer}/{name}"'


def check_own_header_first(root: Path) -> Iterator[str]:
    """A .c includes its own header first, which proves the header self-contained."""
    for path in c_files(root, "csrc"):
        header = path.with_suffix(".h")
        if path.suffix != ".c" or not header.is_file():
            continue
        own = header.relative_to(root / "csrc").as_posix()
        first = next(includes(path), (1, "", "nothing"))
        if first[2] != own:
            where = path.relative_to(root)
            yield f'{where}:{first[0]}: includes {first[2]} before its own "{own}"'


def check_preambles(root: Path) -> Iterator[str]:
    """A licence line opens each file; the file or its header says what it is for."""
    for path in c_files(root, "csrc", "tests/c"):
        where, text = path.relative_to(root), path.read_text()
        if not text.startswith("/* SPDX-License-Identifier: MIT"):
            yield f"{where}:1: does not start with its licence line"
        if path.is_relative_to(root / "csrc"):
            header = path.with_suffix(".h")
            texts = [text, header.read_text() if header.is_file() else ""]
            if not any("PURPOSE" in one[:3000] for one in texts):
                yield f"{where}:1: neither the file nor its header states its PURPOSE"


def check_sizes(root: Path) -> Iterator[str]:
    for path in c_files(root, "csrc"):
        where, lines = path.relative_to(root), path.read_text().split("\n")
        if len(lines) > MAX_LINES:
            yield f"{where}:{MAX_LINES}: {len(lines)} lines, more than {MAX_LINES}"
        elif len(lines) > LONG_LINES:
            print(f"{where}: note: {len(lines)} lines; is there a second idea in it?")
        start = 0
        for number, line in enumerate(lines, 1):
            if line == "{":
                start = number
            elif line == "}" and start:
                if number - start > MAX_FUNCTION_LINES:
                    yield (
                        f"{where}:{start}: a function of {number - start} lines, "
                        f"more than {MAX_FUNCTION_LINES}"
                    )
                start = 0


def check_allocation(root: Path) -> Iterator[str]:
    """The core allocates through base/ck_alloc alone."""
    for path in c_files(root, *(f"csrc/{name}" for name in ("base", *MIDDLE))):
        if path.name == "ck_alloc.c":
            continue
        text = path.read_text()
        if "/* not ours to fail */" in text:
            continue  # a debugging walk, which must not move the count of allocations
        text = without_comments(text)
        for number, line in enumerate(text.split("\n"), 1):
            if match := ALLOCATION.search(line):
                where = path.relative_to(root)
                yield f"{where}:{number}: {match[1]}() instead of ck_{match[1]}()"


def project_files(root: Path) -> list[Path]:
    """Every text file of the project: what git has or would take."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        check=True,
        text=True,
    )
    return sorted(
        path
        for name in listed.stdout.split("\0")
        if name and (path := root / name).is_file()
    )


def check_words(root: Path) -> Iterator[str]:
    """Nothing is left for later, and no path of one machine is in the text."""
    for path in project_files(root):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if path.samefile(__file__):
            continue
        for number, line in enumerate(text.split("\n"), 1):
            if match := WORDS.search(line):
                yield f"{path.relative_to(root)}:{number}: the word {match.group()!r}"


def lines_to_lay_out(text: str) -> list[str]:
    """clang-format's options for all lines but those of tables, which it would pack."""
    options, start, inside = [], 1, False
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not inside and TABLE.match(line):
            inside = True
            if number > start:
                options.append(f"--lines={start}:{number - 1}")
        elif inside and line == "};":
            inside, start = False, number + 1
    if not inside and start <= len(lines):
        options.append(f"--lines={start}:{len(lines)}")
    return options


def lay_out(root: Path, program: str, write: bool) -> Iterator[str]:
    """The C files are as clang-format writes them; `write` makes them so."""

    def one(path: Path) -> str:
        text = path.read_text()
        done = subprocess.run(
            [program, "--style=file", *lines_to_lay_out(text), str(path)],
            capture_output=True,
            check=True,
            text=True,
        )
        if done.stdout == text:
            return ""
        if write:
            path.write_text(done.stdout)
        pairs = zip(text.split("\n"), done.stdout.split("\n"), strict=False)
        line = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), 1)
        return f"{path.relative_to(root)}:{line}: not laid out; make format does it"

    with ThreadPoolExecutor() as pool:
        yield from filter(None, pool.map(one, c_files(root, "csrc", "tests/c")))


def symbols(path: str, *options: str) -> list[str]:
    done = subprocess.run(
        ["nm", *options, path], capture_output=True, check=True, text=True
    )
    return [words[-1] for line in done.stdout.split("\n") if (words := line.split())]


def check_archive(path: str) -> Iterator[str]:
    """The core needs nothing of Python."""
    for name in sorted(set(symbols(path, "-u"))):
        if re.match(r"_?Py", name):
            yield f"{path}:1: the core needs {name}"


def check_extension(path: str) -> Iterator[str]:
    """The extension shows one symbol."""
    names = symbols(path, "-D", "--defined-only")
    if names != ["PyInit__core"]:
        yield f"{path}:1: exports {', '.join(names) or 'nothing'}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--clang-format", default="")
    parser.add_argument("--archive", default="")
    parser.add_argument("--extension", nargs="*", default=[])
    parser.add_argument("--write", action="store_true", help="lay out, check nothing")
    options = parser.parse_args()
    if options.write:
        list(lay_out(options.root, options.clang_format, write=True))
        return 0

    findings: list[str] = []
    for check in (
        check_layers,
        check_own_header_first,
        check_preambles,
        check_sizes,
        check_allocation,
        check_words,
    ):
        findings += check(options.root)
    if options.clang_format:
        findings += lay_out(options.root, options.clang_format, write=False)
    if options.archive:
        findings += check_archive(options.archive)
    for extension in options.extension:
        findings += check_extension(extension)
    for finding in findings:
        print(finding)
    print(f"lint: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
