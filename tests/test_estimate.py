"""cubby device estimate: what data of known properties would take."""

import base64
import json
import random
import re
from pathlib import Path

import pytest
from cubby_command import cubby, failed, misused, run

import cubbydb
from cubbydb.blockdev import BLOCK_BYTES, BlockDevice
from cubbydb.cli import fill_model
from cubbydb.cli.estimate import detect_format
from cubbydb.cli.fill_model import (
    CANDIDATES,
    FILLS,
    FillRow,
    Pair,
    Sample,
    Scale,
    choose_fill,
    encode_pair,
    poisson,
)

ROOT = Path(__file__).parent.parent
SCALE = Scale(64, 1)


def write_jsonl(path: Path, values: list[bytes]) -> Path:
    lines = [
        b'{"k": "key %d", "v_b64": "%s"}\n' % (number, base64.b64encode(value))
        for number, value in enumerate(values)
    ]
    path.write_bytes(b"".join(lines))
    return path


def json_like(number: int, numbers: random.Random) -> bytes:
    """A value as applications have them: much is the same in all."""
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    fields = {
        "id": number,
        "user": f"user{numbers.randrange(10**6)}@example.com",
        "created": f"2026-{numbers.randrange(1, 13):02}-{numbers.randrange(1, 29):02}T00:00:00Z",
        "active": numbers.random() < 0.5,
        "tags": numbers.sample(words, 4),
        "description": " ".join(numbers.choices(words, k=30)),
    }
    return json.dumps(fields).encode()


