"""Batch: changes of a store that happen all or not at all.

Depends on: session.py.  Used by: store.py, space.py.
"""

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cubbydb._native import ffi, lib
from cubbydb.blockdev.closing import Closing
from cubbydb.engine.session import (
    BytesLike,
    Session,
    Ttl,
    expires_after,
    fail_pair,
    key_bytes,
    value_buffer,
)
from cubbydb.errors import Closed

if TYPE_CHECKING:
    from cubbydb.engine.store import Store

__all__ = ["Batch", "BatchSession"]

# Found once: attributes of lib cost a dictionary look-up per use.
_cubby_batch_put = lib.cubby_batch_put
_cubby_batch_delete = lib.cubby_batch_delete


class BatchSession(Session):
    """A session with a batch on it, so that the batch is closed before the session."""

    __slots__ = ("batch",)

    def __init__(self, store: Any, path: str) -> None:
        self.batch = ffi.NULL
        super().__init__(store, path)

    def begin(self, path: str) -> None:
        """Have an empty batch in place of what there is; what that has is dropped."""
        out = ffi.new("cubby_batch **")
        status = lib.cubby_batch_open(self.handle, out)
        if status != 0:
            self.fail(status, path)
        self.end()
        self.batch = out[0]

    def end(self) -> None:
        """Have no batch any more."""
        batch, self.batch = self.batch, ffi.NULL
        lib.cubby_batch_close(batch)

    # The defaults keep what is needed alive until the interpreter's end.
    def __del__(
        self,
        getpid: Any = os.getpid,
        close: Any = lib.cubby_session_close,
        close_batch: Any = lib.cubby_batch_close,
    ) -> None:
        if getattr(self, "pid", None) == getpid():  # made, and made by this process
            close_batch(self.batch)
            close(self.handle)


class Batch(Closing):
    """Changes that happen all or not at all, made by Store.batch or Space.batch.

    After a crash of any kind, whatever was promised, either all of them are there or none.  At the
    end of the with block they are committed; an exception that leaves the block drops them.

    Until then no get sees them.  While they are committed other threads may see some before the
    others: it is no transaction, and nothing is looked at.  Of two changes of one key the later
    one counts.  What they survive when the block has ended is the *durability* that the batch was
    made with, or the store's.

    All of them together take up to an eighth of the log, which has a 32nd of the store: about 3 MiB
    in a store of 256M, and up to the memory that dirty pairs have, 11 MiB at least.  A change that
    would take more raises errors.TooLarge; what came before it is still there, to be committed or
    dropped.  A pair over about 1,000 bytes counts for little: its value is written to its place at
    once.

    A batch belongs to the thread that made it.

    >>> with store.batch(durability="power") as batch:
    ...     batch.put(b"order 7", b"paid", ttl=86_400)
    ...     batch[b"stock"] = b"41"
    ...     del batch[b"cart 7"]  # which need not be there
    ...     len(batch), b"stock" in store
    (3, False)
    >>> store[b"stock"]
    b'41'

    Args:
        store: the store.
        prefix: what the keys begin with in the store.
        promise: a number of durability.promise_of.
    """

    def __init__(self, store: "Store", prefix: bytes, promise: int) -> None:
        self._session: BatchSession | None = None
        self._store = store
        self._prefix = prefix
        self._thread = threading.get_ident()
        self._keys: set[bytes] = set()
        session = store._batch_session()
        session.promise(promise)
        session.begin(store.path)
        self._session = session

    def _enter(self) -> BatchSession:
        """The session, marked busy."""
        if self._thread != threading.get_ident():
            raise RuntimeError("a batch belongs to the thread that made it")
        session = self._session
        if session is None:
            raise Closed("the batch has been closed")
        if session.busy:
            raise RuntimeError("the batch is being used further up the stack")
        session.busy = True
        return session

    def put(self, key: BytesLike, value: BytesLike, *, ttl: Ttl | None = None) -> None:
        """Add the storing of a pair; *ttl* counts from now on.

        Raises:
            errors.TooLarge: there is no room for it; the batch is as it was.
        """
        key = self._prefix + (key if type(key) is bytes else key_bytes(key))
        expires_ms = expires_after(ttl)
        session = self._enter()
        try:
            if type(value) is not bytes:
                value = value_buffer(value)
            status = _cubby_batch_put(session.batch, key, len(key), value, len(value), expires_ms)
            if status != 0:
                fail_pair(session, status, key, len(value))
            self._keys.add(key)
        finally:
            session.busy = False
            del value  # as in Store.put

    __setitem__ = put

    def delete(self, key: BytesLike) -> None:
        """Add the removal of a pair, which need not be there.

        Raises:
            errors.TooLarge: there is no room for it; the batch is as it was.
        """
        key = self._prefix + (key if type(key) is bytes else key_bytes(key))
        session = self._enter()
        try:
            status = _cubby_batch_delete(session.batch, key, len(key))
            if status != 0:
                fail_pair(session, status, key)
            self._keys.add(key)
        finally:
            session.busy = False

    __delitem__ = delete

    def __len__(self) -> int:
        """How many keys it changes."""
        return len(self._keys)

    def __bool__(self) -> bool:
        """True, also of an empty batch."""
        return True

    def commit(self) -> None:
        """Do all of it, and go on with an empty batch.

        Where that fails nothing is done, and the batch is as it was.
        """
        session = self._enter()
        try:
            status = lib.cubby_batch_commit(session.batch)
            if status != 0:
                session.fail(status, self._store.path)
            self._keys.clear()
        finally:
            session.busy = False

    def clear(self) -> None:
        """Drop what was not committed, and go on with an empty batch."""
        session = self._enter()
        try:
            session.begin(self._store.path)
            self._keys.clear()
        finally:
            session.busy = False

    def close(self) -> None:
        """Drop what was not committed, and end the batch; closing twice is allowed."""
        session, self._session = self._session, None
        self._keys.clear()
        if session is None or session.busy or session.pid != os.getpid():
            return
        if self._thread == threading.get_ident():
            session.end()
            self._store._keep_batch_session(session)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._session is not None:
                self.commit()
        finally:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._session is None else f"{len(self):,} changes"
        return f"<cubbydb.Batch of {self._store!r}, {state}>"
