"""Real block devices for a test alone: made for it, taken away after it, skipped where they cannot
be.  They need root.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ZRAM_CONTROL = Path("/sys/class/zram-control")


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
        (ZRAM_CONTROL / "hot_remove").write_text(number)


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