def estimate(*words: str | Path) -> dict:
    result = cubby("device", "estimate", *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def row(told: dict, fill: float) -> dict:
    return next(row for row in told["rows"] if row["fill"] == fill)


# Data of known properties ------------------------------------------------------------------------


def test_random_pairs_do_not_shrink_and_low_fill_is_free(tmp_path):
    numbers = random.Random(1)
    path = write_jsonl(tmp_path / "data", [numbers.randbytes(400) for _ in range(3000)])
    told = estimate(path, "--sample", "2000")
    assert (told["format"], told["pairs"], told["sampled"]) == ("jsonl", 3000, 2000)
    assert told["ratio"] == pytest.approx(1.0, abs=0.03)
    assert told["block_ratio"] is None
    assert told["fill"] == 0.40
    assert row(told, 0.90)["stored_bytes_per_pair"] == pytest.approx(415, abs=10)
    assert row(told, 0.40)["relative"] < 1.05
    assert row(told, 0.50)["logical_by_physical"] == pytest.approx(2.0, abs=0.15)
    assert told["rewritten_per_byte"] == 2.3


def test_half_zeros_shrink_by_almost_two(tmp_path):
    numbers = random.Random(2)
    values = [numbers.randbytes(200) + bytes(200) for _ in range(3000)]
    told = estimate(write_jsonl(tmp_path / "data", values))
    assert told["ratio"] == pytest.approx(1.9, abs=0.1)
    assert told["fill"] == 0.50  # at 0.40 a drive that shows 4 times its size would be full first
    assert row(told, 0.40)["logical_by_physical"] > 4 > row(told, 0.50)["logical_by_physical"]


def test_redundancy_between_pairs_asks_for_a_higher_fill(tmp_path):
    numbers = random.Random(3)
    values = [json_like(number, numbers) for number in range(5000)]
    told = estimate(write_jsonl(tmp_path / "data", values))
    assert 2 < told["ratio"] < 4
    assert told["fill"] >= 0.60
    relative = [row["relative"] for row in told["rows"]]
    assert relative == sorted(relative, reverse=True)
    assert relative[-1] == 1
    assert 1.3 < relative[0] < 3
    assert [row["fill"] for row in told["rows"]] == list(FILLS)
    for this in told["rows"]:
        mean = 4032 / told["record_bytes"]
        assert this["pairs_per_block"] == pytest.approx(this["fill"] * mean, rel=0.05)


def test_the_estimate_is_what_a_store_takes(tmp_path):
    numbers = random.Random(4)
    values = [json_like(number, numbers) for number in range(6000)]
    told = estimate(write_jsonl(tmp_path / "data", values))
    name = f"csd:{tmp_path}/drive.csd"
    BlockDevice.create(name, physical="64M").close()
    for fill in (0.40, 0.75):
        with cubbydb.open(name, "n", fill=fill, force=True) as store:
            store.put_many((b"key %d" % number, value) for number, value in enumerate(values))
            stat = store.stats()
        with BlockDevice.open(name, read_only=True) as device:
            physical = device.usage().physical_bytes
        real_fill = stat["pair_bytes"] / (stat["home_blocks"] * 4032)
        rows = sorted(told["rows"], key=lambda row: abs(row["fill"] - real_fill))
        low, high = sorted(row["stored_bytes_per_pair"] for row in rows[:2])
        assert 0.9 * low < physical / len(values) < 1.15 * high


def test_large_pairs_take_blocks_of_their_own(tmp_path):
    numbers = random.Random(5)
    path = write_jsonl(tmp_path / "data", [numbers.randbytes(5000) for _ in range(400)])
    told = estimate(path)
    assert told["record_bytes"] < 40
    for this in told["rows"]:
        assert 5000 < this["stored_bytes_per_pair"] < 5500
    zeros = write_jsonl(tmp_path / "zeros", [bytes(50_000) for _ in range(400)])
    assert row(estimate(zeros), 0.75)["stored_bytes_per_pair"] < 300


def test_unit_and_level_count(tmp_path):
    numbers = random.Random(6)
    values = [json_like(number, numbers) for number in range(2000)]
    path = write_jsonl(tmp_path / "data", values)
    usual, coarse = estimate(path), estimate(path, "--unit", "4096")
    assert row(coarse, 0.40)["stored_bytes_per_pair"] > row(usual, 0.40)["stored_bytes_per_pair"]
    assert (coarse["unit"], usual["unit"]) == (4096, 64)
    assert estimate(path, "--level", "9")["ratio"] > usual["ratio"]


# Files and formats -------------------------------------------------------------------------------


def test_an_answer_repeats(tmp_path):
    numbers = random.Random(7)
    path = write_jsonl(tmp_path / "data", [json_like(n, numbers) for n in range(3000)])
    (tmp_path / "raw").write_bytes(numbers.randbytes(1 << 20))
    for words in ([path, "--sample", "500"], [tmp_path / "raw", "--sample", "500"]):
        assert estimate(*words) == estimate(*words)


def test_raw_data_are_cut_into_blocks_and_pairs_and_that_is_said(tmp_path):
    numbers = random.Random(8)
    path = tmp_path / "raw"
    path.write_bytes(b"".join(numbers.randbytes(64) + bytes(64) for _ in range(30_000)))
    result = cubby("device", "estimate", path, "--json")
    assert result.stderr == "cubby: note: taken as raw data, cut into pairs of 400 bytes\n"
    told = json.loads(result.stdout)
    assert told["format"] == "raw"
    assert told["block_ratio"] == pytest.approx(1.9, abs=0.1)
    assert 1.6 < told["ratio"] < told["block_ratio"]
    assert told["record_bytes"] == pytest.approx(403, abs=2)
    said = cubby("device", "estimate", path, "--format", "raw", "--pair-size", "100", "--json")
    assert said.stderr == ""
    assert json.loads(said.stdout)["record_bytes"] == pytest.approx(102, abs=2)


def test_a_package_index_is_recognised(tmp_path):
    numbers = random.Random(9)
    stanza = b"Package: sample-%d\nVersion: 1.%d\nDescription: x\n y %s\n"
    path = tmp_path / "Packages"
    stanzas = [stanza % (n, n, numbers.randbytes(100).hex().encode()) for n in range(1000)]
    path.write_bytes(b"\n".join(stanzas))
    assert estimate(path)["format"] == "deb822"
    assert estimate(path)["pairs"] == 1000
    result = cubby(
        "device", "estimate", "-", "--format", "deb822", "--json", stdin=path.read_bytes()
    )
    assert json.loads(result.stdout) == estimate(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'\n\n{"k": "a", "v": "b"}\n{"broken', "jsonl"),
        (b"\nPackage: a\nVersion: 1\n", "deb822"),
        (b"Version: 1\n", "raw"),
        (b'{"name": "x"}\n', "raw"),
        (b"", "raw"),
        (b"\x00" * 10000, "raw"),
        (b"key,value\n1,2\n", "raw"),
    ],
)
def test_formats_are_told_by_their_beginning(tmp_path, content, expected):
    (tmp_path / "file").write_bytes(content)
    assert detect_format(str(tmp_path / "file")) == expected


