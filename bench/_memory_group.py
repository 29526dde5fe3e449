"""A limit on memory for a program and all it caches: a memory cgroup, version 1 or 2."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MemoryGroup", "memory_group", "why_no_memory_group"]

ROOT = Path("/sys/fs/cgroup")
REMOVE_TRIES = 50


@dataclass(frozen=True)
class MemoryGroup:
    """A group that processes can be put into; gone afterwards."""

    version: int
    folder: Path

    def command(self, command: list[str]) -> list[str]:
        """The same command, run within the group."""
        enter = f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"'
        return ["sh", "-c", enter, "sh", *command]

    def peak_bytes(self) -> int | None:
        """The most memory that the group has had, its share of the page cache included."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        with suppress(OSError, ValueError):
            return int((self.folder / name).read_text())
        return None  # before Linux 5.19 version 2 does not tell

    def was_killed(self) -> bool:
        """Whether a process of it was killed for want of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        with suppress(OSError):
            lines = (self.folder / name).read_text().splitlines()
            return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)
        return False


def _parent() -> tuple[int, Path] | None:
    """Where a group can be made, and of which version it will be."""
    if (ROOT / "memory").is_dir():
        return 1, ROOT / "memory"
    if (ROOT / "cgroup.controllers").is_file():
        return 2, ROOT
    return None


def why_no_memory_group() -> str | None:
    """Why memory cannot be limited here; None if it can."""
    parent = _parent()
    if parent is None:
        return "this machine has no memory cgroup"
    version, folder = parent
    if not os.access(folder, os.W_OK):
        return f"{folder} is not ours to write: root is needed"
    if version == 2 and "memory" not in (folder / "cgroup.subtree_control").read_text().split():
        return "the memory controller is not enabled for groups below the root"
    try:
        with memory_group(1 << 30):
            return None
    except OSError as error:
        return f"a group in {folder} was refused: {error.strerror}"


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """A new group; swap is no way out of it, where the kernel counts swap."""
    parent = _parent()
    if parent is None:
        raise OSError(0, "this machine has no memory cgroup")
    version, folder = parent
    group = MemoryGroup(version, folder / f"cubby-bench-{os.getpid()}")
    group.folder.mkdir()
    try:
        limits = (
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
            if version == 1
            else ("memory.max", "memory.swap.max")
        )
        (group.folder / limits[0]).write_text(str(limit_bytes))
        with suppress(OSError):
            swap = limit_bytes if version == 1 else 0
            (group.folder / limits[1]).write_text(str(swap))
        yield group
    finally:
        _remove(group.folder)


def _remove(folder: Path) -> None:
    """Remove it; it is busy for a moment after its last process has ended."""
    for left in reversed(range(REMOVE_TRIES)):
        try:
            folder.rmdir()
            return
        except OSError:
            if left == 0:
                raise
            time.sleep(0.1)
