"""Tests of the shape of the code itself: who may use whom, names, sizes.

The rules are those of ARCHITECTURE.md; a unit is a folder, or a file with a rule of its own.
"""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("engine", "blockdev", "mmapio", "cli", "bench")
TOP_LEVEL = {*FOLDERS, "tests", "pyproject.toml", "README.md", "ARCHITECTURE.md", "LICENSE"} | {
    "CHANGELOG.md",
    "Makefile",
}

FILE_LINES_MAX = 700
HEADER_LINES_MAX = 1300  # of cubby.h, which is the manual, too: most of it is comments
FUNCTION_LINES_MAX = 70

# What every unit may use, and what uses nothing but itself.
GROUND = {"engine/base", "engine/cubby.h", "engine/cubby_region.h", "_native", "errors"}
TIERS = {"engine/nibble", "engine/volimap"}
STORAGE = {"blockdev", "mmapio"}

# Unit -> the only units it may use, besides itself and the ground.  An arrow points down this
# table, never up.  The store reaches storage through page_io alone.
MAY_USE: dict[str, set[str]] = {
    "blockdev": set(),
    "mmapio": {"blockdev"},
    "engine/nibble": set(),
    "engine/volimap": set(),
    "engine/store/page_io": STORAGE,
    "engine/store": {"engine/store/page_io", *TIERS},
    "engine": {"engine/store", *TIERS, *STORAGE},
    "import_root": {"engine", *STORAGE},
    "bench": {"import_root", "engine", "engine/store", *TIERS, *STORAGE},
    "cli": {"import_root", "bench", "engine", "engine/store", *TIERS, *STORAGE},
}
ANYTHING = {"tests"}


def unit_of(path: Path, root: Path) -> str:
    """The unit a file belongs to; its path where it belongs to none."""
    name = path.relative_to(root).as_posix()
    parts = name.split("/")
    if name in GROUND or parts[0] in {"blockdev", "mmapio", "cli", "bench", "tests"}:
        return name if name in GROUND else parts[0]
    if name.startswith("engine/import_root/"):
        return path.stem if path.stem in GROUND else "import_root"
    if name.startswith("engine/store/page_io"):
        return "engine/store/page_io"
    if parts[0] == "engine" and len(parts) == 2 and path.suffix == ".py":
        return "engine"
    if parts[0] == "engine" and len(parts) > 2:
        return "/".join(parts[:2])
    return name


def unit_of_module(name: str, root: Path) -> str:
    """The unit of a dotted module, or of a name in one; 'cubbydb.Store' is the import root's."""
    part = name.split(".")[1] if "." in name else ""
    if part in GROUND or part in FOLDERS:
        return part
    return "import_root"


