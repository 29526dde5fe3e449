"""Store: the Python face of engine/cubby.h.  Bytes in, bytes out.

Each thread that uses a Store gets a native session of its own on its first call (session.py); the
global interpreter lock is released during every call of the C side.
"""

import os
import threading
import warnings
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, overload

from cubbydb._native import ffi, lib
from cubbydb.blockdev.closing import Closing
from cubbydb.engine.aio import AsyncCalls, LoopTable
from cubbydb.engine.batch import Batch, BatchSession
from cubbydb.engine.damage import Damage, DamageCalls
from cubbydb.engine.durability import STORES_OWN, Durability, promise_of
from cubbydb.engine.expiry import Compaction, ExpiringCalls
from cubbydb.engine.growth import GrowthCalls
from cubbydb.engine.inspection import InspectionCalls
from cubbydb.engine.many import BATCH_PAIRS, append_values, pair_batches
from cubbydb.engine.mapping import Pair, Scan
from cubbydb.engine.options import Io, StoreOptions
from cubbydb.engine.scan import StoreScan
from cubbydb.engine.session import (
    BytesLike,
    Session,
    Ttl,
    expires_after,
    fail_many,
    fail_pair,
    key_bytes,
    pack_keys,
    value_buffer,
)
from cubbydb.engine.space import Space, space_prefix
from cubbydb.engine.stats import StoreStat, gather_stats
from cubbydb.errors import raise_for_status

__all__ = ["Batch", "Compaction", "Damage", "Scan", "Space", "Store", "open"]

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_Default = TypeVar("_Default")
_Made = TypeVar("_Made")

# Found once: attributes of lib, and types by name, cost a dictionary look-up per use.
_cubby_get = lib.cubby_get
_cubby_put = lib.cubby_put
_cubby_close = lib.cubby_close
_buffer = ffi.buffer
_unpack: Callable[[Any, int], bytes] = ffi.unpack
_UINT32S = ffi.typeof("uint32_t[]")
_SIZES = ffi.typeof("size_t[]")


