"""Calls of Store for asyncio: awaited instead of waited for, without a thread.

    async def main() -> None:
        with cubbydb.open("data.cubby", "c", size="256M") as store:
            await store.aput(b"key", b"value")
            assert await store.aget(b"key") == b"value"
            assert await store.aget_many([b"key", b"other"]) == [b"value", None]

    asyncio.run(main())

Each event loop that uses a store gets a native async object of its own on its first call
(cubby_async in engine/cubby.h), whose descriptor the loop watches.  The gets of one turn of the
loop are submitted in one native call, and completed in one: many coroutines that get one key each
keep the device as busy as a get_many.  Any loop will do that has add_reader and call_soon.

Depends on: session.py.  Used by: store.py.
"""

import contextlib
import os
import threading
import weakref
from array import array
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast, overload

from cubbydb._native import ffi, lib
from cubbydb.engine.durability import Durability, promise_of
from cubbydb.engine.session import (
    BytesLike,
    Ttl,
    expires_after,
    key_bytes,
    pack_keys,
    value_bytes,
)
from cubbydb.errors import key_text, raise_for_status

# Whoever awaits has imported it; for all others it would be half of the time that cubbydb takes.
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

__all__ = ["AsyncCalls", "LoopCalls", "LoopTable"]

_Default = TypeVar("_Default")
_Made = TypeVar("_Made")

SIZE_MAX: int = (1 << (8 * ffi.sizeof("size_t"))) - 1  # of a value that is not there

# Found once: attributes of lib, and types by name, cost a dictionary look-up per use.
_cubby_async_poll = lib.cubby_async_poll
_cubby_async_submit = lib.cubby_async_submit
_buffer = ffi.buffer
_from_buffer = ffi.from_buffer
_unpack = ffi.unpack
_UINT32S = ffi.typeof("uint32_t[]")
_UINT64S = ffi.typeof("uint64_t[]")


def _first_running_loop() -> "AbstractEventLoop":
    global _running_loop
    from asyncio import get_running_loop

    _running_loop = get_running_loop
    return get_running_loop()


_running_loop: "Callable[[], AbstractEventLoop]" = _first_running_loop


