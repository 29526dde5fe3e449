"""MappedRegion: the Python face of the memory in engine/cubby_region.h.  Bytes with an address.

Memory is given out as memoryviews.  Behind each stands a native pointer whose end tells the region
that the view, and all that was made of it (slices, casts, arrays), has gone: that is how a region
knows whether it may be closed, and a pin when it may be given back.

Depends on: cubbydb._native, cubbydb.blockdev.  Used by: tests.
"""

import errno
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count as counting
from operator import index
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from cubbydb._native import ffi, lib
from cubbydb.blockdev.in_use import InUse, StrPath
from cubbydb.blockdev.sizes import size_in_bytes
from cubbydb.errors import DeviceError, ReadOnly, raise_for_status
from cubbydb.mmapio.view import View, memory_at

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["MappedRegion", "RegionStats"]

Advice = Literal["normal", "random", "willneed", "dontneed"]

ADVICE: dict[str, int] = {
    "normal": lib.CUBBY_REGION_NORMAL,
    "random": lib.CUBBY_REGION_RANDOM,
    "willneed": lib.CUBBY_REGION_WILLNEED,
    "dontneed": lib.CUBBY_REGION_DONTNEED,
}
STAT_FIELDS = [name for name, _ in ffi.typeof("struct cubby_region_stat").fields]
BYTES_END = 1 << 64

_BYTES = ffi.typeof("uint8_t[]")
_new_bytes = ffi.new_allocator(should_clear_after_alloc=False)


@dataclass(frozen=True, slots=True)
class RegionStats:
    """How a region stands.  Pages have 4,096 bytes; counters run from the opening.

    Args:
        cache_pages: that may be in memory at a time.
        resident_pages: in memory now.
        dirty_pages: of those, stored to and not written back yet.
        pinned_pages: by pin and prefault; a page counts once for each.
        loads: pages read from the device.
        pointer_faults: loads and stores by views that had to wait for a page.
        evictions: pages that had to leave memory.
        eviction_calls: system calls for that, each for many pages.
        writes: pages written back.
        write_calls: requests for that, each for pages side by side.
        has_pointers: whether view works.
        is_read_only: opened read-only; or writing back has failed, and no sync has succeeded since.
        write_error: the status that it failed with, an errno or a native one; 0: none.
        write_error_lba: the block of the device that was being written; 0 without an error.
    """

    cache_pages: int
    resident_pages: int
    dirty_pages: int
    pinned_pages: int
    loads: int
    pointer_faults: int
    evictions: int
    eviction_calls: int
    writes: int
    write_calls: int
    has_pointers: bool
    is_read_only: bool
    write_error: int
    write_error_lba: int


