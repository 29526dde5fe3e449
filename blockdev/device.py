"""BlockDevice: the Python face of the devices in engine/cubby.h.  Blocks in, blocks out.

A device has the names that a store's has: a path, "csd:PATH", "mem:SIZE", "fault:read=3:NAME" and
so on.  The global interpreter lock is released while a device works.

Depends on: cubbydb._native.  Used by: cubbydb.cli, tests.
"""

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, cast

from cubbydb._native import ffi, lib
from cubbydb.blockdev.in_use import InUse, StrPath
from cubbydb.blockdev.sizes import size_in_bytes
from cubbydb.errors import raise_for_status

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["BLOCK_BYTES", "BlockDevice", "DeviceStat", "SpaceState", "Usage", "stored_bytes"]

SpaceState = Literal["normal", "warning", "throttled", "rejecting"]

BLOCK_BYTES: int = lib.CUBBY_BLOCK_BYTES
LBA_END = 1 << 64
STATES: dict[int, SpaceState] = {
    lib.CUBBY_SPACE_NORMAL: "normal",
    lib.CUBBY_SPACE_WARNING: "warning",
    lib.CUBBY_SPACE_THROTTLED: "throttled",
    lib.CUBBY_SPACE_REJECTING: "rejecting",
}
STAT_FIELDS = [name for name, _ in ffi.typeof("struct cubby_device_stat").fields]
# Names that begin like this are no paths; "file:" only says that what follows is one.
PREFIXES = ("csd:", "mem:", "fault:", "model:")

_BYTES = ffi.typeof("uint8_t[]")
_new_bytes = ffi.new_allocator(should_clear_after_alloc=False)


class DeviceStat(TypedDict):
    """What BlockDevice.stat returns: the fields of struct cubby_device_stat in engine/cubby.h.

    Those from unit_bytes on are of emulated drives, and run from the making of the drive.
    """

    kind: str
    source: str
    block_count: int
    atomic_write_bytes: int
    discard_granularity_blocks: int
    discard_zeroes: int
    compresses: int
    space_state: SpaceState
    logical_bytes: int
    physical_bytes: int
    capacity_bytes: int
    unit_bytes: int
    level: int
    host_reads: int
    host_writes: int
    host_discards: int
    zero_writes: int
    raw_writes: int
    media_writes: int
    map_writes: int
    cleaned_bytes: int
    cleaned_segments: int
    checkpoints: int
    segment_count: int
    segment_bytes: int
    free_segments: int
    damaged_segments: int
    media_write_amplification: float | None
    """media_writes by the bytes written; None before the first write."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the data on a device take up.  Zeros stand for what the device does not tell.

    Args:
        source: who says so: "csd", "zram", "st_blocks", ...; "none" where nobody does.
        logical_bytes: of blocks that hold something, before compression.
        physical_bytes: that they take up.
        capacity_bytes: physical bytes there are for them.
        state: "normal", "warning", "throttled" or "rejecting".
    """

    source: str
    logical_bytes: int
    physical_bytes: int
    capacity_bytes: int
    state: SpaceState

    @property
    def ratio(self) -> float | None:
        """Logical by physical bytes; None where one of them is not known, or nothing is stored."""
        if not self.logical_bytes or not self.physical_bytes:
            return None
        return self.logical_bytes / self.physical_bytes