@pytest.mark.parametrize("name", ["csv", "tsv", "mdb", "jsonl"])
def test_every_format_that_is_dumped_can_be_looked_at(tmp_path, name):
    store = tmp_path / "data.cubby"
    with cubbydb.open(store, "c", size="16M") as it:
        it.put_many((b"key %d" % number, b"value %d" % number * 20) for number in range(500))
    dumped = tmp_path / f"data.{name}"
    assert cubby("dump", store, "--format", name, "--output", dumped).exit_code == 0
    words = ["--format", name] if name in ("csv", "tsv") else []
    assert estimate(dumped, *words)["pairs"] == 500


def test_several_files_are_one_sample(tmp_path):
    numbers = random.Random(10)
    files = [
        write_jsonl(tmp_path / name, [numbers.randbytes(size) for _ in range(1000)])
        for name, size in (("small", 100), ("large", 900))
    ]
    told = estimate(*files, "--sample", "1000")
    assert told["pairs"] == 2000
    assert told["record_bytes"] == pytest.approx(512, rel=0.1)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(numbers.randbytes(300_000))
    assert estimate(tmp_path / "a", tmp_path / "b")["format"] == "raw"
    mixed = cubby("device", "estimate", files[0], tmp_path / "a")
    assert misused(mixed, "several formats", "small is jsonl", "a is raw", "--format")


def test_few_pairs_are_said_to_say_little(tmp_path):
    path = write_jsonl(tmp_path / "data", [b"value"] * 3)
    result = cubby("device", "estimate", path, "--json")
    assert result.stderr == "cubby: note: 3 pairs say little\n"
    assert json.loads(result.stdout)["pairs"] == 3


def test_people_get_a_table_and_a_sentence(tmp_path):
    numbers = random.Random(11)
    path = write_jsonl(tmp_path / "data", [numbers.randbytes(400) for _ in range(1000)])
    result = cubby("device", "estimate", path)
    assert (result.exit_code, result.stderr) == (0, "")
    for fill in FILLS:
        assert re.search(rf"^ +{fill:.2f}( +[0-9.]+){{4}} *$", result.stdout, re.MULTILINE)
    assert "fill to choose: 0.40" in result.stdout
    assert "2.3 bytes are rewritten per byte put" in result.stdout
    assert "\x1b" not in result.stdout
    assert run("device", "estimate", path).stdout == result.stdout


# What cannot be estimated ------------------------------------------------------------------------


def test_bad_input_is_named_with_its_line(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b'{"k": "a", "v": "b"}\n{"k": 5}\n')
    assert failed(cubby("device", "estimate", path), 2, f"{path}:2: ")
    (tmp_path / "empty").touch()
    result = cubby("device", "estimate", tmp_path / "empty")
    assert failed(result, 2, "less than a block")
    result = cubby("device", "estimate", tmp_path / "empty", "--format", "jsonl")
    assert failed(result, 2, "no pair")


def test_files_that_cannot_be_read_are_io_errors(tmp_path):
    for words in ([], ["--format", "raw"], ["--format", "jsonl"]):
        result = cubby("device", "estimate", tmp_path / "none", *words)
        assert failed(result, 3, "none: No such file or directory")
        assert failed(cubby("device", "estimate", tmp_path, *words), 3, str(tmp_path))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-"],
        ["-", "--format", "raw"],
        ["FILE", "--sample", "0"],
        ["FILE", "--pair-size", "15"],
        ["FILE", "--pair-size", "5000"],
        ["FILE", "--unit", "100"],
        ["FILE", "--format", "xml"],
    ],
)
def test_wrong_options_are_usage_errors(words):
    assert misused(cubby("device", "estimate", *words))


# The model ---------------------------------------------------------------------------------------


