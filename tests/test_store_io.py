"""A store on a mapped region (io="mmap"): the same store, whose device is read less often."""

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import cubbydb
from cubbydb import errors
from cubbydb.engine.options import StoreOptions

SMALL: dict[str, Any] = {"io": "mmap", "region_bytes": "256K"}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "data.cubby")


def value_of(number: int, version: int = 0) -> bytes:
    size = 70_000 if number % 500 == 0 else 50 + number % 700
    return (b"%d/%d." % (number, version)).ljust(size, b"v")


def key_of(number: int) -> bytes:
    return b"key%d" % number


def fill(store: cubbydb.Store, count: int, version: int = 0) -> dict[bytes, bytes]:
    pairs = {key_of(number): value_of(number, version) for number in range(count)}
    store.put_many(pairs)
    return pairs


def settle(store: cubbydb.Store) -> None:
    """Have everything in its place, and no work left."""
    len(store)
    while store.step():
        pass


def test_it_is_the_same_store_either_way(path):
    pairs: dict[bytes, bytes] = {}
    for version, io in enumerate(["mmap", "direct", "mmap", "mmap", "direct"]):
        with cubbydb.open(path, "c", size="16M", io=io) as store:
            assert dict(store) == pairs
            pairs |= fill(store, 3000, version)
            settle(store)
            assert {key: store[key] for key in pairs} == pairs
            assert list(store.check()) == []
    with cubbydb.open(path, io="mmap") as store:
        assert store.read_only
        assert dict(store) == pairs


def test_calls_of_all_kinds_with_a_region_smaller_than_the_data(path):
    with cubbydb.open(path, "n", size="16M", **SMALL) as store:
        pairs = fill(store, 4000)
        settle(store)
        for number in range(0, 4000, 7):
            del store[key_of(number)], pairs[key_of(number)]
        with store.batch() as batch:
            for number in range(0, 300):
                batch[b"batch%d" % number] = pairs[b"batch%d" % number] = b"in one"
        assert store.add(b"new", b"1")
        assert not store.add(b"new", b"2")
        assert store.pop(b"new") == b"1"
        settle(store)
        for _ in range(3):
            assert store.get_many(pairs) == list(pairs.values())
            assert {key: store[key] for key in pairs} == pairs
            assert dict(store.scan()) == pairs
        assert key_of(0) not in store
        assert len(store) == len(pairs)
        stats = store.stats()
        assert stats["region_limit_bytes"] == 256 << 10
        assert 0 < stats["region_bytes"] <= 256 << 10
        assert stats["region_evicted_blocks"] > 0
        assert list(store.check()) == []


def test_what_is_read_again_is_not_read_from_the_device(path):
    with cubbydb.open(path, "n", size="16M", io="mmap") as store:
        pairs = fill(store, 400)
        settle(store)
        for _ in range(2):
            assert {key: store[key] for key in pairs} == pairs
        before = store.stats()
        assert {key: store[key] for key in pairs} == pairs
        assert store.get_many(pairs) == list(pairs.values())
        after = store.stats()
        assert after["blocks_read"] == before["blocks_read"]
        assert after["get_home_reads"] > before["get_home_reads"]
        assert after["region_limit_bytes"] == 64 << 20


def test_without_it_there_is_no_region(path):
    with cubbydb.open(path, "n", size="16M") as store:
        stats = store.stats()
        assert [stats["region_limit_bytes"], stats["region_bytes"]] == [0, 0]


def test_a_store_that_grows_finds_what_lies_behind_the_region(path):
    with cubbydb.open(path, "n", size="1M", **SMALL) as store:
        pairs = fill(store, 500)
        for size in ("4M", "16M"):
            store.resize(size)
            pairs |= fill(store, 8000 if size == "16M" else 2000, 1)
            settle(store)
            assert {key: store[key] for key in pairs} == pairs
            assert {key: store[key] for key in pairs} == pairs
        assert list(store.check()) == []
    with cubbydb.open(path) as store:
        assert dict(store) == pairs


@pytest.mark.parametrize("device", ["mem:64M", "csd:mem:64M", "model:p4800x:csd:mem:64M"])
def test_gets_of_an_event_loop_find_what_is_in_the_region(device):
    async def get_all(store: cubbydb.Store, keys: list[bytes]) -> list[bytes | None]:
        return list(await asyncio.gather(*(store.aget(key) for key in keys)))

    with cubbydb.open(device, "c", io="mmap") as store:
        pairs = fill(store, 300)
        settle(store)
        assert asyncio.run(get_all(store, list(pairs))) == list(pairs.values())
        for _ in range(2):
            assert {key: store[key] for key in pairs} == pairs
        before = store.stats()["blocks_read"]
        assert asyncio.run(get_all(store, list(pairs))) == list(pairs.values())
        assert store.stats()["blocks_read"] == before


def test_what_was_put_survives_a_kill(path):
    program = (
        "import os, signal, sys, cubbydb\n"
        "store = cubbydb.open(sys.argv[1], 'n', size='16M', io='mmap', region_bytes='256K')\n"
        "for number in range(5000):\n"
        "    store[b'key%d' % number] = b'value%d' % number * 20\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", program, path], timeout=100)
    assert ended.returncode == -signal.SIGKILL
    for io in ("direct", "mmap"):
        with cubbydb.open(path, "w", io=io) as store:
            assert [store.get(b"key%d" % number) for number in range(5000)] == [
                b"value%d" % number * 20 for number in range(5000)
            ]


def test_a_forked_child_is_told_so(path):
    with cubbydb.open(path, "n", size="16M", io="mmap") as store:
        fill(store, 100)
        settle(store)
        pid = os.fork()
        if pid == 0:
            try:
                store[key_of(1)]
            except errors.Forked:
                os._exit(7)
            os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert store[key_of(1)] == value_of(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"io": "rdma"}, "io is 'direct' or 'mmap', not 'rdma'"),
        ({"region_bytes": "1M"}, "region_bytes is for io 'mmap'"),
        ({"io": "mmap", "region_bytes": "255K"}, "region_bytes is 256 KiB to 8 TiB, not '255K'"),
        ({"io": "mmap", "region_bytes": "9T"}, "region_bytes is 256 KiB to 8 TiB, not '9T'"),
        ({"io": "mmap", "region_bytes": "much"}, "much"),
    ],
)
def test_bad_values_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        StoreOptions(**options)


def test_io_is_a_word():
    with pytest.raises(TypeError, match="io is a str, not int"):
        StoreOptions(io=1)  # type: ignore[arg-type]


def test_sizes_are_given_as_text_or_number(path):
    with cubbydb.open(path, "n", size="16M", io="mmap", region_bytes=(1 << 20) - 1) as store:
        assert store.stats()["region_limit_bytes"] == 1 << 20
