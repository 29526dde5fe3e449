"""A store on an emulated drive that compresses: made on first use, watched, killed, and full."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap

import pytest

import cubbydb
from cubbydb import errors
from cubbydb.blockdev import BlockDevice

VALUE_BYTES = 400
NEVER = 101  # a mark that is never reached


def values(count: int, seed: int = 1) -> list[bytes]:
    """Values that do not compress."""
    numbers = random.Random(seed)
    return [numbers.randbytes(VALUE_BYTES) for _ in range(count)]


def fill(store: cubbydb.Store, first: int = 0) -> int:
    """Put pairs until one is refused for lack of physical space; returns how many were put."""
    numbers = random.Random(first)
    for count in range(1_000_000):
        try:
            store[b"key%d" % (first + count)] = numbers.randbytes(VALUE_BYTES)
        except errors.PhysicalFull:
            return count
    raise AssertionError("the drive is never full")


@pytest.fixture
def name(tmp_path):
    name = f"csd:{tmp_path}/drive.csd"
    BlockDevice.create(name, physical="8M", logical="64M", throttle=False).close()
    return name


def test_a_store_makes_its_drive_on_first_use(tmp_path):
    name = f"csd:{tmp_path}/new.csd"
    with cubbydb.open(name, "c", size="16M") as store:
        store.put_many((b"key%d" % number, b"value" * 50) for number in range(2000))
        assert len(store) == 2000
    with cubbydb.open(name) as store:
        assert store[b"key1999"] == b"value" * 50
        stat = store.stats()
        assert store.check() == []
    assert (stat["device_source"], stat["device_compresses"]) == ("csd", 1)
    assert stat["fill_percent"] == 40
    assert 0 < stat["device_physical_bytes"] < stat["device_logical_bytes"] / 4


def test_a_drive_that_is_missing_is_only_made_on_request(tmp_path):
    with pytest.raises(errors.DeviceError, match=r"new\.csd does not exist"):
        cubbydb.open(f"csd:{tmp_path}/new.csd", "w")
    assert list(tmp_path.iterdir()) == []


def test_growth_ends_at_its_mark_and_goes_on_after_deletes(name):
    with cubbydb.open(name, "n") as store:
        put = fill(store)
        stat = store.stats()
        share = stat["device_physical_bytes"] / stat["device_capacity_bytes"]
        assert 0.91 <= share <= 0.93
        assert stat["space_mark"] == 2
        with pytest.raises(errors.PhysicalFull, match="delete pairs"):
            store[b"one more"] = values(1)[0]
        # What is there can be replaced, read and deleted.
        store[b"key0"] = values(1)[0]
        assert store[b"key0"] == values(1)[0]
        for number in range(put // 2):
            del store[b"key%d" % number]
        store.sync()
        assert fill(store, 1_000_000) > put // 4
        assert store.check() == []


def test_with_the_last_mark_reached_only_reads_and_deletes_are_left(name):
    marks = {"warn_percent": 50, "no_growth_percent": 60, "read_delete_percent": 60}
    with cubbydb.open(name, "n", **marks) as store:
        fill(store)
        assert store.stats()["space_mark"] == 3
        with pytest.raises(errors.PhysicalFull):
            store[b"key0"] = b""
        assert len(store[b"key0"]) == VALUE_BYTES
        del store[b"key0"]
        assert b"key0" not in store


def test_a_drive_full_to_the_last_byte_loses_nothing(name):
    marks = {"warn_percent": NEVER, "no_growth_percent": NEVER, "read_delete_percent": NEVER}
    store = cubbydb.open(name, "n", **marks)
    put = fill(store)
    stat = store.stats()
    assert stat["device_physical_bytes"] > 0.97 * stat["device_capacity_bytes"]
    numbers = random.Random(0)
    expected = {b"key%d" % number: numbers.randbytes(VALUE_BYTES) for number in range(put)}
    # The put that failed may be there, or not: whole, or not at all.
    refused = (b"key%d" % put, numbers.randbytes(VALUE_BYTES))

    def holds_expected(store):
        found = dict(store.items())
        if refused[0] in found:
            assert found.pop(refused[0]) == refused[1]
        return found == expected

    assert holds_expected(store)
    # There may be no room for the checkpoint either: then the next open recovers.
    with contextlib.suppress(errors.PhysicalFull):
        store.close()
    with cubbydb.open(name) as store:
        assert holds_expected(store)
        assert store.check() == []


def test_a_killed_writer_loses_nothing_it_has_put(tmp_path, name):
    code = """
        import sys, cubbydb
        store = cubbydb.open(sys.argv[1], "c")
        number = 0
        while True:
            store[b"key%d" % number] = b"value%d" % number * 40
            number += 1
            print(number, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), name], stdout=subprocess.PIPE, cwd=tmp_path
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 3000:
                break
        os.kill(writer.pid, signal.SIGKILL)
        put = int((line + writer.stdout.read()).split()[-1])
    with cubbydb.open(name, "w") as store:
        assert store.stats()["recovered"] == 1
        for number in range(put):
            assert store[b"key%d" % number] == b"value%d" % number * 40
        assert store.check() == []


def test_two_writers_of_one_drive_are_kept_apart(name):
    with (
        cubbydb.open(name, "c"),
        pytest.raises(errors.Locked, match="in use by this process"),
    ):
        cubbydb.open(name, "w")
