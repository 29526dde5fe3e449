"""Opening and creating stores: flags, options, what is no store, full and damaged stores."""

import errno
import gc
import os
import warnings
from pathlib import Path

import pytest
from store_samples import some_bytes, some_pairs

import cubbydb
from cubbydb import errors


@pytest.fixture
def path(tmp_path):
    """A store with ten pairs."""
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="16M") as store:
        store.put_many(some_pairs(10))
    return path


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_a_path_may_be_str_bytes_or_path(path, kind):
    with cubbydb.open(kind(path)) as store:
        assert store.path == str(path)
        assert len(store) == 10


def test_a_path_that_is_not_utf8_works(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.cubby"
    with cubbydb.open(path, "c", size="1M") as store:
        store[b"key"] = b"value"
    with cubbydb.open(os.fsdecode(path)) as store:
        assert store[b"key"] == b"value"
    with pytest.raises(errors.DeviceError):
        cubbydb.open(path + b"none")


def test_flag_r_reads_and_never_writes(path):
    before = path.read_bytes()
    with cubbydb.open(path) as store:
        assert store.read_only is True
        assert len(list(store)) == 10
        for call in (
            lambda: store.put(b"key", b""),
            lambda: store.delete(b"key 1"),
            lambda: store.put_many([(b"key", b"")]),
            lambda: store.sync(),
        ):
            with pytest.raises(errors.ReadOnly):
                call()
        assert store.check() == []
    assert path.read_bytes() == before


def test_flag_w_writes_and_the_pairs_stay(path):
    with cubbydb.open(path, "w") as store:
        store[b"key"] = b"value"
    with cubbydb.open(path) as store:
        assert store[b"key"] == b"value"
        assert len(store) == 11


@pytest.mark.parametrize("flag", ["r", "w"])
def test_a_missing_file_is_an_os_error_naming_the_path(tmp_path, flag):
    path = tmp_path / "none.cubby"
    with pytest.raises(OSError, match=r"none\.cubby") as caught:
        cubbydb.open(path, flag)
    assert type(caught.value) is errors.DeviceError
    assert not path.exists()


def test_flag_c_creates_once(tmp_path):
    path = tmp_path / "data.cubby"
    for number in range(3):
        with cubbydb.open(path, "c", size="4M") as store:
            assert len(store) == number
            store[b"%d" % number] = b""


def test_exclusive_refuses_a_store_that_is_there(path):
    with pytest.raises(errors.Exists, match=r"data\.cubby"):
        cubbydb.open(path, "c", exclusive=True)
    with cubbydb.open(path) as store:
        assert len(store) == 10


def test_flag_n_begins_anew(path):
    with cubbydb.open(path, "n", size="16M") as store:
        assert len(store) == 0
        assert list(store) == []
    with cubbydb.open(path) as store:
        assert list(store) == []
        assert store.check() == []


@pytest.mark.parametrize("flag", ["c", "n"])
def test_foreign_data_is_overwritten_only_by_force(tmp_path, flag):
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear reader,\n" * 10_000)
    with pytest.raises(errors.Exists, match=r"letter\.txt"):
        cubbydb.open(path, flag)
    assert path.read_bytes() == b"Dear reader,\n" * 10_000
    with cubbydb.open(path, flag, force=True, size="4M") as store:
        store[b"key"] = b"value"
    with cubbydb.open(path) as store:
        assert dict(store.items()) == {b"key": b"value"}


@pytest.mark.parametrize("content", [b"", b"x", b"Dear reader,\n" * 10_000, bytes(1 << 20)])
@pytest.mark.parametrize("flag", ["r", "w"])
def test_what_is_no_store_is_said_to_be_none(tmp_path, content, flag):
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    with pytest.raises(errors.NotAStore, match=r"letter\.txt"):
        cubbydb.open(path, flag)
    assert path.read_bytes() == content


def test_a_directory_is_no_store(tmp_path):
    for flag in "rwcn":
        with pytest.raises(ValueError, match=f"{tmp_path} is a directory"):
            cubbydb.open(tmp_path, flag)


def test_a_file_without_permission_is_a_device_error(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may open everything")
    path = tmp_path / "data.cubby"
    path.touch(0)
    with pytest.raises(PermissionError):
        path.read_bytes()
    with pytest.raises(errors.DeviceError):
        cubbydb.open(path)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.001, 0.0001])