class AsyncCalls:
    """The part of Store that is awaited.

    All of it returns futures of the running loop: to be awaited, gathered, or given to
    asyncio.wait_for; cancelling one is allowed.  Calls that are not awaited one after the other are
    concurrent: in which order they see, or make, changes is not defined, except that changes of one
    key are made in the order of their calls.  Where the store is closed first, the futures raise
    errors.Closed.
    """

    _loops: "LoopTable"

    # What Store has, for these methods to use.

    def _new_session(self, kind: Callable[[Any, str], _Made]) -> _Made:
        raise NotImplementedError

    # The calls of the running loop -----------------------------------------------------------

    def _new_calls(self, loop: "AbstractEventLoop") -> "LoopCalls":
        return self._new_session(partial(LoopCalls, loop))

    def _calls_of(self, loop: "AbstractEventLoop") -> "LoopCalls":
        loops = self._loops
        reference = loops.by_loop.get(loop)
        calls = None if reference is None else reference()
        if calls is None or calls.loop is not loop:  # none yet, or one that has ended
            calls = self._new_calls(loop)
            reference = weakref.ref(calls)
            loops.by_loop[loop] = reference
        loops.latest = cast("weakref.ref[LoopCalls]", reference)
        return calls

    # Gets: the hot path spells out what _calls_of does for a loop it knows -----------------------

    @overload
    def aget(self, key: BytesLike) -> "Future[bytes | None]": ...
    @overload
    def aget(self, key: BytesLike, default: _Default) -> "Future[bytes | _Default]": ...
    def aget(self, key: BytesLike, default: Any = None) -> Any:
        """Get the value of *key*, or *default* if there is none; to be awaited.

        The device is read while the loop goes on: up to 256 gets at a time, the others wait.  The
        loop itself waits for values over 64 KiB, for a pair that is changed again and again while
        it is read, and on devices that are not asynchronous (memory, faults).
        """
        if type(key) is not bytes:
            key = key_bytes(key)
        loop = _running_loop()
        calls = self._loops.latest()
        if calls is None or calls.loop is not loop:
            calls = self._calls_of(loop)
        future = loop.create_future()
        if not calls.keys:
            calls.begin_gets(self)
        calls.keys.append(key)
        calls.targets.append(future if default is None else _OrDefault(future, default))
        return future

    def aget_many(self, keys: Iterable[BytesLike]) -> "Future[list[bytes | None]]":
        """Get the values of *keys* in their order, None for a key that has no pair."""
        wanted = [key if type(key) is bytes else key_bytes(key) for key in keys]
        loop = _running_loop()
        calls = self._calls_of(loop)
        future: Future[list[bytes | None]] = loop.create_future()
        if not wanted:
            future.set_result([])
            return future
        if not calls.keys:
            calls.begin_gets(self)
        many = _Many(future, len(wanted))
        calls.keys += wanted
        calls.targets += [_Part(many, index) for index in range(len(wanted))]
        return future

    # Changes -------------------------------------------------------------------------------------

    def aput(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Ttl | None = None,
        durability: Durability | None = None,
    ) -> "Future[None]":
        """Store a pair, replacing the key's value if it has one; to be awaited.

        When it is done, the pair survives what it does after put.  The changes of one turn of the
        loop are made together at its end, and made durable together: with "power" one flush is
        for all of them.  The loop waits meanwhile.
        """
        if type(key) is not bytes:
            key = key_bytes(key)
        if type(value) is not bytes:
            value = value_bytes(value)
        expires_after(ttl)  # a bad one is told at once
        promise_of(durability)
        return cast("Future[None]", self._change(key, value, ttl, durability))

    def adelete(self, key: BytesLike, *, durability: Durability | None = None) -> "Future[bool]":
        """Remove a pair and tell if there was one; to be awaited.  The loop waits, as in aput."""
        if type(key) is not bytes:
            key = key_bytes(key)
        promise_of(durability)
        return cast("Future[bool]", self._change(key, None, None, durability))

    def _change(
        self, key: bytes, value: bytes | None, ttl: Ttl | None, durability: Durability | None
    ) -> "Future[Any]":
        loop = _running_loop()
        calls = self._calls_of(loop)
        future: Future[Any] = loop.create_future()
        if not calls.changes:
            calls.begin_changes(self)
        calls.changes.append(_Change(key, value, ttl, durability, future))
        return future


class _Change(NamedTuple):
    """A pair to be put, or, without a value, to be deleted."""

    key: bytes
    value: bytes | None
    ttl: Ttl | None
    durability: Durability | None
    future: "Future[Any]"

    @property
    def kind(self) -> tuple[bool, Ttl | None, Durability | None]:
        """What those have in common that are made together."""
        return self.value is not None, self.ttl, self.durability


class _Target(Protocol):
    """What takes the outcome of a get; a future does.  InvalidStateError: it is not wanted."""

    def set_result(self, value: bytes | None, /) -> None: ...

    def set_exception(self, error: BaseException, /) -> None: ...


class _OrDefault:
    """A future that is given another value where there is none."""

    __slots__ = ("default", "future")

    def __init__(self, future: "Future[Any]", default: object) -> None:
        self.future = future
        self.default = default

    def set_result(self, value: bytes | None) -> None:
        self.future.set_result(self.default if value is None else value)

    def set_exception(self, error: BaseException) -> None:
        self.future.set_exception(error)


class _Many:
    """A future of a list, and how much of it is not there yet."""

    __slots__ = ("future", "left", "values")

    def __init__(self, future: "Future[list[bytes | None]]", count: int) -> None:
        self.future = future
        self.values: list[bytes | None] = [None] * count
        self.left = count


class _Part:
    """One element of the list of a _Many."""

    __slots__ = ("index", "many")

    def __init__(self, many: _Many, index: int) -> None:
        self.many = many
        self.index = index

    def set_result(self, value: bytes | None) -> None:
        many = self.many
        many.values[self.index] = value
        many.left -= 1
        if many.left == 0:
            many.future.set_result(many.values)

    def set_exception(self, error: BaseException) -> None:
        self.many.future.set_exception(error)


