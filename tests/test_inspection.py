"""Where keys are, and what blocks and segments hold: Store.inspect_... and cubby inspect."""

import base64
import dataclasses
import json
import random
import re
from pathlib import Path

import pytest
from cubby_command import cubby

import cubbydb
from cubbydb.blockdev import BLOCK_BYTES, BlockDevice
from cubbydb.engine.inspection import BlockKind

SIZES = (90, 400, 700, 1500, 30_000, 200_000)


def pairs_of(count: int) -> dict[bytes, bytes]:
    numbers = random.Random(3)
    return {
        b"key %d" % number: numbers.randbytes(SIZES[number % 6] if number % 50 < 6 else 350)
        for number in range(count)
    }


PAIRS = pairs_of(2500) | {b"\xff" * 300: b"long key", b"k" * 1000: b"v" * 5000, b"empty": b""}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A store with pairs of all sizes in several segments."""
    path = tmp_path_factory.mktemp("inspection") / "data.cubby"
    with cubbydb.open(path, "c", size="16M", fill=0.7) as store:
        store.put_many(PAIRS)
    return path


@pytest.fixture
def store(path):
    with cubbydb.open(path) as store:
        yield store


def test_every_pair_is_in_the_block_and_at_the_place_that_is_told(store):
    places = set()
    for key, value in PAIRS.items():
        location = store.inspect_key(key)
        places.add(location.place)
        block = store.inspect_lba(location.lba)
        assert (location.key, location.value_size) == (key, len(value))
        assert block.kind == {"home": "home", "displaced": "spill"}[location.place]
        assert block.segment.segment == location.segment
        assert block.segment.home_count == location.home_count
        (pair,) = [each for each in block.pairs if each.offset == location.pair_offset]
        assert (pair.encoded_size, pair.value_size) == (location.encoded_size, len(value))
        assert pair.key_size == len(key)
        if location.blob is None:
            assert (pair.key, pair.value, pair.blob) == (key, value, None)
        else:
            assert pair.key == (key if len(key) <= 128 else None)
            assert pair.value is None
            assert dataclasses.replace(location.blob, blocks=None) == pair.blob
            assert location.blob.blocks >= (len(key) + len(value)) / BLOCK_BYTES
            kind = "blob" if len(key) + len(value) <= 16 * BLOCK_BYTES else "blob index"
            assert store.inspect_lba(location.blob.lba).kind == kind
    assert places == {"home", "displaced"}


def test_a_displaced_pair_is_listed_by_its_home(store):
    locations = [store.inspect_key(key) for key in PAIRS]
    displaced = [each for each in locations if each.place == "displaced"]
    for location in displaced:
        home = store.inspect_lba(location.home_lba)
        entries = [(entry.fingerprint, entry.spill_block) for entry in home.displaced]
        assert (location.fingerprint, location.spill_block) in entries
        assert location.lba == (
            location.home_lba - location.home_block + location.home_count + location.spill_block
        )
    assert all(each.spill_block is None for each in locations if each.place == "home")


def test_a_get_makes_the_reads_that_are_told(path):
    for key in random.Random(4).sample(sorted(PAIRS), 200):
        with cubbydb.open(path) as store:
            told = store.inspect_key(key).device_reads
            assert store.stats()["gets"] == 0
            assert store[key] == PAIRS[key]
            assert store.stats()["device_reads_per_get"] == told


def test_an_absent_key_is_told_where_it_would_be(store):
    location = store.inspect_key(b"none")
    assert (location.place, location.lba, location.device_reads) == ("absent", location.home_lba, 1)
    assert location.value_size is None
    assert location.pair_offset is None
    assert 0 <= location.home_block < location.home_count


def test_the_place_does_not_depend_on_who_opened_the_store(path, store):
    with cubbydb.open(path) as another:
        for key in list(PAIRS)[:50]:
            assert another.inspect_key(key) == store.inspect_key(bytearray(key))


def test_a_pair_that_waits_to_be_written_back_is_told_to_be_dirty(tmp_path):
    with cubbydb.open(tmp_path / "new.cubby", "n", size="64M") as store:
        store[b"key"] = b"value"
        dirty = store.inspect_key(b"key")
        assert (dirty.place, dirty.lba, dirty.pair_offset) == ("dirty", dirty.home_lba, None)
        assert (dirty.value_size, dirty.device_reads) == (5, 0)
        assert len(store) == 1  # writes everything back
        assert store.inspect_key(b"key").place == "home"
        del store[b"key"]
        assert store.inspect_key(b"key").place == "absent"


def test_every_block_has_a_kind(store):
    stat = store.stats()
    blocks = [store.inspect_lba(lba) for lba in range(stat["logical_bytes"] // BLOCK_BYTES)]
    kinds = [block.kind for block in blocks]
    assert [block.lba for block in blocks] == list(range(len(blocks)))
    assert all(block.damage is None for block in blocks)
    assert kinds[:2] == ["superblock"] * 2
    assert kinds.count("home") == stat["home_blocks"]
    assert kinds.count("spill") == stat["spill_blocks"]
    assert kinds.count("quarantined") == 0
    assert set(kinds) == set(BlockKind.__args__) - {"quarantined"}
    assert [block.is_current for block in blocks[:2]] in ([True, False], [False, True])
    assert {block.is_clean for block in blocks[:2]} == {True, False}
    assert {block.block_count for block in blocks[:2]} == {len(blocks)}
    checkpoint = [block.checkpoint_block for block in blocks if block.kind == "checkpoint"]
    assert checkpoint == list(range(len(checkpoint)))
    pairs = sum(len(block.pairs) + len(block.displaced) for block in blocks if block.kind == "home")
    assert pairs == len(PAIRS)
    for block in blocks:
        assert len(block.content) == BLOCK_BYTES
        if block.kind in ("blob", "blob index"):
            assert block.granules[(block.lba - blob_phase(store)) % 16]


def blob_phase(store: cubbydb.Store) -> int:
    """The LBA of a segment's first block: extents are counted from there."""
    return store.inspect_segment(0).lba


