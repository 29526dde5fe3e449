"""What Nibble and VoliMap have in common: a session for each thread, and one end for all of them.

Depends on: cubbydb._native.  Used by: nibble_mapping.py, volimap_mapping.py.
"""

import os
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar

from cubbydb._native import ffi, lib
from cubbydb.blockdev.closing import Closing
from cubbydb.errors import raise_for_status

__all__ = ["InMemory", "MemorySession", "check_limit", "process_id"]

process_id = os.getpid()  # to ask the system costs as much as to get a pair


def _note_fork() -> None:
    global process_id
    process_id = os.getpid()


os.register_at_fork(after_in_child=_note_fork)


class MemorySession:
    """A native session, and a spare one while it is busy.

    busy is set during a call, until its results are copied: a signal handler or a finaliser may
    make another one in between, and then takes (or makes) the spare session.
    """

    __slots__ = ("busy", "handle", "pid", "spare")

    # Functions of the C side, said by each kind of session.
    native_open: ClassVar[Any]
    native_close: ClassVar[Any]
    native_message: ClassVar[Any]
    native_type: ClassVar[str]  # of a pointer to it

    def __init__(self, of: Any, what: str) -> None:
        self.handle = ffi.NULL
        self.busy = False
        self.spare: Self | None = None
        self.pid = os.getpid()
        out = ffi.new(f"{self.native_type} *")
        raise_for_status(self.native_open(of, out), what)
        self.handle = out[0]

    # The default keeps what is needed alive until the interpreter's end.
    def __del__(self, getpid: Any = os.getpid) -> None:
        if getattr(self, "pid", None) == getpid():  # made, and made by this process
            self.native_close(self.handle)

    def fail(self, status: int, subject: bytes | int | str) -> NoReturn:
        """Raise what the status of the last call on this session means."""
        raise_for_status(status, subject, self.message())
        raise AssertionError(f"status {status} is no failure")

    def message(self) -> str:
        """The C side's sentence about the last call that failed."""
        text: bytes = ffi.string(self.native_message(self.handle))
        return text.decode(errors="replace")


_Session = TypeVar("_Session", bound=MemorySession)


class InMemory(Closing, Generic[_Session]):
    """What has a session for each thread, until it is closed."""

    _what: ClassVar[str]  # it is, for messages

    def __init__(self) -> None:
        self._handle: Any = None
        self._pid = os.getpid()
        self._lock = threading.RLock()  # opening sessions excludes closing
        self._local = threading.local()

    @abstractmethod
    def _session_of(self, handle: Any) -> _Session:
        """Open a session."""

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._handle is None

    @contextmanager
    def _kept_open(self) -> Iterator[Any]:
        """The handle, which is this process's and is not closed meanwhile."""
        if self._pid != os.getpid():
            raise_for_status(lib.CUBBY_FORKED, self._what)
        with self._lock:
            if self._handle is None:
                text = f"the {self._what} has been closed"
                raise_for_status(lib.CUBBY_CLOSED, self._what, text)
            yield self._handle

    def _new_session(self) -> _Session:
        with self._kept_open() as handle:
            return self._session_of(handle)

    def _session(self) -> _Session:
        """An idle session of this thread; the caller marks it busy at once, without a call."""
        try:
            session: _Session = self._local.session
        except AttributeError:
            session = self._local.session = self._new_session()
        if session.pid != process_id:
            raise_for_status(lib.CUBBY_FORKED, self._what)
        while session.busy:
            if session.spare is None:
                session.spare = self._new_session()
            session = session.spare
        return session

    def _give_up_handle(self) -> Any:
        """What is left to be closed by this process: None if nothing is, from now on."""
        if self._pid != os.getpid():
            self._handle = None  # its threads, and perhaps its locks, are the parent's
            return None
        with self._lock:
            handle, self._handle = self._handle, None
            self._local = threading.local()
        return handle


def check_limit(limit: object) -> None:
    """Raise TypeError or ValueError if it is no limit of how many pairs are wanted."""
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"a limit is an int, not {type(limit).__name__}")
    if limit < 0:
        raise ValueError(f"a limit is 0 or more, not {limit}")
