# SPDX-License-Identifier: MIT
"""Writes what is made from the tables: ``docs/configuration.md`` and typed signatures.

Run as ``python -m cachekit._config_page`` in a checkout. With ``--check`` nothing is
written; the exit code is 1 when a file differs from what its table says.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cachekit._config import FIELDS, Field
from cachekit._options import OPTIONS, PRESETS, Option

_BEGIN = "# -- made by python -m cachekit._config_page --\n"
_END = "# -- end --\n"

_HEAD = """\
# Configuration

Everything has a default: `@cache` alone works. What is said explicitly (a keyword of
the decorator, an argument of `CacheConfig`) wins over the environment, and that over
the default.

```python
from cachekit import Cache, CacheConfig

cache = Cache(CacheConfig(default_ttl=60, namespace="shop"))

@cache(ttl=5)
def price(product_id: int) -> float:
    return 9.99
```

The environment is read on first use, never at import. A value that is not accepted
raises `ConfigurationError`, which names the variable, what it held (secrets masked) and
what is accepted. A variable that is empty counts as not set; `true`/`false`, `1`/`0`,
`yes`/`no` and `on`/`off` are the same; times are numbers of seconds.

This page is made from the tables in the code by `python -m cachekit._config_page`.
"""

_FIELDS_HEAD = """
## `CacheConfig` and the environment

| field | variable | default | accepts | what it does |
|---|---|---|---|---|
"""

_STORE_NOTE = """
At most one store may be set. `REDIS_URL`, which many platforms provide, is used when no
`CACHEKIT_` store variable is set; one INFO record says so.

A Redis URL is `redis://user:password@host:port/database`, `rediss://` for TLS, or
`unix:///path/to/socket?db=0`. A `/`, `?`, `#` or `@` in a password is written `%2F`,
`%3F`, `%23` or `%40`. Options in the query: `db`; `timeout` (seconds, in place of
`socket_timeout`); with `rediss://` also `ssl_cert_reqs` (`required` or `none`),
`ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (files) and `ssl_check_hostname`.
"""

_OPTIONS_HEAD = """
## Keywords of the decorator

| keyword | default | accepts | what it does |
|---|---|---|---|
"""

_PRESETS_HEAD = """
## Presets

Used like `@cache` itself, with and without parentheses; any keyword overrides what the
preset says.

| preset | what it is |
|---|---|
"""

_LATER_HEAD = """
## Known, and not in this version

These names are reserved. Setting one to anything but its default raises `NotBuiltYet`,
which names it; nothing is accepted and then ignored.

"""


def page() -> str:
    """The text of ``docs/configuration.md``."""
    fields = "".join(_field_row(field) for field in FIELDS if field.built)
    options = "".join(
        _option_row(option) for option in OPTIONS if not option.preset_only
    )
    presets = "".join(
        f"| `@cache.{p.name}` | {_cell(p.doc)} |\n" for p in PRESETS.values() if p.name
    )
    later = "".join(
        f"- {kind} {', '.join(f'`{name}`' for name in names)}\n"
        for kind, names in (
            ("`CacheConfig`:", [f.name for f in FIELDS if not f.built]),
            ("URLs:", ["redis+cluster://", "redis+sentinel://"]),
        )
        if names
    )
    return (
        _HEAD
        + (_FIELDS_HEAD + fields + _STORE_NOTE)
        + (_OPTIONS_HEAD + options)
        + (_PRESETS_HEAD + presets)
        + (_LATER_HEAD + later)
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _field_row(field: Field) -> str:
    variable = f"`{field.variable}`" if field.variable else "none"
    accepted = field.check.accepted
    return (
        f"| `{field.name}` | {variable} | {field.doc_default} | {_cell(accepted)} "
        f"| {_cell(field.doc)} |\n"
    )


def _option_row(option: Option) -> str:
    return (
        f"| `{option.name}` | {option.doc_default} | {_cell(option.check.accepted)} "
        f"| {_cell(option.doc)} |\n"
    )


def _config_block() -> str:
    """The typed part of ``CacheConfig``."""
    lines = ["def __init__(", "    self,", "    *,"]
    lines += [f"    {f.name}: {f.check.takes} = ...," for f in FIELDS]
    lines += [") -> None: ..."]
    for field in FIELDS:
        lines += ["@property", f"def {field.name}(self) -> {field.check.gives}: ..."]
    return _indent(lines, 8)


def _keywords_block() -> str:
    """The typed keywords of the decorator."""
    return _indent(
        [f"{o.name}: {o.check.takes}" for o in OPTIONS if not o.preset_only], 8
    )


def _local_block() -> str:
    """The typed keywords of ``@cache.local``."""
    return _indent([f"{o.name}: {o.check.takes}" for o in OPTIONS if o.local], 8)


def _options_block() -> str:
    """The typed attributes of ``FunctionOptions``."""
    return _indent([f"{o.name}: {o.gives}" for o in OPTIONS], 8)


def _indent(lines: list[str], width: int) -> str:
    return "".join(" " * width + line + "\n" for line in lines)


def _with_blocks(source: str, blocks: list[str]) -> str:
    """``source`` with what stands between each pair of marks replaced."""
    pieces = source.split(_BEGIN)
    if len(pieces) != len(blocks) + 1:
        raise ValueError(f"{len(pieces) - 1} marked blocks, expected {len(blocks)}")
    text = pieces[0]
    for block, piece in zip(blocks, pieces[1:], strict=True):
        indent = text[text.rindex("\n") + 1 :]
        tail = piece[piece.index(_END) :]
        text += _BEGIN + block + indent + tail
    return text


def outputs(root: Path) -> dict[Path, str]:
    """Every generated file of the checkout at ``root``, and what it must hold."""
    config = root / "cachekit" / "_config.py"
    options = root / "cachekit" / "_options.py"
    return {
        root / "docs" / "configuration.md": page(),
        config: _with_blocks(config.read_text("utf-8"), [_config_block()]),
        options: _with_blocks(
            options.read_text("utf-8"),
            [_options_block(), _keywords_block(), _local_block()],
        ),
    }


def differing(root: Path) -> list[Path]:
    """The files that are not what their table says."""
    return [
        path
        for path, text in outputs(root).items()
        if not path.exists() or path.read_text("utf-8") != text
    ]


def main(arguments: list[str] | None = None, root: Path | None = None) -> int:
    """Write the files that differ; with ``--check`` only name them."""
    check = "--check" in (sys.argv[1:] if arguments is None else arguments)
    root = Path.cwd() if root is None else root
    wanted = outputs(root)
    paths = differing(root)
    for path in paths:
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], "utf-8")
        print(f"{'differs' if check else 'written'}: {path.relative_to(root)}")
    return 1 if check and paths else 0


if __name__ == "__main__":
    raise SystemExit(main())
