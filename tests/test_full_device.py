"""A store on a file system that runs out of space before the store does."""

import os
import subprocess
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


def fill_up(store: cubbydb.Store) -> int:
    """Put until the device is full; return how many pairs it took."""
    count = 0
    with pytest.raises(cubbydb.errors.PhysicalFull):
        while True:
            store.put(b"key%d" % count, os.urandom(400))
            count += 1
    return count


def test_a_full_device_is_named_and_nothing_stored_is_lost(small_file_system: Path):
    path = small_file_system / "store.cubby"
    with cubbydb.open(path, "n", size="64M") as store:
        count = fill_up(store)
        assert count > 1000
        assert len(store) == count
    with cubbydb.open(path, "w") as store:
        assert len(store) == count
        assert all(len(store[b"key%d" % i]) == 400 for i in range(count))
        assert store.check() == []
        for i in range(count):
            del store[b"key%d" % i]
        store.sync()
        assert fill_up(store) > count // 2
