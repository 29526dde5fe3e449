"""What is open by a name in the native library, and not to be closed while calls are under way.

Depends on: cubbydb._native, closing.  Used by: device, cubbydb.mmapio.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cubbydb._native import lib
from cubbydb.blockdev.closing import Closing
from cubbydb.errors import raise_for_status

__all__ = ["InUse", "StrPath"]

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class InUse(Closing):
    """Knows which threads are within calls, and which process has opened it.

    Whoever derives from it sets _handle once it is open, and takes it away in close.
    """

    def __init__(self, name: StrPath, read_only: bool) -> None:
        self._handle: Any = None
        self._name = os.fsdecode(name)
        self._read_only = read_only
        self._pid = os.getpid()
        self._idle = threading.Condition()
        self._users: Counter[int] = Counter()  # calls under way, by thread

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._handle is None

    @property
    def name(self) -> str:
        """The name the device was opened by."""
        return self._name

    @property
    def read_only(self) -> bool:
        """Whether it was opened to be read only."""
        return self._read_only

    @contextmanager
    def _in_use(self) -> Iterator[Any]:
        """The native handle, not to be closed meanwhile."""
        if self._pid != os.getpid():
            text = f"{self._name} was opened by the parent process; open it anew in this one"
            raise_for_status(lib.CUBBY_FORKED, self._name, text)
        thread = threading.get_ident()
        with self._idle:
            if self._handle is None:
                raise_for_status(lib.CUBBY_CLOSED, self._name, f"{self._name} has been closed")
            self._users[thread] += 1
            handle = self._handle
        try:
            yield handle
        finally:
            with self._idle:
                self._users[thread] -= 1
                if not self._users[thread]:
                    del self._users[thread]
                self._idle.notify_all()

    def _take_handle(self, what: str) -> Any:
        """The native handle, which no call has any more; nor will any, unless it is put back.

        The caller holds _idle.  None: it is closed already.
        """
        if self._users[threading.get_ident()]:
            raise RuntimeError(f"the {what} is being used further up the stack")
        handle, self._handle = self._handle, None
        self._idle.wait_for(lambda: self._users.total() == 0)
        return handle
