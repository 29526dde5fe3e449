"""Store as a MutableMapping: views, comparison, the calls made of others; and scans of keys."""

from collections.abc import ItemsView, KeysView, MutableMapping, ValuesView

import pytest
from store_samples import some_bytes, some_pairs

import cubbydb
from cubbydb import errors

PAIRS = {b"a": b"1", b"b": b"2", b"c": b"2"}


@pytest.fixture(params=["store", "space"])
def mapping(request, tmp_path):
    with cubbydb.open(tmp_path / "data.cubby", "n", size="16M") as store:
        if request.param == "store":
            yield store
        else:
            store.put_many({b"of no space": b"0", b"a": b"0"})
            store.space(b"names").put_many({b"a": b"0"})
            yield store.space(b"name")


def test_it_is_a_mutable_mapping_and_says_what_it_is(mapping):
    assert isinstance(mapping, MutableMapping)
    assert type(mapping).__name__ in repr(mapping)
    with pytest.raises(TypeError, match="unhashable"):
        hash(mapping)


def test_views_are_of_now_and_like_sets(mapping):
    keys, values, items = mapping.keys(), mapping.values(), mapping.items()
    assert (len(keys), len(values), len(items)) == (0, 0, 0)
    mapping.update(PAIRS)
    assert isinstance(keys, KeysView)
    assert isinstance(values, ValuesView)
    assert isinstance(items, ItemsView)
    assert (len(keys), len(values), len(items)) == (3, 3, 3)
    assert keys == PAIRS.keys()
    assert items == PAIRS.items()
    assert keys & {b"a", b"none"} == {b"a"}
    assert keys | {b"d"} == {b"a", b"b", b"c", b"d"}
    assert keys - {b"a"} == {b"b", b"c"}
    assert keys ^ {b"a", b"d"} == {b"b", b"c", b"d"}
    assert {b"a"} < keys <= {b"a", b"b", b"c"}
    assert keys.isdisjoint({b"d"})
    assert items - {(b"a", b"1")} == {(b"b", b"2"), (b"c", b"2")}
    assert (b"a", b"1") in items
    assert (b"a", b"2") not in items
    assert (b"none", b"2") not in items
    assert b"2" in values
    assert b"3" not in values
    assert sorted(values) == [b"1", b"2", b"2"]


def test_equal_is_what_has_the_same_pairs(mapping):
    assert mapping == {}
    mapping.update(PAIRS)
    assert mapping == mapping
    assert mapping == PAIRS
    assert PAIRS == mapping  # noqa: SIM300 - the dict asks
    assert mapping != PAIRS | {b"a": b"2"}
    assert mapping != PAIRS | {b"d": b""}
    assert mapping != {b"a": b"1", b"b": b"2", b"d": b"2"}
    assert mapping != {"a": b"1", "b": b"2", "c": b"2"}
    assert mapping != list(PAIRS)
    with cubbydb.open("mem:64M", "n", size="1M") as other:
        assert mapping != other
        other.update(mapping)
        assert mapping == other
        assert mapping != other.space(b"x")


def test_update_takes_what_a_dict_takes(mapping):
    class HasKeys:
        def keys(self):
            return PAIRS.keys()

        def __getitem__(self, key):
            return PAIRS[key]

    for given in (PAIRS, PAIRS.items(), iter(PAIRS.items()), HasKeys()):
        mapping.clear()
        mapping.update(given)
        assert mapping == PAIRS
    mapping.update()
    with pytest.raises(TypeError, match=r"encode it first: 'key'"):
        mapping.update(key=b"value")
    with pytest.raises(TypeError):
        mapping.update(None)
    with pytest.raises(ValueError, match="unpack"):
        mapping.update([(b"a", b"1", b"too many")])
    assert mapping == PAIRS


