"""Nibble: the Python face of the pairs in memory of engine/cubby.h.

Each thread that uses a Nibble gets a native session of its own on its first call; the global
interpreter lock is released during every call of the C side.

Depends on: in_memory.py, many.py, mapping.py, session.py.  Used by: cubbydb.
"""

import sys
from array import array
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, NoReturn, TypedDict, TypeVar, cast, overload

from cubbydb._native import ffi, lib
from cubbydb.blockdev.sizes import size_in_bytes
from cubbydb.engine.in_memory import InMemory, MemorySession, check_limit
from cubbydb.engine.many import BATCH_PAIRS, append_values, pair_batches
from cubbydb.engine.mapping import Items, Pair, Values
from cubbydb.engine.session import (
    BytesLike,
    Slice,
    check_pair_size,
    key_bytes,
    pack_keys,
    value_buffer,
)
from cubbydb.errors import key_text, raise_for_status

__all__ = ["Nibble", "NibbleStat"]

_Default = TypeVar("_Default")

STAT_FIELDS = [name for name, _ in ffi.typeof("struct cubby_nibble_stat").fields]

_unpack = ffi.unpack
_UINT32S = ffi.typeof("uint32_t[]")
_SIZES = ffi.typeof("size_t[]")


class NibbleStat(TypedDict):
    """What Nibble.stats returns: the fields of struct cubby_nibble_stat in engine/cubby.h."""

    pairs: int
    memory_bytes: int
    """The limit."""
    used_bytes: int
    fixed_bytes: int
    live_bytes: int
    segment_bytes_used: int
    index_bytes: int
    large_bytes: int
    segment_bytes: int
    nodes: int
    gets: int
    misses: int
    retries: int
    puts: int
    in_place_puts: int
    deletes: int
    put_bytes: int
    helped: int
    cleaned_bytes: int
    moved_bytes: int
    cleaned_segments: int
    index_splits: int
    index_merges: int
    evicted: int
    evicted_bytes: int


class _Session(MemorySession):
    """A native session, and the structs that its calls fill."""

    __slots__ = ("pairs", "position", "value", "version")

    native_open = lib.cubby_nibble_session_open
    native_close = lib.cubby_nibble_session_close
    native_message = lib.cubby_nibble_session_message
    native_type = "cubby_nibble_session *"

    def __init__(self, nibble: Any) -> None:
        self.value = Slice()
        self.version = ffi.new("uint64_t *")
        self.position = ffi.new("uint64_t *")
        self.pairs = ffi.new("struct cubby_nibble_pairs *")
        super().__init__(nibble, "Nibble")

    def fail_pair(self, status: int, key: bytes, value_size: int = 0) -> NoReturn:
        """Raise what a call's status means for a key, sizes that are out of range first."""
        if status == lib.CUBBY_BAD_ARGUMENT:
            check_pair_size(key, value_size)
        self.fail(status, key)