def test_a_truncated_store_is_refused_or_reported_never_misread(path, share):
    pairs = some_pairs(10)
    os.truncate(path, int(path.stat().st_size * share) // 4096 * 4096)
    try:
        with cubbydb.open(path) as store:
            for key, value in pairs.items():
                assert store.get(key) in (None, value)
            store.check()
    except (errors.Corrupt, errors.NotAStore) as error:
        text = str(error)  # refused, which is right too
        assert "data.cubby" in text or "LBA" in text


def flip_a_bit_of(path: Path, content: bytes) -> int:
    """Flip one bit where the store keeps these bytes; returns the LBA.

    The log, in which they may be, too, stands before all blocks.
    """
    middle = content[len(content) // 2 :][:30]  # a large blob may lie in several pieces
    with path.open("r+b") as file:
        offset = file.read().rindex(middle)
        file.seek(offset)
        file.write(bytes([middle[0] ^ 0x10]))
    return offset // 4096


@pytest.mark.parametrize("flag", ["r", "w"])
@pytest.mark.parametrize("size", [60, 3000, 100_000])
def test_a_flipped_bit_is_reported_with_its_lba(path, size, flag):
    value = some_bytes(size, "flipped")
    with cubbydb.open(path, "w") as store:
        store.put_many(some_pairs(3000))
        store[b"flipped"] = value
    lba = flip_a_bit_of(path, value)
    with cubbydb.open(path, flag) as store:
        for call in (lambda: store[b"flipped"], lambda: store.get_many([b"key 1", b"flipped"])):
            with pytest.raises(errors.Corrupt, match=r"LBA [0-9]+"):
                call()
        with pytest.raises(errors.Corrupt, match="LBA"):
            list(store.items())
        damages = store.check()
        assert lba in range(damages[0].lba, damages[0].lba + 1 + size // 4096)
        assert isinstance(damages[0].segment, int)
        assert damages[0].text


def test_more_damages_than_the_first_look_has_room_for_are_all_reported(path, monkeypatch):
    with cubbydb.open(path, "w") as store:
        store.put_many((b"blob %d" % number, some_bytes(3000, number)) for number in range(50))
    for number in range(50):
        flip_a_bit_of(path, some_bytes(3000, number))
    with cubbydb.open(path) as store:
        damages = store.check()
        assert len(damages) >= 50
        monkeypatch.setattr("cubbydb.engine.damage.DAMAGES_FIRST", 7)
        assert store.check() == damages


def test_a_store_without_one_sound_segment_is_corrupt(path):
    content = bytearray(path.read_bytes())
    for begin in range(2 * 4096, len(content), 4096):
        if content[begin : begin + 4096].strip(b"\0"):
            content[begin + 1000] ^= 0x10
    path.write_bytes(content)
    for recover in (False, True):
        with pytest.raises(errors.Corrupt, match=r"data\.cubby"):
            cubbydb.open(path, recover=recover)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"flag": "x"}, "flag is 'r', 'w', 'c' or 'n', not 'x'"),
        ({"flag": "rw"}, "flag is"),
        ({"size": "1G"}, "size is for creating"),
        ({"flag": "w", "fill": 0.5}, "fill is for creating"),
        ({"force": True}, "force is for creating"),
        ({"flag": "c", "size": "1K"}, "the smallest size is 1 MiB"),
        ({"flag": "c", "size": 0}, "the smallest size is 1 MiB"),
        ({"flag": "c", "size": 2**50 + 1}, "size is at most 1 PiB, not 1125899906842625"),
        ({"flag": "c", "size": 2**64}, "size is at most 1 PiB, not 18446744073709551616"),
        ({"flag": "c", "size": -5}, "the smallest size is 1 MiB"),
        ({"flag": "c", "size": "much"}, "a size is a number with K, M, G or T"),
        ({"flag": "c", "size": "1.5G"}, "a size is a number with K, M, G or T"),
        ({"flag": "c", "fill": 0.76}, "fill is 0.10 to 0.75, not 0.76"),
        ({"flag": "c", "fill": float("nan")}, "fill is 0.10 to 0.75, not nan"),
        ({"flag": "n", "exclusive": True}, "exclusive is for flag 'c'"),
        ({"flag": "n", "recover": True}, "recover is for existing stores"),
        ({"flag": "n", "accept_loss": True}, "accept_loss is for existing stores"),
        ({"durability": "disk"}, "a durability is 'power', 'process' or 'none', not 'disk'"),
        ({"durability": ""}, "a durability is"),
        ({"dirty_bytes": 0}, "dirty_bytes is 1 or more, and below 16 EiB, not 0"),
        ({"dirty_bytes": "0"}, "dirty_bytes is 1 or more"),
        ({"dirty_bytes": -1}, "dirty_bytes is 1 or more"),
        ({"dirty_bytes": 2**64}, "dirty_bytes is 1 or more"),
        ({"memory": 0}, "memory is 1 or more"),
        ({"memory": 2**64}, "memory is 1 or more"),
        ({"memory": "much"}, "a size is a number with K, M, G or T"),
        ({"dirty_bytes": "much"}, "a size is a number with K, M, G or T"),
    ],
)
def test_wrong_options_are_value_errors_that_say_what_is_right(tmp_path, options, complaint):
    path = tmp_path / "data.cubby"
    with pytest.raises(ValueError, match=complaint):
        cubbydb.open(path, **options)
    assert not path.exists()


def test_options_of_a_wrong_type_are_type_errors(tmp_path):
    wrongs = [{"size": 1.5}, {"size": True}, {"fill": "0.5"}, {"fill": True}]
    wrongs += [{"durability": 3}, {"durability": None}, {"dirty_bytes": 1.5}]
    for wrong in wrongs:
        with pytest.raises(TypeError):
            cubbydb.open(tmp_path / "data.cubby", "c", **wrong)