def test_pop_popitem_and_setdefault(mapping):
    assert mapping.setdefault(b"a", b"1") == b"1"
    assert mapping.setdefault(b"a", b"2") == b"1"
    with pytest.raises(TypeError, match="a value is bytes, not NoneType"):
        mapping.setdefault(b"b")
    assert mapping.pop(b"a") == b"1"
    assert mapping.pop(b"a", None) is None
    with pytest.raises(errors.NotFound):
        mapping.pop(b"a")
    mapping.update(PAIRS)
    assert dict(mapping.popitem() for _ in range(3)) == PAIRS
    with pytest.raises(KeyError):
        mapping.popitem()


def test_clear_deletes_all_and_nothing_else(mapping):
    mapping.put_many(some_pairs(5000, 100))
    around = mapping.stats()["pairs"] if isinstance(mapping, cubbydb.Store) else len(mapping.store)
    mapping.clear()
    assert len(mapping) == 0
    assert bool(mapping) is False
    if not isinstance(mapping, cubbydb.Store):
        assert len(mapping.store) == around - 5000
        assert mapping.store[b"a"] == mapping.store.space(b"names")[b"a"] == b"0"


def test_pairs_may_be_deleted_while_they_are_iterated_over(mapping):
    pairs = some_pairs(3000, 200)
    mapping.update(pairs)
    seen = {}
    for key, value in mapping.items():
        seen[key] = value
        del mapping[key]
    assert seen == pairs
    assert mapping == {}


# Scans


def test_pages_of_a_limit_have_every_pair_once_also_across_reopening(tmp_path):
    path = tmp_path / "data.cubby"
    pairs = some_pairs(1000) | {b"blob %d" % size: some_bytes(size) for size in (2000, 70_000)}
    with cubbydb.open(path, "c", size="16M") as store:
        store.put_many(pairs)
    found: list[tuple[bytes, bytes]] = []
    cursor = None
    pages = 0
    while True:
        with cubbydb.open(path) as store, store.scan(cursor=cursor, limit=97) as scan:
            page = list(scan)
            cursor = scan.cursor
        found += page
        pages += 1
        if len(page) < 97:
            break
    assert pages == 11
    assert len(found) == len(pairs)
    assert dict(found) == pairs


def test_pages_go_on_while_the_store_grows_and_is_reopened(tmp_path):
    path = tmp_path / "data.cubby"
    stable = some_pairs(2000)
    with cubbydb.open(path, "c", size="64M") as store:
        store.put_many(stable)
    found: list[bytes] = []
    cursor = None
    for number in range(1000):
        with cubbydb.open(path, "w") as store:
            with store.scan(b"key", cursor, limit=150, keys_only=True) as scan:
                page = list(scan)
                cursor = scan.cursor
            found += page
            store.put_many((b"new %d %d" % (number, more), bytes(300)) for more in range(1000))
        if len(page) < 150:
            break
    assert sorted(found) == sorted(stable)


def test_a_scan_of_keys_is_the_scan_of_pairs_without_the_values(mapping):
    pairs = {b"key %d" % size: some_bytes(size) for size in range(0, 10_000, 77)}
    pairs |= {b"k" * 5000: b"value", b"k" * 5001: some_bytes(100_000)}
    mapping.put_many(pairs)
    keys = [key for key, _ in mapping.scan()]
    assert list(mapping.scan(keys_only=True)) == list(mapping) == list(mapping.keys()) == keys
    assert sorted(keys) == sorted(pairs)
    assert sorted(mapping.scan(b"kk", keys_only=True)) == [b"k" * 5000, b"k" * 5001]
    with mapping.scan(limit=10, keys_only=True) as scan:
        first = list(scan)
    assert first == keys[:10]
    assert [key for key, _ in mapping.scan(cursor=scan.cursor)] == keys[10:]


def test_a_scan_of_keys_does_not_read_large_values(tmp_path):
    with cubbydb.open(tmp_path / "data.cubby", "c", size="64M") as store:
        store.put_many((b"%d" % number, bytes(50_000)) for number in range(100))

        def blocks_read(**options: bool) -> int:
            before = store.stats()["blocks_read"]
            assert sum(1 for _ in store.scan(**options)) == 100
            return store.stats()["blocks_read"] - before

        blocks = 100 * 50_000 // 4096
        assert blocks_read() > blocks
        assert blocks_read(keys_only=True) < blocks / 10
