"""What one thread needs to call the C side: its session, and keys and values in the form C takes.

Depends on: cubbydb._native.  Used by: all calls of Store.
"""

import math
import os
import time
from array import array
from collections.abc import Iterable
from datetime import timedelta
from mmap import mmap
from typing import TYPE_CHECKING, Any, NoReturn, cast

from cubbydb._native import ffi, lib
from cubbydb.errors import key_text, raise_for_status

__all__ = [
    "BytesLike",
    "ScanSession",
    "Session",
    "SessionCalls",
    "Slice",
    "Ttl",
    "check_pair_size",
    "expires_after",
    "fail_many",
    "fail_pair",
    "key_bytes",
    "pack_keys",
    "value_buffer",
    "value_bytes",
]

# Any object with the buffer protocol is taken; these are what there is without other packages.
if TYPE_CHECKING:
    BytesLike = bytes | bytearray | memoryview | array[Any] | mmap
else:  # an array cannot be subscripted before Python 3.12
    BytesLike = bytes | bytearray | memoryview | array | mmap
Ttl = int | float | timedelta  # a time to live, numbers in seconds

_BYTES = ffi.typeof("uint8_t[]")
_TTL_SECONDS_MAX = 10**11  # some 3,000 years


class Slice:
    """A struct cubby_slice for calls to fill.

    data is read through a char pointer: cffi makes bytes of that, and a list of uint8_t.
    """

    __slots__ = ("data", "size", "struct")

    def __init__(self) -> None:
        self.struct = ffi.new("struct cubby_slice *")
        self.data = ffi.cast("char **", ffi.addressof(self.struct, "data"))
        self.size = ffi.cast("size_t *", ffi.addressof(self.struct, "size"))


class Session:
    """A native session and the structs that its calls fill, made once.

    busy is set during a call, until its results are copied: a signal handler or a finaliser may
    use the store in between, and then takes (or makes) the spare session.
    """

    __slots__ = (
        "busy",
        "count",
        "handle",
        "options",
        "pid",
        "spare",
        "value",
        "value_data",
        "value_size",
        "value_struct",
    )

    def __init__(self, store: Any, path: str) -> None:
        self.handle = ffi.NULL
        self.busy = False
        self.spare: Session | None = None
        self.count = ffi.new("uint64_t *")
        self.options = ffi.new("struct cubby_put_options *")
        self.value = Slice()
        self.value_struct = self.value.struct
        self.value_data = self.value.data
        self.value_size = self.value.size
        self.pid = os.getpid()
        out = ffi.new("cubby_session **")
        raise_for_status(lib.cubby_session_open(store, out), path)
        self.handle = out[0]

    # The defaults keep what is needed alive until the interpreter's end.
    def __del__(self, getpid: Any = os.getpid, close: Any = lib.cubby_session_close) -> None:
        if getattr(self, "pid", None) == getpid():  # made, and made by this process
            close(self.handle)

    def promise(self, durability: int) -> None:
        """What the changes survive that are made from now on: a number of promise_of."""
        lib.cubby_session_set_durability(self.handle, durability)

    def fail(self, status: int, subject: bytes | str) -> NoReturn:
        """Raise what the status of the last call on this session means."""
        raise_for_status(status, subject, self.message())
        raise AssertionError(f"status {status} is no failure")

    def message(self) -> str:
        """The C side's sentence about the last call that failed."""
        text: bytes = ffi.string(lib.cubby_session_message(self.handle))
        return text.decode(errors="replace")


class SessionCalls:
    """What Store has, for those parts of it that stand in files of their own."""

    def _session(self) -> Session:
        raise NotImplementedError

    def _check(self, session: Session, status: int) -> None:
        raise NotImplementedError


class ScanSession(Session):
    """A session with a scan on it, so that the scan is closed before the session."""

    __slots__ = ("key", "scan")

    def __init__(self, store: Any, path: str) -> None:
        self.scan = ffi.NULL
        self.key = Slice()
        super().__init__(store, path)

    def __del__(
        self,
        getpid: Any = os.getpid,
        close: Any = lib.cubby_session_close,
        close_scan: Any = lib.cubby_scan_close,
    ) -> None:
        if getattr(self, "pid", None) == getpid():  # made, and made by this process
            close_scan(self.scan)
            close(self.handle)


