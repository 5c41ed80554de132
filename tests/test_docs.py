"""The documentation is true: its snippets run, its links lead somewhere, its commands
and options exist.

The Python snippets of a page run in page order, in one program with one set of names;
``await`` may stand anywhere. A page with the comment ``<!-- needs redis -->`` finds a
server in ``CACHEKIT_REDIS_URL``.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import RedisServer

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
#: Where options of later versions may be named: to say that they are.
NAMES_LATER_OPTIONS = {"configuration.md", "wire-format.md", "CHANGELOG.md"}
#: What shell snippets may start with, besides make.
COMMANDS = {"cd", "export", "git", "pip", "python", "redis-cli"}
#: Inline code of the form `word=` that is no option of the decorator or of CacheConfig.
OTHER_KEYWORDS = {
    *("allow_unsigned", "config", "clock", "default", "strict", "db", "timeout"),
    *("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname"),
    *("ssl_keyfile", "PYTHON", "PYTEST_ARGS", "VARIANT", "on_messages"),
    "extra",  # of pydantic
}
NEEDS_REDIS = "<!-- needs redis -->"
#: Of a page that tells to make a master key.
NEEDS_KEY = "export CACHEKIT_MASTER_KEY="


def name(page: Path) -> str:
    return page.name


def fences(page: Path) -> Iterator[tuple[str, int, str]]:
    """(language, line of the first line, text) of each fenced block."""
    language, first, lines = None, 0, []
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif language is None:
            language, first, lines = line[3:].strip(), number + 1, []
        else:
            yield language, first, "\n".join(lines)
            language = None
    assert language is None, f"{page.name}: the fence before line {first} has no end"


def snippets(page: Path) -> list[tuple[int, str]]:
    return [(at, text) for language, at, text in fences(page) if language == "python"]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)


# -- Python ---------------------------------------------------------------------------


def run_page(page: Path) -> None:
    """Run the snippets of a page, in this process."""
    module = types.ModuleType(page.stem.replace("-", "_").lower())
    sys.modules[module.__name__] = module
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    for line, text in snippets(page):
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        source = "\n" * (line - 1) + text
        code = compile(source, str(page), "exec", flags=flags, dont_inherit=True)
        result = eval(code, vars(module))
        if inspect.iscoroutine(result):
            loop.run_until_complete(result)
    loop.close()


@pytest.mark.parametrize("page", [p for p in PAGES if snippets(p)], ids=name)
def test_snippets_run(page: Path, request: pytest.FixtureRequest) -> None:
    environment = dict(os.environ)
    if NEEDS_KEY in page.read_text("utf-8"):
        environment["CACHEKIT_MASTER_KEY"] = "5e" * 32
    if NEEDS_REDIS in page.read_text("utf-8"):
        server: RedisServer = request.getfixturevalue("own_redis")
        environment["CACHEKIT_REDIS_URL"] = server.url
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", __file__, str(page)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4000:]


# -- shell ----------------------------------------------------------------------------


def targets() -> set[str]:
    rule = re.compile(r"^([a-z][a-z-]*):(?!=)", re.M)
    return set(rule.findall((ROOT / "Makefile").read_text()))


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    for language, first, text in fences(page):
        if language in ("sh", "bash", "console"):
            for number, line in enumerate(text.splitlines(), first):
                words = shlex.split(line.removeprefix("$ "), comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    del words[0]
                if words:
                    yield number, words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    known = targets()
    for line, (command, *words) in commands(page):
        where = f"{page.name}:{line}"
        if command == "make":
            named = {word for word in words if word[0] != "-" and "=" not in word}
            assert named <= known, where
        elif command.startswith((".", "tools/")):
            assert (ROOT / command).exists(), where
        else:
            assert command in COMMANDS, where
        if command == "python":
            scripts = [word for word in words if word.endswith(".py")]
            assert all((ROOT / word).exists() for word in scripts), where


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_in_the_text_exist(page: Path) -> None:
    named = set(re.findall(r"`(?:[A-Z]+=\S+ )?make ([a-z-]+)", prose(page)))
    assert named <= targets()


# -- links ----------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as the usual renderers make them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), flags=re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(plain.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name}: {target}"


def test_index_names_every_page() -> None:
    text = (ROOT / "docs" / "index.md").read_text("utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {name for name in pages if f"({name})" not in text} == set()


# -- rights ---------------------------------------------------------------------------


def rights() -> tuple[list[str], list[str]]:
    """The ACL command of docs/redis.md, and what the text below it adds."""
    text = (ROOT / "docs" / "redis.md").read_text("utf-8")
    [command] = re.findall(r"^ACL SETUSER [^`]+", text, flags=re.M)
    [after] = re.findall(r"with `coherence=\"tracking\"` also(?:.+\n)+", text)
    return command.split(), re.findall(r"`([+&][^`]+)`", after)


def test_the_rights_that_redis_needs_are_those_we_name(own_redis: RedisServer) -> None:
    from cachekit import NEVER, Cache, CacheConfig

    command, more = rights()
    own_redis.call(*command, *more)
    url = f"redis://app:secret@127.0.0.1:{own_redis.port}/1"
    here, there = (Cache(CacheConfig(namespace="shop"), backend=url) for _ in range(2))
    for cache in (here, there):
        options = {"tags": ["t"], "distributed_lock": True, "version": 1}
        work = cache(name="work", ttl=0.05, stale_ttl=60, **options)(abs)
        kept = cache(name="kept", ttl=NEVER, coherence="tracking")(abs)
        for _ in range(2):
            assert (work(-1), kept(-1)) == (1, 1)
            work.put(1, -1), work.refresh(-1), kept.refresh(-1)
            work.using("invalidate")(-2), work.using("bypass")(-2)
            work.invalidate(-1), work.invalidate_all()
            cache.invalidate_tags("t"), cache.clear()
            cache.set("name", 1), cache.get("name"), cache.delete("name")
        report = cache.detailed_health_check()
        assert (report["fenced"], report["warnings"]) == (True, [])
    here.close(), there.close()
    assert own_redis.call("ACL", "LOG") == []
    scripts = (ROOT / "cachekit" / "backends" / "_redis_scripts.py").read_text("utf-8")
    within = set(re.findall(r"redis\.p?call\('([A-Z]+)'", scripts))
    assert {f"+{word.lower()}" for word in within} <= set(command)


# -- options --------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_and_variables_exist(page: Path) -> None:
    from cachekit._fields import FIELDS
    from cachekit._option_table import OPTIONS

    rows = [*OPTIONS, *FIELDS]
    built = {row.name for row in rows if getattr(row, "built", True)}
    later = {row.name for row in rows} - built
    text = page.read_text("utf-8")
    keyword = re.compile(r"`(?:[a-z_.]+\()?(?!CACHEKIT_)([A-Za-z_]+)=[^`\n]*`")
    keywords = set(keyword.findall(prose(page)))
    if page.name in NAMES_LATER_OPTIONS:
        built |= later
    assert keywords - built - OTHER_KEYWORDS == set()
    variables = {row.variable for row in FIELDS if row.variable}
    named = set(re.findall(r"\bCACHEKIT_[A-Z0-9_]*[A-Z0-9]", text))
    assert named - variables - {"CACHEKIT_WERROR", "CACHEKIT_SANITIZE"} == set()


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name not in NAMES_LATER_OPTIONS], ids=name
)
def test_nothing_that_is_not_built_is_offered(page: Path) -> None:
    from cachekit._fields import FIELDS

    later = {field.name for field in FIELDS if not field.built}
    words = set(re.findall(r"`([a-z_]+)=?`", prose(page)))
    # Words that also have a plain meaning.
    assert words & later - {"version", "schema", "tenant", "wire"} == set()


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
