"""StoreScan: the scan of a store that calls the C side.

Depends on: mapping.py, session.py.  Used by: store.py.
"""

import threading
from typing import TYPE_CHECKING

from cubbydb._native import ffi, lib
from cubbydb.engine.mapping import Pair, Scan
from cubbydb.engine.session import BytesLike, ScanSession, key_bytes

if TYPE_CHECKING:
    from cubbydb.engine.store import Store

__all__ = ["StoreScan"]

# Found once: attributes of lib cost a dictionary look-up per use.
_cubby_scan_next = lib.cubby_scan_next
_unpack = ffi.unpack


class StoreScan(Scan[Pair]):
    """The scan of a store that calls the C side."""

    def __init__(
        self,
        store: "Store",
        prefix: BytesLike,
        cursor: bytes | None,
        limit: int | None,
        keys_only: bool,
    ) -> None:
        self._session: ScanSession | None = None
        if cursor is not None:
            if not isinstance(cursor, bytes):
                raise TypeError(f"a cursor is bytes, not {type(cursor).__name__}")
            if len(cursor) != lib.CUBBY_CURSOR_BYTES:
                raise ValueError(
                    f"a cursor has {lib.CUBBY_CURSOR_BYTES} bytes, this one has {len(cursor)}"
                )
        if limit is not None:
            if isinstance(limit, bool) or not isinstance(limit, int):
                raise TypeError(f"a limit is an int, not {type(limit).__name__}")
            if limit < 0:
                raise ValueError(f"a limit is 0 or more, not {limit}")
        prefix = prefix if type(prefix) is bytes else key_bytes(prefix)
        self._store = store  # not closed by the collector while the scan is in use
        self._limit = limit
        self._keys_only = keys_only
        self._thread = threading.get_ident()
        self._cursor = b""
        self._expires_ms: int | None = None
        session = store._new_session(ScanSession)
        out = ffi.new("cubby_scan **")
        native_cursor = ffi.NULL if cursor is None else cursor
        status = lib.cubby_scan_open(session.handle, prefix, len(prefix), native_cursor, out)
        if status != 0:
            session.fail(status, store.path)
        session.scan = out[0]
        self._session = session

    def __next__(self) -> tuple[bytes, bytes]:
        session = self._session
        if session is None:
            raise StopIteration
        if self._thread != threading.get_ident():
            raise RuntimeError("a scan belongs to the thread that began it")
        if self._limit is not None:
            if self._limit == 0:
                self.close()
                raise StopIteration
            self._limit -= 1
        if session.busy:
            raise RuntimeError("the scan is being used further up the stack")
        session.busy = True
        try:
            key = session.key
            value = ffi.NULL if self._keys_only else session.value_struct
            status = _cubby_scan_next(session.scan, key.struct, value)
            if status == 0 and self._keys_only:
                return _unpack(key.data[0], key.size[0]), b""
            if status == 0:
                return (
                    _unpack(key.data[0], key.size[0]),
                    _unpack(session.value_data[0], session.value_size[0]),
                )
            if status != lib.CUBBY_NOT_FOUND:
                session.fail(status, self._store.path)
        finally:
            session.busy = False
        self.close()
        raise StopIteration

    @property
    def cursor(self) -> bytes:
        """The position after the last pair; give it to Store.scan to go on from there."""
        if self._session is None:
            return self._cursor
        cursor = ffi.new("uint8_t[]", lib.CUBBY_CURSOR_BYTES)
        lib.cubby_scan_cursor(self._session.scan, cursor)
        return bytes(ffi.buffer(cursor))

    @property
    def expires_ms(self) -> int | None:
        """When the last pair expires, in milliseconds since 1970 (UTC); None: never."""
        if self._session is None:
            return self._expires_ms
        return int(lib.cubby_scan_expiry(self._session.scan)) or None

    def close(self) -> None:
        """End the scan; closing twice is allowed."""
        self._cursor = self.cursor
        self._expires_ms = self.expires_ms
        self._session = None