def test_segments_are_told_as_a_whole(store):
    count = store.inspect_segment(0).segment_count
    assert count == store.stats()["segments"] > 1
    pairs = 0
    for number in range(count):
        segment = store.inspect_segment(number)
        assert (segment.segment, segment.segment_count) == (number, count)
        assert len(segment.blocks) == segment.extents * 16
        assert segment.home_count + segment.spill_count == len(segment.blocks)
        homes = segment.blocks[: segment.home_count]
        spills = segment.blocks[segment.home_count :]
        assert {block.kind for block in homes} == {"home"}
        assert {block.kind for block in spills} == {"spill"}
        listed = sum(block.displaced_count for block in spills)
        assert sum(block.displaced_count for block in homes) == listed
        pairs += sum(block.pair_count + block.displaced_count for block in homes)
        assert 0.2 < segment.fill < 0.8
        alone = store.inspect_lba(segment.lba).segment
        assert alone == segment.blocks[0]
    assert pairs == len(PAIRS)


def test_what_is_not_there_is_a_value_error(store):
    last = store.stats()["logical_bytes"] // BLOCK_BYTES - 1
    assert store.inspect_lba(last).lba == last
    for lba in (last + 1, (1 << 64) - 1):
        with pytest.raises(ValueError, match=f"0 to {last}"):
            store.inspect_lba(lba)
    with pytest.raises(ValueError, match="segments are 0 to"):
        store.inspect_segment(1 << 40)
    for number in (-1, 1 << 64):
        with pytest.raises(ValueError, match="0 or more, and below 2 to the 64"):
            store.inspect_lba(number)
        with pytest.raises(ValueError, match="0 or more, and below 2 to the 64"):
            store.inspect_segment(number)
    for wrong in ("1", 1.0, True, None):
        with pytest.raises(TypeError):
            store.inspect_lba(wrong)
        with pytest.raises(TypeError):
            store.inspect_segment(wrong)
    with pytest.raises(ValueError, match="this one 0"):
        store.inspect_key(b"")
    with pytest.raises(TypeError):
        store.inspect_key("text")


def test_results_cannot_be_changed_and_say_what_they_are(store):
    location = store.inspect_key(b"empty")
    with pytest.raises(dataclasses.FrozenInstanceError):
        location.segment = 1
    assert "place='home'" in repr(location)
    assert len(repr(store.inspect_lba(location.lba))) < BLOCK_BYTES  # no content in it


def test_after_closing_nothing_is_told(path):
    store = cubbydb.open(path)
    store.close()
    for call in (store.inspect_lba, store.inspect_segment):
        with pytest.raises(cubbydb.errors.Closed):
            call(0)
    with pytest.raises(cubbydb.errors.Closed):
        store.inspect_key(b"key")


