"""View: bytes of a mapped region in place, for plain loads and stores.

Depends on: cubbydb._native.  Used by: region.py.
"""

import importlib
from collections.abc import Callable
from types import TracebackType
from typing import Any

from cubbydb._native import ffi

__all__ = ["View", "memory_at"]


def memory_at(address: Any, size: int, write: bool, when_gone: Callable[[], None]) -> memoryview:
    """A memoryview; when_gone is called when it, and all that was made of it, has gone."""
    memory = memoryview(ffi.buffer(ffi.gc(address, lambda _: when_gone()), size))
    return memory if write else memory.toreadonly()


class View:
    """Bytes of a mapped region in place, as MappedRegion.view gives them.

    A with block gives its memory, and releases it in the end.  From Python 3.12 on a view is a
    buffer itself; before, its memory is.  A view is the region's as long as it, or anything made of
    it, a slice or an array, is in use: the region can not be closed before.
    """

    __slots__ = ("_memory",)

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory

    @property
    def memory(self) -> memoryview:
        """The bytes: a memoryview, read-only where the view is."""
        return self._memory

    def as_array(self, dtype: Any) -> Any:
        """The bytes as a NumPy array of one dimension, read-only where the view is.

        >>> from cubbydb.mmapio import MappedRegion
        >>> with MappedRegion("mem:1M") as region:
        ...     numbers = region.view(4096, 800).as_array("<u8")
        ...     numbers[:] = range(100)
        ...     int(numbers.sum())
        ...     del numbers
        4950

        Args:
            dtype: what NumPy takes for one; the view has a multiple of its size.  NumPy is faster
                where the view's offset is one, too.

        Raises:
            ModuleNotFoundError: NumPy is not installed.
        """
        try:
            numpy = importlib.import_module("numpy")
        except ModuleNotFoundError as missing:
            text = "as_array needs NumPy: pip install numpy; memory does without"
            raise ModuleNotFoundError(text, name=missing.name) from missing
        return numpy.frombuffer(self._memory, dtype=dtype)

    def release(self) -> None:
        """Give it up; twice is allowed.

        Raises:
            BufferError: something made of it, a slice or an array, is still in use.
        """
        self._memory.release()

    def __len__(self) -> int:
        return self._memory.nbytes

    def __enter__(self) -> memoryview:
        return self._memory

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._memory.__exit__(kind, error, traceback)

    def __buffer__(self, flags: int) -> memoryview:
        return self._memory

    def __repr__(self) -> str:
        try:
            size = f"{self._memory.nbytes:,} bytes"
        except ValueError:
            size = "released"
        return f"<cubbydb.mmapio.View, {size}>"
