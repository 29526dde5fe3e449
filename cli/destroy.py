"""cubby destroy: a store, or an emulated drive, and nothing else, is removed."""

import errno
import os
import sys
from pathlib import Path

import click

from cubbydb.blockdev import BLOCK_BYTES, BlockDevice
from cubbydb.cli.data import path_argument
from cubbydb.cli.report import Interrupted, say
from cubbydb.cli.sizes import in_bytes
from cubbydb.errors import DeviceError, NotAStore

__all__ = ["destroy", "wipe"]

CSD = "csd:"
NO_PLACES = ("mem:", "fault:", "model:")
SUPERBLOCK_COUNT = 2
MAGIC_OFFSET = 8  # in both copies of a superblock, a store's and a drive's
CONTENTS = {b"CUBBYDB\n": "the store", b"CubbyCSD": "the emulated drive"}
DISCARD_PIECE_BLOCKS = 1 << 18  # 1 GiB in one call, so that Ctrl-C comes through


@click.command()
@path_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(path: str, yes: bool) -> None:
    """Remove a store, and all that is in it.

    A file is deleted; so is csd:PATH, the emulated drive with everything on it.  A block device
    is discarded, and its superblocks are overwritten.  What is no store and no such drive is left
    alone (exit code 7).  It asks before; where standard input is no terminal, --yes is needed.
    """
    if path.startswith(NO_PLACES):
        text = "give a file, a block device, or csd: and one of them"
        raise click.BadParameter(text, param_hint="PATH")
    place = path.removeprefix(CSD).removeprefix("file:")
    with open_place(place) as device:  # locked until it is gone
        what = content_of(device, drive_wanted=path.startswith(CSD))
        size = in_bytes(device.block_count * BLOCK_BYTES)
        confirm(f"{what} {path}, of {size}, and all that is in it", yes)
        if device.kind == "file":
            delete(Path(place))
        else:
            wipe(device)
    say(f"destroyed {path}")


def open_place(place: str) -> BlockDevice:
    """The file or device, to be written; one that is missing is told as such."""
    try:
        return BlockDevice.open(f"file:{place}")
    except DeviceError as error:
        if error.errno != errno.ENOENT:
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place) from None


def content_of(device: BlockDevice, drive_wanted: bool) -> str:
    """What is to be destroyed, in words; errors.NotAStore if it is nothing of ours."""
    wanted = [b"CubbyCSD"] if drive_wanted else list(CONTENTS)
    for lba in range(min(SUPERBLOCK_COUNT, device.block_count)):
        magic = device.read(lba)[MAGIC_OFFSET : MAGIC_OFFSET + 8]
        if magic in wanted:
            return CONTENTS[magic]
    name = device.name.removeprefix("file:")
    kinds = "emulated drive" if drive_wanted else "CubbyDB store and no emulated drive"
    raise NotAStore(f"{name} holds no {kinds}: it is left as it is")


def confirm(what: str, yes: bool) -> None:
    """Ask at a terminal; elsewhere only --yes will do."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{what} would be lost: say --yes as well")
    if not click.confirm(f"Destroy {what}?", err=True):
        raise Interrupted("nothing was destroyed")


def delete(path: Path) -> None:
    """Delete a file, and the link that it may have been named by; other names of it get nothing."""
    file = path.resolve(strict=True)
    os.truncate(file, 0)
    file.unlink()
    if path.is_symlink():
        path.unlink()


def wipe(device: BlockDevice) -> None:
    """Overwrite the superblocks of a device, and discard all of it."""
    nothing = bytes(SUPERBLOCK_COUNT * BLOCK_BYTES)
    device.write(0, nothing)
    device.flush()
    end = device.block_count
    try:
        for begin in range(0, end, DISCARD_PIECE_BLOCKS):
            device.discard(begin, min(DISCARD_PIECE_BLOCKS, end - begin))
    except DeviceError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        text = "takes no discards: its superblocks are gone, the other blocks keep their bytes"
        say(f"cubby: {device.name.removeprefix('file:')} {text}", always=True)
    # What a discarded block holds is not said: it might be what it held before.
    device.write(0, nothing)
    device.flush()
