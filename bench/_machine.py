"""What a figure has to be read with: the machine, the kernel, the commit."""

import datetime
import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["describe_machine", "expect_results", "write_results"]


def _first(path: str, prefix: str) -> str | None:
    """What stands behind the colon in the first line that begins with *prefix*."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    found = (line.split(":", 1)[1].strip() for line in lines if line.startswith(prefix))
    return next(found, None)


def _output_of(*command: str) -> str | None:
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def describe_machine() -> dict[str, Any]:
    """Everything about this machine and this checkout that a reader may ask for."""
    changes = _output_of("git", "status", "--porcelain", "--untracked-files=no")
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _output_of("git", "rev-parse", "HEAD"),
        "commit_is_changed": None if changes is None else changes != "",
        "kernel": platform.release(),
        "processor": _first("/proc/cpuinfo", "model name"),
        "processors": os.cpu_count(),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "python": platform.python_version(),
        "fio": _output_of("fio", "--version"),
        "load_average": os.getloadavg(),
    }


def _as_text(content: Any, depth: int = 0) -> str:
    """JSON with a line for each thing, but lists of numbers, and of pairs of these, in one line."""
    if isinstance(content, dict) and content:
        items = [
            f"{json.dumps(key)}: {_as_text(value, depth + 1)}" for key, value in content.items()
        ]
    elif isinstance(content, list) and any(isinstance(item, dict | str) for item in content):
        items = [_as_text(item, depth + 1) for item in content]
    else:
        return json.dumps(content)
    brackets = "{}" if isinstance(content, dict) else "[]"
    indent = "\n" + " " * depth
    return brackets[0] + indent + " " + f",{indent} ".join(items) + indent + brackets[1]


def expect_results(path: Path) -> None:
    """Make sure, before minutes of work, that a file can be written there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def write_results(folder: Path, name: str, results: dict[str, Any]) -> Path:
    """Write results as JSON, for programs; returns where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(_as_text(results) + "\n")
    return path
