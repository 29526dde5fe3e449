"""A log that is damaged in its middle: named, refused, and opened at one's own risk; and what a
crash leaves at its end, which is no damage.
"""

import json
import re
import signal
import struct
from pathlib import Path

import pytest
from cubby_command import cubby, failed, misused, python, succeeded
from store_samples import some_bytes

import cubbydb
from cubbydb import errors

BLOCK_BYTES = 4096
COUNT = 800
# Where a superblock has what is needed: engine/store/disk_format.h.
GENERATION, WAL_LBA, EXTENTS_LBA, CHECKPOINT_EXTENT, LOG_START = 48, 96, 112, 192, 2248
EXTENT_BLOCKS = 16
LOG_MAGIC = b"CLOG"


def value_of(number: int) -> bytes:
    return some_bytes(100, number)


@pytest.fixture
def path(tmp_path) -> Path:
    """A store whose writer was killed: all its pairs are flushed, and most are in the log alone."""
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="64M") as store:
        store.put_many((b"old %d" % number, value_of(number)) for number in range(50))
    run = python(
        f"""
        import os, random, signal, sys, cubbydb
        store = cubbydb.open(sys.argv[1], "w")
        for number in range({COUNT}):
            value = random.Random(f"100 {{number}}").randbytes(100)
            store.put(b"key %d" % number, value, durability=None if number % 50 else "power")
        store.sync()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
        cwd=tmp_path,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    return path


def u64(block: bytes, offset: int) -> int:
    return int(struct.unpack_from("<Q", block, offset)[0])


def newest_superblock(path: Path) -> bytes:
    with path.open("rb") as file:
        supers = [file.read(BLOCK_BYTES) for _ in range(2)]
    return max(supers, key=lambda block: u64(block, GENERATION))


def checkpoint_offset(path: Path) -> int:
    superblock = newest_superblock(path)
    extent = u64(superblock, CHECKPOINT_EXTENT)
    return (u64(superblock, EXTENTS_LBA) + EXTENT_BLOCKS * extent) * BLOCK_BYTES


def log_blocks(path: Path) -> list[int]:
    """The offsets of the blocks of the log that a recovery reads, in order."""
    superblock = newest_superblock(path)
    lba, start = u64(superblock, WAL_LBA), u64(superblock, LOG_START)
    found = []
    with path.open("rb") as file:
        for index in range(start // BLOCK_BYTES, 1 << 20):  # it has not come round
            offset = (lba + index) * BLOCK_BYTES
            file.seek(offset)
            block = file.read(BLOCK_BYTES)
            if block[8:12] != LOG_MAGIC or u64(block, 24) != index * BLOCK_BYTES:
                return found
            found.append(offset)
    raise AssertionError("the log has no end")


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def damage_the_middle(path: Path) -> int:
    """Flip a bit in the middle of the log; returns the LBA."""
    blocks = log_blocks(path)
    assert len(blocks) > 10
    middle = blocks[len(blocks) // 2]
    flip(path, middle + 1000)
    return middle // BLOCK_BYTES


@pytest.mark.parametrize("options", [{}, {"flag": "w"}, {"recover": True}])
def test_damage_in_the_middle_of_the_log_is_named_and_the_store_refused(path, options):
    lba = damage_the_middle(path)
    before = path.read_bytes()
    with pytest.raises(errors.Corrupt) as caught:
        cubbydb.open(path, **options)
    text = str(caught.value)
    assert str(path) in text
    assert f"LBA {lba}" in text
    assert len(re.findall(r"LSN \d+", text)) == 2  # where it is, and up to where all was flushed
    assert path.read_bytes() == before


def pairs_but_for_some(store: cubbydb.Store) -> int:
    """Check that what is there is true; returns how many pairs are lost."""
    found = dict(store.items())
    for number in range(50):
        assert found.pop(b"old %d" % number) == value_of(number)
    for key, value in found.items():
        assert value == value_of(int(key.split()[1]))
    return COUNT - len(found)


def test_with_accept_loss_all_but_what_the_damaged_part_held_is_there(path):
    lba = damage_the_middle(path)
    before = path.read_bytes()
    with cubbydb.open(path, accept_loss=True) as store:
        lost = pairs_but_for_some(store)
        assert 1 <= lost <= 40  # what one block holds
        assert store.stats()["recovered"] == 1
        (damage,) = store.check()
        assert (damage.lba, damage.segment) == (lba, None)
        assert "LSN" in damage.text
    assert path.read_bytes() == before
    with pytest.raises(errors.Corrupt):
        cubbydb.open(path, "w")
    with cubbydb.open(path, "w", accept_loss=True) as store:
        assert pairs_but_for_some(store) == lost
        assert store.check() == []
        store[b"new"] = b"value"
    with cubbydb.open(path) as store:  # from now on without a word
        assert store[b"new"] == b"value"
        assert store.stats()["recovered"] == 0
        assert len(store) == 50 + COUNT - lost + 1
        assert store.check() == []


def test_accept_loss_of_a_sound_store_loses_nothing(path):
    for flag in "rw":
        with cubbydb.open(path, flag, accept_loss=True) as store:
            assert pairs_but_for_some(store) == 0
            assert store.check() == []


def test_a_block_of_the_log_that_is_missing_before_what_was_flushed_is_damage(path):
    with path.open("r+b") as file:
        file.seek(log_blocks(path)[10])
        file.write(bytes(BLOCK_BYTES))
    with pytest.raises(errors.Corrupt, match=r"LSN \d+"):
        cubbydb.open(path)


def test_what_a_crash_has_torn_off_the_end_of_the_log_is_no_damage(tmp_path):
    path = tmp_path / "data.cubby"
    cubbydb.open(path, "c", size="64M").close()
    run = python(
        """
        import os, signal, sys, cubbydb
        store = cubbydb.open(sys.argv[1], "w")
        store.put(b"first", b"value", durability="power")
        for number in range(800):
            store.put(b"key %d" % number, bytes(100))  # in the page cache, and not flushed
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
        cwd=tmp_path,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    blocks = log_blocks(path)
    with path.open("r+b") as file:  # as a power cut may leave them
        for offset in blocks[len(blocks) // 2 :: 2]:
            file.seek(offset)
            file.write(bytes(BLOCK_BYTES))
    with cubbydb.open(path, "w") as store:
        assert store[b"first"] == b"value"
        numbers = sorted(int(key.split()[1]) for key in store if key != b"first")
        assert 100 < len(numbers) < 800
        assert numbers == list(range(len(numbers)))  # a tail is lost, and nothing before it
        assert store.check() == []


# The command -------------------------------------------------------------------------------------


def test_the_command_refuses_such_a_store_in_one_sentence(path):
    lba = damage_the_middle(path)
    for words in (
        ("check", path),
        ("check", path, "--repair"),
        ("dump", path),
        ("stat", path),
        ("get", path, "key 1"),
        ("scan", path),
        ("put", path, "key", "value"),
        ("compact", path),
    ):
        assert failed(cubby(*words), 4, f"LBA {lba}", "LSN")


def test_the_command_opens_it_with_accept_loss(path):
    lba = damage_the_middle(path)
    check = cubby("check", path, "--accept-loss")
    assert (check.exit_code, check.stderr) == (4, "")
    assert re.fullmatch(rf"LBA {lba}: the log[^\n]+\n", check.stdout)
    dump = cubby("dump", path, "--accept-loss")
    assert dump.exit_code == 0
    assert COUNT + 10 <= len(dump.stdout.splitlines()) < COUNT + 50
    figures = json.loads(cubby("stat", path, "--accept-loss", "--json").stdout)
    assert figures["recovered"] == 1
    assert "cubby_pairs" in cubby("stat", path, "--accept-loss", "--prometheus").stdout
    assert len(cubby("scan", path, "--accept-loss", "--keys-only").stdout.splitlines()) > COUNT
    assert cubby("get", path, "old 1", "--accept-loss").stdout_bytes == value_of(1)
    assert misused(cubby("stat", path, "--accept-loss", "--watch", "1"), "--accept-loss")
    # All this has changed nothing; check --repair does.
    assert failed(cubby("check", path), 4, "LSN")
    assert cubby("check", path, "--repair", "--accept-loss").exit_code == 0
    assert succeeded(cubby("check", path))
    assert json.loads(cubby("stat", path, "--json").stdout)["recovered"] == 0


def test_stat_says_what_opening_has_recovered(path):
    lines = [line.split() for line in cubby("stat", path).stdout.splitlines()]
    assert ["Recovered", "the", "last", "stop", "was", "not", "clean"] in lines
    (pairs,) = [int(line[-1]) for line in lines if line[:4] == ["pairs", "from", "the", "log"]]
    assert 0 < pairs <= COUNT
    assert any(line[:1] == ["took"] and line[-1] == "ms" for line in lines)
    figures = json.loads(cubby("stat", path, "--json").stdout)
    assert figures["replayed_pairs"] == figures["dirty_pairs"] == pairs
    assert figures["replayed_records"] >= pairs
    assert figures["replayed_bytes"] > 0
    assert figures["replay_ns"] > 0
    assert figures["torn_blocks"] == figures["lost_pairs"] == 0


# Repair ------------------------------------------------------------------------------------------


def test_repair_of_a_sound_store_does_nothing(tmp_path):
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="4M") as store:
        store[b"key"] = b"value"
        assert store.repair() == []
    result = cubby("check", path, "--repair", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"pairs": 1, "damages": [], "repairs": []}
    assert succeeded(cubby("check", path, "--repair"))


@pytest.mark.parametrize("lba", [0, 1])
def test_a_damaged_superblock_is_repaired_from_its_copy(tmp_path, lba):
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="4M") as store:
        store[b"key"] = b"value"
    flip(path, lba * BLOCK_BYTES + 100)
    result = cubby("check", path)
    assert result.exit_code == 4
    assert re.fullmatch(rf"LBA {lba}: superblock {lba} is damaged[^\n]+\n", result.stdout)
    # Opened to be written it is recovered, which writes both superblocks anew.
    assert cubby("check", path, "--repair").exit_code == 0
    assert succeeded(cubby("check", path))
    with cubbydb.open(path) as store:
        assert store.stats()["recovered"] == 0
        assert dict(store.items()) == {b"key": b"value"}