@pytest.mark.parametrize("path", ["", b"", "a\0b"])
def test_what_cannot_be_a_path_is_a_value_error(path):
    with pytest.raises(ValueError, match="not a path"):
        cubbydb.open(path, "c")


def test_sizes_are_read_in_powers_of_1024():
    sizes = {"1048576": 1 << 20, "1M": 1 << 20, "3g": 3 << 30, "2 GiB": 2 << 30, "1TB": 1 << 40}
    for text, size in sizes.items():
        assert cubbydb.StoreOptions(flag="c", size=text).size_bytes == size


def test_the_fill_target_is_kept(tmp_path):
    with cubbydb.open(tmp_path / "data.cubby", "c", size="4M", fill=0.3) as store:
        assert store.stats()["fill_percent"] == 30


def test_a_full_store_says_so_and_keeps_what_it_has(tmp_path):
    with cubbydb.open(tmp_path / "data.cubby", "c", size="1M") as store:
        stored = []
        with pytest.raises(errors.Full, match=r"b'key [0-9]+'"):  # noqa: PT012
            for number in range(100_000):
                store[b"key %d" % number] = some_bytes(300, number)
                stored.append(number)
        assert len(stored) >= 3000
        assert len(store) == len(stored)
        for number in stored:
            assert store[b"key %d" % number] == some_bytes(300, number)
        with pytest.raises(errors.Full, match="pairs of this put_many that are stored: "):
            store.put_many((b"many %d" % number, bytes(900)) for number in range(100_000))
        for number in stored:
            del store[b"key %d" % number]
        store.sync()
        store[b"key"] = bytes(1000)


def test_a_device_that_cannot_be_read_is_a_device_error(path):
    with cubbydb.open(f"fault:read=60:{path}") as store:
        with pytest.raises(OSError, match="Input/output error") as caught:  # noqa: PT012
            for _ in range(100):
                store.get(b"key 1")
        assert type(caught.value) is errors.DeviceError
        assert caught.value.errno == errno.EIO


def test_a_device_that_cannot_be_written_is_a_device_error(path):
    store = cubbydb.open(f"fault:write=20:{path}", "w")
    with pytest.raises(errors.DeviceError):  # noqa: PT012
        for number in range(100):
            store[b"key %d" % number] = some_bytes(100)
    with pytest.raises(errors.DeviceError):
        store.close()
    assert store.closed
    store.close()


def test_a_failed_flush_leaves_a_store_to_be_read_until_it_is_reopened(path):
    store = cubbydb.open(f"fault:flush=2:{path}", "w")
    with pytest.raises(errors.DeviceError):  # noqa: PT012
        for number in range(3):
            store[b"new %d" % number] = b"value"
            store.sync()
    with pytest.raises(errors.Poisoned) as caught:
        store[b"new"] = b"value"
    assert caught.value.errno == errno.EIO
    assert store[b"key 1"] == some_bytes(60, 1)
    with pytest.raises(errors.Poisoned):
        store.close()
    with cubbydb.open(path, "w") as store:
        assert store.stats()["recovered"] == 1
        assert len(store) >= 10
        assert store.check() == []


def test_an_unclosed_store_warns_and_is_closed(tmp_path):
    path = tmp_path / "data.cubby"
    store = cubbydb.open(path, "c", size="4M")
    store[b"key"] = b"value"
    with pytest.warns(ResourceWarning, match=r"unclosed store .*data\.cubby"):
        store = None
    with cubbydb.open(path, "w") as store:
        assert store[b"key"] == b"value"
        assert store.stats()["recovered"] == 0


def test_a_scan_keeps_its_store(path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = sum(1 for _ in cubbydb.open(path).scan())
        gc.collect()
    assert count == 10
    assert [type(warning.message) for warning in caught] == [ResourceWarning]


def test_memory_is_for_a_cache_too(tmp_path):
    with cubbydb.open(tmp_path / "data.cubby", "c", size="64M", memory="24M") as store:
        store.put_many((b"%d" % number, b"x" * 100) for number in range(1000))
        assert store.stats()["cache_limit_bytes"] == 24 << 20
    with cubbydb.open(tmp_path / "data.cubby", "w", memory="24M") as store:
        assert len(store) == 1000
        for _ in range(2):
            assert store[b"7"] == b"x" * 100
            assert store.get_many([b"8", b"none"]) == [b"x" * 100, None]
        stat = store.stats()
        assert stat["cache_hits"] == 2
        assert stat["cache_pairs"] == 2
        assert stat["dirty_limit_bytes"] < 24 << 20
        store[b"7"] = b"y"
        del store[b"8"]
        assert (store[b"7"], b"8" in store) == (b"y", False)
    with pytest.raises(ValueError, match="16 MiB for a cache"):
        cubbydb.open(tmp_path / "data.cubby", "w", memory="16M")
    with pytest.raises(ValueError, match="16 MiB for a cache"):
        cubbydb.open(tmp_path / "new.cubby", "c", memory="16M")
    with pytest.raises(ValueError, match="at most 8 TiB"):
        cubbydb.open(tmp_path / "new.cubby", "c", memory="9T")
    assert not (tmp_path / "new.cubby").exists()
