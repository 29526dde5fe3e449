"""Where engines keep their data: each on a zram device of its own, or in a folder on a disk.

The store and pread take a zram device as it is, or a file; a peer gets an ext4 of its own on zram,
or a folder.  Everything is gone afterwards.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from cubbydb.bench._devices import csd_drive, ext4_folder, why_no_zram, zram_device
from cubbydb.blockdev.device import BlockDevice

__all__ = ["BORROWERS", "IN_MEMORY", "OURS", "Place", "Space", "places_for", "why_not_on"]

OURS = "cubby"
BORROWERS = ("pread", "null", "lying")  # have no data of their own, so nothing is loaded for them
IN_MEMORY = ("volimap",)  # need no place, and have no limit: all pairs are in their process

ZRAM_PER_PAIR_BYTES = 16  # zram is given out as it is used: a large device costs nothing
ZRAM_BYTES_MIN = 64 << 30
CSD_SHARE = 3  # times the pairs' bytes: room for the log of the emulated drive
CSD_BYTES_MIN = 64 << 20


@dataclass(frozen=True)
class Space:
    """What is in a place."""

    stored_bytes: int
    """Before the device compresses: written blocks, or files."""
    physical_bytes: int
    """After; the same where the device does not compress."""
    media_written_bytes: int | None
    """An emulated drive: what it has written so far, its own bookkeeping included."""


@dataclass(frozen=True)
class Place:
    """A place for one engine."""

    path: str
    """What the driver is given."""
    what: str
    """In words."""
    zram: str | None = None
    csd: str | None = None

    def space(self) -> Space:
        """Ask the device, or add up the files."""
        if self.zram is not None:
            numbers = (Path("/sys/block") / Path(self.zram).name / "mm_stat").read_text().split()
            return Space(int(numbers[0]), int(numbers[1]), None)
        if self.csd is not None:
            with BlockDevice(self.csd, read_only=True) as device:
                stat = device.stat()
            return Space(stat["logical_bytes"], stat["physical_bytes"], stat["media_writes"])
        path = Path(self.path)
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        taken = sum(file.stat().st_blocks * 512 for file in files)
        return Space(taken, taken, None)


def why_not_on(medium: str) -> str | None:
    """Why there can be no places on this medium; None if there can."""
    if medium != "zram":
        return None
    why_not = why_no_zram()
    if why_not is None and shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is missing (Debian package: e2fsprogs)"
    return why_not


@contextmanager
def _zram_place(in_folder: bool, data_bytes: int) -> Iterator[Place]:
    size = max(ZRAM_BYTES_MIN, data_bytes * ZRAM_PER_PAIR_BYTES)
    with zram_device(size) as device:
        if not in_folder:
            yield Place(device, "zram (lz4), the device itself", zram=device)
            return
        # discard: what a file no longer holds is no longer in the device.
        with ext4_folder(device, features="^has_journal", mounted="discard,noatime") as folder:
            what = "zram (lz4), ext4 without a journal, mounted with discard"
            yield Place(f"{folder}/store", what, zram=device)


@contextmanager
def _folder_place(in_folder: bool, parent: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="cubby-bench-", dir=parent) as folder:
        name = "store" if in_folder else "store.cubby"
        yield Place(f"{folder}/{name}", f"a {'folder' if in_folder else 'file'} in {parent}")


@contextmanager
def _csd_place(parent: Path, drive: str | None, data_bytes: int) -> Iterator[Place]:
    physical_bytes = max(CSD_BYTES_MIN, data_bytes * CSD_SHARE)
    with (
        tempfile.TemporaryDirectory(prefix="cubby-bench-", dir=parent) as folder,
        csd_drive(Path(folder) / "drive.csd", physical_bytes) as csd,
    ):
        path = csd if drive is None else f"model:{drive}:{csd}"
        what = "an emulated drive that compresses (csd)"
        if drive is not None:
            what += f", with the latencies of a {drive}"
        yield Place(path, what, csd=csd)


@contextmanager
def places_for(
    engines: dict[str, bool], medium: str, drive: str | None, data_bytes: int
) -> Iterator[dict[str, Place]]:
    """A place for each engine (name: whether it wants a folder); pread reads the store's.

    Args:
        engines: as the driver lists them.
        medium: zram, csd, or the folder in which the places are made.
        drive: csd: whose latencies it has; None: its own.
        data_bytes: of keys and values.
    """
    with ExitStack() as stack:
        places: dict[str, Place] = {}
        for name, in_folder in engines.items():
            if name in BORROWERS:
                continue
            if name in IN_MEMORY:
                places[name] = Place("nowhere", "nothing but its process's memory")
                continue
            if medium == "zram":
                place = _zram_place(in_folder, data_bytes)
            elif medium == "csd":
                if in_folder:
                    raise click.ClickException(f"{name} needs a file system, which a csd has not")
                place = _csd_place(Path(tempfile.gettempdir()), drive, data_bytes)
            else:
                place = _folder_place(in_folder, Path(medium))
            places[name] = stack.enter_context(place)
        for name in engines:
            if name in BORROWERS:
                reads_ours = name == "pread"
                places[name] = places[OURS] if reads_ours else Place("nowhere", "nowhere")
        yield places
