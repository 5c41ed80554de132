"""Builds cachekit._core from csrc/. Everything else is in pyproject.toml.

CACHEKIT_WERROR=1 in the environment makes warnings errors;
CACHEKIT_SANITIZE=address,undefined builds with those sanitizers, for use with the
sanitizer's library preloaded.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent

# pkg-config names in order of preference, then the packages that bring them.
LIBRARIES = {
    "hiredis": (["hiredis"], "libhiredis-dev", "hiredis-devel", "hiredis"),
    "msgpack": (["msgpack-c", "msgpack"], "libmsgpack-dev", "msgpack-devel", "msgpack"),
    "OpenSSL": (["openssl"], "libssl-dev", "openssl-devel", "openssl@3"),
    "lz4": (["liblz4"], "liblz4-dev", "lz4-devel", "lz4"),
    "xxHash": (["libxxhash"], "libxxhash-dev", "xxhash-devel", "xxhash"),
    "libb2": (["libb2"], "libb2-dev", "libb2-devel", "libb2"),
}
HEADER_ONLY = {"xxHash"}

WARNINGS = shlex.split(
    "-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla "
    "-Wformat=2"
)
# Python's own macros do not survive -Wconversion, so csrc/py/ goes without it.
CORE_WARNINGS = ["-Wconversion"]


class Missing(SystemExit):
    """Ends the build with one line."""

    def __init__(self, what, debian, fedora, homebrew):
        packages = (
            f"Debian: {' '.join(debian)}; Fedora: {' '.join(fedora)}; "
            f"Homebrew: {' '.join(homebrew)}"
        )
        super().__init__(f"cachekit: cannot build without {what}. Packages: {packages}")


def pkg_config(*arguments):
    command = shlex.split(os.environ.get("PKG_CONFIG", "pkg-config"))
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False
    )


def check_tools():
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    if shutil.which(shlex.split(compiler)[0]) is None:
        raise Missing("a C compiler", ["gcc", "libc6-dev"], ["gcc"], ["gcc"])
    tool = shlex.split(os.environ.get("PKG_CONFIG", "pkg-config"))[0]
    if shutil.which(tool) is None:
        raise Missing("pkg-config", ["pkg-config"], ["pkgconf-pkg-config"], ["pkgconf"])
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        raise Missing("Python.h", ["python3-dev"], ["python3-devel"], ["python"])


def find_libraries():
    """The compiler and linker flags of all libraries."""
    found, missing = {}, []
    for name, (candidates, *packages) in LIBRARIES.items():
        for candidate in candidates:
            if pkg_config("--exists", candidate).returncode == 0:
                found[name] = candidate
                break
        else:
            missing.append((name, *packages))
    if missing:
        names, *packages = zip(*missing, strict=True)
        raise Missing(", ".join(names), *packages)

    cflags = shlex.split(pkg_config("--cflags", *found.values()).stdout)
    linked = [found[name] for name in found if name not in HEADER_ONLY]
    ldflags = shlex.split(pkg_config("--libs", *linked).stdout)
    # Our warnings are for our code: other people's headers are system headers.
    system = [
        word
        for flag in cflags
        for word in (["-isystem", flag[2:]] if flag[:2] == "-I" else [flag])
        if flag != "-I/usr/include"
    ]
    return system, ldflags


def up_to_date(target, dependencies, command):
    """Whether the object `target` was made by `command` after its last change."""
    try:
        made = target.stat().st_mtime_ns
        if target.with_suffix(".cmd").read_text() != command:
            return False
        rule = dependencies.read_text().replace("\\\n", " ").partition(":")[2]
        return all(os.stat(path).st_mtime_ns <= made for path in shlex.split(rule))
    except OSError:
        return False


class BuildCore(build_ext):
    """Compiles in parallel, and only what has changed."""

    def finalize_options(self):
        super().finalize_options()
        kind = os.environ.get("CACHEKIT_SANITIZE", "").replace(",", "-")
        parts = [sysconfig.get_platform(), sys.implementation.cache_tag, kind]
        # One place for the objects, whichever front end calls: the next build is short.
        self.build_temp = os.path.join("build", "temp." + "-".join(filter(None, parts)))

    def get_source_files(self):
        headers = (HERE / "csrc").rglob("*.h")
        return super().get_source_files() + [
            str(path.relative_to(HERE)) for path in headers
        ]

    def build_extension(self, ext):
        check_tools()
        system, ldflags = find_libraries()
        sanitizers = os.environ.get("CACHEKIT_SANITIZE", "")
        flags = ["-std=c11", "-D_GNU_SOURCE", "-DXXH_INLINE_ALL", "-Icsrc"]
        flags += ["-isystem", sysconfig.get_paths()["include"], *system, *WARNINGS]
        flags += ["-fvisibility=hidden", "-fstack-protector-strong"]
        if sanitizers:
            flags += ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer"]
            flags += ["-U_FORTIFY_SOURCE", f"-fsanitize={sanitizers}"]
            flags += ["-fno-sanitize-recover=all"]
        else:
            flags += ["-O3", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
        if os.environ.get("CACHEKIT_WERROR") == "1":
            flags += ["-Werror"]

        temp = Path(self.build_temp)
        objects = [temp / Path(source).with_suffix(".o") for source in ext.sources]
        for folder in {path.parent for path in objects}:
            folder.mkdir(parents=True, exist_ok=True)

        def compile_one(source, target):
            dependencies = target.with_suffix(".d")
            extra = [] if source.startswith("csrc/py/") else CORE_WARNINGS
            extra = [*flags, *extra, "-MMD", "-MF", str(dependencies)]
            command = shlex.join([*self.compiler.compiler_so, *extra])
            if not self.force and up_to_date(target, dependencies, command):
                return
            target.with_suffix(".cmd").unlink(missing_ok=True)
            self.compiler.compile([source], str(temp), extra_postargs=extra)
            target.with_suffix(".cmd").write_text(command)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, ext.sources, objects))

        link = [*ldflags, "-lpthread"]
        if sys.platform == "darwin":
            link += ["-Wl,-exported_symbol,_PyInit__core"]
        else:
            link += ["-Wl,--version-script=tools/core.map", "-Wl,--exclude-libs,ALL"]
            link += ["-Wl,--as-needed", "-Wl,-z,relro,-z,now"]
        if sanitizers:
            link += [f"-fsanitize={sanitizers}"]
        else:
            link += ["-O3"]
        self.compiler.link_shared_object(
            [str(path) for path in objects],
            self.get_ext_fullpath(ext.name),
            extra_postargs=link,
            build_temp=str(temp),
            target_lang="c",
        )


if int(setuptools.__version__.split(".")[0]) < 77:
    sys.exit(
        "cachekit: building needs setuptools 77 or newer, and this is "
        f"{setuptools.__version__}. Install with: pip install -U setuptools"
    )
os.chdir(HERE)
setup(
    ext_modules=[
        Extension(
            "cachekit._core",
            sources=sorted(
                path.relative_to(HERE).as_posix()
                for path in (HERE / "csrc").rglob("*.c")
            ),
        )
    ],
    cmdclass={"build_ext": BuildCore},
)
