"""VoliMap in files: what is saved when, what is loaded, and what is refused."""

import errno
import gc
import os
import random
import warnings

import pytest

from cubbydb import VoliMap, errors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "map"


def test_what_is_saved_is_loaded(path):
    pairs = {random.getrandbits(64): random.getrandbits(64) for _ in range(10_000)}
    with VoliMap(pairs) as numbers:
        numbers.save(path)
        with pytest.raises(ValueError, match="without a path"):
            numbers.save()
        with pytest.raises(ValueError, match="without a path"):
            numbers.load()
    with VoliMap({1: 2, 3: 4}, path=path) as numbers:
        assert numbers == pairs | {1: 2, 3: 4}
        assert numbers.path == str(path)
        numbers.clear()
        numbers.load()
        assert numbers == pairs
    other = VoliMap({1: 2})
    other.load(os.fsencode(path))
    assert other == pairs | {1: 2}
    other.save(str(path) + "2")
    assert sorted(each.name for each in path.parent.iterdir()) == ["map", "map2"]


def test_with_a_path_the_end_of_the_block_saves(path):
    with VoliMap(path=path) as numbers:
        assert not path.exists()
        numbers[1] = 10
    assert dict(VoliMap(path=path)) == {1: 10}
    with pytest.raises(ZeroDivisionError), VoliMap(path=path) as numbers:
        numbers.put_many((key, 6 // (3 - key)) for key in range(5000))
    assert numbers.closed
    assert dict(VoliMap(path=path)) == {1: 10}
    numbers = VoliMap(path=path)
    numbers[2] = 20
    numbers.close()
    assert dict(VoliMap(path=path)) == {1: 10, 2: 20}
    numbers = VoliMap(path=path)
    numbers[3] = 30
    numbers.close(save=False)
    assert dict(VoliMap(path=path)) == {1: 10, 2: 20}


def test_the_path_stays_where_it_was_when_the_working_folder_changes(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with VoliMap({1: 10}, path="map") as numbers:
        monkeypatch.chdir("/")
        assert numbers.path == str(path)
    assert dict(VoliMap(path=path)) == {1: 10}


def test_an_empty_map_makes_its_file_too(path):
    VoliMap(path=path).close()
    assert path.exists()
    assert dict(VoliMap(path=path)) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda numbers: numbers.put(2, 1),
        lambda numbers: numbers.remove(1),
        lambda numbers: numbers.pop(1),
        lambda numbers: numbers.popitem(),
        lambda numbers: numbers.put_many({2: 1}),
        lambda numbers: numbers.put_many([2], [1]),
        lambda numbers: numbers.put_if_absent(2, 1),
        lambda numbers: numbers.setdefault(2, 1),
        lambda numbers: numbers.compare_and_swap(1, 10, 11),
        lambda numbers: numbers.compare_and_swap(1, 10, None),
        lambda numbers: numbers.compare_and_swap(2, None, 11),
        lambda numbers: numbers.clear(),
    ],
)
def test_every_change_is_saved(path, change):
    VoliMap({1: 10}).save(path)
    with VoliMap(path=path) as numbers:
        change(numbers)
        changed = dict(numbers)
    assert dict(VoliMap(path=path)) == changed != {1: 10}


def test_a_map_that_has_not_changed_leaves_the_file_alone(path):
    VoliMap({1: 10}).save(path)
    reader = VoliMap(path=path)
    assert reader[1] == 10
    assert not reader.remove(2)
    assert not reader.put_if_absent(1, 5)
    VoliMap({1: 11}).save(path)  # somebody else's
    reader.close()
    assert dict(VoliMap(path=path)) == {1: 11}


def test_an_unsaved_map_that_is_forgotten_is_warned_of(path):
    forgotten = [VoliMap({1: 10}, path=path)]
    with pytest.warns(ResourceWarning, match="1 pairs.*neither closed nor saved"):
        forgotten.pop()
    assert not path.exists()
    numbers = VoliMap(path=path)
    numbers[1] = 10
    numbers.save()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del numbers
        gc.collect()


def test_a_save_that_fails_keeps_the_map_open(tmp_path):
    folder = tmp_path / "folder"
    numbers = VoliMap({1: 10}, path=folder / "map")  # the folder is not there
    with pytest.raises(errors.DeviceError, match=f"{folder}/map cannot be written") as caught:
        numbers.close()
    assert caught.value.errno == errno.ENOENT
    assert numbers[1] == 10
    folder.mkdir()
    numbers.close()
    assert dict(VoliMap(path=folder / "map")) == {1: 10}
    with pytest.raises(errors.DeviceError, match="is no file") as caught:
        VoliMap().save(folder)
    assert caught.value.errno == errno.EISDIR


def test_damaged_files_are_refused_and_stay(path):
    numbers = VoliMap((key, key) for key in range(5))
    numbers.save(path)
    whole = path.read_bytes()
    for damaged in (
        *(whole[:size] for size in range(0, len(whole), 7)),
        *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 5)),
        whole + b"\0",
    ):
        path.write_bytes(damaged)
        with pytest.raises(errors.Corrupt, match=f"{path}"):
            VoliMap(path=path)
        numbers[7] = 7
        with pytest.raises(errors.Corrupt):
            numbers.load(path)
        assert len(numbers) == 6
        assert path.read_bytes() == damaged
    path.write_bytes(b"Dear Sir or Madam")
    with pytest.raises(errors.Corrupt, match="is no VoliMap file"):
        VoliMap(path=path)
    with pytest.raises(errors.DeviceError, match="directory"):
        VoliMap(path=path.parent)
    with pytest.raises(errors.DeviceError, match="cannot be read: No such file"):
        numbers.load("none")
    numbers.save(path)
    whole = path.read_bytes()
    with pytest.raises(ValueError, match="key"):
        VoliMap(path=path, low=3, high=4)
    with pytest.raises(ValueError, match="not -1"):
        VoliMap({100: 1, -1: 0}, path=path)
    assert path.read_bytes() == whole