def test_a_damaged_checkpoint_is_repaired_from_the_blocks_of_the_store(tmp_path):
    path = tmp_path / "data.cubby"
    pairs = {b"key %d" % number: value_of(number) for number in range(100)}
    with cubbydb.open(path, "c", size="4M") as store:
        store.put_many(pairs)
    flip(path, checkpoint_offset(path) + 100)
    assert failed(cubby("check", path), 4, "checkpoint block", "LBA")
    result = cubby("check", path, "--repair")
    assert (result.exit_code, result.stdout) == (0, "")
    assert re.fullmatch(
        r"cubby: [^\n]+ checkpoint block [^\n]+; rebuilt from the blocks of the store\n",
        result.stderr,
    )
    assert succeeded(cubby("check", path))
    with cubbydb.open(path) as store:
        assert dict(store.items()) == pairs


def test_what_cannot_be_repaired_is_left_and_named(tmp_path):
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="4M") as store:
        store.put_many((b"key %d" % number, value_of(number)) for number in range(100))
        assert len(store) == 100
        lba = store.inspect_key(b"key 7").lba
    flip(path, lba * BLOCK_BYTES + 100)
    before = path.stat().st_mtime_ns
    result = cubby("check", path)
    assert result.exit_code == 4
    assert path.stat().st_mtime_ns == before
    result = cubby("check", path, "--repair")
    assert result.exit_code == 4
    assert f"LBA {lba}, segment 0: " in result.stdout
    assert "repaired" not in result.stdout
