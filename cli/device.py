"""cubby device: devices without a store on them, and what data would take on one."""

import errno
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from cubbydb import _native
from cubbydb.blockdev import BLOCK_BYTES, BlockDevice, DeviceStat
from cubbydb.cli.estimate import estimate
from cubbydb.cli.report import say
from cubbydb.cli.sizes import SizeType, in_bytes
from cubbydb.errors import DeviceError, Locked

__all__ = ["device"]

CSD = "csd:"
PLUGIN = "nbdkit-cubby-plugin.so"
NBD_PORT = 10809
SOCKET_PATH_BYTES_MAX = 107  # what the kernel has room for
DISCARD_PIECE_BLOCKS = 1 << 18  # 1 GiB in one call, so that Ctrl-C comes through

name_argument = click.argument("name")


@click.group()
def device() -> None:
    """Make, inspect, serve and discard devices; estimate data.

    NAME is what a store's PATH may be: a file, a block device, csd:PATH for an emulated drive that
    compresses, kept in the file or on the device PATH, or mem:SIZE.
    """


@contextmanager
def opened(name: str, *, read_only: bool = False) -> Iterator[BlockDevice]:
    """An open device; one that is missing is told as such."""
    try:
        found = BlockDevice.open(name, read_only=read_only)
    except DeviceError as error:
        if error.errno != errno.ENOENT:
            raise
        missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        missing.add_note("cubby device create makes an emulated drive")
        raise missing from None
    with found:
        yield found


# create ------------------------------------------------------------------------------------------


@device.command()
@name_argument
@click.option("--physical", type=SizeType(), help="Room for compressed blocks, as in 1G.")
@click.option("--logical", type=SizeType(), help="The size it shows.  [default: 4 times that]")
@click.option(
    "--unit",
    type=click.IntRange(16, BLOCK_BYTES),
    default=64,
    show_default=True,
    help="Compressed blocks take multiples of so many bytes: a power of two.",
)
@click.option("--level", type=int, default=1, show_default=True, help="Of zstd.")
@click.option("--no-throttle", is_flag=True, help="Do not slow writes down when nearly full.")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def create(
    name: str,
    physical: int | None,
    logical: int | None,
    unit: int,
    level: int,
    no_throttle: bool,
    force: bool,
) -> None:
    """Make an emulated drive that compresses.

    NAME is csd:PATH.  The file PATH is sparse, and grows with what is stored.  Without --physical
    the drive gets four fifths of what the file system has free, at most 16G.  Something that is
    there already is left alone (exit code 2) unless --force is given.
    """
    if not name.startswith(CSD):
        text = f"write {CSD}{name} for an emulated drive that is kept there"
        raise click.BadParameter(text, param_hint="NAME")
    made = BlockDevice.create(
        name,
        physical=physical,
        logical=logical,
        unit=unit,
        level=level,
        throttle=not no_throttle,
        force=force,
    )
    with made:
        figures = made.stat()
    size = in_bytes(figures["block_count"] * BLOCK_BYTES)
    say(f"made {name}: shows {size}, has {in_bytes(figures['capacity_bytes'])} for compressed data")


# info --------------------------------------------------------------------------------------------

