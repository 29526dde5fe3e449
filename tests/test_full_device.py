"""A store on a file system that runs out of space before the store does."""

import contextlib
import os
import subprocess
from itertools import count
from pathlib import Path

import pytest

import cubbydb


@pytest.fixture
def small_file_system(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("this machine refuses to mount a tmpfs")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def put_for_ever(store: cubbydb.Store) -> None:
    for number in count():
        store.put(b"key%d" % number, os.urandom(400))


def fill_up(store: cubbydb.Store) -> int:
    """Put until the device is full; return how many pairs it took."""
    with pytest.raises(cubbydb.errors.PhysicalFull):
        put_for_ever(store)
    return len(store)


def close_full(store: cubbydb.Store) -> None:
    """Close a store whose device may have no block left for the checkpoint: that loses nothing."""
    with contextlib.suppress(cubbydb.errors.PhysicalFull):
        store.close()


def test_a_full_device_is_named_and_nothing_stored_is_lost(small_file_system: Path):
    """Who cannot make room in the file system can read all there is; with room all goes on."""
    path = small_file_system / "store.cubby"
    store = cubbydb.open(path, "n", size="64M")
    pairs = fill_up(store)
    assert pairs > 1000
    close_full(store)
    with cubbydb.open(path, "r") as store:
        assert all(len(store[b"key%d" % i]) == 400 for i in range(pairs - 1))
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_file_system)], check=True)
    store = cubbydb.open(path, "w")
    assert pairs - 1 <= len(store) <= pairs  # the put that failed may be there, or not
    assert all(len(store[b"key%d" % i]) == 400 for i in range(pairs - 1))
    assert store.check() == []
    for i in range(pairs - 1):
        del store[b"key%d" % i]
    store.sync()
    more_pairs = fill_up(store)
    assert more_pairs > pairs // 2
    close_full(store)
    with cubbydb.open(path, "r") as store:
        assert store.check() == []
