"""Run the drivers that `make bench-build` builds, and the benchmarks made of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BUILT = ROOT / "build" / "bench"


def driver(name: str) -> Path:
    """A driver; skip where there is none."""
    if not (BUILT / name).is_file():
        pytest.skip("the benchmarks' drivers are not built: make bench-build")
    return BUILT / name


def drive(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([driver(name), *arguments], capture_output=True, text=True, timeout=120)


def told(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def bench(module: str, results: Path, *arguments: str) -> dict[str, Any]:
    """Run a benchmark from the root, as make does; returns the file it has written."""
    run = subprocess.run(
        [sys.executable, "-m", f"cubbydb.bench.{module}", *arguments, "--results", results],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    content: dict[str, Any] = json.loads((results / f"{module}.json").read_text())
    assert content["benchmark"] == module
    assert content["machine"]["kernel"]
    return content


def is_drawn(results: Path, name: str) -> bool:
    pytest.importorskip("matplotlib")
    return "</svg>" in (results / "report" / f"{name}.svg").read_text()