def python_uses(path: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Each import of the package, as written, and the unit it reaches."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "cubbydb":
                yield name, unit_of_module(name, root)
            elif name.split(".")[0] in {"", *FOLDERS}:
                yield name, f"a bare or relative name ({name})"


def c_includes(path: Path, root: Path) -> Iterator[tuple[str, Path | None]]:
    """Each include of our own, as written, and the file; None where its spelling is not allowed.

    Allowed is "path/from/the/root.h" alone; <...> is for what is not ours.
    """
    for line in re.findall(r"^\s*#\s*include\b\s*(.*)", path.read_text(), re.MULTILINE):
        quoted = re.match(r'"([^"]+)"', line)
        angled = re.match(r"<([^>]+)>", line)
        if quoted:
            file = root / quoted[1]
            yield line, file if file.is_file() and ".." not in file.parts else None
        elif angled is None or (root / angled[1]).is_file():
            yield line, None


def may_use(user: str) -> set[str]:
    return {user} | (GROUND if user in GROUND else GROUND | MAY_USE.get(user, set()))


def may_reach(user: str) -> set[str]:
    """All that a unit may use through others."""
    reached = set()
    waiting = {user}
    while waiting:
        unit = waiting.pop()
        reached.add(unit)
        waiting |= may_use(unit) - reached
    return reached


def wrong_c_uses(path: Path, root: Path) -> Iterator[str]:
    """Walk every include path that begins at a file."""
    user = unit_of(path, root)
    waiting = [(path, path.relative_to(root).as_posix())]
    seen = {path}
    while waiting:
        file, trail = waiting.pop()
        allowed = may_use(user) if file == path else may_reach(user)
        for written, included in c_includes(file, root):
            if included is None:
                yield f"{trail}: write a path from the root: {written}"
            elif unit_of(included, root) not in allowed:
                yield f"{trail} -> {unit_of(included, root)}: {written}"
            elif included not in seen:
                seen.add(included)
                waiting.append((included, f"{trail} -> {included.relative_to(root)}"))


def source_files(root: Path, *suffixes: str) -> list[Path]:
    return sorted(
        path
        for folder in (*FOLDERS, "tests")
        for path in (root / folder).rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    )


def wrong_uses(root: Path) -> list[str]:
    """Every use that points up the table, in every file but the tests."""
    wrong = []
    for path in source_files(root, ".c", ".h", ".cc", ".hh", ".py", ".pyi"):
        user = unit_of(path, root)
        if user in ANYTHING:
            continue
        if user not in MAY_USE and user not in GROUND:
            if path.name != "ffi_build.py":
                wrong.append(f"{path.relative_to(root)}: belongs to no unit")
        elif path.suffix in {".c", ".h", ".cc", ".hh"}:
            wrong += wrong_c_uses(path, root)
        else:
            wrong += [
                f"{path.relative_to(root)} -> {unit}: {name}"
                for name, unit in python_uses(path, root)
                if unit not in may_use(user)
            ]
    return wrong


def test_uses_point_one_way():
    assert wrong_uses(ROOT) == []


# File -> the line planted in it -> what the complaint must name.
PLANTED = [
    ("engine/base/planted.h", '#include "blockdev/block_device.h"', "-> blockdev"),
    ("blockdev/planted.c", '#include "engine/store/page_io.h"', "-> engine/store/page_io"),
    ("mmapio/planted.c", '#include "engine/nibble/planted_tier.h"', "-> engine/nibble"),
    ("engine/volimap/planted.c", '#include "engine/nibble/planted_tier.h"', "-> engine/nibble"),
    ("engine/nibble/planted.c", '  #  include "blockdev/block_device.h"', "-> blockdev"),
    ("engine/nibble/planted.c", '#include "../../blockdev/block_device.h"', "from the root"),
    ("engine/nibble/planted.c", "#include <blockdev/block_device.h>", "from the root"),
    ("engine/nibble/planted.c", "#include SOME_MACRO", "from the root"),
    ("engine/store/planted.c", '#include "blockdev/block_device.h"', "-> blockdev"),
    ("engine/store/planted.c", '#include "bench/ycsb/planted.h"', "-> bench"),
    ("blockdev/planted.py", "from cubbydb.engine import store", "-> engine"),
    ("mmapio/planted.py", "import cubbydb.engine.store", "-> engine"),
    ("mmapio/planted.py", "from cubbydb import Store", "-> import_root"),
    ("engine/planted.py", "from cubbydb.cli import main", "-> cli"),
    ("engine/planted.py", "from cubbydb import Store", "-> import_root"),
    ("engine/import_root/errors.py", "import cubbydb.blockdev", "-> blockdev"),
    ("bench/planted.py", "def late():\n    import cubbydb.cli.main", "-> cli"),
    ("cli/planted.py", "from engine import store", "bare or relative"),
    ("cli/planted.py", "from . import main", "bare or relative"),
    ("engine/planted/planted.c", "", "no unit"),
]


@pytest.fixture(scope="module")
def copy_of_the_tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("engine/nibble/planted_tier.h", "bench/ycsb/planted.h"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def plant(path: Path, line: str) -> str | None:
    """Append a line; returns the text to put back, None for a file that was not there."""
    before = path.read_text() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before or ''}\n{line}\n")
    return before


def put_back(path: Path, before: str | None) -> None:
    if before is None:
        path.unlink()
    else:
        path.write_text(before)


@pytest.mark.parametrize(("file", "line", "complaint"), PLANTED)
def test_a_planted_use_is_found(copy_of_the_tree, file, line, complaint):
    path = copy_of_the_tree / file
    before = plant(path, line)
    wrong = wrong_uses(copy_of_the_tree)
    put_back(path, before)
    assert any(file in text and complaint in text for text in wrong), wrong


def test_a_planted_use_is_found_through_other_files(copy_of_the_tree):
    hop = copy_of_the_tree / "engine/base/planted.h"
    user = copy_of_the_tree / "engine/nibble/planted.c"
    plant(hop, '#include "blockdev/block_device.h"')
    plant(user, '#include "engine/base/planted.h"')
    wrong = wrong_uses(copy_of_the_tree)
    put_back(hop, None)
    put_back(user, None)
    trail = "engine/nibble/planted.c -> engine/base/planted.h -> blockdev"
    assert [text for text in wrong if text.startswith(trail)] != []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_importable_under_one_name_only(folder):
    assert importlib.util.find_spec(folder) is None, "run `pytest`, not `python -m pytest`"
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONSAFEPATH"}
    run = subprocess.run(
        [sys.executable, "-B", "-c", f"import {folder}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert f"this is cubbydb.{folder}" in run.stderr


def test_the_top_level_is_fixed():
    ignored = {line.strip().strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert names - ignored - {"PKG-INFO"} == TOP_LEVEL  # an unpacked sdist has PKG-INFO


def c_functions(text: str) -> Iterator[tuple[int, int]]:
    """First and last line of every function, in code as clang-format leaves it.

    There a function's braces, and nobody else's, stand alone in the first column.
    """
    lines = text.splitlines()
    begin = None
    for index, line in enumerate(lines):
        if line == "{":
            begin = index
            while begin > 0 and not re.search(r"^$|^#|[;}]$|\*/$", lines[begin - 1]):
                begin -= 1
        elif line == "}" and begin is not None:
            yield begin + 1, index + 1
            begin = None


def python_functions(text: str) -> Iterator[tuple[int, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.end_lineno or node.lineno


def long_functions(text: str, suffix: str) -> list[int]:
    functions = python_functions(text) if suffix == ".py" else c_functions(text)
    return [begin for begin, end in functions if end - begin + 1 > FUNCTION_LINES_MAX]


def test_functions_are_short():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in source_files(ROOT, ".c", ".h", ".py")
        for line in long_functions(path.read_text(), path.suffix)
    ]
    assert wrong == []


def test_a_long_function_is_found():
    body = "    x();\n" * (FUNCTION_LINES_MAX - 3)
    short = f"/* Doc. */\nint f(int a,\n      int b)\n{{\n{body[9:]}}}\n"
    assert long_functions(short, ".c") == []
    assert long_functions(short.replace("{\n", "{\n    x();\n"), ".c") == [2]


def test_c_functions_open_their_brace_on_a_line_of_its_own():
    wrong = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in source_files(ROOT, ".c", ".h")
        for line in path.read_text().splitlines()
        if re.match(r"[a-z_].*\)\s*\{", line)
    ]
    assert wrong == []


def test_files_are_short():
    limits = {ROOT / "engine" / "cubby.h": HEADER_LINES_MAX}
    wrong = [
        f"{path.relative_to(ROOT)}: {len(path.read_text().splitlines())} lines"
        for path in source_files(ROOT, ".c", ".h", ".py", ".sh", ".txt")
        if len(path.read_text().splitlines()) > limits.get(path, FILE_LINES_MAX)
    ]
    assert wrong == []


def test_nothing_is_left_to_do_later():
    # Spelled so that this file does not find itself.
    leftover = re.compile(r"\b(" + "|".join(["FIX" + "ME", "TO" + "DO", "XX" + "X"]) + r")\b")
    wrong = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in source_files(ROOT, ".c", ".h", ".py", ".sh", ".txt", ".md")
        for match in [leftover.search(path.read_text())]
        if match
    ]
    assert wrong == []