class Store(AsyncCalls, ExpiringCalls, InspectionCalls, GrowthCalls, DamageCalls, Closing):
    """An open store of bytes keys and bytes values; a context manager and a MutableMapping.

    Keys have 1 to 65,535 bytes, values up to 1 GiB; both may be bytes, bytearray or memoryview.
    Another size is a ValueError, another type a TypeError.  Threads may share one Store.

    What a change survives, once its call has returned, is the store's *durability*, or that of the
    call where it is given one.  Each includes those before it:

    - "none": nothing.  A crash may take the changes of the last moments, the latest first: what is
      lost is a tail, with nothing missing before it.
    - "process", the default: the death of the process (kill -9).  A power cut, or the death of the
      kernel, may take a tail.
    - "power": these, too.  The change is on the device, and flushed, which costs what a flush
      costs; threads that change pairs at the same time share one.

    sync makes everything before it survive the power; batch makes several changes all or none.

    After close every method raises errors.Closed, and in a forked child errors.Forked.  Any call
    that reads or writes may raise errors.Corrupt or errors.DeviceError, and one that changes a
    pair also errors.ReadOnly, errors.Full, errors.PhysicalFull, errors.Poisoned or
    errors.Degraded.

    Args:
        path: a file, a block device, or "mem:SIZE" for a store in memory, gone at close.
        options: how to open it; by default an existing store, read-only.
    """

    def __init__(self, path: StrPath, options: StoreOptions | None = None) -> None:
        self._handle: Any = None
        self._path = os.fsdecode(path)
        self._options = options or StoreOptions()
        self._pid = os.getpid()
        self._lock = threading.RLock()  # opening sessions excludes closing the store
        self._local = threading.local()
        self._loops = LoopTable()
        native_path = os.fsencode(path)
        if not native_path or b"\0" in native_path:
            raise ValueError(f"not a path: {self._path!r}")
        native = ffi.new("struct cubby_options *")
        lib.cubby_options_init(native)
        native.flags = self._options.native_flags
        native.fill_percent = self._options.fill_percent
        native.size_bytes = self._options.size_bytes
        native.durability = promise_of(self._options.durability)
        native.dirty_bytes = self._options.dirty_size_bytes
        native.memory_bytes = self._options.memory_bytes
        native.io = self._options.native_io
        native.region_bytes = self._options.region_size_bytes
        native.warn_percent = self._options.warn_percent or 0
        native.no_growth_percent = self._options.no_growth_percent or 0
        native.read_delete_percent = self._options.read_delete_percent or 0
        out = ffi.new("cubby_store **")
        message = ffi.new("char[]", lib.CUBBY_MESSAGE_BYTES)
        status = lib.cubby_open(native_path, native, out, message, len(message))
        raise_for_status(status, self._path, ffi.string(message).decode(errors="replace"))
        self._handle = out[0]

    # Life ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write everything to its place, and close the store; closing twice is allowed.

        After it nothing is lost, and the next opening has nothing to recover.  Calls of other
        threads are waited for; their later calls raise errors.Closed.  Where an error says that
        something could not be written to its place, it is still in the log: the next opening
        recovers it.
        """
        if self._pid != os.getpid():  # the lock's holder may not exist in this process
            handle, self._handle = self._handle, None
            if handle is not None:
                _cubby_close(handle)  # gives back what a forked child has; the parent's stays
            return
        with self._lock:
            handle, self._handle = self._handle, None
            status = 0 if handle is None else _cubby_close(handle)
            self._local = threading.local()
        raise_for_status(status, self._path)

    @property
    def closed(self) -> bool:
        """Whether the store has been closed."""
        return self._handle is None

    @property
    def path(self) -> str:
        """The path the store was opened by."""
        return self._path

    @property
    def read_only(self) -> bool:
        """Whether the store was opened with flag "r"."""
        return self._options.flag == "r"

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is None:
            return
        if self._pid == os.getpid():
            text = f"unclosed store {self._path}"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
        self.close()

    def __repr__(self) -> str:
        mode = "read-only" if self.read_only else "read-write"
        return f"<cubbydb.Store {self._path!r}, {'closed' if self.closed else mode}>"

    # Sessions ------------------------------------------------------------------------------------

    def _new_session(self, kind: Callable[[Any, str], _Made]) -> _Made:
        if self._pid != os.getpid():
            raise_for_status(lib.CUBBY_FORKED, self._path)
        with self._lock:
            if self._handle is None:
                raise_for_status(lib.CUBBY_CLOSED, self._path)
            return kind(self._handle, self._path)

    def _first_session(self) -> Session:
        session = self._new_session(Session)
        self._local.session = session
        return session

    def _spare_session(self, session: Session) -> Session:
        while session.busy:
            if session.spare is None:
                session.spare = self._new_session(Session)
            session = session.spare
        return session

    def _session(self) -> Session:
        """An idle session of this thread; the caller marks it busy at once, without a call."""
        try:
            session: Session = self._local.session
        except AttributeError:
            session = self._first_session()
        return self._spare_session(session) if session.busy else session

    def _batch_session(self) -> BatchSession:
        """A session of this thread that no batch has."""
        idle: list[BatchSession] = self._local.__dict__.setdefault("idle_batch_sessions", [])
        return idle.pop() if idle else self._new_session(BatchSession)

    def _keep_batch_session(self, session: BatchSession) -> None:
        """Have this thread's next batch take a session that it has itself taken before."""
        if self._handle is not None:
            self._local.__dict__.setdefault("idle_batch_sessions", []).append(session)

    # One pair: the hot paths spell out what _session does ----------------------------------------

    def __getitem__(self, key: BytesLike) -> bytes:
        if type(key) is not bytes:
            key = key_bytes(key)
        try:
            session = self._local.session
        except AttributeError:
            session = self._first_session()
        if session.busy:
            session = self._spare_session(session)
        session.busy = True
        try:
            status = _cubby_get(session.handle, key, len(key), session.value_struct)
            if status == 0:
                return _unpack(session.value_data[0], session.value_size[0])
            fail_pair(session, status, key)
        finally:
            session.busy = False

    @overload
    def get(self, key: BytesLike) -> bytes | None: ...
    @overload
    def get(self, key: BytesLike, default: _Default) -> bytes | _Default: ...
    def get(self, key: BytesLike, default: Any = None) -> Any:
        """Return the value of *key*, or *default* if there is none.

        Costs one device read; two for a displaced pair or one over about 1,000 bytes.

        >>> store.put(b"key", b"value")
        >>> store.get(b"key"), store.get(b"absent"), store.get(b"absent", b"")
        (b'value', None, b'')
        """
        if type(key) is not bytes:
            key = key_bytes(key)
        try:
            session = self._local.session
        except AttributeError:
            session = self._first_session()
        if session.busy:
            session = self._spare_session(session)
        session.busy = True
        try:
            status = _cubby_get(session.handle, key, len(key), session.value_struct)
            if status == 0:
                return _unpack(session.value_data[0], session.value_size[0])
            if status == lib.CUBBY_NOT_FOUND:
                return default
            fail_pair(session, status, key)
        finally:
            session.busy = False

    def put(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Ttl | None = None,
        durability: Durability | None = None,
    ) -> None:
        """Store a pair, replacing the key's value if it has one.

        When it returns, the pair survives what *durability* says, "power", "process" or "none";
        None: what the store was opened with.  It reads nothing: the pair goes into the log, and
        from there, with others, to its block.  Now and then a put does a piece of that work.  A
        pair over about 1,000 bytes is written to its place at once.
        A value that is not bytes is read in place, so no thread may change it meanwhile; resizing
        a bytearray is a BufferError there.

        After *ttl* seconds (or a timedelta) the pair is not there any more; None: it never expires,
        whatever the pair was that it replaces.

        >>> store.put(b"key", b"value")
        >>> store[b"key"] = bytearray(b"another")  # the same
        >>> store[b"key"]
        b'another'
        >>> store.put(b"session", b"token", ttl=60)
        >>> store.put(b"order", b"paid", durability="power")
        """
        if ttl is not None or durability is not None:
            promise = promise_of(durability)
            self._put_with(key, value, expires_ms=expires_after(ttl), promise=promise)
            return
        if type(key) is not bytes:
            key = key_bytes(key)
        session = self._session()
        session.busy = True
        try:
            if type(value) is not bytes:
                value = value_buffer(value)
            status = _cubby_put(session.handle, key, len(key), value, len(value))
            if status != 0:
                fail_pair(session, status, key, len(value))
        finally:
            session.busy = False
            del value  # else who keeps the exception keeps a bytearray from being resized

    __setitem__ = put

    def delete(self, key: BytesLike, *, durability: Durability | None = None) -> bool:
        """Remove a pair; tell whether there was one.

        Survives what a put survives.  Costs what a get does, for its answer.

        >>> store.put(b"key", b"value")
        >>> store.delete(b"key"), store.delete(b"key")
        (True, False)
        """
        if type(key) is not bytes:
            key = key_bytes(key)
        promise = STORES_OWN if durability is None else promise_of(durability)
        session = self._session()
        session.busy = True
        try:
            if promise:
                session.promise(promise)
            status = lib.cubby_delete(session.handle, key, len(key))
            if status not in (lib.CUBBY_OK, lib.CUBBY_NOT_FOUND):
                fail_pair(session, status, key)
            return bool(status == lib.CUBBY_OK)
        finally:
            if promise:
                session.promise(STORES_OWN)
            session.busy = False

    def __delitem__(self, key: BytesLike) -> None:
        if not self.delete(key):
            raise_for_status(lib.CUBBY_NOT_FOUND, bytes(key))

    def __contains__(self, key: object) -> bool:
        if type(key) is not bytes:
            key = key_bytes(key)
        session = self._session()
        session.busy = True
        try:
            status = lib.cubby_contains(session.handle, key, len(key))
            if status not in (lib.CUBBY_OK, lib.CUBBY_NOT_FOUND):
                fail_pair(session, status, key)
            return bool(status == lib.CUBBY_OK)
        finally:
            session.busy = False

    # Many pairs ----------------------------------------------------------------------------------

    def get_many(self, keys: Iterable[BytesLike]) -> list[bytes | None]:
        """Return the values of *keys* in their order, None for a key that has no pair.

        Many device reads are in flight at a time, so this is faster than one get after another.
        Where one of them fails there is no result.  It is no snapshot: what other threads change
        meanwhile is seen or not, key by key.

        >>> store.put_many([(b"1", b"one"), (b"2", b"two")])
        2
        >>> store.get_many([b"2", b"absent", b"1"])
        [b'two', None, b'one']
        """
        wanted = keys if isinstance(keys, list | tuple) else list(keys)
        values: list[bytes | None] = []
        for begin in range(0, len(wanted), BATCH_PAIRS):
            self._get_batch(wanted[begin : begin + BATCH_PAIRS], values)
        return values

    def _get_batch(self, keys: list[BytesLike] | tuple[BytesLike, ...], values: Any) -> None:
        """Append the values of at most BATCH_PAIRS keys."""
        packed_keys, key_sizes = pack_keys(keys)
        sizes = array("Q", bytes(8 * len(keys)))
        session = self._session()
        session.busy = True
        try:
            status = lib.cubby_get_many(
                session.handle,
                len(keys),
                packed_keys,
                ffi.from_buffer(_UINT32S, key_sizes),
                session.value_struct,
                ffi.from_buffer(_SIZES, sizes, require_writable=True),
            )
            if status != 0:
                fail_many(session, status, keys, self._path)
            append_values(_buffer(session.value_data[0], session.value_size[0]), sizes, values)
        finally:
            session.busy = False

    def put_many(
        self,
        pairs: Mapping[bytes, BytesLike] | Iterable[tuple[BytesLike, BytesLike]],
        *,
        ttl: Ttl | None = None,
        durability: Durability | None = None,
    ) -> int:
        """Store many pairs, from a mapping or an iterable of pairs; return how many.

        Each pair is put by itself: this is no transaction, batch is.  Of two pairs with one key
        the later one stays.  The pairs may be more than memory holds: they are taken 1,024 at a
        time, or 8 MiB, copied end to end for the C side, and made durable together; a buffer may
        be used again for the next pair.
        Where storing fails, the message says how many of them are stored.  All of them get the
        *ttl* and the *durability* that put would give them.

        >>> store.put_many((b"user%d" % number, b"x" * 400) for number in range(1000))
        1000
        >>> store.put_many({b"key": b"value"})
        1
        """
        stored = 0
        expires_after(ttl)  # a bad one is told although there are no pairs
        promise = promise_of(durability)
        for keys, values in pair_batches(pairs):
            self._put_batch(keys, values, expires_after(ttl), promise, stored)
            stored += len(keys)
        return stored

    def _put_batch(
        self, keys: list[bytes], values: list[bytes], expires_ms: int, promise: int, stored: int
    ) -> None:
        packed_keys, key_sizes = pack_keys(keys)
        packed_values = b"".join(values)
        value_sizes = array("Q", map(len, values))
        session = self._session()
        session.busy = True
        try:
            session.count[0] = 0
            if promise:
                session.promise(promise)
            status = lib.cubby_put_many(
                session.handle,
                len(keys),
                packed_keys,
                ffi.from_buffer(_UINT32S, key_sizes),
                packed_values,
                ffi.from_buffer(_SIZES, value_sizes),
                expires_ms,
                ffi.cast("size_t *", session.count),
            )
            if status != 0:
                suffix = f" (pairs of this put_many that are stored: {stored + session.count[0]:,})"
                fail_many(session, status, keys, self._path, suffix)
        finally:
            if promise:
                session.promise(STORES_OWN)
            session.busy = False

    # All pairs -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of pairs, expired ones that still take up space too (see compact).

        What is only in the log yet is written to its place first, to be counted; where that cannot
        be done, as in a store that is read-only, it is looked up.
        """
        session = self._session()
        session.busy = True
        try:
            self._check(session, lib.cubby_count(session.handle, session.count))
            return int(session.count[0])
        finally:
            session.busy = False

    def _open_scan(
        self, prefix: BytesLike, cursor: bytes | None, limit: int | None, keys_only: bool
    ) -> Scan[Pair]:
        return StoreScan(self, prefix, cursor, limit, keys_only)

    def space(self, name: BytesLike) -> Space:
        """The part of the store that has this name of 1 to 255 bytes; see Space.

        >>> users = store.space(b"users")
        >>> users[b"7"] = b"Ada"
        >>> users[b"7"], b"7" in store, b"7" in store.space(b"groups")
        (b'Ada', False, False)
        """
        return Space(self, space_prefix(name))

    def batch(self, *, durability: Durability | None = None) -> Batch:
        """Changes that happen all or not at all, in a with block; see Batch.

        >>> with store.batch() as batch:
        ...     batch[b"from"] = b"90"
        ...     batch[b"to"] = b"110"
        >>> store.get_many([b"from", b"to"])
        [b'90', b'110']
        """
        return Batch(self, b"", promise_of(durability))

    # The store as a whole ------------------------------------------------------------------------

    def _check(self, session: Session, status: int) -> None:
        if status != 0:
            session.fail(status, self._path)

    def sync(self) -> None:
        """Make everything before it survive a power cut, whatever was promised for it.

        Flushes the log, which costs what the device takes to flush.  Where space is short, also
        writes pairs to their places, and gives back what deletes have freed.
        """
        session = self._session()
        session.busy = True
        try:
            self._check(session, lib.cubby_sync(session.handle))
        finally:
            session.busy = False

    def step(self) -> bool:
        """Do one piece of background work, if there is any; tell whether there was.

        Puts do such work by themselves; an idle thread may take it off them.
        """
        session = self._session()
        session.busy = True
        try:
            did_work = ffi.new("int *")
            self._check(session, lib.cubby_step(session.handle, did_work))
            return bool(did_work[0])
        finally:
            session.busy = False

    def stats(self) -> StoreStat:
        """Gather figures about the store, its device and the calls since it was opened.

        A "space_mark" above 0 means that the device is getting full physically; nothing else
        tells so before a put is refused.  How long calls take is in "latency".  What a store holds
        ("pairs", "pair_bytes", "blobs") counts what is in its place: what is only in the log yet
        is "dirty_pairs".  What opening found and did is told from "recovered" on.  Cheap: no block
        is read.

        >>> store[b"key"] = b"value"
        >>> figures = store.stats()
        >>> figures["puts"], figures["pairs"], figures["dirty_pairs"]
        (1, 0, 1)
        >>> len(store)  # which has it written to its place
        1
        >>> figures = store.stats()
        >>> figures["pairs"], figures["pair_bytes"], figures["dirty_pairs"]
        (1, 8, 0)
        """
        session = self._session()
        session.busy = True
        try:
            return gather_stats(session, self._path)
        finally:
            session.busy = False


def open(
    path: StrPath,
    flag: str = "r",
    *,
    size: int | str | None = None,
    fill: float | None = None,
    force: bool = False,
    exclusive: bool = False,
    recover: bool = False,
    accept_loss: bool = False,
    durability: Durability = "process",
    dirty_bytes: int | str | None = None,
    memory: int | str | None = None,
    io: Io = "direct",
    region_bytes: int | str | None = None,
    warn_percent: int | None = None,
    no_growth_percent: int | None = None,
    read_delete_percent: int | None = None,
) -> Store:
    """Open or create a store.

    Args:
        path: a file, a block device, "csd:PATH" (it compresses), or "mem:SIZE" (gone at close).
        flag: as in dbm: "r" an existing store, read-only; "w" an existing one, to read and write;
            "c" the same, created if there is none; "n" always a new, empty store.
        size, fill, force, exclusive: how to create it.
        recover, accept_loss: how to open one that is damaged.
        durability: what changes survive when their call returns, unless that says otherwise.
        dirty_bytes, memory: for pairs that are in the log and not in their place yet; for these,
            and for a cache of pairs that are used often, together.
        io, region_bytes: "direct", or "mmap": blocks that are read again are kept, in so much.
        warn_percent, no_growth_percent, read_delete_percent: as the device gets full physically.

    What each of them means, and its default, says StoreOptions.

    Raises:
        errors.NotAStore: there is something else, or nothing, and flag is "r" or "w".
        errors.Exists: there is something that *force*, or the lack of *exclusive*, would pass over.
        errors.Locked: somebody has it open; the message names the process.
        errors.FormatVersion: the store needs a newer CubbyDB.
        errors.Corrupt: the store's own description, or the middle of its log, is damaged: the
            message says which, and *recover*, or *accept_loss*, may help.
        errors.Full: the device is too small.
        errors.DeviceError: the operating system refuses; a file that is missing is one, too.
        ValueError: an argument is out of its range; the message names it.

    >>> with cubbydb.open("data.cubby", "c", size="16M") as store:
    ...     store[b"key"] = b"value"
    >>> with cubbydb.open("data.cubby") as store:
    ...     store.read_only, store[b"key"]
    (True, b'value')
    """
    options = StoreOptions(
        flag=flag,
        size=size,
        fill=fill,
        force=force,
        exclusive=exclusive,
        recover=recover,
        accept_loss=accept_loss,
        durability=durability,
        dirty_bytes=dirty_bytes,
        memory=memory,
        io=io,
        region_bytes=region_bytes,
        warn_percent=warn_percent,
        no_growth_percent=no_growth_percent,
        read_delete_percent=read_delete_percent,
    )
    return Store(path, options)