# Group -> its rows: what it is called, and which figure it is.  Bytes where the figure says so.
INFO_GROUPS: dict[str, list[tuple[str, str]]] = {
    "Device": [
        ("blocks of 4 KiB", "block_count"),
        ("written whole, despite power cuts", "atomic_write_bytes"),
    ],
    "Space": [
        ("holds", "logical_bytes"),
        ("which take up", "physical_bytes"),
        ("of", "capacity_bytes"),
    ],
}
CSD_GROUPS: dict[str, list[tuple[str, str]]] = {
    "Drive": [
        ("unit", "unit_bytes"),
        ("zstd level", "level"),
        ("segments", "segment_count"),
        ("size of a segment", "segment_bytes"),
        ("free segments", "free_segments"),
        ("damaged segments", "damaged_segments"),
    ],
    "Since it was made": [
        ("blocks read", "host_reads"),
        ("blocks written", "host_writes"),
        ("of these, zeros", "zero_writes"),
        ("of these, incompressible", "raw_writes"),
        ("blocks discarded", "host_discards"),
        ("written to the medium", "media_writes"),
        ("of this, the map", "map_writes"),
        ("of this, cleaning", "cleaned_bytes"),
        ("segments cleaned", "cleaned_segments"),
        ("checkpoints", "checkpoints"),
    ],
}
UNKNOWN_IF_ZERO = {"logical_bytes", "physical_bytes", "capacity_bytes", "atomic_write_bytes"}
IN_BYTES = {"media_writes", "map_writes"}


@device.command()
@name_argument
@click.option("--json", "as_json", is_flag=True, help="All figures, as one JSON object.")
def info(name: str, as_json: bool) -> None:
    """Show what a device is, and what its data take up.

    Nothing is written.  The figures of --json are explained in engine/cubby.h, struct
    cubby_device_stat; ratio is logical by physical bytes, null where one of them is not known.
    """
    with opened(name, read_only=True) as found:
        figures = found.stat()
        ratio = found.usage().ratio
    if as_json:
        click.echo(json.dumps({"name": name, **figures, "ratio": ratio}))
        return
    show_info(name, figures, ratio)


def show_info(name: str, figures: DeviceStat, ratio: float | None) -> None:
    """Print the figures as a table."""
    # rich takes longer to import than a device to be asked.
    from rich.table import Table
    from rich.text import Text

    from cubbydb.cli.console import TableConsole

    values = dict(figures)
    known = figures["source"] != "none"
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for group, rows in (INFO_GROUPS | (CSD_GROUPS if figures["unit_bytes"] else {})).items():
        table.add_row(f"[bold]{group}[/bold]")
        if group == "Device":
            table.add_row("  kind", figures["kind"])
        for label, figure in rows:
            count = values[figure]
            assert isinstance(count, int)
            in_size = figure.endswith("_bytes") or figure in IN_BYTES
            text = in_bytes(count) if in_size else f"{count:,}"
            if not count and figure in UNKNOWN_IF_ZERO and not (known and figures["unit_bytes"]):
                text = "unknown"
            table.add_row(f"  {label}", text)
        if group == "Space":
            table.add_row("  ratio", "unknown" if ratio is None else f"{ratio:.2f}")
            table.add_row("  state", figures["space_state"])
            table.add_row("  says", figures["source"] if known else "nobody")
    amplification = figures["media_write_amplification"]
    if figures["unit_bytes"] and amplification is not None:
        table.add_row("  written to the medium per byte", f"{amplification:.2f}")
    console = TableConsole()
    console.print(Text(name, style="bold"), soft_wrap=True)
    console.print(table)


# discard -----------------------------------------------------------------------------------------


@device.command()
@name_argument
@click.option("--lba", type=click.IntRange(min=0), help="The first block.")
@click.option("--count", type=click.IntRange(min=1), help="How many blocks.")
@click.option("--all", "whole", is_flag=True, help="All blocks.")
@click.option("--yes", is_flag=True, help="Although data are lost.")
def discard(name: str, lba: int | None, count: int | None, whole: bool, yes: bool) -> None:
    """Tell a device that blocks are no longer needed.

    Their content is lost: unless the device says that it holds nothing, --yes has to be given too.
    """
    if whole == (lba is not None or count is not None) or (lba is None) != (count is None):
        raise click.UsageError("give either --lba and --count, or --all")
    with opened(name) as found:
        first = lba or 0
        end = found.block_count if whole else first + (count or 0)
        if end > found.block_count:
            text = f"LBAs {first} to {end - 1} are not all on {name}"
            raise click.UsageError(f"{text}: it has {found.block_count} blocks")
        refuse_loss(found, yes)
        for begin in range(first, end, DISCARD_PIECE_BLOCKS):
            found.discard(begin, min(DISCARD_PIECE_BLOCKS, end - begin))
        found.flush()


