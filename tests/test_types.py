"""mypy cannot follow the folder map, so it checks a tree of links that spells it out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_mypy_strict(tmp_path):
    pytest.importorskip("mypy")
    package = tmp_path / "cubbydb"
    package.mkdir()
    for path in (ROOT / "engine" / "import_root").iterdir():
        (package / path.name).symlink_to(path)
    for folder in ("engine", "blockdev", "mmapio", "cli", "bench"):
        (package / folder).symlink_to(ROOT / folder)
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file",
            str(ROOT / "pyproject.toml"),
            "--exclude",
            "import_root",
            "-p",
            "cubbydb",
        ],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
