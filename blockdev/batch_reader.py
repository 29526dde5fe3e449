"""BatchReader: single blocks of a file or block device, many reads in flight at a time.

It goes past the page cache, takes no lock, and changes nothing.  The batches are those of Linux
AIO, by way of the package libaio, an optional extra; without it, or where the kernel refuses, one
read follows the other.

Depends on: nothing.  Used by: device.py, cubbydb.cli.
"""

import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from cubbydb.blockdev.closing import Closing
from cubbydb.errors import DeviceError

__all__ = ["BatchReader"]

BLOCK_BYTES = 4096
BATCH_BLOCKS = 128  # reads in flight


class BatchReader(Closing):
    """A file or block device, open to be read in single blocks; a context manager.

    It belongs to one thread at a time.

    Args:
        path: of the file or block device.
        batches: whether to use libaio where it can be had.
    """

    def __init__(self, path: str | os.PathLike[str], *, batches: bool = True) -> None:
        self._path = os.fspath(path)
        self._fd = _open_direct(self._path)
        self._buffer = mmap.mmap(-1, BATCH_BLOCKS * BLOCK_BYTES)  # aligned, as direct I/O needs it
        view = memoryview(self._buffer)
        self._places = [view[n * BLOCK_BYTES :][:BLOCK_BYTES] for n in range(BATCH_BLOCKS)]
        self._context: Any = None  # libaio's; None: one read after the other
        self._requests: list[Any] = []  # one per place
        if batches:
            self._prepare_batches()

    def _prepare_batches(self) -> None:
        try:
            libaio = import_module("libaio")
            self._requests = [
                libaio.AIOBlock(libaio.AIOBLOCK_MODE_READ, self._fd, [place])
                for place in self._places
            ]
            self._context = libaio.AIOContext(BATCH_BLOCKS)
        except (ImportError, OSError, AttributeError):
            pass  # the package, the library that it loads, or the kernel's queue cannot be had

    @property
    def block_count(self) -> int:
        """Whole blocks of 4,096 bytes."""
        return os.lseek(self._fd, 0, os.SEEK_END) // BLOCK_BYTES

    @property
    def in_batches(self) -> bool:
        """Whether reads are in flight together."""
        return self._context is not None

    def read_many(self, lbas: Sequence[int]) -> list[bytes]:
        """Read blocks, in the order of *lbas*; errors.DeviceError names the one that fails."""
        blocks: list[bytes] = []
        for begin in range(0, len(lbas), BATCH_BLOCKS):
            batch = lbas[begin : begin + BATCH_BLOCKS]
            done = self._read_together(batch) if self._context else set()
            for number, lba in enumerate(batch):
                if number not in done:
                    self._read_one(lba, self._places[number])
                blocks.append(bytes(self._places[number]))
        return blocks

    def _read_together(self, lbas: Sequence[int]) -> set[int]:
        """Read a batch into its places; return which of them are read: none, if it cannot be."""
        done = set()
        waiting = self._requests[: len(lbas)]
        numbers = {request: number for number, request in enumerate(waiting)}
        for request, lba in zip(waiting, lbas, strict=True):
            request.offset = lba * BLOCK_BYTES
        try:
            while waiting:
                waiting = waiting[self._context.submit(waiting) :]
                # Where the kernel took only some, one done makes room; else all are waited for.
                for request, result, _ in self._context.getEvents(1 if waiting else None):
                    if result == BLOCK_BYTES:
                        done.add(numbers[request])
        except OSError:
            self._close_context()
        return done

    def _close_context(self) -> None:
        """Wait until nothing is in flight any more, and do without from now on."""
        context, self._context = self._context, None
        if context is not None:
            context.close()

    def _read_one(self, lba: int, place: memoryview) -> None:
        offset = lba * BLOCK_BYTES
        try:
            size = os.preadv(self._fd, [place], offset)
        except OSError as error:
            if error.errno != errno.EINVAL or not _leave_direct(self._fd):
                raise DeviceError(error.errno, self._sentence(lba, error.strerror)) from None
            self._read_one(lba, place)
            return
        if size != BLOCK_BYTES:
            raise DeviceError(errno.EIO, self._sentence(lba, "it ends before"))

    def _sentence(self, lba: int, reason: str | None) -> str:
        return f"{self._path} failed reading LBA {lba}: {reason}"

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        self._close_context()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _open_direct(path: str) -> int:
    """Open to read, past the page cache if the file system lets us."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise DeviceError(errno.EINVAL, f"{path} is neither a file nor a block device")
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags)


def _leave_direct(fd: int) -> bool:
    """Go through the page cache from now on; tell whether that is a change."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if not flags & os.O_DIRECT:
        return False
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return True