class Nibble(MutableMapping[bytes, bytes], InMemory[_Session]):
    """Pairs in memory, within a number of bytes: a context manager and a MutableMapping.

    Keys have 1 to 65,535 bytes, values up to 1 GiB; both may be bytes, bytearray or memoryview.
    Threads may share one Nibble.  Whatever is put, deleted and put again, its memory is compacted
    while it is used, and errors.Full says that all of it is in use by pairs.  Nothing is kept: at
    close, or at the end of the process, the pairs are gone.

    After close every method raises errors.Closed, and in a forked child errors.Forked.

    Args:
        memory: bytes, or text as "256M", that pairs, index and log may take together, at least
            16 MiB.
        cleaners: threads that compact ahead of need, 0 to 16.  Without them those who put do it.
        append_only: never overwrite a value where it is.

    >>> with Nibble("64M") as nibble:
    ...     nibble[b"key"] = b"value"
    ...     nibble.put_many({b"1": b"one", b"2": b"two"})
    ...     nibble.get(b"key"), nibble.get_many([b"2", b"absent"]), len(nibble)
    2
    (b'value', [b'two', None], 3)
    """

    _what = "Nibble"

    def __init__(self, memory: int | str, *, cleaners: int = 1, append_only: bool = False) -> None:
        super().__init__()
        self._memory_bytes = size_in_bytes(memory)
        if not 0 <= self._memory_bytes < 1 << 63:
            raise ValueError(f"memory is at least 16 MiB, not {memory!r}")
        if isinstance(cleaners, bool) or not isinstance(cleaners, int):
            raise TypeError(f"cleaners is an int, not {type(cleaners).__name__}")
        if not 0 <= cleaners <= 16:
            raise ValueError(f"cleaners is 0 to 16, not {cleaners}")
        options = ffi.new("struct cubby_nibble_options *")
        options.memory_bytes = self._memory_bytes
        options.cleaners = cleaners
        options.append_only = int(append_only)
        out = ffi.new("cubby_nibble **")
        message = ffi.new("char[]", lib.CUBBY_MESSAGE_BYTES)
        status = lib.cubby_nibble_open(options, out, message, len(message))
        raise_for_status(status, "Nibble", ffi.string(message).decode(errors="replace"))
        self._handle = out[0]

    # Life ----------------------------------------------------------------------------------------

    def _session_of(self, handle: Any) -> _Session:
        return _Session(handle)

    def close(self) -> None:
        """Give the memory back; closing twice is allowed.  Calls of other threads end first."""
        handle = self._give_up_handle()
        if handle is not None:
            lib.cubby_nibble_close(handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self._memory_bytes:,} bytes"
        return f"<cubbydb.Nibble, {state}>"

    # One pair ------------------------------------------------------------------------------------

    def _get(self, key: BytesLike) -> tuple[bytes | None, int]:
        """The value of a key, None where there is none, and its version."""
        if type(key) is not bytes:
            key = key_bytes(key)
        session = self._session()
        session.busy = True
        try:
            value = session.value
            status = lib.cubby_nibble_get(
                session.handle, key, len(key), value.struct, session.version
            )
            if status == 0:
                return _unpack(value.data[0], value.size[0]), session.version[0]
            if status == lib.CUBBY_NOT_FOUND:
                return None, session.version[0]
            session.fail_pair(status, key)
        finally:
            session.busy = False

    def __getitem__(self, key: BytesLike) -> bytes:
        value, _ = self._get(key)
        if value is None:
            raise_for_status(lib.CUBBY_NOT_FOUND, bytes(key))
        return cast(bytes, value)

    @overload
    def get(self, key: BytesLike) -> bytes | None: ...
    @overload
    def get(self, key: BytesLike, default: _Default) -> bytes | _Default: ...
    def get(self, key: BytesLike, default: Any = None) -> Any:
        """Return the value of *key*, or *default* if there is none."""
        value, _ = self._get(key)
        return default if value is None else value

    def get_versioned(self, key: BytesLike) -> tuple[bytes | None, int]:
        """Return the value of *key*, None if there is none, and a version for put_if_version.

        >>> nibble = Nibble("16M")
        >>> nibble[b"counter"] = b"1"
        >>> value, version = nibble.get_versioned(b"counter")
        >>> nibble.put_if_version(b"counter", b"%d" % (int(value) + 1), version)
        True
        >>> nibble.put_if_version(b"counter", b"5", version), nibble[b"counter"]
        (False, b'2')
        """
        return self._get(key)

    def _put(self, key: BytesLike, value: BytesLike, condition: int, version: int | None) -> int:
        if type(key) is not bytes:
            key = key_bytes(key)
        session = self._session()
        session.busy = True
        try:
            if type(value) is not bytes:
                value = value_buffer(value)
            if version is not None:
                status = lib.cubby_nibble_put_if(
                    session.handle, key, len(key), value, len(value), version
                )
            elif condition == lib.CUBBY_ALWAYS:
                status = lib.cubby_nibble_put(session.handle, key, len(key), value, len(value))
            else:
                status = lib.cubby_nibble_put_with(
                    session.handle, key, len(key), value, len(value), condition
                )
            unmet = (lib.CUBBY_EXISTS, lib.CUBBY_NOT_FOUND, lib.CUBBY_DIFFERS)
            if status not in (lib.CUBBY_OK, *unmet):
                session.fail_pair(status, key, len(value))
            return int(status)
        finally:
            session.busy = False
            del value  # else who keeps the exception keeps a bytearray from being resized

    def put(self, key: BytesLike, value: BytesLike) -> None:
        """Put a pair, in place of the key's if it has one.

        Raises:
            errors.Full: all of the memory is in use; nothing has changed.
        """
        self._put(key, value, lib.CUBBY_ALWAYS, None)

    __setitem__ = put

    def add(self, key: BytesLike, value: BytesLike) -> bool:
        """Put a pair if the key has none; tell whether it was put."""
        return not self._put(key, value, lib.CUBBY_IF_ABSENT, None)

    def replace(self, key: BytesLike, value: BytesLike) -> bool:
        """Put a pair if the key has one; tell whether it was put."""
        return not self._put(key, value, lib.CUBBY_IF_PRESENT, None)

    def put_if_version(self, key: BytesLike, value: BytesLike, version: int) -> bool:
        """Put a pair if nothing has changed since get_versioned gave this version for its key.

        Some pairs have a version together, which also changes when one of them is moved: so False
        says that it may have changed, and is to be answered by getting it again.
        """
        if isinstance(version, bool) or not isinstance(version, int):
            raise TypeError(f"a version is an int, not {type(version).__name__}")
        if not 0 <= version < 1 << 64:
            raise ValueError(f"a version is what get_versioned gave, not {version}")
        return not self._put(key, value, lib.CUBBY_ALWAYS, version)

    def _tell(self, call: Callable[[Any, bytes, int], int], key: BytesLike) -> bool:
        """Make a call about a key; tell whether there is, or was, a pair."""
        if type(key) is not bytes:
            key = key_bytes(key)
        session = self._session()
        session.busy = True
        try:
            status = call(session.handle, key, len(key))
            if status not in (lib.CUBBY_OK, lib.CUBBY_NOT_FOUND):
                session.fail_pair(status, key)
            return bool(status == lib.CUBBY_OK)
        finally:
            session.busy = False

    def delete(self, key: BytesLike) -> bool:
        """Remove a pair; tell whether there was one."""
        return self._tell(lib.cubby_nibble_delete, key)

    def __delitem__(self, key: BytesLike) -> None:
        if not self.delete(key):
            raise_for_status(lib.CUBBY_NOT_FOUND, bytes(key))

    def __contains__(self, key: object) -> bool:
        return self._tell(lib.cubby_nibble_contains, cast(bytes, key))

    @contextmanager
    def view(self, key: BytesLike) -> Iterator[memoryview]:
        """Show the value of *key* where it is, without a copy, inside a with block.

        It stays as it is there until the end of the block, whatever becomes of the pair.  But
        memory that is freed meanwhile cannot be used again before that: leave the block soon.
        Slices of the view that are kept beyond its end are a BufferError there, and the view then
        never ends.

        >>> nibble = Nibble("16M")
        >>> nibble[b"key"] = b"header and body"
        >>> with nibble.view(b"key") as value:
        ...     bytes(value[:6])
        b'header'
        """
        key = key if type(key) is bytes else key_bytes(key)
        session = self._new_session()
        value = session.value
        status = lib.cubby_nibble_view(session.handle, key, len(key), value.struct)
        if status != 0:
            session.fail_pair(status, key)
        buffer = ffi.buffer(value.data[0], value.size[0])
        memory = memoryview(buffer).toreadonly()
        try:
            yield memory
        finally:
            memory.release()
            if sys.getrefcount(buffer) > 2:  # this one, and the call's: slices hold on to it, too
                session.pid = 0  # never closed: what they show must stay
                text = f"slices of a view of {key_text(key)} are kept beyond its end: copy them"
                raise BufferError(text)
            lib.cubby_nibble_view_end(session.handle)

    # Many pairs ----------------------------------------------------------------------------------

    def get_many(self, keys: Iterable[BytesLike]) -> list[bytes | None]:
        """Return the values of *keys* in their order, None for a key that has no pair."""
        wanted = keys if isinstance(keys, list | tuple) else list(keys)
        values: list[bytes | None] = []
        for begin in range(0, len(wanted), BATCH_PAIRS):
            self._get_batch(wanted[begin : begin + BATCH_PAIRS], values)
        return values

    def _get_batch(self, keys: list[BytesLike] | tuple[BytesLike, ...], values: Any) -> None:
        packed_keys, key_sizes = pack_keys(keys)
        sizes = array("Q", bytes(8 * len(keys)))
        session = self._session()
        session.busy = True
        try:
            status = lib.cubby_nibble_get_many(
                session.handle,
                len(keys),
                packed_keys,
                ffi.from_buffer(_UINT32S, key_sizes),
                session.value.struct,
                ffi.from_buffer(_SIZES, sizes, require_writable=True),
            )
            if status != 0:
                self._fail_many(session, status, keys)
            packed = ffi.buffer(session.value.data[0], session.value.size[0])
            append_values(packed, sizes, values)
        finally:
            session.busy = False

    def put_many(
        self, pairs: Mapping[bytes, BytesLike] | Iterable[tuple[BytesLike, BytesLike]]
    ) -> int:
        """Put many pairs, from a mapping or an iterable of pairs; return how many."""
        stored = 0
        for keys, values in pair_batches(pairs):
            self._put_batch(keys, values, stored)
            stored += len(keys)
        return stored

    def _put_batch(self, keys: list[bytes], values: list[bytes], stored: int) -> None:
        packed_keys, key_sizes = pack_keys(keys)
        session = self._session()
        session.busy = True
        try:
            count = ffi.cast("size_t *", session.version)
            status = lib.cubby_nibble_put_many(
                session.handle,
                len(keys),
                packed_keys,
                ffi.from_buffer(_UINT32S, key_sizes),
                b"".join(values),
                ffi.from_buffer(_SIZES, array("Q", map(len, values))),
                count,
            )
            if status != 0:
                suffix = f" (pairs of this put_many that are stored: {stored + count[0]:,})"
                self._fail_many(session, status, keys, suffix)
        finally:
            session.busy = False

    @staticmethod
    def _fail_many(
        session: _Session, status: int, keys: Iterable[BytesLike], suffix: str = ""
    ) -> NoReturn:
        if status == lib.CUBBY_BAD_ARGUMENT:
            for key in keys:
                check_pair_size(bytes(key), 0)
        raise_for_status(status, "Nibble", f"{session.message()}{suffix}")
        raise AssertionError(f"status {status} is no failure")

    # All pairs -----------------------------------------------------------------------------------

    @overload
    def scan(
        self, prefix: BytesLike = ..., *, limit: int | None = ..., keys_only: Literal[False] = ...
    ) -> Iterator[Pair]: ...
    @overload
    def scan(
        self, prefix: BytesLike = ..., *, limit: int | None = ..., keys_only: Literal[True]
    ) -> Iterator[bytes]: ...
    def scan(
        self, prefix: BytesLike = b"", *, limit: int | None = None, keys_only: bool = False
    ) -> Iterator[Pair] | Iterator[bytes]:
        """Iterate over all pairs whose key begins with *prefix*, in an order without meaning.

        A pair present during the whole scan comes exactly once, whatever is put and deleted
        meanwhile.

        Args:
            prefix: what the keys begin with; all pairs are looked at, whatever it is.
            limit: stop after so many.
            keys_only: iterate over keys alone.
        """
        prefix = prefix if type(prefix) is bytes else key_bytes(prefix)
        check_limit(limit)
        session = self._new_session()
        return islice(_walk(session, prefix, keys_only), limit)

    def __iter__(self) -> Iterator[bytes]:
        return self.scan(keys_only=True)

    def __len__(self) -> int:
        """The number of pairs."""
        return self.stats()["pairs"]

    def items(self) -> ItemsView[bytes, bytes]:
        """All pairs, as a view; each iteration over it is one scan."""
        return Items(cast(Any, self))

    def keys(self) -> KeysView[bytes]:
        """All keys, as a view; each iteration over it is one scan."""
        return KeysView(self)

    def values(self) -> ValuesView[bytes]:
        """All values, as a view; each iteration over it, and each *in*, is one scan."""
        return Values(cast(Any, self))

    def clear(self) -> None:
        """Delete all pairs, one by one, in one scan."""
        for key in self:
            self.delete(key)

    __hash__ = None  # type: ignore[assignment]  # as that of everything mutable

    def stats(self) -> NibbleStat:
        """Gather figures about the pairs, the memory, and the calls so far.

        >>> nibble = Nibble("16M")
        >>> nibble[b"key"] = b"value"
        >>> figures = nibble.stats()
        >>> figures["pairs"], figures["live_bytes"], figures["used_bytes"] <= 16 << 20
        (1, 0, True)
        """
        native = ffi.new("struct cubby_nibble_stat *")
        with self._kept_open() as handle:
            lib.cubby_nibble_stat(handle, native)
        return cast(NibbleStat, {name: getattr(native, name) for name in STAT_FIELDS})


def _walk(session: _Session, prefix: bytes, keys_only: bool) -> Iterator[Any]:
    session.position[0] = 0
    while session.position[0] != lib.CUBBY_NIBBLE_END:
        status = lib.cubby_nibble_walk(session.handle, session.position, session.pairs)
        if status != 0:
            session.fail(status, "Nibble")
        pairs = []
        for i in range(session.pairs.count):
            slice_ = session.pairs.keys[i]
            key = bytes(ffi.buffer(slice_.data, slice_.size))
            if key.startswith(prefix):
                value = session.pairs.values[i]
                pairs.append(key if keys_only else (key, bytes(ffi.buffer(value.data, value.size))))
        yield from pairs
