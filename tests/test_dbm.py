"""cubbydb.dbm by the contract of the standard library's dbm modules, and shelve on top."""

import os
import pathlib
import pickle
import shelve

import pytest

import cubbydb
import cubbydb.dbm
from cubbydb import errors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.cubby"


@pytest.fixture
def database(path):
    with cubbydb.dbm.open(path, "c", size="16M") as database:
        yield database


def test_keys_and_values_may_be_str_and_come_back_as_utf8(database):
    database["naïve"] = "café"
    database[b"bytes"] = bytearray(b"value")
    assert database["naïve".encode()] == "café".encode()
    assert database["bytes"] == b"value"
    assert "naïve" in database
    assert sorted(database.keys()) == [b"bytes", "naïve".encode()]
    assert sorted(database) == sorted(key for key, _ in database.items())
    assert sorted(database.values()) == ["café".encode(), b"value"]
    assert database.get("none") is None
    assert database.get("none", "default") == "default"
    assert database.setdefault("new", "text") == b"text"
    assert database.setdefault("new", b"other") == b"text"
    assert database.pop("new") == b"text"
    database.update(one="1", two=b"2")
    del database["one"]
    assert len(database) == 3
    database.clear()
    assert database.keys() == []


@pytest.mark.parametrize("wrong", [5, None, ["key"], memoryview(b"key")])
def test_other_types_are_type_errors(database, wrong):
    for call in (
        lambda: database[wrong],
        lambda: database.__setitem__(wrong, b""),
        lambda: database.__setitem__("key", wrong),
        lambda: database.__delitem__(wrong),
        lambda: wrong in database,
    ):
        with pytest.raises(TypeError, match="must be bytes or strings"):
            call()


def test_a_missing_key_is_a_key_error_and_no_dbm_error(database):
    for call in (lambda: database["key"], lambda: database.__delitem__("key")):
        with pytest.raises(KeyError) as caught:
            call()
        assert not isinstance(caught.value, cubbydb.dbm.error)


def test_flags(path):
    for flag in "rw":
        with pytest.raises(cubbydb.dbm.error, match=r"data\.cubby"):
            cubbydb.dbm.open(path, flag)
    assert not path.exists()
    with cubbydb.dbm.open(path, "c") as database:
        database["key"] = "value"
    with cubbydb.dbm.open(path) as database:
        assert database["key"] == b"value"
        with pytest.raises(cubbydb.dbm.error) as caught:
            database["key"] = "other"
        assert isinstance(caught.value.__cause__, errors.ReadOnly)
        database.sync()
    with cubbydb.dbm.open(path, "w") as database:
        database["key"] = "other"
    with cubbydb.dbm.open(path, "n") as database:
        assert len(database) == 0
    with pytest.raises(ValueError, match="flag is"):
        cubbydb.dbm.open(path, "x")


def test_every_failure_is_an_os_error(path, tmp_path):
    with cubbydb.dbm.open(path, "c") as database:
        with pytest.raises(cubbydb.dbm.error) as caught:
            cubbydb.dbm.open(path)
        assert isinstance(caught.value.__cause__, errors.Locked)
    database.close()
    for call in (
        lambda: database["key"],
        lambda: database.keys(),
        lambda: list(database),
        lambda: len(database),
        lambda: database.sync(),
    ):
        with pytest.raises(OSError, match=r"data\.cubby") as caught:
            call()
        assert type(caught.value) is cubbydb.dbm.error
    with pytest.raises(cubbydb.dbm.error) as caught:
        cubbydb.dbm.open(tmp_path / "none")
    assert caught.value.errno == 2


def test_foreign_data_is_kept(tmp_path):
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear reader,\n" * 1000)
    for flag in "rwcn":
        with pytest.raises(cubbydb.dbm.error):
            cubbydb.dbm.open(path, flag)
    assert path.read_bytes() == b"Dear reader,\n" * 1000


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_the_mode_is_that_of_a_new_file(path, mode):
    before = os.umask(0o022)
    try:
        cubbydb.dbm.open(path, "c", mode).close()
        assert path.stat().st_mode & 0o777 == mode
        cubbydb.dbm.open(path, "n", 0o666).close()
        assert path.stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_what_could_not_be_created_leaves_no_file(path):
    with pytest.raises(ValueError, match="smallest size"):
        cubbydb.dbm.open(path, "c", size="1K")
    assert not path.exists()


def test_device_names_are_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with cubbydb.dbm.open("mem:64M", "n", size="1M") as database:
        database["key"] = "value"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path])
def test_whichdb_knows_a_store(database, path, kind):
    assert cubbydb.dbm.whichdb(kind(path)) == "cubbydb.dbm"


@pytest.mark.parametrize("copy", [0, 1])
def test_whichdb_needs_one_copy_of_the_superblock(path, copy):
    for _ in range(2):
        with cubbydb.dbm.open(path, "c") as database:
            database["key"] = "value"
    with path.open("r+b") as file:
        file.seek(4096 * copy)
        file.write(bytes(4096))
    assert cubbydb.dbm.whichdb(path) == "cubbydb.dbm"


def test_whichdb_asks_dbm_about_the_rest(tmp_path):
    import dbm.dumb

    assert cubbydb.dbm.whichdb(tmp_path / "none") is None
    (tmp_path / "letter.txt").write_text("Dear reader, " * 1000)
    assert cubbydb.dbm.whichdb(tmp_path / "letter.txt") == ""
    (tmp_path / "empty").touch()
    assert cubbydb.dbm.whichdb(os.fsencode(tmp_path / "empty")) == ""
    dbm.dumb.open(str(tmp_path / "dumb"), "c").close()
    assert cubbydb.dbm.whichdb(tmp_path / "dumb") == "dbm.dumb"


# shelve


def open_store(path, flag):
    return cubbydb.open(path, flag)


@pytest.mark.parametrize("opened", [open_store, cubbydb.dbm.open])
def test_shelve_keeps_objects(path, opened):
    objects = {"list": [1, "two", None], "nested": {"a": (1, 2)}, "large": "x" * 100_000}
    with shelve.Shelf(opened(path, "c"), writeback=True) as shelf:
        shelf.update(objects)
        shelf["list"].append(4)
        shelf.sync()
        assert len(shelf) == 3
        assert "nested" in shelf
        assert shelf.pop("nested") == {"a": (1, 2)}
        with pytest.raises(KeyError):
            shelf["nested"]
    with opened(path, "r") as pairs:
        assert {key: pickle.loads(pairs[key]) for key in pairs} == {
            b"list": [1, "two", None, 4],
            b"large": "x" * 100_000,
        }


def test_shelve_reads_a_read_only_database(path):
    with shelve.Shelf(cubbydb.dbm.open(path, "c")) as shelf:
        shelf["key"] = [1, 2]
    with shelve.Shelf(cubbydb.dbm.open(path)) as shelf:
        assert dict(shelf) == {"key": [1, 2]}
        assert list(shelf.items()) == [("key", [1, 2])]


def test_a_space_can_be_a_shelf(path):
    with cubbydb.open(path, "c", size="16M") as store:
        for name in (b"one", b"two"):
            shelve.Shelf(store.space(name))["key"] = name.decode()
        assert dict(shelve.Shelf(store.space(b"one"))) == {"key": "one"}
        assert len(store) == 2