def key_bytes(key: object) -> bytes:
    """The bytes of a key that is bytes-like.

    Copied: in place, as a value, it would cost 195 ns, and to copy it costs 90 (16 bytes).
    """
    return _memory_of(key, "key").tobytes()


def value_bytes(value: object) -> bytes:
    """The bytes of a value that is bytes-like, copied."""
    return _memory_of(value, "value").tobytes()


def value_buffer(value: object) -> Any:
    """A value that is bytes-like, for the C side to read in place; its len is in bytes.

    As long as it is held on to, a bytearray cannot be resized: that is a BufferError.
    """
    return ffi.from_buffer(_BYTES, _memory_of(value, "value"))


def _memory_of(thing: object, what: str) -> memoryview:
    if isinstance(thing, str):
        raise TypeError(f"a {what} is bytes, not str: encode it first: {thing[:64]!r}.encode()")
    try:
        memory = memoryview(cast(bytes, thing))
    except TypeError:
        raise TypeError(f"a {what} is bytes, not {type(thing).__name__}") from None
    if not memory.c_contiguous:
        text = f"a {what} is contiguous bytes, not a {type(thing).__name__} with gaps: copy it"
        raise TypeError(f"{text} with bytes()")
    return memory


def expires_after(ttl: Ttl | None) -> int:
    """When what is put now with this time to live expires, for the C side; 0, never, for None."""
    if ttl is None:
        return 0
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"a ttl is a number of seconds or a timedelta, not {type(ttl).__name__}")
    if not 0 < seconds <= _TTL_SECONDS_MAX:  # nor NaN
        raise ValueError(f"a ttl is above 0 and at most {_TTL_SECONDS_MAX:,} seconds, not {ttl}")
    return time.time_ns() // 1_000_000 + math.ceil(seconds * 1000)


def pack_keys(keys: Iterable[BytesLike]) -> tuple[bytes, "array[int]"]:
    """All keys end to end, and their sizes."""
    try:
        packed = b"".join(keys)
        sizes = array("I", map(len, keys))
        if sum(sizes) == len(packed):  # else one of them counts something else than bytes
            return packed, sizes
    except (TypeError, OverflowError):  # not bytes-like, or over 4 GiB
        pass
    plain = [key_bytes(key) for key in keys]
    for key in plain:
        _check_key_size(key)
    return b"".join(plain), array("I", map(len, plain))


def _check_key_size(key: bytes) -> None:
    if not 1 <= len(key) <= lib.CUBBY_KEY_BYTES_MAX:
        limit = lib.CUBBY_KEY_BYTES_MAX
        raise ValueError(f"a key has 1 to {limit:,} bytes, this one {len(key):,}: {key_text(key)}")


def check_pair_size(key: bytes, value_size: int) -> None:
    """Raise ValueError if the sizes of a pair are out of range."""
    _check_key_size(key)
    if value_size > lib.CUBBY_VALUE_BYTES_MAX:
        limit = lib.CUBBY_VALUE_BYTES_MAX
        raise ValueError(
            f"a value has at most {limit:,} bytes, this one {value_size:,}: key {key_text(key)}"
        )


def fail_pair(session: Session, status: int, key: bytes, value_size: int = 0) -> NoReturn:
    """Raise what a call's status means for a key, sizes that are out of range first."""
    if status == lib.CUBBY_BAD_ARGUMENT:
        check_pair_size(key, value_size)
    session.fail(status, key)


def fail_many(
    session: Session, status: int, keys: Iterable[BytesLike], path: str, suffix: str = ""
) -> NoReturn:
    """Raise what the status of a get_many or put_many means."""
    if status == lib.CUBBY_BAD_ARGUMENT:
        for key in keys:
            _check_key_size(bytes(key))
    raise_for_status(status, path, f"{session.message()}{suffix}")
    raise AssertionError(f"status {status} is no failure")
