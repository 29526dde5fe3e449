"""Real block devices for a test alone: made for it, taken away after it, skipped where they cannot
be.  They need root.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ZRAM_CONTROL = Path("/sys/class/zram-control")
REMOVE_TRIES = 50


@contextmanager
def zram_device(size: str = "16M") -> Iterator[str]:
    """A block device that compresses, in memory."""
    try:
        number = (ZRAM_CONTROL / "hot_add").read_text().strip()
        Path(f"/sys/block/zram{number}/disksize").write_text(size)
    except OSError as error:
        pytest.skip(f"a zram device cannot be made here: {error}")
    device = f"/dev/zram{number}"
    try:
        if not Path(device).exists():
            pytest.skip(f"{device} does not appear")
        yield device
    finally:
        _remove_zram(number)


def _remove_zram(number: str) -> None:
    """Remove it; a process that was killed, or one that looks at devices, may still have it."""
    for left in reversed(range(REMOVE_TRIES)):
        try:
            (ZRAM_CONTROL / "hot_remove").write_text(number)
            return
        except OSError:
            if left == 0:
                raise
            time.sleep(0.1)


@contextmanager
def loop_device(file: Path, size: int = 16 << 20) -> Iterator[str]:
    """A block device of 4 KiB sectors whose blocks are those of a file, which is made."""
    with file.open("wb") as stream:
        stream.truncate(size)
    words = ["losetup", "--find", "--show", "--direct-io=on", "--sector-size", "4096", file]
    try:
        made = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"a loop device cannot be made here: {error}")
    if made.returncode != 0:
        pytest.skip(f"a loop device cannot be made here: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