def damage(path: Path, lba: int, offset: int = 100) -> None:
    with path.open("r+b") as file:
        file.seek(lba * BLOCK_BYTES + offset)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


@pytest.fixture
def damaged(tmp_path):
    """A store whose home block of the pair b"a" is damaged, and that block's LBA."""
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="4M") as store:
        store.put_many({b"a": b"1" * 300, b"b": b"2"})
        assert len(store) == 2  # which has them written to their places
        lba = store.inspect_key(b"a").lba
    damage(path, lba)
    return path, lba


def test_a_damaged_block_is_described(damaged):
    path, lba = damaged
    with cubbydb.open(path) as store:
        block = store.inspect_lba(lba)
        assert (block.kind, block.damage) == ("home", "its checksum does not match")
        assert (block.pairs, block.displaced) == ((), ())
        segment = store.inspect_segment(block.segment.segment)
        assert [each.lba for each in segment.blocks if each.damage] == [lba]
        with pytest.raises(cubbydb.errors.Corrupt, match=f"LBA {lba}"):
            store.inspect_key(b"a")


# cubby inspect -----------------------------------------------------------------------------------


def shown(*words, code: int = 0) -> str:
    result = cubby("inspect", *words)
    assert (result.exit_code, result.stderr) == (code, "")
    assert "\x1b" not in result.stdout
    return result.stdout


def test_a_key_is_shown_with_its_block_and_the_pair_is_marked(path, store):
    for key in ("key 7", "key 0", "key 3"):
        location = store.inspect_key(key.encode())
        text = shown(path, "key", key)
        assert text.startswith(f"key {key} of {path}\n")
        for words in (
            f"{location.hash:032x}",
            f"{location.home_block} of {location.home_count}, LBA {location.home_lba}",
            f"{location.value_size:,} bytes",
        ):
            assert words in text
        (bar,) = re.findall(r"\[([#:=\-*.]{64})\]", text)
        begin = location.pair_offset // 64
        end = (location.pair_offset + location.encoded_size - 1) // 64 + 1
        assert [index for index, cell in enumerate(bar) if cell == "*"] == list(range(begin, end))
        (row,) = re.findall(r"^ +\* +(.*)$", text, re.MULTILINE)
        assert row.split()[:2] == [f"{location.pair_offset:,}", f"{location.encoded_size:,}"]


def test_places_are_told_in_words(path, store):
    locations = {key: store.inspect_key(key) for key in PAIRS if key.isascii()}
    displaced = next(each for each in locations.values() if each.place == "displaced")
    text = shown(path, "key", displaced.key.decode())
    assert f"displaced to spill block {displaced.spill_block}, LBA {displaced.lba}" in text
    assert f"fingerprint {displaced.fingerprint:04x}" in text
    home = shown(path, "lba", str(displaced.home_lba))
    assert f"{displaced.fingerprint:04x} in spill {displaced.spill_block}" in home
    blob = next(each for each in locations.values() if each.blob)
    assert f"LBA {blob.blob.lba}, {blob.blob.blocks} blocks" in shown(
        path, "key", blob.key.decode()
    )


def test_an_absent_key_is_exit_code_1_and_its_place(path, store):
    text = shown(path, "key", "none", code=1)
    assert "absent" in text
    assert f"LBA {store.inspect_key(b'none').home_lba}" in text
    assert json.loads(shown(path, "key", "none", "--json", code=1))["place"] == "absent"


