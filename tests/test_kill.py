"""Real processes that write and are killed by SIGKILL, on every kind of device there is.

What a process promise has acknowledged is there afterwards, and what is lost without it is a tail;
batches are there as a whole or not at all.
"""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cubby_command import cubby
from spare_devices import loop_device, zram_device
from store_samples import some_bytes, sparse_copy

import cubbydb
from cubbydb.blockdev import BlockDevice

SIZE = "16M"
KEYS = 400
ROUNDS = 3
CHANGES = 1500  # at least, before the writer is killed


@pytest.fixture(
    params=[
        "file",
        "csd",
        pytest.param("loop", marks=pytest.mark.device),
        pytest.param("zram", marks=pytest.mark.device),
    ]
)
def name(request, tmp_path) -> Iterator[str]:
    """The name of a device with an empty store on it."""
    with contextlib.ExitStack() as stack:
        name = str(tmp_path / "data.cubby")
        if request.param == "csd":
            name = f"csd:{tmp_path}/drive.csd"
            BlockDevice.create(name, physical="32M", logical="64M").close()
        elif request.param == "loop":
            name = stack.enter_context(loop_device(tmp_path / "disk"))
        elif request.param == "zram":
            name = stack.enter_context(zram_device())
        cubbydb.open(name, "c", size=SIZE).close()
        yield name


# What is done is known from the number of the change alone, to writer and test.
CHANGE = """
    KEYS = 400

    def change_of(number):
        key = b"key %d" % (number * 7919 % KEYS)
        if number % 11 == 10:
            return key, None
        size = 3000 if number % 50 == 7 else number * 37 % 400
        return key, b"%d " % number + b"%d" % (number % 10) * size
"""
WRITER = f"""
    import sys, cubbydb
    {CHANGE}
    store = cubbydb.open(sys.argv[1], "w", durability=sys.argv[2])
    number = int(sys.argv[3])
    while True:
        key, value = change_of(number)
        store.delete(key) if value is None else store.put(key, value)
        number += 1
        print(number, flush=True)
"""
BATCH_WRITER = """
    import sys, cubbydb
    store = cubbydb.open(sys.argv[1], "w")
    number = int(sys.argv[3])
    while True:
        with store.batch(durability=sys.argv[2]) as batch:
            for key in range(60):
                batch[b"key %d" % key] = b"%d " % number + bytes(number * 13 % 300)
            batch.put(b"blob", b"%d " % number + bytes(2000))
            (batch.delete if number % 2 else batch.__setitem__)(*(b"odd", b"")[: 2 - number % 2])
        number += 1
        print(number, flush=True)
"""

change_namespace: dict = {}
exec(textwrap.dedent(CHANGE), change_namespace)
change_of = change_namespace["change_of"]


def killed_writer(
    code: str, name: str, durability: str, begin: int, changes: int, cwd: Path
) -> int:
    """Let a process write from a number on, and kill it; returns the number of what it has not
    acknowledged.
    """
    command = [sys.executable, "-c", textwrap.dedent(code), name, durability, str(begin)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=cwd) as writer:
        assert writer.stdout is not None
        line = b"0"
        for line in writer.stdout:
            if int(line) >= begin + changes:
                break
        time.sleep(begin % 7 * 0.003)  # while it goes on, into whatever it does then
        os.kill(writer.pid, signal.SIGKILL)
        end = int((line + writer.stdout.read()).rpartition(b"\n")[0].split()[-1])
    assert writer.returncode == -signal.SIGKILL
    return end


def last_change(pairs: dict[bytes, bytes]) -> int:
    return max(int(value.split()[0]) for value in pairs.values())


def recovered_pairs(name: str) -> dict[bytes, bytes]:
    """All pairs after an opening to read, which must be those after one to write."""
    with cubbydb.open(name) as store:
        assert store.stats()["recovered"] == 1
        before = dict(store.items())
        assert len(store) == len(before)
        assert store.check() == []
    with cubbydb.open(name, "w") as store:
        stat = store.stats()
        assert (stat["recovered"], stat["lost_pairs"]) == (1, 0)
        pairs = dict(store.items())
        assert pairs == before
        assert len(store) == len(pairs)
        assert store.check() == []
    with cubbydb.open(name) as store:
        assert store.stats()["recovered"] == 0
        assert dict(store.items()) == pairs
    return pairs


@pytest.mark.parametrize("durability", ["power", "process", "none"])
def test_a_killed_writer_loses_nothing_acknowledged_or_a_tail_where_nothing_was_promised(
    name, durability, tmp_path
):
    model: dict[bytes, bytes] = {}
    begin = 0
    for _ in range(ROUNDS):
        changes = CHANGES // 5 if durability == "power" else CHANGES
        end = killed_writer(WRITER, name, durability, begin, changes, tmp_path)
        pairs = recovered_pairs(name)
        # The change that was under way may be there; without a promise, some of the last are not.
        first = begin if durability == "none" else end
        for number in range(begin, end + 2):
            if number >= first and model == pairs:
                begin = number
                break
            key, value = change_of(number)
            model.pop(key, None)
            if value is not None:
                model[key] = value
        else:
            pytest.fail(f"not what there was at any of the changes {first:,} to {end + 1:,}")


@pytest.mark.parametrize("durability", ["power", "process", "none"])
def test_a_batch_of_a_killed_writer_is_there_as_a_whole_or_not_at_all(name, durability, tmp_path):
    begin = 0
    for _ in range(ROUNDS):
        end = killed_writer(BATCH_WRITER, name, durability, begin, 60, tmp_path)
        pairs = recovered_pairs(name)
        is_even = pairs.pop(b"odd", None) == b""
        if not pairs:
            assert durability == "none"
            continue
        assert len(pairs) == 61
        numbers = {int(value.split()[0]) for value in pairs.values()}
        assert len(numbers) == 1
        last = numbers.pop()
        assert is_even == (last % 2 == 0)
        assert last <= end
        if durability != "none":
            assert last >= end - 1
        begin = last + 1


def test_the_command_says_what_it_has_recovered(name, tmp_path):
    end = killed_writer(WRITER, name, "process", 0, CHANGES, tmp_path)
    assert end >= CHANGES
    rows = [line.split("  ") for line in cubby("stat", name).stdout.splitlines()]
    assert ["Recovered", "the last stop was not clean"] in [
        [word.strip() for word in row if word.strip()] for row in rows
    ]
    assert cubby("check", name).exit_code == 0
    assert cubby("put", name, "key", "value", "--durability", "power").exit_code == 0
    assert "Recovered" not in cubby("stat", name).stdout
    assert cubby("check", name).exit_code == 0


def test_the_blob_of_a_replaced_value_is_not_reused_while_its_block_names_it(tmp_path):
    with cubbydb.open(tmp_path / "in use", "c", size="64M") as store:
        store[b"long"] = some_bytes(300_000)
        store.sync()
        store.step()  # the value is at its place, and still in the log
        assert store.stats()["dirty_pairs"] == 0
        store[b"long"] = b"short"
        sparse_copy(tmp_path / "in use", tmp_path / "left")  # by a process that was killed now
    pairs = {b"%d" % size: some_bytes(size) for size in (10_000, 3_000, 19_000, 2_000)}
    with cubbydb.open(tmp_path / "left", "w") as store:
        store.update(pairs)
        store.sync()
        store.step()  # the long value is freed, which nothing else may have the blocks of
        assert store.check() == []
        assert dict(store.items()) == pairs | {b"long": b"short"}