class LoopCalls:
    """What one event loop has of one store: the native async object, and the calls under way.

    The loop holds it, by the reader of its descriptor; the store only knows of it, and is held by
    it while calls are under way.  So it goes when the loop is closed or collected, and when the
    store is closed.
    """

    __slots__ = (
        "__weakref__",
        "changes",
        "completions",
        "handle",
        "keys",
        "loop",
        "next_tag",
        "path",
        "pending",
        "pid",
        "store",
        "targets",
    )

    def __init__(self, loop: "AbstractEventLoop", store: Any, path: str) -> None:
        self.handle = ffi.NULL
        self.loop: AbstractEventLoop | None = loop  # None: it has ended
        self.path = path
        self.store: Any = None
        self.keys: list[bytes] = []  # with targets: gets of this turn
        self.targets: list[_Target] = []
        self.pending: dict[int, _Target] = {}  # by tag: gets that were submitted
        self.changes: list[_Change] = []  # of this turn
        self.next_tag = 0
        self.completions = ffi.new("struct cubby_completions *")
        out = ffi.new("cubby_async **")
        raise_for_status(lib.cubby_async_open(store, out), path)
        self.handle = out[0]
        self.pid = os.getpid()
        loop.add_reader(lib.cubby_async_fd(self.handle), self.take)

    # The defaults keep what is needed alive until the interpreter's end.
    def __del__(self, getpid: Any = os.getpid, close: Any = lib.cubby_async_close) -> None:
        if getattr(self, "pid", None) == getpid():  # made, and made by this process
            close(self.handle)

    def begin_gets(self, store: AsyncCalls) -> None:
        """Have the gets that follow in this turn of the loop submitted at its end."""
        self.store = store  # not closed by the collector while calls are under way
        cast("AbstractEventLoop", self.loop).call_soon(self.submit)

    def begin_changes(self, store: AsyncCalls) -> None:
        """Have the changes that follow in this turn of the loop made at its end."""
        self.store = store
        cast("AbstractEventLoop", self.loop).call_soon(self.make_changes)

    def submit(self) -> None:
        """Submit the gets of this turn."""
        keys, self.keys = self.keys, []
        targets, self.targets = self.targets, []
        if self.loop is None:
            _fail_all(targets, lib.CUBBY_CLOSED, self.path)
            return
        status = self._submit(keys, targets)
        if status == lib.CUBBY_BAD_ARGUMENT:
            status = self._submit(*_of_good_size(keys, targets))
        if status in (lib.CUBBY_CLOSED, lib.CUBBY_FORKED):
            _fail_all(targets, status, self.path)
            self.end(status)
        elif status != 0:
            _fail_all(targets, status, self.path)

    def _submit(self, keys: list[bytes], targets: list[_Target]) -> int:
        packed, sizes = pack_keys(keys)
        tags = range(self.next_tag, self.next_tag + len(keys))
        self.next_tag += len(keys)
        status: int = _cubby_async_submit(
            self.handle,
            len(keys),
            packed,
            _from_buffer(_UINT32S, sizes),
            _from_buffer(_UINT64S, array("Q", tags)),
        )
        if status == 0:
            self.pending.update(zip(tags, targets, strict=True))
        return status

    def take(self) -> None:
        """Hand the gets that are complete to those who wait for them."""
        from asyncio import InvalidStateError

        completions = self.completions
        status = _cubby_async_poll(self.handle, completions)
        if status != 0:
            self.end(status)
            return
        count = completions.count
        if count > 0:
            values = completions.values
            packed = _buffer(values.data, values.size)
            tags = _unpack(completions.tags, count)
            sizes = _unpack(completions.value_sizes, count)
            if completions.failed > 0:
                self._fail_some(tags, count)
            offset = 0
            pop = self.pending.pop
            for tag, size in zip(tags, sizes, strict=True):
                if size == SIZE_MAX:
                    value = None
                else:
                    end = offset + size
                    value = packed[offset:end]
                    offset = end
                try:
                    pop(tag).set_result(value)
                except InvalidStateError:  # it was cancelled
                    continue
        if not (self.pending or self.keys or self.changes):
            self.store = None

    def _fail_some(self, tags: list[int], count: int) -> None:
        """Tell those whose gets have failed, so that a result comes too late for them."""
        for index, status in enumerate(_unpack(self.completions.statuses, count)):
            if status not in (lib.CUBBY_OK, lib.CUBBY_NOT_FOUND):
                text = ffi.string(lib.cubby_async_message(self.handle, index))
                error = _error_of(status, self.path, text.decode(errors="replace"))
                _fail(self.pending[tags[index]], error)

    def end(self, status: int) -> None:
        """Fail all gets under way with what a status means, and give everything back."""
        loop, self.loop = self.loop, None
        is_ours = self.pid == os.getpid()  # in a child the loop's epoll is still the parent's too
        if loop is not None and is_ours and not loop.is_closed():
            loop.remove_reader(lib.cubby_async_fd(self.handle))
        pending, self.pending = self.pending, {}
        _fail_all(pending.values(), status, self.path)
        if not self.changes:
            self.store = None
        if is_ours:
            handle, self.handle = self.handle, ffi.NULL
            lib.cubby_async_close(handle)

    def make_changes(self) -> None:
        """Make the changes of this turn, in their order; pairs in a row are put together."""
        changes, self.changes = self.changes, []
        store = self.store
        wanted = (change for change in changes if not change.future.cancelled())
        for _, run in groupby(wanted, lambda each: each.kind):
            _make_run(store, list(run))
        if not (self.pending or self.keys):
            self.store = None


