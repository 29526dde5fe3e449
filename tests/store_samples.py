"""Keys and values for tests: made up, and the same in every run.  And copies of stores."""

import os
import random
from collections.abc import Iterator
from pathlib import Path


def some_bytes(size: int, seed: object = 0) -> bytes:
    return random.Random(f"{size} {seed}").randbytes(size)


def some_pairs(count: int, size: int = 60) -> dict[bytes, bytes]:
    return {b"key %d" % number: some_bytes(size, number) for number in range(count)}


def file_extents(path: Path) -> Iterator[tuple[int, bytes]]:
    """What a sparse file holds, with the offsets: that of a drive is far larger than memory."""
    with path.open("rb", buffering=0) as file:
        end = 0
        while True:
            try:
                begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:  # there is no more
                return
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            yield begin, os.pread(file.fileno(), end - begin, begin)


def sparse_copy(source: Path, target: Path) -> None:
    with target.open("wb") as file:
        for offset, content in file_extents(source):
            file.seek(offset)
            file.write(content)
        file.truncate(source.stat().st_size)
