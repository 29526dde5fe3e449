"""Spaces: the key's prefix, what is apart from what, and the calls that scan."""

import pytest
from store_samples import some_bytes, some_pairs

import cubbydb
from cubbydb import errors

NAMES = [b"a", b"b", b"aa", b"a\x01", b"\x01a", b"\xff", b"\xff\x01a", b"n" * 254, b"n" * 255]


@pytest.fixture
def store(tmp_path):
    with cubbydb.open(tmp_path / "data.cubby", "n", size="16M") as store:
        yield store


@pytest.fixture
def space(store):
    return store.space(b"name")


def test_the_prefix_is_as_documented(store):
    assert store.space(b"name").prefix == b"\xff\x04name"
    assert store.space(bytearray(b"name")).space(b"x").prefix == b"\xff\x04name\xff\x01x"
    store.space(b"name")[b"key"] = b"value"
    assert list(store) == [b"\xff\x04namekey"]


def test_no_prefix_begins_another_one(store):
    prefixes = [store.space(name).prefix for name in NAMES]
    for one in prefixes:
        assert [other for other in prefixes if other.startswith(one)] == [one]


def test_spaces_do_not_see_each_other(store):
    keys = [b"", b"key", b"a", b"\xff\x01a", b"\x01a"]
    for name in NAMES:
        for key in keys:
            store.space(name)[key] = name + key
    assert len(store) == len(NAMES) * len(keys)
    for name in NAMES:
        assert dict(store.space(name)) == {key: name + key for key in keys}
    store.space(b"a").clear()
    assert len(store) == (len(NAMES) - 1) * len(keys)
    assert not store.space(b"a")


def test_no_text_is_in_a_space(store, space):
    store.put_many({b"name": b"", "ÿname".encode(): b"", b"\x04name": b""})
    assert len(space) == 0


def test_an_inner_space_is_part_of_the_outer_one(space):
    inner = space.space(b"inner")
    inner[b"key"] = b"value"
    space[b"key"] = b"other"
    assert dict(inner) == {b"key": b"value"}
    assert dict(space) == {b"key": b"other", b"\xff\x05innerkey": b"value"}
    inner.clear()
    assert dict(space) == {b"key": b"other"}


@pytest.mark.parametrize("name", [b"", b"n" * 256])
def test_a_name_of_a_wrong_size_is_a_value_error(store, space, name):
    for place in (store, space):
        with pytest.raises(ValueError, match=f"1 to 255 bytes, this one {len(name)}"):
            place.space(name)


@pytest.mark.parametrize("wrong", ["text", 5, None])
def test_what_is_not_bytes_is_a_type_error(store, space, wrong):
    for call in (
        lambda: store.space(wrong),
        lambda: space[wrong],
        lambda: space.get(wrong),
        lambda: space.put(wrong, b""),
        lambda: space.put(b"key", wrong),
        lambda: space.delete(wrong),
        lambda: wrong in space,
        lambda: space.get_many([wrong]),
        lambda: space.put_many([(wrong, b"")]),
        lambda: space.scan(wrong),
    ):
        with pytest.raises(TypeError, match="is bytes, not"):
            call()


def test_a_missing_key_is_named_without_the_prefix(space):
    for call in (lambda: space[b"key"], lambda: space.__delitem__(b"key")):
        with pytest.raises(errors.NotFound) as caught:
            call()
        assert caught.value.args == (b"key",)
    assert space.get(b"key") is None
    assert space.get(b"key", 7) == 7
    assert space.delete(b"key") is False


def test_a_key_may_be_as_long_as_the_prefix_leaves_room(space):
    longest = some_bytes(65_535 - len(space.prefix))
    space[longest] = b"value"
    assert list(space.items()) == [(longest, b"value")]
    with pytest.raises(ValueError, match="65,536"):
        space[longest + b"k"] = b""


def test_many_pairs(store, space):
    pairs = some_pairs(3000)
    assert space.put_many(pairs) == 3000
    assert space.put_many((memoryview(b"%d" % number), b"") for number in range(5)) == 5
    assert space.get_many([b"key 7", b"none", bytearray(b"3")]) == [pairs[b"key 7"], None, b""]
    assert store.get_many([space.prefix + b"key 7"]) == [pairs[b"key 7"]]


def test_a_scan_within_a_space(store, space):
    pairs = some_pairs(500)
    store.put_many(pairs)
    space.put_many(pairs)
    wanted = {key: value for key, value in pairs.items() if key.startswith(b"key 12")}
    assert dict(space.scan(b"key 12")) == wanted
    assert sorted(space.scan(b"key 12", keys_only=True)) == sorted(wanted)
    found = []
    cursor = None
    for _ in range(6):
        with space.scan(cursor=cursor, limit=100) as scan:
            found += scan
            cursor = scan.cursor
    assert len(found) == 500
    assert dict(found) == pairs
    assert sorted(space.keys()) == sorted(pairs)
    assert sorted(space.values()) == sorted(pairs.values())


def test_it_is_a_view_of_an_open_store(store, space):
    assert space.store is store
    assert repr(space).startswith("<cubbydb.Space b'\\xff\\x04name' of <cubbydb.Store")
    store.close()
    for call in (lambda: space.get(b"key"), lambda: len(space), lambda: bool(space)):
        with pytest.raises(errors.Closed):
            call()
