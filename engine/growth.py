"""The call of Store that makes it larger.

Depends on: session.py.  Used by: store.py.
"""

from cubbydb._native import lib
from cubbydb.blockdev.sizes import size_in_bytes
from cubbydb.engine.session import SessionCalls

__all__ = ["GrowthCalls"]

BYTES_MAX = (1 << 64) - 1


class GrowthCalls(SessionCalls):
    """The part of Store that makes it larger."""

    def resize(self, size: int | str | None = None) -> int:
        """Make the store larger; return its size in bytes, that of its file or device.

        Nothing is moved, and other threads go on.  When it returns, the new size survives a power
        cut; a crash before leaves the old size or the new one.  The same size is nothing to do.

        Args:
            size: bytes of pairs to have room for in all, an int or text such as "256M", as when
                the store is created: a file becomes four times as large, of a device up to four
                times as much is used.  None: all that the file had when it was opened, or that
                the device has by now.

        Raises:
            ValueError: the size is smaller than it is (a store does not shrink), or more than the
                device has; errors.ReadOnly.
        """
        size_bytes = 0 if size is None else size_in_bytes(size)
        if size is not None and not 1 <= size_bytes <= BYTES_MAX:
            raise ValueError(f"a size is at least 1 MiB, and at most 1 PiB, not {size!r}")
        session = self._session()
        session.busy = True
        try:
            self._check(session, lib.cubby_resize(session.handle, size_bytes, session.count))
            return int(session.count[0])
        finally:
            session.busy = False
