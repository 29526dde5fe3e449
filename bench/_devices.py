"""Devices to measure on: zram, loop, an emulated drive, a file; our own, and gone afterwards.

Whatever is made here is removed also when SIGINT or SIGTERM raise an exception in between.
"""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cubbydb import _native
from cubbydb.bench._driver import note_command
from cubbydb.blockdev import BlockDevice

__all__ = [
    "csd_drive",
    "ext4_folder",
    "file_place",
    "loop_device",
    "nbd_server",
    "why_no_loop",
    "why_no_nbd",
    "why_no_zram",
    "zram_device",
    "zram_folder",
]

CONTROL = Path("/sys/class/zram-control")
REMOVE_TRIES = 20
NBD_PLUGIN = Path(_native.__file__).parent / "blockdev" / "nbdkit-cubby-plugin.so"
SERVER_SECONDS = 60  # for a server to close its device


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals wait, so that what is made here cannot be forgotten before it is noted."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def why_no_zram() -> str | None:
    """Why there can be no zram device here; None if there can."""
    if not CONTROL.is_dir():
        return "this kernel has no zram"
    if os.geteuid() != 0:
        return "a zram device needs root"
    return None


@contextmanager
def zram_device(size_bytes: int, algorithm: str = "lz4") -> Iterator[str]:
    """A new compressed device in memory; those that were there before are not touched."""
    number = None
    try:
        with undisturbed():
            number = int((CONTROL / "hot_add").read_text())
        settings = Path(f"/sys/block/zram{number}")
        (settings / "comp_algorithm").write_text(algorithm)
        (settings / "disksize").write_text(str(size_bytes))
        path = Path(f"/dev/zram{number}")
        if not (path.exists() and stat.S_ISBLK(path.stat().st_mode)):
            raise click.ClickException(f"{path} was made, but is not there")
        yield str(path)
    finally:
        if number is not None:
            _remove_zram(number)


def _remove_zram(number: int) -> None:
    """Remove it; whoever looks at new devices (udev) may have it open for a moment."""
    for left in reversed(range(REMOVE_TRIES)):
        try:
            (CONTROL / "hot_remove").write_text(str(number))
            return
        except OSError:
            if left == 0:
                click.echo(f"/dev/zram{number} could not be removed", err=True)
            time.sleep(0.1)


@contextmanager
def zram_folder(size_bytes: int) -> Iterator[Path]:
    """A folder on a new ext4 on a new zram device; all gone afterwards."""
    with zram_device(size_bytes) as device, ext4_folder(device) as folder:
        yield folder


@contextmanager
def ext4_folder(
    device: str, *, features: str = "has_journal", mounted: str = "defaults"
) -> Iterator[Path]:
    """A folder on a new ext4 on a device.

    Args:
        features: for mkfs.ext4, beside its own.
        mounted: the options of mount.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mkfs.ext4", "-q", "-O", features, device], check=True)
        subprocess.run(["mount", "-o", mounted, device, folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


@contextmanager
def file_place(path: Path) -> Iterator[str]:
    """A name for a new file, which is removed afterwards; never one that is there already."""
    if path.exists():
        raise click.ClickException(f"{path} exists; name a file that does not")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def why_no_loop() -> str | None:
    """Why there can be no loop device here; None if there can."""
    if shutil.which("losetup") is None:
        return "losetup is not installed (Debian package: mount)"
    if os.geteuid() != 0:
        return "a loop device needs root"
    run = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        return f"there is no free loop device ({run.stderr.strip()})"
    return None


@contextmanager
def loop_device(file: Path, size_bytes: int) -> Iterator[str]:
    """A block device of 4 KiB sectors over a new sparse file, past the page cache."""
    command = ["losetup", "--find", "--show", "--direct-io=on", "--sector-size=4096", str(file)]
    with file_place(file):
        with file.open("xb") as made:
            made.truncate(size_bytes)
        device = None
        try:
            with undisturbed():
                run = subprocess.run(command, capture_output=True, text=True, check=False)
                device = run.stdout.strip() or None
            if device is None:
                raise click.ClickException(f"losetup {file}: {run.stderr.strip()}")
            yield device
        finally:
            if device is not None:
                subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def csd_drive(file: Path, physical_bytes: int, logical_bytes: int | None = None) -> Iterator[str]:
    """The name of a new emulated drive that compresses, kept in a new file."""
    with file_place(file):
        name = f"csd:{file}"
        BlockDevice.create(name, physical=physical_bytes, logical=logical_bytes).close()
        yield name


def why_no_nbd() -> str | None:
    """Why nothing can be served over NBD here; None if it can."""
    if shutil.which("nbdkit") is None:
        return "nbdkit is not installed (Debian package: nbdkit)"
    if not NBD_PLUGIN.exists():
        return "CubbyDB was built without its nbdkit plugin (Debian package: nbdkit-plugin-dev)"
    return None


@contextmanager
def nbd_server(name: str, socket: Path, thread_count: int, commands: list[str]) -> Iterator[str]:
    """Serve a device; its URI.  Each connection has so many requests worked on at a time."""
    command = ["nbdkit", "--foreground", "--newstyle", "--exit-with-parent", f"--unix={socket}"]
    command += [f"--threads={thread_count}", str(NBD_PLUGIN), f"device={name}"]
    command += [f"ready=nbd+unix:///?socket={socket}", f"remove={socket}"]
    text = note_command(command, commands)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        try:
            uri = server.stdout.readline().strip()  # written when clients may connect
            if not uri:
                raise click.ClickException(f"{text}: {server.stderr.read().strip()[-2000:]}")
            yield uri
        finally:
            server.terminate()
            server.wait(SERVER_SECONDS)
