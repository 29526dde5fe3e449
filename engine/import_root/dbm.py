"""A CubbyDB store behind the interface of the standard library's dbm modules.

>>> import shelve
>>> import cubbydb.dbm
>>> with shelve.Shelf(cubbydb.dbm.open("shelf.cubby", "c")) as shelf:
...     shelf["key"] = {"any": "object"}
...     shelf["key"]
{'any': 'object'}

As in dbm.gnu: keys and values may be str, which is stored as UTF-8, and come back as bytes; keys()
is a list; a missing key is a KeyError; every other failure of the database is this module's error,
an OSError.  Unlike there, flag "n" refuses to overwrite a file of somebody else's data, and values
may have any size up to 1 GiB.
"""

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dbm import whichdb as _whichdb
from pathlib import Path
from typing import Any

from cubbydb import errors
from cubbydb.blockdev.closing import Closing
from cubbydb.engine.store import Store
from cubbydb.engine.store import open as _open_store

__all__ = ["Database", "error", "open", "whichdb"]

_StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_Text = str | bytes | bytearray

MODULE_NAME = "cubbydb.dbm"
BLOCK_BYTES = 4096
SUPERBLOCK_COPIES = 2  # in the first blocks, see engine/store/disk_format.h
MAGIC = b"CUBBYDB\n"
MAGIC_OFFSET = 8


class error(OSError):  # noqa: N801 - the name that every dbm module gives it
    """Any failure but a missing key; the exception of cubbydb.errors is its __cause__."""


@contextmanager
def _errors_as_dbm() -> Iterator[None]:
    try:
        yield
    except errors.NotFound:
        raise
    except errors.DeviceError as failure:
        raise error(failure.errno, str(failure)) from failure
    except errors.Error as failure:
        raise error(str(failure)) from failure


def _encoded(text: object, what: str) -> bytes:
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes | bytearray):
        return bytes(text)
    raise TypeError(f"{what} must be bytes or strings, not {type(text).__name__}")


class Database(MutableMapping[_Text, bytes], Closing):
    """An open database, made by open; a context manager.

    Threads may share one.  After close, using it is an error.

    Args:
        store: what it is in; closed with it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def store(self) -> Store:
        """The store that it is in."""
        return self._store

    def __getitem__(self, key: _Text) -> bytes:
        with _errors_as_dbm():
            return self._store[_encoded(key, "keys")]

    def __setitem__(self, key: _Text, value: _Text) -> None:
        with _errors_as_dbm():
            self._store.put(_encoded(key, "keys"), _encoded(value, "values"))

    def __delitem__(self, key: _Text) -> None:
        with _errors_as_dbm():
            del self._store[_encoded(key, "keys")]

    def __contains__(self, key: object) -> bool:
        with _errors_as_dbm():
            return _encoded(key, "keys") in self._store

    def get(self, key: _Text, default: Any = None) -> Any:
        """Return the value of *key*, or *default* if there is none."""
        with _errors_as_dbm():
            return self._store.get(_encoded(key, "keys"), default)

    def setdefault(self, key: _Text, default: _Text = b"") -> bytes:
        """Return the value of *key*, which is *default* from now on if there was none."""
        return super().setdefault(key, _encoded(default, "values"))

    def __len__(self) -> int:
        with _errors_as_dbm():
            return len(self._store)

    def __iter__(self) -> Iterator[bytes]:
        with _errors_as_dbm():
            yield from self._store

    def keys(self) -> list[bytes]:  # type: ignore[override]  # as in every dbm module
        """All keys, in an order without meaning."""
        with _errors_as_dbm():
            return list(self._store.scan(keys_only=True))

    def items(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]
        """All pairs, in an order without meaning."""
        with _errors_as_dbm():
            return list(self._store.scan())

    def values(self) -> list[bytes]:  # type: ignore[override]
        """All values, in an order without meaning."""
        return [value for _, value in self.items()]

    def clear(self) -> None:
        """Delete all pairs."""
        with _errors_as_dbm():
            self._store.clear()

    def sync(self) -> None:
        """Make everything before it survive a power cut; nothing to do in a read-only database."""
        with _errors_as_dbm():
            if self._store.closed or not self._store.read_only:
                self._store.sync()

    def close(self) -> None:
        """Close the database; closing twice is allowed."""
        with _errors_as_dbm():
            self._store.close()


def open(
    file: _StrPath, flag: str = "r", mode: int = 0o666, *, size: int | str | None = None
) -> Database:
    """Open or create a database.

    Args:
        file: a file, or any other device name that cubbydb.open takes.
        flag: "r" an existing database, read-only; "w" an existing one, to read and write; "c" the
            same, created if there is none; "n" always a new, empty one.
        mode: the permissions of a file that is created, less the umask.
        size: for "c" and "n": bytes of pairs to make room for; see cubbydb.open.

    Raises:
        error: it cannot be opened; the exception of cubbydb.errors is its __cause__.
        ValueError: an argument is out of its range.

    >>> with cubbydb.dbm.open("data.cubby", "c") as database:
    ...     database["key"] = "value"
    ...     database["key"], database.keys()
    (b'value', [b'key'])
    """
    with _errors_as_dbm():
        if flag not in {"c", "n"}:
            return Database(_open_store(file, flag))
        created = _create_file(file, mode)
        try:
            return Database(_open_store(file, flag, size=size))
        except BaseException:
            if created:
                with suppress(OSError):
                    os.unlink(file)  # noqa: PTH108 - a Path is of str alone
            raise


def _create_file(file: _StrPath, mode: int) -> bool:
    """Create an empty file, which counts as none; tell whether it was: not for device names."""
    name = os.fsencode(file)
    if not name or b"\0" in name or b":" in name.partition(b"/")[0]:
        return False
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))
    except OSError:
        return False  # it is there, or opening it will say what is wrong
    return True


def whichdb(filename: _StrPath) -> str | None:
    """Guess which dbm module has made a file: dbm.whichdb that knows "cubbydb.dbm", too.

    Returns the module's name, "" for a file of an unknown kind, None for one that cannot be read.
    """
    for copy in range(SUPERBLOCK_COPIES):
        try:
            with Path(os.fsdecode(filename)).open("rb", buffering=0) as file:
                file.seek(copy * BLOCK_BYTES + MAGIC_OFFSET)
                if file.read(len(MAGIC)) == MAGIC:
                    return MODULE_NAME
        except (OSError, ValueError):
            break
    return _whichdb(os.fsdecode(filename))
