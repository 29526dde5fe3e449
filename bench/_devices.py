"""Devices to measure on: a zram device of our own, and a file of our own; both gone afterwards."""

import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

__all__ = ["file_place", "why_no_zram", "zram_device", "zram_folder"]

CONTROL = Path("/sys/class/zram-control")
REMOVE_TRIES = 20


def why_no_zram() -> str | None:
    """Why there can be no zram device here; None if there can."""
    if not CONTROL.is_dir():
        return "this kernel has no zram"
    if os.geteuid() != 0:
        return "a zram device needs root"
    return None


@contextmanager
def zram_device(size_bytes: int, algorithm: str = "lz4") -> Iterator[str]:
    """A new compressed device in memory; those that were there before are not touched."""
    number = int((CONTROL / "hot_add").read_text())
    settings = Path(f"/sys/block/zram{number}")
    try:
        (settings / "comp_algorithm").write_text(algorithm)
        (settings / "disksize").write_text(str(size_bytes))
        path = Path(f"/dev/zram{number}")
        if not (path.exists() and stat.S_ISBLK(path.stat().st_mode)):
            raise click.ClickException(f"{path} was made, but is not there")
        yield str(path)
    finally:
        _remove_zram(number)


def _remove_zram(number: int) -> None:
    """Remove it; whoever looks at new devices (udev) may have it open for a moment."""
    for left in reversed(range(REMOVE_TRIES)):
        try:
            (CONTROL / "hot_remove").write_text(str(number))
            return
        except OSError:
            if left == 0:
                click.echo(f"/dev/zram{number} could not be removed", err=True)
            time.sleep(0.1)


@contextmanager
def zram_folder(size_bytes: int) -> Iterator[Path]:
    """A folder on a new ext4 on a new zram device; all gone afterwards."""
    with zram_device(size_bytes) as device, tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        subprocess.run(["mount", device, folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


@contextmanager
def file_place(path: Path) -> Iterator[str]:
    """A name for a new file, which is removed afterwards; never one that is there already."""
    if path.exists():
        raise click.ClickException(f"{path} exists; name a file that does not")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)