def test_a_binary_key_is_given_and_shown_as_text(path):
    text = shown(path, "key", "ff" * 300, "--key-encoding", "hex")
    assert text.startswith("key " + r"\xff" * 10 + "...")
    assert "(in the blob)" not in text  # it is short enough with its value to stand in the block


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("superblock", "the current one"),
        ("unused", "no part of anything"),
        ("log", "in the room for the write-ahead log"),
        ("blob", "in a blob"),
        ("blob index", "index block of a blob"),
        ("checkpoint", "in the checkpoint, block"),
        ("free", "free"),
        ("home", "home block"),
        ("spill", "spill block"),
    ],
)
def test_a_block_is_shown_as_what_it_is(path, store, kind, words):
    lbas = range(store.stats()["logical_bytes"] // BLOCK_BYTES)
    blocks = (store.inspect_lba(lba) for lba in lbas)
    block = next(each for each in blocks if each.kind == kind and each.is_current is not False)
    text = shown(path, "lba", str(block.lba))
    assert f"LBA {block.lba}, " in text
    assert words in text
    assert ("zeros" in text) == (kind in ("home", "spill"))


def test_a_segment_is_shown_block_by_block(path, store):
    segment = store.inspect_segment(1)
    text = shown(path, "segment", "1")
    assert f"1 of {segment.segment_count}" in text
    assert f"LBA {segment.lba} to {segment.lba + len(segment.blocks) - 1}" in text
    rows = re.findall(r"^ +(\d+) +\[([=.]{32})\] +([\d,]+) +(\d+) +(\d+)", text, re.MULTILINE)
    assert [int(row[2].replace(",", "")) for row in rows] == [
        block.used_bytes for block in segment.blocks
    ]
    assert [int(row[4]) for row in rows] == [block.displaced_count for block in segment.blocks]


def test_json_has_what_is_shown_and_no_values(path, store):
    location = store.inspect_key(b"key 4")
    fields = json.loads(shown(path, "key", "key 4", "--json"))
    assert fields["k"] == "key 4"
    assert int(fields["hash"], 16) == location.hash
    assert fields["blob"]["checksum"] == f"{location.blob.checksum:016x}"
    assert fields["block"]["lba"] == location.lba
    assert json.loads(shown(path, "lba", str(location.lba), "--json")) == fields["block"]
    sizes = [pair["value_size"] for pair in fields["block"]["pairs"]]
    assert sizes == [pair.value_size for pair in store.inspect_lba(location.lba).pairs]
    assert "content" not in fields["block"]
    binary = json.loads(shown(path, "key", "ff" * 300, "--key-encoding", "hex", "--json"))
    assert base64.b64decode(binary["k_b64"]) == b"\xff" * 300
    segment = json.loads(shown(path, "segment", "0", "--json"))
    assert segment == json.loads(json.dumps(dataclasses.asdict(store.inspect_segment(0))))


def test_a_damaged_block_is_exit_code_4_and_described(damaged):
    path, lba = damaged
    assert "its checksum does not match" in shown(path, "lba", str(lba), code=4)
    assert json.loads(shown(path, "lba", str(lba), "--json", code=4))["damage"]
    assert "damaged: its checksum does not match" in shown(path, "segment", "0", code=4)
    result = cubby("inspect", path, "key", "a")
    assert (result.exit_code, result.stdout) == (4, "")
    assert f"LBA {lba} is damaged" in result.stderr


def test_a_store_on_an_emulated_drive_is_shown_too(tmp_path):
    drive = f"csd:{tmp_path}/drive"
    BlockDevice.create(drive, physical="4M", logical="16M").close()
    with cubbydb.open(drive, "c") as store:
        store[b"key"] = b"value"
    assert "at home" in shown(drive, "key", "key")


def test_inspecting_writes_nothing_not_even_after_an_unclean_stop(tmp_path):
    path = tmp_path / "data.cubby"
    copy = tmp_path / "copy.cubby"
    with cubbydb.open(path, "c", size="4M") as store:
        store.put_many(pairs_of(300))
        copy.write_bytes(path.read_bytes())  # as the death of the process would leave it
    before = copy.read_bytes()
    assert "at home" in shown(copy, "key", "key 7")
    assert "closed in order  no" in re.sub(" {2,}", "  ", shown(copy, "lba", "1"))
    shown(copy, "segment", "0")
    assert copy.read_bytes() == before


def test_a_pair_that_expires_says_when(tmp_path):
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="1M") as store:
        store.put_until(b"long", b"value", 4_102_444_800_000)
        store.put_until(b"short", b"value", 1_000)
        store.put(b"ever", b"value")
        assert len(store) == 3  # which has them written to their places
        places = {key: store.inspect_key(key).home_lba for key in (b"long", b"short", b"ever")}
        found = {pair.key: pair for lba in places.values() for pair in store.inspect_lba(lba).pairs}
    assert found[b"long"].expires_ms == 4_102_444_800_000
    assert found[b"ever"].expires_ms is None
    assert "expires 2100-01-01 00:00:00 UTC" in cubby("inspect", path, "key", "long").stdout
    fields = json.loads(cubby("inspect", path, "key", "long", "--json").stdout)
    assert [pair["expires_ms"] for pair in fields["block"]["pairs"] if pair.get("k") == "long"] == [
        4_102_444_800_000
    ]
    absent = cubby("inspect", path, "key", "short")
    assert absent.exit_code == 1
    assert "expired 1970-01-01 00:00:01 UTC" in absent.stdout
