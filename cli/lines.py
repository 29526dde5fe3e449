"""Lines: the lines of an input, counted, and the records that they hold.

Pure text: knows no store.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from cubbydb._native import lib
from cubbydb.cli.report import InputError

__all__ = ["Lines", "Record"]


class Record(NamedTuple):
    """One pair of an input, and the number of its last line, which counts from 1."""

    key: bytes
    value: bytes
    line_number: int
    expires_ms: int | None = None  # since 1970 (UTC), if the input says so


class Lines:
    """The lines of a binary stream, line ends included, and how much of it has been read."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self.name = name
        self.number = 0  # of the line last read, from 1
        self.size = 0  # bytes read

    def __iter__(self) -> Iterator[bytes]:
        for line in self._stream:
            self.number += 1
            self.size += len(line)
            yield line

    def error(self, text: str, number: int | None = None) -> InputError:
        """An error about a line; the last one read by default."""
        return InputError(f"{self.name}:{number or self.number}: {text}")

    def record(
        self, key: bytes, value: bytes, number: int, expires_ms: int | None = None
    ) -> Record:
        """A record that ends at a line, if its sizes are ones that a store takes."""
        if not 1 <= len(key) <= lib.CUBBY_KEY_BYTES_MAX:
            limit = lib.CUBBY_KEY_BYTES_MAX
            raise self.error(f"a key has 1 to {limit:,} bytes, this one {len(key):,}", number)
        if len(value) > lib.CUBBY_VALUE_BYTES_MAX:
            limit = lib.CUBBY_VALUE_BYTES_MAX
            raise self.error(f"a value has at most {limit:,} bytes, not {len(value):,}", number)
        return Record(key, value, number, expires_ms)