def test_the_layout_is_that_of_the_store():
    text = (ROOT / "engine/store/disk_format.h").read_text()
    header, reserve = (
        int(re.search(rf"\b{name} = (\d+)", text)[1])
        for name in ("BLOCK_HEADER_BYTES", "DISPLACED_RESERVE_BYTES")
    )
    assert fill_model.HEADER.size == header
    sizes = [fill_model.HOME_PAIR_BYTES, fill_model.SPILL_PAIR_BYTES]
    assert sizes == [BLOCK_BYTES - header - reserve, BLOCK_BYTES - header]
    assert "PAIR_INLINE_BYTES_MAX = HOME_PAIR_BYTES / 4" in text
    assert f"BLOB_KEY_INLINE_BYTES_MAX = {fill_model.BLOB_KEY_BYTES_MAX}" in text


def test_pairs_are_encoded_as_the_store_does_it():
    chance = random.Random(1)
    assert encode_pair(b"key", b"v" * 200, SCALE, chance).record == (
        bytes([3 << 2, 200 & 127 | 128, 1]) + b"key" + b"v" * 200
    )
    assert encode_pair(b"k" * 40, b"", SCALE, chance).record[:3] == bytes([160, 1, 0])
    edge = encode_pair(b"key", b"v" * 1002, SCALE, chance)
    assert (len(edge.record), edge.blob_blocks) == (1008, 0)
    blob = encode_pair(b"key", b"v" * 5000, SCALE, chance)
    assert (len(blob.record), blob.blob_blocks) == (1 + 2 + 16 + 3, 2)
    assert blob.record[0] == 3 << 2 | 1
    assert 0 < blob.blob_bytes <= 256
    assert len(encode_pair(b"k" * 1000, b"v" * 1000, SCALE, chance).record) == 2 + 2 + 16 + 16


def test_a_sample_is_drawn_evenly():
    chosen: list[int] = []
    for seed in range(200):
        sample = Sample(10)
        sample._random = random.Random(seed)
        for number in range(100):
            place = sample.draw()
            if place is not None:
                sample.put(place, Pair(bytes([number])))
        assert (sample.seen, len(sample.pairs)) == (100, 10)
        chosen += [pair.record[0] for pair in sample.pairs]
    assert len(set(chosen)) == 100
    first_half = sum(number < 50 for number in chosen)
    assert first_half == pytest.approx(1000, abs=120)


@pytest.mark.parametrize("mean", [0.3, 5.0, 100.0, 400.0])
def test_pairs_fall_into_blocks_as_chance_has_it(mean):
    chance = random.Random(1)
    counts = [poisson(mean, chance) for _ in range(5000)]
    average = sum(counts) / len(counts)
    variance = sum((count - average) ** 2 for count in counts) / len(counts)
    assert average == pytest.approx(mean, rel=0.05)
    assert variance == pytest.approx(mean, rel=0.1)


def test_a_pair_is_never_twice_in_a_block():
    deck = fill_model.Deck([Pair(bytes([n])) for n in range(10)], random.Random(1))
    for size in (3, 10, 4, 12, 0, 7) * 20:
        taken = [pair.record for pair in deck.take(size)]
        assert len(taken) == len(set(taken)) == min(size, 10)


@pytest.mark.parametrize(
    ("bytes_per_pair", "shrinking", "expected"),
    [
        ((104, 103, 101, 100), (3, 3, 3, 3), 0.40),
        ((120, 104, 101, 100), (3, 3, 3, 3), 0.50),
        ((104, 103, 101, 100), (5, 4.1, 3.9, 3), 0.60),
        ((130, 120, 110, 100), (3, 3, 3, 3), 0.75),
        ((101, 101, 101, 100), (9, 9, 9, 9), 0.75),
    ],
)
def test_the_fill_to_choose_is_the_smallest_that_costs_nothing(bytes_per_pair, shrinking, expected):
    rows = [
        FillRow(fill, 1.0, size, 1.0, ratio)
        for fill, size, ratio in zip(CANDIDATES, bytes_per_pair, shrinking, strict=True)
    ]
    rows.insert(0, FillRow(0.10, 1.0, 200.0, 2.0, 20.0))
    rows.append(FillRow(0.90, 1.0, 1.0, 1.0, 1.0))
    assert choose_fill(rows) == expected
