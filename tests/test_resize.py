"""A store that grows: Store.resize and cubby resize."""

import json
import threading
from pathlib import Path

import pytest
from cubby_command import cubby, failed

import cubbydb
from cubbydb import errors
from cubbydb.blockdev import BlockDevice

MIB = 1 << 20


@pytest.fixture
def path(tmp_path):
    """An empty store of the smallest size."""
    path = tmp_path / "data.cubby"
    cubbydb.open(path, "c", size="1M").close()
    return path


def fill(store: cubbydb.Store, name: bytes, size: int) -> dict[bytes, bytes]:
    """Put pairs until the store is full; return them."""
    pairs: dict[bytes, bytes] = {}
    while True:
        key = b"%s %d" % (name, len(pairs))
        value = b"%07d" % len(pairs) * (size // 7)
        try:
            store[key] = value
        except errors.Full:
            return pairs
        pairs[key] = value


@pytest.mark.parametrize("size", [700, 10_000])
def test_a_full_store_takes_pairs_again(path, size):
    with cubbydb.open(path, "w") as store:
        pairs = fill(store, b"first", size)
        assert store.resize("3M") == 12 * MIB
        more = fill(store, b"second", size)
        assert len(more) > len(pairs)
        pairs |= more
        assert dict(store.items()) == pairs
        assert store.stats()["logical_bytes"] == 12 * MIB
    assert path.stat().st_size == 12 * MIB
    for recover in (False, True):
        with cubbydb.open(path, "w", recover=recover) as store:
            assert dict(store.items()) == pairs
            assert store.check() == []


def test_the_same_size_is_nothing_to_do(path):
    with cubbydb.open(path, "w") as store:
        assert store.resize(MIB) == store.resize("1M") == store.resize() == 4 * MIB


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "at least 1 MiB"),
        (-1, "at least 1 MiB"),
        (1 << 64, "at most 1 PiB"),
        (1, "1 MiB to 1 PiB"),
        ((1 << 50) + 1, "1 MiB to 1 PiB"),
        (2 * MIB, "does not shrink"),
        (1 << 50, "in steps of 16 times"),
        ("much", "as in 256M"),
    ],
)
def test_sizes_that_cannot_be_are_value_errors(tmp_path, size, text):
    with cubbydb.open(tmp_path / "data.cubby", "c", size="4M") as store:
        with pytest.raises(ValueError, match=text):
            store.resize(size)
        assert store.stats()["logical_bytes"] == 16 * MIB


def test_a_size_of_another_type_is_a_type_error(path):
    with cubbydb.open(path, "w") as store, pytest.raises(TypeError):
        store.resize(2.5)  # type: ignore[arg-type]


def test_who_only_reads_does_not_resize(path):
    with cubbydb.open(path) as store, pytest.raises(errors.ReadOnly):
        store.resize("2M")
    with pytest.raises(errors.Closed):
        store.resize("2M")


def test_memory_and_emulated_drives_are_used_to_their_end(tmp_path):
    drive = f"csd:{tmp_path}/drive"
    BlockDevice.create(drive, physical="8M", logical="32M").close()
    for name in ("mem:32M", drive):
        with cubbydb.open(name, "c", size="2M") as store:
            assert store.stats()["logical_bytes"] == 8 * MIB
            assert store.resize("4M") == 16 * MIB
            assert store.resize() == 32 * MIB
            with pytest.raises(ValueError, match="of a fixed size"):
                store.resize("16M")


def test_threads_put_while_the_store_grows(path):
    with cubbydb.open(path, "w") as store:
        failures: list[BaseException] = []

        def put(name: bytes) -> None:
            number = 0
            try:
                while number < 1500:
                    try:
                        store[b"%s %d" % (name, number)] = b"%d" % number * 100
                        number += 1
                    except errors.Full:
                        continue
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=put, args=(name,)) for name in (b"a", b"b", b"c")]
        for thread in threads:
            thread.start()
        for size in range(2, 17):
            store.resize(size * MIB)
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(store) == 4500
        assert store.check() == []


# cubby resize ------------------------------------------------------------------------------------


def test_resize_is_silent_and_says_what_it_did_as_json(path):
    result = cubby("resize", path, "--size", "2M")
    assert (result.exit_code, result.output) == (0, "")
    assert path.stat().st_size == 8 * MIB
    result = cubby("resize", path, "--size", "4M", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"bytes_before": 8 * MIB, "bytes": 16 * MIB}


def test_resize_to_the_same_size_says_so(path):
    for words in ([], ["--size", "1M"]):
        result = cubby("resize", path, *words)
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == f"{path}: nothing to do: it has 4.0 MiB already\n"


def test_a_file_that_was_made_larger_is_used(path):
    with path.open("r+b") as file:
        file.truncate(20 * MIB)
    assert cubby("resize", path).exit_code == 0
    with cubbydb.open(path) as store:
        assert store.stats()["logical_bytes"] == 20 * MIB


def test_resize_does_not_shrink_and_says_what_to_do_instead(path):
    assert cubby("resize", path, "--size", "8M").exit_code == 0
    assert failed(cubby("resize", path, "--size", "2M"), 2, "dump it, create a smaller one")
    assert path.stat().st_size == 32 * MIB


def test_resize_of_a_store_in_use_is_refused(path):
    with cubbydb.open(path, "w"):
        assert failed(cubby("resize", path, "--size", "2M"), 5, str(path))


def test_a_full_disk_while_growing_leaves_the_store_as_it_was(path):
    """A file system that refuses the size, by the limit on file sizes of a process."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (32 * MIB, before[1]))
        assert failed(cubby("resize", path, "--size", "64M"), 3, "making it 256.0 MiB large failed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert Path(path).stat().st_size == 4 * MIB
    with cubbydb.open(path) as store:
        assert store.check() == []