class BlockDevice(InUse):
    """An open device of blocks of 4,096 bytes; a context manager.

    Threads may share one.  It is locked like a store: one writer, or many readers.  After close
    every method raises errors.Closed, and in a forked child errors.Forked.  Blocks outside the
    device are a ValueError, damaged ones errors.Corrupt; writing a device opened read-only is
    errors.ReadOnly, a full one errors.PhysicalFull.

    >>> with BlockDevice("mem:1M") as device:
    ...     device.write(3, bytes(4096) + b"x" * 4096)
    ...     device.block_count, device.read(4) == b"x" * 4096
    (256, True)

    Args:
        name: a path, "csd:PATH", "mem:SIZE", ...
        read_only: never write a byte.
        create: make the file, or the emulated drive, if there is none.
    """

    def __init__(self, name: StrPath, *, read_only: bool = False, create: bool = False) -> None:
        super().__init__(name, read_only)
        native_name = _native_name(name)
        flags = lib.CUBBY_READ_ONLY_OPEN if read_only else 0
        flags |= lib.CUBBY_CREATE if create else 0
        out = ffi.new("cubby_device **")
        message = _new_message()
        status = lib.cubby_device_open(native_name, flags, out, message, len(message))
        self._raise(status, message)
        self._handle = out[0]

    @classmethod
    def open(cls, name: StrPath, *, read_only: bool = False, create: bool = False) -> Self:
        """Open a device; arguments as for the class.

        Raises:
            errors.Locked: somebody has it open; the message names the process.
            errors.Corrupt: the emulated drive is damaged.
            errors.FormatVersion: the emulated drive needs a newer CubbyDB.
            errors.DeviceError: the operating system refuses, also for a missing file.
            ValueError: the name means nothing.
        """
        return cls(name, read_only=read_only, create=create)

    @classmethod
    def create(
        cls,
        name: StrPath,
        *,
        physical: int | str | None = None,
        logical: int | str | None = None,
        unit: int = 64,
        level: int = 1,
        throttle: bool = True,
        force: bool = False,
    ) -> Self:
        """Make an emulated drive that compresses, and open it.

        Args:
            name: "csd:PATH", with PATH a file (made if there is none) or a block device.
            physical: room for compressed blocks, 4 MiB or more: an int, or text such as "64M".
                None: four fifths of what the file system has free, at most 16 GiB.
            logical: the size that the drive shows.  None: 4 times physical.
            unit: compressed blocks take multiples of so many bytes, a power of two up to 4,096.
            level: of zstd.
            throttle: slow writes down when the drive is nearly full, as real ones do.
            force: also where there is something already, which is then lost.

        Raises:
            errors.Exists: there is something already, and *force* was not given.
            errors.Locked: somebody has it open.
            errors.DeviceError: the operating system refuses.
            ValueError: an option is out of its range; the message names it.
        """
        native = ffi.new("struct cubby_device_options *")
        native.physical_bytes = _option("physical", physical, 1 << 64)
        native.logical_bytes = _option("logical", logical, 1 << 64)
        native.unit_bytes = _option("unit", unit, 1 << 32)
        native.level = level
        native.no_throttle = not throttle
        native.force = force
        message = _new_message()
        status = lib.cubby_device_create(_native_name(name), native, message, len(message))
        _raise(status, os.fsdecode(name), message)
        return cls(name)

    # Life ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the device; closing twice is allowed.

        Calls of other threads are waited for; their later calls raise errors.Closed.
        """
        if self._pid != os.getpid():  # the lock's holder may not exist in this process
            self._handle = None  # the parent's stays
            return
        with self._idle:
            handle = self._take_handle("device")
        if handle is not None:
            lib.cubby_device_close(handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is None:
            return
        if self._pid == os.getpid():
            text = f"unclosed device {self._name}"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
        self.close()

    def __repr__(self) -> str:
        mode = "read-only" if self._read_only else "read-write"
        return f"<cubbydb.blockdev.BlockDevice {self._name!r}, {'closed' if self.closed else mode}>"

    def _raise(self, status: int, message: Any) -> None:
        _raise(status, self._name, message)

    # Blocks --------------------------------------------------------------------------------------

    def read(self, lba: int, count: int = 1) -> bytes:
        """Read *count* blocks, 1 or more, from block number *lba* on."""
        count = _number("count", count)
        content = _new_bytes(_BYTES, count * BLOCK_BYTES)
        self._read(lba, count, content)
        return bytes(ffi.buffer(content))

    def read_into(self, lba: int, buffer: "Buffer") -> None:
        """Fill a writable buffer with the blocks from *lba* on.

        Where its address is a multiple of 4,096, as that of an mmap, nothing is copied on the way.
        """
        with ffi.from_buffer(_BYTES, buffer, require_writable=True) as content:
            self._read(lba, _block_count(content), content)

    def _read(self, lba: int, count: int, content: Any) -> None:
        message = _new_message()
        lba = _number("lba", lba)
        with self._in_use() as device:
            status = lib.cubby_device_read(device, lba, count, content, message, len(message))
        self._raise(status, message)

    def read_many(self, lbas: Iterable[int]) -> list[bytes]:
        """Read single blocks, in the order of *lbas*.

        On a file or block device many reads are in flight at a time if the package libaio is
        installed: pip install cubbydb[libaio].
        """
        wanted = [_number("lba", lba) for lba in lbas]
        path = self._plain_path()
        if path is None or max(wanted, default=0) >= self.block_count:
            return [self.read(lba) for lba in wanted]
        from cubbydb.blockdev.batch_reader import BatchReader

        with self._in_use(), BatchReader(path) as reader:
            return reader.read_many(wanted)

    def _plain_path(self) -> str | None:
        """The path of a file or block device with nothing in front of it."""
        return None if self._name.startswith(PREFIXES) else self._name.removeprefix("file:")

    def write(self, lba: int, data: "Buffer") -> None:
        """Write whole blocks from *lba* on; after flush they survive a power cut."""
        message = _new_message()
        lba = _number("lba", lba)
        with ffi.from_buffer(_BYTES, data) as content:
            count = _block_count(content)
            with self._in_use() as device:
                status = lib.cubby_device_write(device, lba, count, content, message, len(message))
        self._raise(status, message)

    def discard(self, lba: int, count: int) -> None:
        """Tell the device that blocks are no longer needed; their content is then anything."""
        message = _new_message()
        lba, count = _number("lba", lba), _number("count", count)
        with self._in_use() as device:
            status = lib.cubby_device_discard(device, lba, count, message, len(message))
        self._raise(status, message)

    # The device as a whole -----------------------------------------------------------------------

    def flush(self) -> None:
        """Make what was written survive a power cut, as far as the device itself does."""
        message = _new_message()
        with self._in_use() as device:
            status = lib.cubby_device_flush(device, message, len(message))
        self._raise(status, message)

    def resize(self, blocks: int) -> None:
        """Change the size of a file, in blocks; new ones read as zeros.

        Raises:
            ValueError: it is no file, so its size is fixed.
        """
        message = _new_message()
        blocks = _number("blocks", blocks)
        with self._in_use() as device:
            status = lib.cubby_device_resize(device, blocks, message, len(message))
        self._raise(status, message)

    def _stat(self) -> Any:
        native = ffi.new("struct cubby_device_stat *")
        with self._in_use() as device:
            raise_for_status(lib.cubby_device_stat(device, native), self._name)
        return native

    def stat(self) -> DeviceStat:
        """Gather what the device is and how it stands."""
        native = self._stat()
        stat: dict[str, Any] = {name: getattr(native, name) for name in STAT_FIELDS}
        for name in ("kind", "source"):
            stat[name] = ffi.string(stat[name]).decode()
        stat["space_state"] = STATES[native.space_state]
        written = native.host_writes * BLOCK_BYTES
        stat["media_write_amplification"] = native.media_writes / written if written else None
        return cast(DeviceStat, stat)

    def usage(self) -> Usage:
        """What the data take up: cheap enough to ask often, a system call or two."""
        native = self._stat()
        return Usage(
            source=ffi.string(native.source).decode(),
            logical_bytes=native.logical_bytes,
            physical_bytes=native.physical_bytes,
            capacity_bytes=native.capacity_bytes,
            state=STATES[native.space_state],
        )

    @property
    def block_count(self) -> int:
        """The size, in blocks of 4,096 bytes."""
        return int(self._stat().block_count)

    @property
    def kind(self) -> str:
        """What it is: "memory", "file", "block device" or "csd"."""
        return str(ffi.string(self._stat().kind).decode())


def stored_bytes(block: "Buffer", *, unit: int = 64, level: int = 1) -> int:
    """Bytes that a block of 4,096 bytes takes in an emulated drive; 0 for zeros.

    With unit 1 it is the compressed size alone, without a header and not rounded up.

    >>> stored_bytes(bytes(4096)), stored_bytes(b"x" * 4096)
    (0, 64)

    Args:
        block: 4,096 bytes.
        unit: what the drive rounds up to, in bytes: a power of two up to 4,096.
        level: of zstd.
    """
    unit = _option("unit", unit, 1 << 32)
    if unit > BLOCK_BYTES or unit & (unit - 1):
        raise ValueError(f"unit is a power of two up to {BLOCK_BYTES:,}, not {unit:,}")
    with ffi.from_buffer(_BYTES, block) as content:
        if len(content) != BLOCK_BYTES:
            raise ValueError(f"a block has {BLOCK_BYTES:,} bytes, this one {len(content):,}")
        return int(lib.cubby_device_stored_bytes(content, unit, level))


def _native_name(name: StrPath) -> bytes:
    native = os.fsencode(name)
    if not native or b"\0" in native:
        raise ValueError(f"not the name of a device: {os.fsdecode(name)!r}")
    return native


def _new_message() -> Any:
    return ffi.new("char[]", lib.CUBBY_MESSAGE_BYTES)


def _raise(status: int, name: str, message: Any) -> None:
    """Raise what a status means.  A sentence may name the path within the name: that will do."""
    if status == 0:
        return
    text: bytes = ffi.string(message)
    sentence = text.decode(errors="replace")
    path = name.rpartition(":")[2]
    raise_for_status(status, path if path in sentence else name, sentence)


def _number(what: str, number: int) -> int:
    """A number of blocks or of a block, as the C side takes it."""
    number = index(number)
    if not 0 <= number < LBA_END // BLOCK_BYTES:
        raise ValueError(f"{what} is 0 or more and inside the device, not {number:,}")
    return number


def _option(what: str, size: int | str | None, end: int) -> int:
    """A size of BlockDevice.create as the C side takes it; 0 for the default."""
    if size is None:
        return 0
    number = size_in_bytes(size)
    if not 0 < number < end:
        raise ValueError(f"{what} is a size above 0, not {size!r}")
    return number


def _block_count(content: Any) -> int:
    """How many blocks a buffer is."""
    size = len(content)
    if size == 0 or size % BLOCK_BYTES:
        raise ValueError(f"blocks have {BLOCK_BYTES:,} bytes each; {size:,} bytes are not blocks")
    return int(size) // BLOCK_BYTES
