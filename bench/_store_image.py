"""A store, loaded once in memory, that is copied to one device after the other, block by block.

So all devices hold the same blocks at the same places, one I/O log serves them all, and what fio
has overwritten is there again in the time that a copy takes.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cubbydb.bench._driver import Driver
from cubbydb.blockdev import BLOCK_BYTES, BlockDevice, stored_bytes

__all__ = ["HomeReads", "StoreImage", "compressed_bytes", "percent_that_compresses_like"]

PIECE_BYTES = 1 << 20
DISCARD_PIECE_BLOCKS = 1 << 18
SAMPLE_BLOCKS = 256
READ_SHARE = 0.7  # of the mixture
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class StoreImage:
    """The file of a store that is closed."""

    path: Path

    @property
    def size_bytes(self) -> int:
        """Of the file, which is sparse."""
        return self.path.stat().st_size

    @property
    def data_bytes(self) -> int:
        """Without its holes."""
        return self.path.stat().st_blocks * 512

    def copy_to(self, name: str) -> None:
        """Make a device hold this and nothing else.

        What was there is discarded first: a log that went on would be taken for the store's own.
        """
        with self.path.open("rb") as file, BlockDevice.open(name) as device:
            end = device.block_count
            for begin in range(0, end, DISCARD_PIECE_BLOCKS):
                device.discard(begin, min(DISCARD_PIECE_BLOCKS, end - begin))
            for offset, size in self._pieces(file.fileno()):
                device.write(offset // BLOCK_BYTES, os.pread(file.fileno(), size, offset))
            device.flush()

    def _pieces(self, fd: int) -> Iterator[tuple[int, int]]:
        """Offset and size of everything that is not a hole."""
        offset = 0
        while True:
            try:
                offset = os.lseek(fd, offset, os.SEEK_DATA)
            except OSError:  # behind it are only holes
                return
            end = os.lseek(fd, offset, os.SEEK_HOLE)
            while offset < end:
                size = min(PIECE_BYTES, end - offset)
                yield offset, size
                offset += size


@dataclass(frozen=True)
class HomeReads:
    """The home blocks that random gets of a store read, in that order."""

    offsets: list[str]  # in bytes, as text: they are only written again

    @classmethod
    def of(cls, driver: Driver, path: str, scratch: Path, count: int) -> "HomeReads":
        """Ask the driver, which opens the store to read.  *scratch* is a file, for a moment."""
        try:
            driver.call(path, "--iolog", str(scratch), "--iolog-reads", str(count))
            with scratch.open() as lines:
                offsets = [line.split()[2] for line in lines if " read " in line]
        finally:
            scratch.unlink(missing_ok=True)
        return cls(offsets)

    def sample(self) -> list[int]:
        """The blocks of the first few, which are those that fio comes to first, too."""
        blocks = dict.fromkeys(int(offset) // BLOCK_BYTES for offset in self.offsets[:1000])
        return list(blocks)[:SAMPLE_BLOCKS]

    def write_log(self, path: Path, file_name: str, workload: str, count: int) -> None:
        """Write an I/O log for fio (format 2) that reads, writes, or does both to these blocks."""
        choose = random.Random(1)
        share = {"randread": 1.0, "randwrite": 0.0, "mix": READ_SHARE}[workload]
        with path.open("w") as out:
            out.write(f"fio version 2 iolog\n{file_name} add\n{file_name} open\n")
            out.writelines(
                f"{file_name} {'read' if choose.random() < share else 'write'} {offset}"
                f" {BLOCK_BYTES}\n"
                for offset in self.offsets[:count]
            )
            out.write(f"{file_name} close\n")


def compressed_bytes(name: str, blocks: list[int]) -> float:
    """What zstd makes of blocks of a device, in the mean."""
    with BlockDevice.open(name, read_only=True) as device:
        return sum(stored_bytes(device.read(lba), unit=1) for lba in blocks) / len(blocks)


def percent_that_compresses_like(size: float) -> int:
    """The zeros, in percent, that a block of random bytes needs in order to shrink to a size."""

    def distance(percent: int) -> float:
        random_bytes = BLOCK_BYTES * (100 - percent) // 100
        block = os.urandom(random_bytes) + bytes(BLOCK_BYTES - random_bytes)
        return abs(stored_bytes(block, unit=1) - size)

    return min(range(1, 100), key=distance)