class MappedRegion(InUse):
    """A device, or a part of one, as memory; a context manager.

    Threads may share one.  The device is locked as a store is: one writer, or many readers.  len is
    the size in bytes.  Offsets and sizes are bytes, and what lies outside is a ValueError.

    What the device fails is an exception of read, write, pin, prefault, advise and sync: an
    errors.DeviceError, which is an OSError; errors.Corrupt; errors.PhysicalFull.  Plain memory has
    no exceptions: where a view touches what cannot be read, the process is ended by SIGBUS.  Where
    writing back fails nothing is lost: what is dirty stays in memory, and stores raise
    errors.Degraded (by a view: SIGBUS), until a sync succeeds.

    What is dirty when the process ends without close or sync is lost.  After close every method
    raises errors.Closed, and in a forked child, which has none of the memory, errors.Forked.

    >>> with MappedRegion("mem:1M", cache_bytes="256K") as region:
    ...     region.write(5000, b"anywhere")
    ...     len(region), region.read(4998, 6)
    (1048576, b'\\x00\\x00anyw')

    Args:
        name: a path, "csd:PATH", "mem:SIZE", ...: of a device that is there.
        cache_bytes: memory for pages, an int or text such as "64M": a multiple of 4,096, 256 KiB
            or more.
        offset: where on the device the region begins, a multiple of 4,096.
        size: how many bytes it has, a multiple of 4,096.  None: all that follow.
        read_only: views and pins are read-only, and nothing is ever written.
        pointers: False: no views.  Pins to write are then cheaper.
        separate_views: True: each view has addresses of its own, up to 31 of them, at which a store
            that it is not for is refused by the processor, whoever does it; pages are dearer to
            load and to evict then.  False: views are parts of one range of addresses.
    """

    def __init__(
        self,
        name: StrPath,
        *,
        cache_bytes: int | str = "64M",
        offset: int = 0,
        size: int | None = None,
        read_only: bool = False,
        pointers: bool = True,
        separate_views: bool = False,
    ) -> None:
        super().__init__(name, read_only)
        self._numbers = counting()
        # Views and pins that are not gone yet, by number -> the thread that must not sync.  Entries
        # leave it whenever the collector likes, so each change of it is a single step.
        self._live: dict[int, int | None] = {}
        self._is_orphan = False  # nobody but views knows it any more
        options = ffi.new("struct cubby_region_options *")
        options.first_byte = _number("offset", offset)
        options.size_bytes = 0 if size is None else _number("size", size, 1)
        options.cache_bytes = _number("cache_bytes", size_in_bytes(cache_bytes), 1)
        options.read_only = read_only
        options.pins_only = not pointers
        options.has_views = separate_views
        out = ffi.new("cubby_region **")
        message = _new_message()
        native_name = os.fsencode(name)
        if not native_name or b"\0" in native_name:
            raise ValueError(f"not the name of a device: {self._name!r}")
        status = lib.cubby_region_open(native_name, options, out, message, len(message))
        self._raise(status, message)
        self._handle = out[0]
        self._base = lib.cubby_region_base(self._handle)
        self._size = int(lib.cubby_region_size(self._handle))
        self._has_separate_views = separate_views
        self._has_pointers = self.stats().has_pointers
        self._why_no_pointers = _text(message) if pointers else "it was opened with pointers=False"

    @classmethod
    def open(
        cls,
        name: StrPath,
        *,
        cache_bytes: int | str = "64M",
        offset: int = 0,
        size: int | None = None,
        read_only: bool = False,
        pointers: bool = True,
        separate_views: bool = False,
    ) -> Self:
        """Map a device; arguments as for the class.

        Raises:
            errors.Locked: somebody has it open; the message names the process.
            errors.Corrupt: the emulated drive is damaged.
            errors.DeviceError: the operating system refuses, also for a missing file.
            ValueError: the name means nothing, or an argument is out of its range.
        """
        return cls(
            name,
            cache_bytes=cache_bytes,
            offset=offset,
            size=size,
            read_only=read_only,
            pointers=pointers,
            separate_views=separate_views,
        )

    # Life ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write back what is dirty, and end the region; closing twice is allowed.

        Calls of other threads are waited for; their later calls raise errors.Closed.  To have what
        was stored survive a power cut, sync before.

        Raises:
            BufferError: views or pins of it are still in use.  It stays open.
            errors.DeviceError, errors.PhysicalFull: writing back has failed.  It stays open, so
                that sync, or close, can be tried again; abandon gives up.
        """
        self._end(writes_back=True)

    def abandon(self) -> None:
        """End the region with whatever has not been written back, which is lost.

        Raises:
            BufferError: views or pins of it are still in use.
        """
        self._end(writes_back=False)

    def _end(self, writes_back: bool) -> None:
        if self._pid != os.getpid():  # the lock's holder may not exist in this process
            self._handle = None  # the parent's stays
            return
        message = _new_message()
        with self._idle:
            handle = self._take_handle("region")
            if handle is None:
                return
            if live := len(self._live):
                self._handle = handle
                raise BufferError(
                    f"{self._name} has views or pins in use, {live} of them: release() them, and "
                    "delete what was made of them, before it is closed"
                )
        if not writes_back:
            lib.cubby_region_abandon(handle)
            return
        status = lib.cubby_region_close(handle, message, len(message))
        if status != lib.CUBBY_OK:
            self._handle = handle
        self._raise(status, message)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except BufferError as in_use:
            if error is None:
                raise
            error.add_note(str(in_use))  # its traceback may be who uses them

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is None:
            return
        try:
            if self._pid == os.getpid():
                text = f"unclosed region {self._name}"
                warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
        finally:  # warnings may be errors
            self._is_orphan = True
            if not self._live:
                self._end_orphan()

    def _end_orphan(self) -> None:
        try:
            self.close()
        except Exception:
            self.abandon()
            raise  # Python prints it

    def _forget(self, number: int) -> None:
        """A view has gone."""
        self._live.pop(number, None)
        if self._is_orphan and not self._live:
            self._end_orphan()

    @property
    def has_pointers(self) -> bool:
        """Whether view works.

        The system has to have userfaultfd, of Linux 5.7 or newer, and to allow it.
        """
        return self._has_pointers

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        mode = "closed" if self.closed else "read-only" if self._read_only else "read-write"
        return f"<cubbydb.mmapio.MappedRegion {self._name!r}, {self._size:,} bytes, {mode}>"

    def _raise(self, status: int, message: Any) -> None:
        if status == lib.CUBBY_OK:
            return
        sentence = _text(message)
        path = self._name.rpartition(":")[2]
        raise_for_status(status, path if path in sentence else self._name, sentence)

    def _range(self, offset: int, size: int | None, least: int = 0) -> tuple[int, int]:
        """An offset and a size, all that follows if there is none, inside the region."""
        offset = _number("offset", offset)
        size = max(self._size - offset, 0) if size is None else _number("size", size, least)
        if offset > self._size or size > self._size - offset:
            raise ValueError(
                f"{self._name} is mapped with {self._size:,} bytes; {size:,} bytes from "
                f"{offset:,} on are outside"
            )
        return offset, size

    # Copies --------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> bytes:
        """Copy *size* bytes out of the region, from any *offset* on.

        What was stored is seen at once, and pages that had to be read stay in memory.  Unlike a
        view this raises what goes wrong.

        Raises:
            errors.DeviceError: the device failed reading; errors.Corrupt: it is damaged there.
        """
        offset, size = self._range(offset, size)
        content = _new_bytes(_BYTES, size)
        message = _new_message()
        with self._in_use() as region:
            status = lib.cubby_region_load(region, offset, size, content, message, len(message))
        self._raise(status, message)
        return bytes(ffi.buffer(content))

    def write(self, offset: int, data: "Buffer") -> None:
        """Copy *data*, bytes or any other buffer, into the region, to any *offset*.

        It is in memory then, as what a view stores is, and reaches the device later; unlike a view
        this raises what goes wrong.

        Raises:
            errors.ReadOnly: the region was opened read-only.
            errors.Degraded: writing back has failed, and no sync has succeeded since.
            errors.DeviceError, errors.Corrupt: a page that is to have the data cannot be read.
        """
        message = _new_message()
        with ffi.from_buffer(_BYTES, data) as content:
            offset, size = self._range(offset, len(content))
            with self._in_use() as region:
                status = lib.cubby_region_store(
                    region, offset, size, content, message, len(message)
                )
        self._raise(status, message)

    # Memory --------------------------------------------------------------------------------------

    def view(self, offset: int = 0, size: int | None = None, *, write: bool | None = None) -> View:
        """Bytes of the region in place, to be used as a memoryview or as a NumPy array.

        It costs nothing before it is used, whatever its size; what it touches is brought to memory
        by and by.  Its memory can be given to all that takes a buffer, as struct, hashlib or numpy.
        The region can not be closed before the view, and all slices and arrays of it, have gone:
        release() it, or use it in a with block.

        A device that fails is a SIGBUS here, which ends the process; so is storing where writing
        back has failed, or where all of the cache is dirty and cannot be written.  System calls
        need a prefault.

        >>> with MappedRegion("mem:1M") as region, region.view(4096, 8) as memory:
        ...     memory[2:5] = b"abc"
        ...     bytes(memory)
        b'\\x00\\x00abc\\x00\\x00\\x00'

        Args:
            offset: any byte of the region.
            size: None: all that follow.
            write: whether it may be stored to.  None: if the region may be.

        Raises:
            errors.DeviceError: the region has no pointers, see has_pointers; pin, read and write
                work all the same.  With separate_views also where there are too many (errno
                EAGAIN).
            errors.ReadOnly: write, and the region was opened read-only.
        """
        offset, size = self._range(offset, size)
        if not self._has_pointers:
            raise DeviceError(
                errno.EOPNOTSUPP,
                f"{self._name} has pins only, no views: {self._why_no_pointers}; use pin, read and "
                "write",
            )
        if write and self._read_only:
            raise ReadOnly(f"{self._name} is open for reading only")
        write = not self._read_only if write is None else write
        with self._in_use() as region:
            if self._has_separate_views and size > 0:
                return View(self._separate_view(region, offset, size, write))
            number = next(self._numbers)
            self._live[number] = None
            address = self._base + offset
            return View(memory_at(address, size, write, lambda: self._forget(number)))

    def _separate_view(self, region: Any, offset: int, size: int, write: bool) -> memoryview:
        """Addresses of its own for some bytes."""
        out = ffi.new("cubby_region_view **")
        message = _new_message()
        access = lib.CUBBY_REGION_WRITE if write else lib.CUBBY_REGION_READ
        status = lib.cubby_region_view_open(
            region, offset, size, access, out, message, len(message)
        )
        self._raise(status, message)
        native = out[0]
        number = next(self._numbers)
        self._live[number] = None

        def close() -> None:
            lib.cubby_region_view_close(native)
            self._forget(number)

        return memory_at(lib.cubby_region_view_base(native), size, write, close)

    @contextmanager
    def pin(self, offset: int, size: int, *, write: bool = False) -> Iterator[memoryview]:
        """Have pages in memory for the time of a with block; gives a memoryview of the bytes.

        Touching it never waits and never fails.  With *write* the pages count as changed, and none
        is written back before the block ends: what changes in one reaches the device as one, as far
        as that takes blocks of that size.  Slices or arrays of it that outlive the block prolong
        the pin.

        >>> with MappedRegion("mem:1M") as region:
        ...     with region.pin(10, 4, write=True) as memory:
        ...         memory[:] = b"done"
        ...     region.read(8, 8)
        b'\\x00\\x00done\\x00\\x00'

        Args:
            offset: any byte.
            size: 1 or more.  All pins together may have half of the cache.  Without pointers pages
                do not lie side by side, and the bytes must be on one page, of 4,096 bytes.
            write: the memoryview can be written to.

        Raises:
            errors.DeviceError: the device failed reading; or there is no room (errno ENOBUFS).
            errors.Corrupt: the device is damaged there.
            errors.ReadOnly, errors.Degraded: as for write.
        """
        with self._in_use() as region:
            offset, size, address = self._pin(region, offset, size, write)
            unpin = self._unpinning(region, offset, size, write)
            memory = memory_at(address, size, write, unpin)
        try:
            yield memory
        finally:
            with suppress(BufferError):  # an array of it prolongs the pin
                memory.release()

    @contextmanager
    def prefault(
        self, offset: int = 0, size: int | None = None, *, write: bool = False
    ) -> Iterator[None]:
        """Have pages in memory for the time of a with block, so that system calls can use views.

        A system call does not wait for a page as a program does: given a view, it fails with EFAULT
        (an OSError) where the page is not in memory.  That concerns os.write, send, readinto and
        whatever hands a buffer to the system; what copies first, as a buffered file does, needs
        none of this.

        >>> import io
        >>> with MappedRegion("mem:1M") as region, region.view(8192, 4096) as view:
        ...     with io.FileIO("file", "w") as file, region.prefault(8192, 4096):
        ...         file.write(view)
        4096

        Args:
            offset: any byte.
            size: 1 or more; None: all that follow.  All pins together may have half of the cache.
            write: the system call stores into the view, as readinto does.

        Raises as pin does.
        """
        with self._in_use() as region:
            offset, size, _ = self._pin(region, offset, size, write)
            unpin = self._unpinning(region, offset, size, write)
        try:
            yield
        finally:
            unpin()

    def _pin(self, region: Any, offset: int, size: int | None, write: bool) -> tuple[int, int, Any]:
        """Returns where the bytes are, too."""
        offset, size = self._range(offset, size, 1)
        message = _new_message()
        out = ffi.new("uint8_t **")
        access = lib.CUBBY_REGION_WRITE if write else lib.CUBBY_REGION_READ
        status = lib.cubby_region_pin(region, offset, size, access, out, message, len(message))
        self._raise(status, message)
        return offset, size, out[0]

    def _unpinning(self, region: Any, offset: int, size: int, write: bool) -> Callable[[], None]:
        """Note a pin.  What is returned gives it back."""
        number = next(self._numbers)
        access = lib.CUBBY_REGION_WRITE if write else lib.CUBBY_REGION_READ
        self._live[number] = threading.get_ident() if write else None

        def unpin() -> None:
            if self._pid == os.getpid():
                lib.cubby_region_unpin(region, offset, size, access)
            self._forget(number)

        return unpin

    # The region as a whole -----------------------------------------------------------------------

    def sync(self, offset: int = 0, size: int | None = None) -> None:
        """Write back what is dirty, of all bytes or some, and have the device flush.

        After it all that was stored there before survives a power cut, as far as the device itself
        does.  It waits for pins to write that other threads hold.

        Args:
            offset: any byte.
            size: None: all that follow.

        Raises:
            errors.DeviceError: the device failed writing, now or since the last sync; what is not
                written stays in memory, dirty.  errors.PhysicalFull: it is full.
            RuntimeError: this thread holds a pin to write, for which it would wait for ever.
        """
        offset, size = self._range(offset, size)
        message = _new_message()
        with self._in_use() as region:
            if threading.get_ident() in self._live.values():
                raise RuntimeError(f"{self._name} is pinned for writing by this thread; sync later")
            status = lib.cubby_region_sync(region, offset, size, message, len(message))
        self._raise(status, message)

    def advise(self, advice: Advice, offset: int = 0, size: int | None = None) -> None:
        """Say how bytes are going to be used.

        Args:
            advice: "normal", pages that are read one after the other are read ahead, or "random",
                none is: these two count for all of the region.  "willneed": read now what is not
                in memory, up to half of the cache.  "dontneed": let go of what is in memory,
                neither dirty nor pinned.
            offset: any byte.
            size: None: all that follow.

        Raises:
            errors.DeviceError, errors.Corrupt: "willneed" could not read.
        """
        if advice not in ADVICE:
            raise ValueError(f"advice is one of {', '.join(ADVICE)}, not {advice!r}")
        offset, size = self._range(offset, size)
        message = _new_message()
        with self._in_use() as region:
            status = lib.cubby_region_advise(
                region, offset, size, ADVICE[advice], message, len(message)
            )
        self._raise(status, message)

    def stats(self) -> RegionStats:
        """Gather how the region stands: cheap, no input or output."""
        native = ffi.new("struct cubby_region_stat *")
        with self._in_use() as region:
            raise_for_status(lib.cubby_region_stat(region, native), self._name)
        figures: dict[str, Any] = {name: getattr(native, name) for name in STAT_FIELDS}
        for name in ("has_pointers", "is_read_only"):
            figures[name] = bool(figures[name])
        return RegionStats(**figures)


def _new_message() -> Any:
    return ffi.new("char[]", lib.CUBBY_MESSAGE_BYTES)


def _text(message: Any) -> str:
    text: bytes = ffi.string(message)
    return text.decode(errors="replace")


def _number(what: str, number: int, least: int = 0) -> int:
    """A number of bytes, as the C side takes it."""
    number = index(number)
    if not least <= number < BYTES_END:
        raise ValueError(f"{what} is {least} or more, not {number:,}")
    return number
