"""A store opened read-only never writes a byte, whatever is called and however it was left."""

import hashlib
import os
from pathlib import Path

import pytest
from store_samples import file_extents, some_bytes, some_pairs, sparse_copy

import cubbydb
import cubbydb.dbm
from cubbydb import errors

PAIRS = some_pairs(2000) | {b"blob": some_bytes(3000), b"large blob": some_bytes(300_000)}


@pytest.fixture(params=["", "csd:"], ids=["file", "csd"])
def kind(request):
    return request.param


@pytest.fixture
def closed(tmp_path, kind):
    """The file of a store that was closed."""
    path = tmp_path / "closed.cubby"
    with cubbydb.open(f"{kind}{path}", "c", size="16M") as store:
        store.put_many(PAIRS)
    return path


@pytest.fixture
def unclean(tmp_path, kind):
    """The file of a store whose process died: a copy of one in use."""
    path = tmp_path / "unclean.cubby"
    with cubbydb.open(f"{kind}{tmp_path / 'in use'}", "c", size="16M") as store:
        store.put_many(some_pairs(100))
        store.sync()
        store.put_many(PAIRS)
        store.delete(b"key 1")
        sparse_copy(tmp_path / "in use", path)
    return path


@pytest.mark.parametrize("sizes", [(0, 70_000), (70_000, 0), (70_000, 80_000)])
def test_a_long_key_that_was_replaced_counts_once(tmp_path, kind, sizes):
    """In its block is the key, or only its hash; in the log the other."""
    path = f"{kind}{tmp_path / 'in use'}"
    key = bytes(218)
    with cubbydb.open(path, "c", size="16M") as store:
        store[key] = bytes(sizes[0])
    with cubbydb.open(path, "w") as store:
        store[key] = bytes(sizes[1])
        store.sync()
        sparse_copy(tmp_path / "in use", tmp_path / "left")
    with cubbydb.open(f"{kind}{tmp_path / 'left'}") as store:
        assert len(store) == 1
        assert list(store.keys()) == [key]


def state_of(path: Path) -> tuple:
    stat = path.stat()
    digest = hashlib.sha256()
    for offset, content in file_extents(path):
        digest.update(b"%d:" % offset + content)
    return digest.digest(), stat.st_size, stat.st_mode, stat.st_mtime_ns, stat.st_ctime_ns


def read_everything(store: cubbydb.Store) -> None:
    """Every call that a read-only store takes, many times."""
    keys = list(store)
    for _ in range(3):
        assert store.get_many(keys) == [PAIRS[key] for key in keys]
        assert dict(store.scan()) == {key: PAIRS[key] for key in keys}
        for key in keys[::5]:
            assert store[key] == PAIRS[key]
            assert key in store
        assert store.get(b"none") is None
        assert len(store) == len(keys)
        assert dict(store.space(b"name")) == {}
        stat = store.stats()  # what was recovered in memory is in no block yet
        assert stat["pairs"] == len(keys) or 0 < stat["dirty_pairs"] >= len(keys) - stat["pairs"]
        assert store.check() == []


def refuse_everything(store: cubbydb.Store) -> None:
    for call in (
        lambda: store.put(b"key", b""),
        lambda: store.put(b"key 2", b""),
        lambda: store.delete(b"key 2"),
        lambda: store.put_many(PAIRS),
        lambda: store.update(PAIRS),
        lambda: store.setdefault(b"new", b""),
        lambda: store.pop(b"key 2"),
        lambda: store.popitem(),
        lambda: store.clear(),
        lambda: store.sync(),
        lambda: store.space(b"name").put(b"key", b""),
    ):
        with pytest.raises(errors.ReadOnly):
            call()


def use(name: str, recovered: int) -> None:
    with cubbydb.open(name) as store:
        assert store.stats()["recovered"] == recovered
        for _ in range(2):
            read_everything(store)
            refuse_everything(store)
        assert store.stats()["blocks_written"] == 0


def test_a_store_that_was_closed(closed, kind):
    before = state_of(closed)
    for _ in range(2):
        use(f"{kind}{closed}", recovered=0)
    assert state_of(closed) == before


def test_a_store_that_is_recovered_is_recovered_in_memory(unclean, kind):
    before = state_of(unclean)
    for _ in range(2):
        use(f"{kind}{unclean}", recovered=1)
    assert state_of(unclean) == before
    with cubbydb.open(f"{kind}{unclean}", recover=True) as store:
        assert len(store) == len(PAIRS) - 1
    with cubbydb.dbm.open(f"{kind}{unclean}") as database:
        database.sync()
        assert len(database) == len(PAIRS) - 1
    assert state_of(unclean) == before


def test_two_readers_at_a_time(closed, kind):
    before = state_of(closed)
    with cubbydb.open(f"{kind}{closed}") as one, cubbydb.open(f"{kind}{closed}") as other:
        read_everything(one)
        read_everything(other)
    assert state_of(closed) == before


def test_the_file_is_open_for_reading_only_so_the_kernel_would_refuse(unclean, kind):
    with cubbydb.open(f"{kind}{unclean}") as store:
        store.check()
        modes = [
            int(line.split()[1], 8) & os.O_ACCMODE
            for link in Path("/proc/self/fd").iterdir()
            if os.path.realpath(link) == str(unclean)
            for line in Path(f"/proc/self/fdinfo/{link.name}").read_text().splitlines()
            if line.startswith("flags:")
        ]
    assert len(modes) >= 1
    assert set(modes) == {os.O_RDONLY}


def test_a_file_without_write_permission(closed, kind):
    closed.chmod(0o444)
    before = state_of(closed)
    use(f"{kind}{closed}", recovered=0)
    assert state_of(closed) == before
