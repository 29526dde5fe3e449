"""StoreOptions: how a store is opened or created, checked before the C side sees it."""

from dataclasses import dataclass
from typing import Literal

from cubbydb._native import lib
from cubbydb.blockdev.sizes import size_in_bytes
from cubbydb.engine.durability import Durability, promise_of

__all__ = ["FILL_MAX", "FILL_MIN", "SIZE_BYTES_MIN", "Io", "StoreOptions"]

Io = Literal["direct", "mmap"]

SIZE_BYTES_MIN = 1 << 20
SIZE_BYTES_MAX = (1 << 64) - 1
FILL_MIN = 0.10
FILL_MAX = 0.75
REGION_BYTES_MIN = 256 << 10
REGION_BYTES_MAX = 8 << 40
PERCENT_NEVER: int = lib.CUBBY_PERCENT_NEVER
# Mark of physical space -> its percentage where none is given.
DEFAULT_PERCENTS = {"warn_percent": 85, "no_growth_percent": 92, "read_delete_percent": 95}

FLAGS_OF_FLAG: dict[str, int] = {
    "r": lib.CUBBY_READ_ONLY_OPEN,
    "w": 0,
    "c": lib.CUBBY_CREATE,
    "n": lib.CUBBY_NEW,
}
NUMBER_OF_IO: dict[str, int] = {"direct": lib.CUBBY_IO_DIRECT, "mmap": lib.CUBBY_IO_MMAP}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreOptions:
    """How to open or create a store; the defaults open an existing one read-only.

    Args:
        flag: as in dbm: "r" an existing store, read-only; "w" an existing store, to read and
            write; "c" the same, created if there is none; "n" a new, empty store, whatever there
            was before.
        size: for "c" and "n": bytes of pairs to make room for, at least 1 MiB; an int, or text
            such as "256M".  A file becomes a sparse file four times as large.  None: 1 GiB for a
            new file, otherwise all of the device or file.
        fill: for "c" and "n": how full the blocks are made, 0.10 to 0.75.  None: 0.40 on a device
            that compresses, else 0.50.
        force: for "c" and "n": overwrite data that is not CubbyDB's, too.
        exclusive: for "c": raise errors.Exists if there is a store already.
        recover: rebuild the directory from the blocks although the store was closed cleanly.
        accept_loss: as *recover*; and where the log is damaged in its middle, do without what the
            damaged part held.  Without it such a store is not opened: errors.Corrupt names the
            LSNs, and what is lost would be lost in silence.
        durability: what a change survives when its call returns, unless the call says otherwise:
            "power", "process" or "none"; see Store.
        dirty_bytes: memory for pairs that are in the log and not in their place yet; an int, or
            text such as "64M".  None: up to 64 MiB.  Never more is used than the log, which has a
            32nd of the store, has room for.  What holds them takes half as much again and 1 MiB, at
            least 17 MiB; with *memory* that.
        memory: for these, and for a cache of pairs that are used often, together; an int, or text
            such as "256M".  What these do not take the cache has, and at least a third of it;
            without *dirty_bytes* they take at most half.  It leaves 16 MiB or more for the cache,
            and for what finds these.  None: there is no cache.
        io: how the device is reached: "direct", each block that is read from the device; or "mmap",
            through a region of memory that keeps blocks which are read again.  Writes go to the
            device at once all the same, so that no promise changes, and it is the same store: it
            may be opened either way on different days.  Gets of many keys, and those of an event
            loop, find what is in the region, and add nothing to it; and the blocks by which a
            store grows are in it only from the next opening on.
        region_bytes: with io "mmap", memory for these blocks, 256 KiB to 8 TiB, rounded up to
            blocks of 4,096 bytes; an int, or text such as "256M".  It is taken as it is needed,
            and besides it at most 8 bytes for each block of the store.  None: 64 MiB.
        warn_percent: from so many percent of the device's physical capacity on, where it tells
            one, stats()["space_mark"] is 1.  None: 85.  These three are each 1 to 100, or 101 for
            never, and none below the one before.  Like the three above they are not kept with the
            store.
        no_growth_percent: from here on a put that adds a pair or makes one larger raises
            errors.PhysicalFull.  None: 92.
        read_delete_percent: from here on every put does; gets and deletes go on.  None: 95.
    """

    flag: str = "r"
    size: int | str | None = None
    fill: float | None = None
    force: bool = False
    exclusive: bool = False
    recover: bool = False
    accept_loss: bool = False
    durability: Durability = "process"
    dirty_bytes: int | str | None = None
    memory: int | str | None = None
    io: Io = "direct"
    region_bytes: int | str | None = None
    warn_percent: int | None = None
    no_growth_percent: int | None = None
    read_delete_percent: int | None = None

    def __post_init__(self) -> None:
        if self.flag not in FLAGS_OF_FLAG:
            raise ValueError(f"flag is 'r', 'w', 'c' or 'n', not {self.flag!r}")
        if self.flag in "rw":
            for name in ("size", "fill", "force"):
                if getattr(self, name):
                    raise ValueError(f"{name} is for creating a store: flag 'c' or 'n'")
        if self.exclusive and self.flag != "c":
            raise ValueError("exclusive is for flag 'c'")
        if self.recover and self.flag == "n":
            raise ValueError("recover is for existing stores, and flag 'n' creates a new one")
        if self.accept_loss and self.flag == "n":
            raise ValueError("accept_loss is for existing stores, and flag 'n' creates a new one")
        if self.size is not None and self.size_bytes < SIZE_BYTES_MIN:
            raise ValueError(f"the smallest size is 1 MiB ({SIZE_BYTES_MIN:,}), not {self.size!r}")
        if self.size_bytes > SIZE_BYTES_MAX:  # more than the C side could even refuse
            raise ValueError(f"size is at most 1 PiB, not {self.size!r}")
        if self.fill is not None:
            if isinstance(self.fill, bool) or not isinstance(self.fill, float | int):
                raise TypeError(f"fill is a float, not {type(self.fill).__name__}")
            if not FILL_MIN <= self.fill <= FILL_MAX:
                raise ValueError(f"fill is {FILL_MIN:.2f} to {FILL_MAX:.2f}, not {self.fill!r}")
        self._check_writing()
        self._check_io()
        self._check_percents()

    def _check_writing(self) -> None:
        if self.durability is None:
            raise TypeError("a durability is a str, not NoneType")
        promise_of(self.durability)
        if self.dirty_bytes is not None and not 1 <= self.dirty_size_bytes <= SIZE_BYTES_MAX:
            raise ValueError(
                f"dirty_bytes is 1 or more, and below 16 EiB, not {self.dirty_bytes!r}"
            )
        if self.memory is not None and not 1 <= self.memory_bytes <= SIZE_BYTES_MAX:
            raise ValueError(f"memory is 1 or more, and below 16 EiB, not {self.memory!r}")

    def _check_io(self) -> None:
        if not isinstance(self.io, str):
            raise TypeError(f"io is a str, not {type(self.io).__name__}")
        if self.io not in NUMBER_OF_IO:
            raise ValueError(f"io is 'direct' or 'mmap', not {self.io!r}")
        if self.region_bytes is None:
            return
        if self.io != "mmap":
            raise ValueError("region_bytes is for io 'mmap'")
        if not REGION_BYTES_MIN <= self.region_size_bytes <= REGION_BYTES_MAX:
            raise ValueError(f"region_bytes is 256 KiB to 8 TiB, not {self.region_bytes!r}")

    def _check_percents(self) -> None:
        least = 1
        for name, default in DEFAULT_PERCENTS.items():
            given = getattr(self, name)
            if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
                raise TypeError(f"{name} is an int, not {type(given).__name__}")
            percent = default if given is None else given
            if not 1 <= percent <= PERCENT_NEVER:
                raise ValueError(
                    f"{name} is 1 to 100, or {PERCENT_NEVER} for never, not {percent!r}"
                )
            if percent < least:
                raise ValueError(f"{name} is {percent}, below the mark before it, {least}")
            least = percent

    @property
    def size_bytes(self) -> int:
        """The size as a number; 0 where none is given."""
        return 0 if self.size is None else size_in_bytes(self.size)

    @property
    def dirty_size_bytes(self) -> int:
        """The memory for dirty pairs as a number; 0 where none is given."""
        return 0 if self.dirty_bytes is None else size_in_bytes(self.dirty_bytes)

    @property
    def memory_bytes(self) -> int:
        """The memory for dirty pairs and a cache as a number; 0 where none is given."""
        return 0 if self.memory is None else size_in_bytes(self.memory)

    @property
    def region_size_bytes(self) -> int:
        """The memory of the region as a number; 0 where none is given."""
        return 0 if self.region_bytes is None else size_in_bytes(self.region_bytes)

    @property
    def native_io(self) -> int:
        """The enum cubby_io value."""
        return NUMBER_OF_IO[self.io]

    @property
    def fill_percent(self) -> int:
        """The fill as a whole percentage; 0 where none is given."""
        return 0 if self.fill is None else round(self.fill * 100)

    @property
    def native_flags(self) -> int:
        """The enum cubby_flag values, added up."""
        flags = FLAGS_OF_FLAG[self.flag]
        flags |= lib.CUBBY_FORCE if self.force else 0
        flags |= lib.CUBBY_EXCLUSIVE if self.exclusive else 0
        flags |= lib.CUBBY_RECOVER if self.recover else 0
        flags |= lib.CUBBY_ACCEPT_LOSS if self.accept_loss else 0
        return flags