def refuse_loss(found: BlockDevice, yes: bool) -> None:
    """A device that may hold something is not emptied by mistake."""
    usage = found.usage()
    holds_nothing = usage.source in {"csd", "memory"} and not usage.logical_bytes
    if yes or holds_nothing:
        return
    what = in_bytes(usage.logical_bytes) if usage.logical_bytes else "whatever it holds"
    raise click.UsageError(f"{what} on {found.name} would be lost: say --yes as well")


# serve -------------------------------------------------------------------------------------------


@device.command()
@name_argument
@click.option("--socket", "path", type=click.Path(), help="Listen on this Unix socket.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help=f"Listen on this TCP port of this machine alone ({NBD_PORT} is NBD's own).",
)
@click.option("--read-only", is_flag=True, help="Clients may not write.")
def serve(name: str, path: str | None, port: int | None, read_only: bool) -> None:
    """Serve a device to NBD clients: qemu, fio, nbdfuse.

    Runs until it is told to end (Ctrl-C, SIGTERM), and then closes the device in order.  When
    clients may connect, their URI is written to standard output.  Without --socket and --port the
    socket is in the folder for temporary files.  It needs nbdkit.
    """
    if path is not None and port is not None:
        raise click.UsageError("give --socket or --port, not both")
    # Here, because every command would pay for these.
    from shutil import which
    from urllib.parse import quote

    nbdkit = which("nbdkit")
    plugin = Path(_native.__file__).parent / "blockdev" / PLUGIN
    if nbdkit is None or not plugin.exists():
        refuse_to_serve(nbdkit is not None, plugin.exists())
    with opened(name, read_only=read_only):
        pass  # so that what is wrong with it is said as everywhere
    words = [nbdkit, "--foreground", "--newstyle", *(["--readonly"] if read_only else [])]
    if port is not None:
        words += ["--ipaddr=127.0.0.1", f"--port={port}"]
        end = [f"ready=nbd://127.0.0.1:{port}"]
    else:
        socket_path = free_socket(path)
        words += [f"--unix={socket_path}"]
        end = [f"ready=nbd+unix:///?socket={quote(socket_path)}", f"remove={socket_path}"]
    words += [str(plugin), f"device={name}", f"readonly={'true' if read_only else 'false'}", *end]
    sys.stdout.flush()
    os.execv(nbdkit, words)


def refuse_to_serve(has_nbdkit: bool, has_plugin: bool) -> NoReturn:
    """Say what to install."""
    if has_plugin:
        text = "nbdkit is missing: apt-get install nbdkit"
    else:
        packages = "nbdkit-plugin-dev" if has_nbdkit else "nbdkit nbdkit-plugin-dev"
        text = (
            f"this CubbyDB was built without its nbdkit plugin: apt-get install {packages}, and"
            " install CubbyDB again (pip install --force-reinstall, from its sources)"
        )
    raise DeviceError(errno.ENOPKG, text)


def free_socket(path: str | None) -> str:
    """The absolute path of a socket that nobody listens on; a dead one of that path is removed."""
    import socket
    from tempfile import gettempdir

    place = Path(path or f"{gettempdir()}/cubby-{os.getpid()}.sock").absolute()
    if len(os.fsencode(place)) > SOCKET_PATH_BYTES_MAX:
        text = f"a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes"
        raise click.BadParameter(text, param_hint="--socket")
    try:
        mode = place.lstat().st_mode
    except FileNotFoundError:
        return str(place)
    if not stat.S_ISSOCK(mode):
        raise click.BadParameter(f"{path} exists and is no socket", param_hint="--socket")
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(place))
        except ConnectionRefusedError:
            place.unlink()
            return str(place)
    raise Locked(f"{path}: another server listens there")


device.add_command(estimate)
