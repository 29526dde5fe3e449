"""The packages that users get: the sdist, the wheel built from it, and the C library."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from cubbydb._native import ffi, lib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

C_PROGRAM = r"""
#include <cubby.h>
#include <stdio.h>

int main(void)
{
    struct cubby_options options;
    cubby_options_init(&options);
    printf("%s: %s", cubby_version(), cubby_status_text(CUBBY_NOT_FOUND));
    return 0;
}
"""


def succeed(*command: str | Path, **settings) -> str:
    words = [str(word) for word in command]
    run = subprocess.run(words, capture_output=True, text=True, **settings)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def tool(name: str) -> str:
    """The path of a program, which may be in the virtual environment of this Python."""
    path = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The sdist, and the wheel built from the unpacked sdist."""
    for module in ("build", "scikit_build_core"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("dist")
    tool("cmake")
    succeed(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def test_the_sdist_is_the_repository(packages):
    with tarfile.open(packages[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "Makefile", "engine/cubby.h", "tests/test_packaging.py"} <= names
    built = re.compile(r"build/|dist/|\.venv/|.*\.(so|pyc|o)$")
    assert {name for name in names if built.match(name)} == set()


def test_the_wheel_is_one_abi3_module_and_python(packages):
    assert re.search(r"-cp311-abi3-(many)?linux\w+\.whl$", packages[1].name)
    with zipfile.ZipFile(packages[1]) as archive:
        names = set(archive.namelist())
    assert {"cubbydb/__init__.py", "cubbydb/py.typed", "cubbydb/_native.pyi"} <= names
    plugin = "cubbydb/blockdev/nbdkit-cubby-plugin.so"  # where nbdkit's header is
    assert {name for name in names if ".so" in name} - {plugin} == {"cubbydb/_native.abi3.so"}
    benchmark = r"^cubbydb/bench/(cubby-(ycsb|gets)|ycsb/workloads/workload[a-f])$"
    expected = re.compile(rf"\.(py|pyi|so|typed)$|dist-info/|{benchmark}")
    assert {name for name in names if not expected.search(name)} == set()
    assert "cubbydb/engine/ffi_build.py" not in names
    assert {name.split("/")[0] for name in names} == {
        "cubbydb",
        f"cubbydb-{PROJECT['version']}.dist-info",
    }


def test_the_wheel_carries_its_licence_and_its_command(packages):
    with zipfile.ZipFile(packages[1]) as archive:
        info = f"cubbydb-{PROJECT['version']}.dist-info"
        assert b"cubby=cubbydb.cli.main:main" in archive.read(f"{info}/entry_points.txt").replace(
            b" ", b""
        )
        assert b"License-Expression: Apache-2.0" in archive.read(f"{info}/METADATA")
        assert b"Apache License" in archive.read(f"{info}/licenses/LICENSE")


@pytest.fixture(scope="module")
def c_library(tmp_path_factory):
    """The C library, built without Python and installed into a prefix of its own."""
    folder = tmp_path_factory.mktemp("c")
    cmake = tool("cmake")
    source = folder / "source"
    shutil.copytree(ROOT / "engine", source / "engine")
    for name in ("blockdev", "mmapio"):
        shutil.copytree(ROOT / name, source / name)
    shutil.copy(ROOT / "pyproject.toml", source)
    succeed(cmake, "-S", source / "engine", "-B", folder / "build", "-DCMAKE_INSTALL_LIBDIR=lib")
    succeed(cmake, "--build", folder / "build", "--parallel", "4")
    succeed(cmake, "--install", folder / "build", "--prefix", folder / "prefix")
    return folder / "prefix"


def run_c_program(c_library: Path, folder: Path, text: str, linking: str) -> str:
    """Build a program with what pkg-config says, run it in the folder, return what it has said."""
    (folder / "program.c").write_text(text)
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PKG_CONFIG_PATH": str(c_library / "lib" / "pkgconfig"),
        "LD_LIBRARY_PATH": str(c_library / "lib"),
    }
    ask = [tool("pkg-config"), "--cflags", "--libs", "cubby"]
    if linking == "static":
        options = succeed(*ask, "--static", env=environment).split()
        options[options.index("-lcubby")] = "-l:libcubby.a"
    else:
        options = succeed(*ask, env=environment).split()
    source, program = folder / "program.c", folder / "program"
    warnings = ["-std=c17", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    succeed(tool("cc"), *warnings, source, "-o", program, *options)
    return succeed(program, env=environment, cwd=folder)


@pytest.mark.parametrize("linking", ["shared", "static"])
def test_a_c_program_builds_with_pkg_config(c_library, tmp_path, linking):
    said = run_c_program(c_library, tmp_path, C_PROGRAM, linking)
    assert said == f"{PROJECT['version']}: no pair has this key"


def test_the_program_in_cubby_h_is_true(c_library, tmp_path):
    header = (c_library / "include" / "cubby.h").read_text()
    lines = re.search(r"^ \* A program, .*\n \*\n((?: \*(?:     .*)?\n)+)", header, re.MULTILINE)
    assert lines is not None, "no program at the head of cubby.h"
    program = re.sub(r"^ \*(?:     )?", "", lines[1], flags=re.MULTILINE)
    assert run_c_program(c_library, tmp_path, program, "shared") == "value\n"
    assert [path.name for path in tmp_path.glob("*.cubby")] == ["data.cubby"]


def test_the_shared_library_exports_what_cubby_h_declares(c_library):
    lines = succeed(tool("nm"), "-D", "--defined-only", c_library / "lib" / "libcubby.so")
    exported = {line.split()[-1] for line in lines.splitlines()}
    declared = {name for name in dir(lib) if name.startswith("cubby_")}
    assert exported == declared


def test_the_native_module_exports_its_entry_alone():
    import cubbydb._native

    lines = succeed(tool("nm"), "-D", "--defined-only", cubbydb._native.__file__)
    exported = {line.split()[-1] for line in lines.splitlines()}
    assert {name for name in exported if not name.startswith("_cffi_pypyinit_")} == {
        "PyInit__native"
    }


def test_the_native_module_knows_the_version_of_the_package():
    assert ffi.string(lib.cubby_version()).decode() == PROJECT["version"]
