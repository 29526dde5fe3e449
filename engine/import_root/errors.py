"""The exceptions of CubbyDB.

    Error
      NotFound       (KeyError)    no pair has this key; args[0] is the key
      Exists                       create found something already there, and was not forced
      KeyExists                    a pair has this key already
      ValueDiffers                 the key has another value than was expected
      Full                         no logical space is left in the store
      PhysicalFull                 the device or file system under the store is out of space
      Locked                       another process, or another handle of this one, has the store
      Corrupt                      stored bytes fail a check
      ReadOnly                     the store was opened read-only
      Closed         (ValueError)  the store has been closed
        Forked                     the store was opened by a parent process
      NotAStore                    the device or file holds no CubbyDB store
      FormatVersion                the store needs a newer CubbyDB
      Unplaceable                  too many pairs of one hash value: this key has no place left
      DeviceError    (OSError)     the operating system failed a call; errno says how
        Poisoned                   an earlier flush failed: reads only, until the store is reopened
        Degraded                   writing back has failed: reads only, until the store is reopened
      TooLarge       (ValueError)  a batch takes more than an eighth of log, or too much memory

A bad argument is a ValueError or a TypeError, and lack of memory a MemoryError, as everywhere in
Python.  Every message names the key, the path or the LBA that it is about.

>>> from cubbydb import errors
>>> try:
...     store[b"absent"]
... except errors.NotFound as error:
...     print(error, error.args)
no pair has the key b'absent' (b'absent',)
>>> try:
...     cubbydb.open("data.cubby")
... except errors.DeviceError as error:
...     print(error)
data.cubby does not exist; create it first
"""

import errno

from cubbydb._native import ffi, lib

__all__ = [
    "Closed",
    "Corrupt",
    "Degraded",
    "DeviceError",
    "Error",
    "Exists",
    "Forked",
    "FormatVersion",
    "Full",
    "KeyExists",
    "Locked",
    "NotAStore",
    "NotFound",
    "PhysicalFull",
    "Poisoned",
    "ReadOnly",
    "TooLarge",
    "Unplaceable",
    "ValueDiffers",
    "key_text",
    "raise_for_status",
]

KEY_TEXT_BYTES_MAX = 64


class Error(Exception):
    """Base class of every error that is CubbyDB's own."""


class NotFound(Error, KeyError):
    """No pair has this key; args[0] is the key.

    Where no key was asked for, but the nearest one, or the first, args[1] says so.
    """

    def __str__(self) -> str:
        if len(self.args) > 1:
            return str(self.args[1])
        return f"no pair has the key {key_text(self.args[0])}" if self.args else "no such pair"


class Exists(Error):
    """Create found something already there, and was not forced."""


class KeyExists(Error):
    """A pair has this key already.  The methods of Store answer False in its place."""


class ValueDiffers(Error):
    """The key has another value than was expected.  The methods of Store answer False instead."""


class Full(Error):
    """No logical space is left in the store: it is as large as it was made, see open's *size*."""


class PhysicalFull(Error):
    """The device or file system under the store is out of space, or nearly so.

    The message says which; Store.stats()["space_mark"] how near.  Gets and deletes go on, and what
    deletes have freed the device gets back at the next sync: then puts work again.
    """


class Locked(Error):
    """Another process, or another handle of this one, has the store; the message names its
    process id.

    A handle that writes excludes all others; those that only read share the store.
    """


class Corrupt(Error):
    """Stored bytes fail a check; the message names the block.  Other pairs can still be read."""


class ReadOnly(Error):
    """The store was opened read-only, which is what open does without a flag."""


class Closed(Error, ValueError):
    """The store has been closed."""


class Forked(Closed):
    """The store was opened by a parent process: open it anew in this one."""


class NotAStore(Error):
    """The device or file holds no CubbyDB store; flag "c" or "n" of open makes one."""


class FormatVersion(Error):
    """The store needs a newer CubbyDB; the message says which format it has."""


class Unplaceable(Error):
    """Too many pairs of one hash value: this key has no place left."""


class DeviceError(Error, OSError):
    """The operating system failed a call on the store's device; errno says how."""

    def __str__(self) -> str:
        return str(self.strerror)


class Poisoned(DeviceError):
    """An earlier flush failed: reads only, until the store is reopened."""


class Degraded(DeviceError):
    """Writing back has failed: reads only, until the store is reopened, or a region synced.

    The message has the cause.  Nothing is lost: it is in the log, or in memory.
    """


class TooLarge(Error, ValueError):
    """A batch takes more than an eighth of the store's log."""


EXCEPTION_OF_STATUS: dict[int, type[Exception]] = {
    lib.CUBBY_NOT_FOUND: NotFound,
    lib.CUBBY_CORRUPT: Corrupt,
    lib.CUBBY_LOCKED: Locked,
    lib.CUBBY_FULL: Full,
    lib.CUBBY_PHYSICAL_FULL: PhysicalFull,
    lib.CUBBY_CLOSED: Closed,
    lib.CUBBY_FORKED: Forked,
    lib.CUBBY_NOT_A_STORE: NotAStore,
    lib.CUBBY_FORMAT_VERSION: FormatVersion,
    lib.CUBBY_NOT_EMPTY: Exists,
    lib.CUBBY_READ_ONLY: ReadOnly,
    lib.CUBBY_UNPLACEABLE: Unplaceable,
    lib.CUBBY_POISONED: Poisoned,
    lib.CUBBY_BAD_ARGUMENT: ValueError,
    lib.CUBBY_EXISTS: KeyExists,
    lib.CUBBY_DIFFERS: ValueDiffers,
    lib.CUBBY_TOO_LARGE: TooLarge,
    lib.CUBBY_DEGRADED: Degraded,
}


def key_text(key: bytes | int) -> str:
    """Show a key in a message: its repr, a long one cut short and its size given."""
    if isinstance(key, int):
        return repr(key)
    if len(key) <= KEY_TEXT_BYTES_MAX:
        return repr(key)
    return f"{key[:KEY_TEXT_BYTES_MAX]!r}... ({len(key):,} bytes)"


def raise_for_status(status: int, subject: bytes | int | str, message: str = "") -> None:
    """Turn a C status into an exception; return if it is CUBBY_OK.

    Args:
        status: what the C function returned: 0, an errno, or a negative enum cubby_status.
        subject: what the call was about: a key (bytes or int) or the path of the store (str).
        message: the C side's own sentence about the failure, if it gave one.
    """
    if status == lib.CUBBY_OK:
        return
    if status == lib.CUBBY_NOT_FOUND:
        raise NotFound(subject)
    sentence = message or ffi.string(lib.cubby_status_text(status)).decode(errors="replace")
    if not isinstance(subject, str):
        sentence = f"{sentence} (key {key_text(subject)})"
    elif subject not in sentence:
        sentence = f"{subject}: {sentence}"
    if status == errno.ENOMEM:
        raise MemoryError(sentence)
    if status > 0:
        raise DeviceError(status, sentence)
    exception = EXCEPTION_OF_STATUS[status]
    if issubclass(exception, DeviceError):
        raise exception(errno.EIO, sentence)
    raise exception(sentence)
