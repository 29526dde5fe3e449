"""Calls of Store that look at a pair and change it, with nothing in between.

Of many threads that change one key so, each sees what the one before it has left: the C side looks
and changes under one lock.

Depends on: mapping.py, session.py.  Used by: expiry.py.
"""

import contextlib
import operator
import re
from collections.abc import Iterable
from typing import Any, TypeVar, cast, overload

from cubbydb._native import ffi, lib
from cubbydb.engine.durability import STORES_OWN, Durability, promise_of
from cubbydb.engine.mapping import BytesMapping
from cubbydb.engine.session import (
    BytesLike,
    SessionCalls,
    Ttl,
    expires_after,
    fail_pair,
    key_bytes,
    value_buffer,
    value_bytes,
)
from cubbydb.errors import NotFound, key_text, raise_for_status

__all__ = ["ConditionalCalls"]

_Default = TypeVar("_Default")

_BYTES = ffi.typeof("uint8_t[]")
_NO_DEFAULT: Any = object()
_INTEGER = re.compile(rb"-?[0-9]+")
_ANSWERS = (lib.CUBBY_OK, lib.CUBBY_NOT_FOUND, lib.CUBBY_EXISTS, lib.CUBBY_DIFFERS)


class ConditionalCalls(SessionCalls, BytesMapping):
    """The part of Store that changes a pair depending on what it is; also gets into buffers."""

    _pop_cursor: bytes | None = None  # where the last popitem has stopped

    # To store, if ... ----------------------------------------------------------------------------

    def _put_with(
        self,
        key: BytesLike,
        value: BytesLike,
        condition: int = lib.CUBBY_ALWAYS,
        expected: BytesLike = b"",
        expires_ms: int = 0,
        promise: int = STORES_OWN,
    ) -> int:
        """Return which of _ANSWERS it was."""
        if type(key) is not bytes:
            key = key_bytes(key)
        session = self._session()
        session.busy = True
        try:
            if type(value) is not bytes:
                value = value_buffer(value)
            expected = value_buffer(expected)  # kept during the call: options only point to it
            options = session.options
            options.condition = condition
            options.expected = expected
            options.expected_size = len(expected)
            options.expires_ms = expires_ms
            if promise:
                session.promise(promise)
            status: int = lib.cubby_put_with(
                session.handle, key, len(key), value, len(value), options
            )
            if status not in _ANSWERS:
                fail_pair(session, status, key, len(value))
            return status
        finally:
            if promise:
                session.promise(STORES_OWN)
            session.busy = False
            del value, expected  # as in Store.put

    def _delete_if(self, key: BytesLike, expected: BytesLike, promise: int) -> int:
        """Return which of _ANSWERS it was."""
        if type(key) is not bytes:
            key = key_bytes(key)
        session = self._session()
        session.busy = True
        try:
            if type(expected) is not bytes:
                expected = value_buffer(expected)
            if promise:
                session.promise(promise)
            status: int = lib.cubby_delete_if(
                session.handle, key, len(key), expected, len(expected)
            )
            if status not in _ANSWERS:
                fail_pair(session, status, key)
            return status
        finally:
            if promise:
                session.promise(STORES_OWN)
            session.busy = False
            del expected

    # What is stored gets the ttl that put would give it, and is as durable.

    def add(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Ttl | None = None,
        durability: Durability | None = None,
    ) -> bool:
        """Store a pair if the key has none; tell whether it was stored.

        >>> store.add(b"key", b"first"), store.add(b"key", b"second"), store[b"key"]
        (True, False, b'first')
        >>> store.add(b"lock", b"mine", ttl=30)  # it opens by itself, should its owner be gone
        True
        """
        return self._swap(key, None, value, expires_after(ttl), promise_of(durability))

    def replace(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Ttl | None = None,
        durability: Durability | None = None,
    ) -> bool:
        """Store a pair if the key has one already; tell whether it was stored.

        >>> store.replace(b"key", b"value"), b"key" in store
        (False, False)
        """
        status = self._put_with(
            key,
            value,
            lib.CUBBY_IF_PRESENT,
            expires_ms=expires_after(ttl),
            promise=promise_of(durability),
        )
        return status == 0

    def compare_and_swap(
        self,
        key: BytesLike,
        expected: BytesLike | None,
        value: BytesLike | None,
        *,
        ttl: Ttl | None = None,
        durability: Durability | None = None,
    ) -> bool:
        """Change a pair if it is what is expected; tell whether it was.

        Args:
            key: whose pair.
            expected: the value that the key must have; None: it must have no pair.
            value: the new value; None: the pair is deleted.
            ttl: of the new pair.
            durability: of the change.

        >>> store[b"state"] = b"idle"
        >>> store.compare_and_swap(b"state", b"idle", b"busy")
        True
        >>> store.compare_and_swap(b"state", b"idle", b"busy")  # somebody was faster
        False
        """
        expires_ms = expires_after(ttl)
        promise = promise_of(durability)
        if value is None:
            if expected is None:
                return self.get(key_bytes(key)) is None
            return self._delete_if(key, expected, promise) == 0
        return self._swap(key, expected, value, expires_ms, promise)

    def _swap(
        self,
        key: BytesLike,
        expected: BytesLike | None,
        value: BytesLike,
        expires_ms: int,
        promise: int,
    ) -> bool:
        condition = lib.CUBBY_IF_ABSENT if expected is None else lib.CUBBY_IF_EQUAL
        expected = b"" if expected is None else expected
        return self._put_with(key, value, condition, expected, expires_ms, promise) == 0

    def setdefault(
        self,
        key: BytesLike,
        default: BytesLike | None = None,
        *,
        ttl: Ttl | None = None,
        durability: Durability | None = None,
    ) -> bytes:
        """Return the value of *key*; where there is none, *default* is stored first.

        It has to be given there: None, as dict stores it, is no value here, and a TypeError.

        >>> store.setdefault(b"key", b"first"), store.setdefault(b"key", b"second")
        (b'first', b'first')
        """
        expires_after(ttl)  # a bad one is told although there is a pair
        promise_of(durability)
        if type(key) is not bytes:
            key = key_bytes(key)
        if default is not None and type(default) is not bytes:
            default = value_bytes(default)
        while True:  # again only if other threads have added the pair, and deleted it, meanwhile
            value = self.get(key)
            if value is not None:
                return value
            if self.add(key, cast(BytesLike, default), ttl=ttl, durability=durability):
                return cast(bytes, default)

    def incr(
        self,
        key: BytesLike,
        delta: int = 1,
        *,
        initial: int = 0,
        ttl: Ttl | None = None,
        durability: Durability | None = None,
    ) -> int:
        """Add *delta* to the integer that is the key's value, and return the sum.

        The value is decimal ASCII text, such as b"-12"; a key without a pair counts as *initial*.
        Each of several threads that add to one key is counted.  Without a *ttl* the pair keeps
        the one that it has.

        Raises:
            ValueError: the value is no integer, or the sum has too many digits for Python's int().

        >>> store.incr(b"visits"), store.incr(b"visits", 10), store[b"visits"]
        (1, 11, b'11')
        """
        if type(key) is not bytes:
            key = key_bytes(key)
        delta, initial = operator.index(delta), operator.index(initial)
        promise = promise_of(durability)
        while True:  # again only if another thread has changed the pair meanwhile
            before = self.get(key)
            total = (initial if before is None else _integer_of(before, key)) + delta
            expires_ms = lib.CUBBY_EXPIRY_KEEP if ttl is None else expires_after(ttl)
            if self._swap(key, before, _text_of(total, key), expires_ms, promise):
                return total

    # To delete, and ... --------------------------------------------------------------------------

    @overload
    def pop(self, key: BytesLike, *, durability: Durability | None = ...) -> bytes: ...
    @overload
    def pop(
        self, key: BytesLike, default: _Default, *, durability: Durability | None = ...
    ) -> bytes | _Default: ...
    def pop(
        self, key: BytesLike, default: Any = _NO_DEFAULT, *, durability: Durability | None = None
    ) -> Any:
        """Remove a pair and return its value; of several threads that do so, one gets it.

        Without a pair *default* is returned, or errors.NotFound raised where none is given.

        >>> store[b"job"] = b"to do"
        >>> store.pop(b"job"), store.pop(b"job", None)
        (b'to do', None)
        """
        if type(key) is not bytes:
            key = key_bytes(key)
        promise = promise_of(durability)
        session = self._session()
        session.busy = True
        try:
            if promise:
                session.promise(promise)
            status = lib.cubby_take(session.handle, key, len(key), session.value_struct)
            if status == 0:
                return ffi.unpack(session.value_data[0], session.value_size[0])
            if status != lib.CUBBY_NOT_FOUND:
                fail_pair(session, status, key)
        finally:
            if promise:
                session.promise(STORES_OWN)
            session.busy = False
        if default is _NO_DEFAULT:
            raise_for_status(status, key)
        return default

    def popitem(self, *, durability: Durability | None = None) -> tuple[bytes, bytes]:
        """Remove some pair and return it; errors.NotFound is raised if there is none.

        It goes on where the last one has stopped, so that emptying a store does not begin anew
        each time; still, each call reads one segment (half a MiB or so), or more.
        """
        begins = [None] if self._pop_cursor is None else [self._pop_cursor, None]
        for begin in begins:
            with self.scan(cursor=begin) as scan:
                for key, _ in scan:
                    value = self.pop(key, None, durability=durability)
                    # None: another thread was faster.
                    if value is not None:
                        self._pop_cursor = scan.cursor
                        return key, value
        self._pop_cursor = None
        raise NotFound

    def sync(self) -> None:
        """Make everything before it survive a power cut."""
        raise NotImplementedError

    def delete_many(
        self, keys: Iterable[BytesLike], *, durability: Durability | None = None
    ) -> int:
        """Remove many pairs, each by itself; return how many there were.

        Where removing fails, a note on the exception says how many are removed.  With "power" all
        are flushed together, at the end.

        >>> store.update({b"1": b"one", b"2": b"two"})
        >>> store.delete_many([b"1", b"absent"]), len(store)
        (1, 1)
        """
        is_power = promise_of(durability) == lib.CUBBY_DURABILITY_POWER
        deleted = 0
        try:
            for key in keys:
                deleted += self.delete(key, durability="none" if is_power else durability)
        except Exception as error:
            error.add_note(f"pairs of this delete_many that are deleted: {deleted:,}")
            raise
        finally:
            if is_power and deleted > 0:
                self.sync()
        return deleted

    # To get, but not as bytes --------------------------------------------------------------------

    def get_into(self, key: BytesLike, buffer: bytearray | memoryview) -> int | None:
        """Copy the value of *key* to the start of a buffer; return its size in bytes.

        Returns None if there is no pair.  Costs what get does, but makes no bytes object.

        Args:
            key: whose value.
            buffer: writable and contiguous; of an array, for example, its memoryview.

        Raises:
            ValueError: the buffer is smaller than the value; nothing was copied.
            TypeError: the buffer is read-only, or not contiguous, or none.

        >>> store[b"key"] = b"value"
        >>> buffer = bytearray(b"........")
        >>> store.get_into(b"key", buffer), bytes(buffer)
        (5, b'value...')
        >>> store.get_into(b"absent", buffer) is None
        True
        """
        if type(key) is not bytes:
            key = key_bytes(key)
        with _writable_memory(buffer) as memory:
            session = self._session()
            session.busy = True
            try:
                status = lib.cubby_get(session.handle, key, len(key), session.value_struct)
                if status == lib.CUBBY_NOT_FOUND:
                    return None
                if status != 0:
                    fail_pair(session, status, key)
                size = int(session.value_size[0])
                if size > memory.nbytes:
                    raise ValueError(
                        f"the value of key {key_text(key)} has {size:,} bytes, "
                        f"the buffer {memory.nbytes:,}"
                    )
                if size > 0:
                    ffi.memmove(memory, session.value_data[0], size)
                return size
            finally:
                session.busy = False

    def get_view(self, key: BytesLike) -> memoryview | None:
        """Return a read-only view of the value of *key*, or None if there is none.

        The view owns its memory: it stays as it is, whatever becomes of the pair and the store.
        Parts of it can be sliced off without another copy.

        >>> store[b"key"] = b"header and body"
        >>> bytes(store.get_view(b"key")[:6])
        b'header'
        """
        value = self.get(key_bytes(key))
        return None if value is None else memoryview(value)


def _integer_of(value: bytes, key: bytes) -> int:
    if _INTEGER.fullmatch(value):
        with contextlib.suppress(ValueError):  # too many digits
            return int(value)
    raise ValueError(f"the value of key {key_text(key)} is no integer: {key_text(value)}")


def _text_of(number: int, key: bytes) -> bytes:
    try:
        return b"%d" % number
    except ValueError:
        raise ValueError(f"the sum for key {key_text(key)} has too many digits") from None


def _writable_memory(buffer: object) -> memoryview:
    try:
        memory = memoryview(cast(bytearray, buffer))
    except TypeError:
        raise TypeError(f"no buffer to read into: {type(buffer).__name__}") from None
    if memory.readonly or not memory.c_contiguous:
        fault = "read-only" if memory.readonly else "not contiguous"
        raise TypeError(f"the buffer to read into is {fault}")
    return memory
