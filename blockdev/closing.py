"""What the end of a with block means for all that is opened.

Depends on: nothing.  Used by: whatever has a close.
"""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import NoReturn, Self

__all__ = ["Closing"]


class Closing(ABC):
    """A context manager that closes itself at its end, whatever has happened."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Give back what was taken; closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        # Two that close one and the same thing would crash; pickles would be of addresses.
        raise TypeError(f"a {type(self).__name__} can be neither copied nor pickled")