class LoopTable(threading.local):
    """Of one thread: the calls of each loop that it has run, as long as they live."""

    def __init__(self) -> None:
        self.by_loop: weakref.WeakKeyDictionary[AbstractEventLoop, weakref.ref[LoopCalls]] = (
            weakref.WeakKeyDictionary()
        )
        self.latest: Callable[[], LoopCalls | None] = _none


def _none() -> None:
    return None


def _error_of(status: int, subject: bytes | str, message: str = "") -> Exception:
    """The exception that a status means."""
    try:
        raise_for_status(status, subject, message)
    except Exception as error:
        return error
    raise AssertionError(f"status {status} is no failure")


def _fail(target: _Target, error: Exception) -> None:
    from asyncio import InvalidStateError

    with contextlib.suppress(InvalidStateError):  # it was cancelled, or has failed
        target.set_exception(error)


def _fail_all(targets: Iterable[_Target], status: int, path: str) -> None:
    for target in targets:
        _fail(target, _error_of(status, path))


def _of_good_size(keys: list[bytes], targets: list[_Target]) -> tuple[list[bytes], list[_Target]]:
    """Those whose key may be one; the others are failed."""
    limit = lib.CUBBY_KEY_BYTES_MAX
    good: tuple[list[bytes], list[_Target]] = ([], [])
    for key, target in zip(keys, targets, strict=True):
        if 1 <= len(key) <= limit:
            good[0].append(key)
            good[1].append(target)
        else:
            text = f"a key has 1 to {limit:,} bytes, this one {len(key):,}: {key_text(key)}"
            _fail(target, ValueError(text))
    return good


def _settle(future: "Future[Any]", call: Callable[[], object]) -> None:
    """Give a future what a call returns or raises."""
    try:
        result = call()
    except Exception as error:
        _fail(future, error)
    else:
        if not future.done():
            future.set_result(result)


def _make_run(store: Any, run: list[_Change]) -> None:
    """Make changes of one kind, of which there is at least one."""
    if run[0].value is not None:
        _put_run(store, run)
        return
    for change in run:
        _settle(change.future, partial(store.delete, change.key, durability=change.durability))


def _put_again(store: Any, change: _Change) -> None:
    """Store a pair of a put_many that failed, and may have stored it: a full store has no room for
    it twice.
    """
    plain = change.ttl is None and change.durability is None
    if not plain or store.get(change.key) != change.value:
        store.put(change.key, change.value, ttl=change.ttl, durability=change.durability)


def _put_run(store: Any, run: list[_Change]) -> None:
    """Store pairs together; where that fails, one by one, so that each learns its own outcome."""
    first = run[0]
    pairs = [(change.key, change.value) for change in run]
    try:
        store.put_many(pairs, ttl=first.ttl, durability=first.durability)
    except Exception:
        for change in run:
            _settle(change.future, partial(_put_again, store, change))
    else:
        for change in run:
            if not change.future.done():
                change.future.set_result(None)
