"""What a VoliMap is made of on the C side: the map, a session for each thread, and their calls.

Depends on: in_memory.py, uint64.py.  Used by: volimap_mapping.py.
"""

import os
from typing import Any, TypedDict, cast

from cubbydb._native import ffi, lib
from cubbydb.engine.in_memory import MemorySession
from cubbydb.engine.uint64 import END, number_of
from cubbydb.errors import raise_for_status

__all__ = [
    "NativeMap",
    "NativeSession",
    "Path",
    "VoliMapStat",
    "add",
    "bounds_of",
    "file_name",
    "remove",
    "remove_if",
    "stats_of",
    "swap",
]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_LAST = "map"
STAT_FIELDS = [name for name, _ in ffi.typeof("struct cubby_volimap_stat").fields]


class VoliMapStat(TypedDict):
    """What VoliMap.stats returns: the fields of struct cubby_volimap_stat in engine/cubby.h."""

    pairs: int
    memory_bytes: int
    page_bytes: int
    directory_bytes: int
    retired_bytes: int
    spare_bytes: int
    pages: int
    directory_nodes: int
    is_array: int
    page_splits: int
    page_merges: int
    page_copies: int
    directory_copies: int
    page_copies_max: int
    directory_copies_max: int


class NativeMap:
    """A native map, which ends when it is not needed any more, and after all its sessions.

    The garbage collector ends objects that hold each other in any order: so each takes a token off
    a list, which is one step to other threads, and who takes the last one has to close the map.
    """

    __slots__ = ("handle", "pid", "tokens")

    def __init__(self, low: int, high: int, window: int) -> None:
        self.handle = ffi.NULL
        self.tokens = [_LAST]  # this object's own; sessions append theirs
        options = ffi.new("struct cubby_volimap_options *")
        options.low = low
        options.high = high if high < END - 1 else 0  # 0: any keys
        options.window = window
        out = ffi.new("cubby_volimap **")
        message = ffi.new("char[]", lib.CUBBY_MESSAGE_BYTES)
        status = lib.cubby_volimap_open(options, out, message, len(message))
        raise_for_status(status, "VoliMap", ffi.string(message).decode(errors="replace"))
        self.handle = out[0]
        self.pid = os.getpid()

    # The defaults keep what is needed alive until the interpreter's end.
    def __del__(self, getpid: Any = os.getpid) -> None:
        if getattr(self, "pid", None) == getpid():  # in a child its threads' locks are the parent's
            self.release()

    def release(self, last: str = _LAST, close: Any = lib.cubby_volimap_close) -> None:
        """Give one token back."""
        if self.tokens.pop() == last:
            close(self.handle)


class NativeSession(MemorySession):
    """A native session, what its calls fill, and the map, which has to outlive it."""

    __slots__ = ("key", "keys", "map", "room", "value", "values")

    native_open = lib.cubby_volimap_session_open
    native_close = lib.cubby_volimap_session_close
    native_message = lib.cubby_volimap_session_message
    native_type = "cubby_volimap_session *"

    def __init__(self, of: NativeMap) -> None:
        self.map = of
        self.key = ffi.new("uint64_t *")
        self.value = ffi.new("uint64_t *")
        self.room = 0
        self.keys = self.values = ffi.NULL
        of.tokens.append("session")
        super().__init__(of.handle, "VoliMap")

    def __del__(self, getpid: Any = os.getpid) -> None:
        super().__del__(getpid)
        if getattr(self, "pid", None) == getpid():
            self.map.release()

    def make_room(self, pairs: int) -> None:
        """Have keys and values for so many pairs."""
        if self.room < pairs:
            self.keys = ffi.new("uint64_t[]", pairs)
            self.values = ffi.new("uint64_t[]", pairs)
            self.room = pairs


# Calls about one pair; each sets value, where it has anything to tell ----------------------------


def add(session: NativeSession, key: int, value: int) -> int:
    """Put a pair if the key has none; value: the one that it has."""
    status: int = lib.cubby_volimap_put_if_absent(session.handle, key, value, session.value)
    return status


def swap(session: NativeSession, key: int, expected: int, value: int) -> int:
    """Put a value in place of the expected one; value: the one that there is."""
    status: int = lib.cubby_volimap_compare_and_swap(
        session.handle, key, expected, value, session.value
    )
    return status


def remove(session: NativeSession, key: int) -> int:
    """Remove a pair; value: the one that it had."""
    status: int = lib.cubby_volimap_remove(session.handle, key, session.value)
    return status


def remove_if(session: NativeSession, key: int, expected: int) -> int:
    """Remove a pair whose value is the expected one."""
    status: int = lib.cubby_volimap_remove_if(session.handle, key, expected)
    return status


def stats_of(session: NativeSession) -> VoliMapStat:
    """All figures."""
    native = ffi.new("struct cubby_volimap_stat *")
    lib.cubby_volimap_stat(session.map.handle, native)
    return cast(VoliMapStat, {name: getattr(native, name) for name in STAT_FIELDS})


# What a map is made with -------------------------------------------------------------------------


def bounds_of(low: int | None, high: int | None, window: int | None) -> tuple[int, int, int]:
    """The least and the greatest key, and the window or 0."""
    if window is not None and (low is not None or high is not None):
        raise ValueError("a VoliMap has a window, or low and high, not both")
    if high is None:
        if low is not None:
            raise ValueError("low says nothing without high")
        return 0, END - 1, _window_of(window)
    least, greatest = number_of(0 if low is None else low, "low"), number_of(high, "high")
    if not 0 <= greatest - least < 1 << 40:
        text = f"high is above low, by less than 2**40: not {greatest:,} and {least:,}"
        raise ValueError(text)
    if greatest == 0:
        raise ValueError("high is above 0")
    return least, greatest, 0


def _window_of(window: int | None) -> int:
    if window is None:
        return 0
    places = number_of(window, "window")
    if not 256 <= places <= 1 << 40:
        raise ValueError(f"a window is 256 to 2**40, not {places:,}")
    return places


def file_name(path: Path) -> bytes:
    """The absolute name of a file, for the C side: the working folder may change before that."""
    name = os.fsencode(path)
    if not name:
        raise ValueError("a path has at least one character")
    if b"\0" in name:
        raise ValueError(f"a path has no null character, this one has: {path!r}")
    return os.path.abspath(name)  # noqa: PTH100 - a Path is of str alone
