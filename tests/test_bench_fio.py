"""cubby bench fio: what it reads off fio, what it refuses, what it leaves behind.  Never speed."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import click
import pytest
from cubby_command import command, cubby, misused

import cubbydb
from cubbydb.bench import fio as bench_fio
from cubbydb.bench._driver import DRIVER_PATH
from cubbydb.bench._fio import Direction, FioFigures, figures_of
from cubbydb.bench._fio_report import DeviceReport, Row
from cubbydb.bench._store_image import (
    HomeReads,
    StoreImage,
    compressed_bytes,
    percent_that_compresses_like,
)
from cubbydb.blockdev import BLOCK_BYTES, BlockDevice

DRIVER = Path(__file__).parent.parent / DRIVER_PATH
SHORT = ("--pairs", "1000", "--seconds", "1", "--rounds", "1", "--depths", "1")


@pytest.fixture
def tools():
    """Skip where there is nothing to run."""
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed (Debian package: fio)")
    if not DRIVER.is_file():
        pytest.skip("the benchmarks' driver is not built: make bench-build")


def told(ios: int, iops: float) -> dict:
    """What fio 3.33 prints of a direction, without the rest."""
    percentiles = {"50.000000": 900, "99.000000": 5000, "99.900000": 9000} if ios else {}
    latency = {"min": 800, "max": 9100, "mean": 1000.5, "stddev": 1.0, "N": ios}
    return {"total_ios": ios, "iops": iops, "clat_ns": latency | {"percentile": percentiles}}


def printed(error: int = 0, reads: int = 7, writes: int = 0) -> str:
    job = {
        "jobname": "gets",
        "error": error,
        "read": told(reads, 3.5 if reads else 0.0),
        "write": told(writes, 1.5 if writes else 0.0),
        "usr_cpu": 12.5,
        "sys_cpu": 34.0,
    }
    return "fio: a note\n" + json.dumps({"fio version": "fio-3.33", "jobs": [job]})


# What fio prints ---------------------------------------------------------------------------------


def test_figures_are_read_off_what_fio_prints():
    figures = figures_of(printed(), "fio")
    assert figures == FioFigures(Direction(3.5, 1000.5, 900, 5000, 9000), None, 12.5, 34.0)
    assert figures.iops == 3.5
    both = figures_of(printed(writes=3), "fio")
    assert both.write == Direction(1.5, 1000.5, 900, 5000, 9000)
    assert (both.iops, both.mean_ns, both.p99_ns) == (5.0, 1000.5, 5000)


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        (printed(error=5), "error 5"),
        (printed(reads=0), "error 0"),
        ("no JSON here", "cannot be read"),
        ('{"jobs": []}', "cannot be read"),
        ('{"jobs": [{"error": 0}]}', "cannot be read"),
        ("{", "cannot be read"),
    ],
)
def test_a_run_that_failed_is_named_with_its_command(output, complaint):
    with pytest.raises(click.ClickException, match=f"fio --name=x.*{complaint}"):
        figures_of(output, "fio --name=x")


def test_medians_and_shares_are_those_of_rounds():
    row = Row("randread", 1, "psync", operation="get", store=[50.0, 30.0, 80.0])
    for iops in (100.0, 300.0, 200.0):
        row.fio.append(FioFigures(Direction(iops, iops, 1, 2, 3), None, 10.0, 20.0))
    report = row.as_json()
    assert report["fio"]["read"]["iops"] == 200
    assert report["fio"]["write"] is None
    assert report["fio_iops"] == [100, 300, 200]
    assert (report["store_ops_per_second"], report["share"]) == (50, 0.4)
    assert Row("mix", 1, "psync", fio=row.fio).as_json()["share"] is None


def test_a_share_over_nbd_comes_with_its_warning():
    assert DeviceReport("zram", "/dev/zram7", False, False).notes() == []
    (note,) = DeviceReport("csd", "csd:drive", True, False).notes()
    assert "NBD" in note
    assert "csd:drive" in note


# The store's blocks, and blocks like them --------------------------------------------------------


def test_an_image_is_copied_and_nothing_else_is_there(tmp_path):
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(1 << 20)
        file.seek(8 * BLOCK_BYTES)
        file.write(b"x" * 3 * BLOCK_BYTES)
    name = f"csd:{tmp_path}/drive.csd"
    with BlockDevice.create(name, physical="8M", logical="8M") as drive:
        drive.write(100, b"y" * BLOCK_BYTES)
    StoreImage(path).copy_to(name)
    with BlockDevice.open(name, read_only=True) as drive:
        assert drive.read(8, 3) == b"x" * 3 * BLOCK_BYTES
        assert drive.usage().logical_bytes == 3 * BLOCK_BYTES


def test_logs_name_the_same_blocks_to_read_and_to_write(tmp_path):
    reads = HomeReads([str(number * BLOCK_BYTES) for number in range(1000)])
    assert reads.sample() == list(range(256))
    kinds = {}
    for workload in ("randread", "randwrite", "mix"):
        reads.write_log(tmp_path / "log", "/dev/x", workload, 900)
        lines = (tmp_path / "log").read_text().splitlines()
        assert lines[:3] == ["fio version 2 iolog", "/dev/x add", "/dev/x open"]
        assert lines[-1] == "/dev/x close"
        words = [line.split() for line in lines[3:-1]]
        assert [word[2] for word in words] == reads.offsets[:900]
        assert {(word[0], word[3]) for word in words} == {("/dev/x", "4096")}
        kinds[workload] = [word[1] for word in words]
    assert set(kinds["randread"]) == {"read"}
    assert set(kinds["randwrite"]) == {"write"}
    assert 0.6 < kinds["mix"].count("read") / 900 < 0.8


def test_a_percentage_is_found_that_compresses_like_a_block(tmp_path):
    assert 70 <= percent_that_compresses_like(1100) <= 76
    assert percent_that_compresses_like(4000) < 10
    path = tmp_path / "blocks"
    path.write_bytes(bytes(BLOCK_BYTES) + os.urandom(BLOCK_BYTES))
    assert compressed_bytes(str(path), [0, 1]) == pytest.approx(BLOCK_BYTES / 2, rel=0.02)


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--depths", "1,many"], "1,many is not a list of numbers"),
        (["--depths", ""], "is not a list of numbers"),
        (["--depths", "0,1"], "0,1: a queue depth is 1 to 4,096"),
        (["--depths", "5000"], "5000: a queue depth is 1 to 4,096"),
        (["--device", "nvme"], "nvme"),
        (["--workload", "trim"], "trim"),
        (["--seconds", "0"], "--seconds"),
        (["--rounds", "0"], "--rounds"),
        (["--pairs", "10"], "--pairs"),
        (["--model", "abacus"], "abacus"),
        (["--folder", "a b"], "'a b': fio takes no spaces and colons"),
        (["--path", "/nowhere/at/all"], "/nowhere/at/all: No such file or directory"),
        (["--path", "/dev/null"], "/dev/null is neither a block device nor a file"),
        (["--path", __file__, "--device", "file"], "--path is only read"),
        (["--path", __file__, "--workload", "randwrite"], "--path is only read"),
        (["--output", "/"], "is a directory"),
    ],
)
def test_bad_input_is_named(words, complaint):
    assert misused(cubby("bench", "fio", *words), complaint)


def test_without_fio_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    result = cubby("bench", "fio", "--quick")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "Error: fio is not installed: apt-get install fio\n"


def test_without_its_driver_it_says_what_to_make(tools, tmp_path):
    result = cubby("bench", "fio", "--driver", tmp_path / "none", "--output", tmp_path / "fio.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "none is missing: run `make bench-build` first" in result.stderr


def test_a_file_that_is_no_store_is_named(tools, tmp_path):
    path = tmp_path / "letter"
    path.write_bytes(b"Dear Sir" * 1000)
    result = cubby(
        "bench", "fio", "--path", path, "--driver", DRIVER, "--output", tmp_path / "fio.json"
    )
    assert result.exit_code == 7
    assert "letter" in result.stderr


def test_devices_that_cannot_be_are_skipped_by_name(tools, monkeypatch, tmp_path):
    reasons = {kind: (lambda kind=kind: f"no {kind} today") for kind in bench_fio.KINDS}
    monkeypatch.setattr(bench_fio, "WHY_NOT", reasons)
    words = ("--driver", DRIVER, "--output", tmp_path / "fio.json", "--folder", tmp_path)
    result = cubby("bench", "fio", *words)
    assert (result.exit_code, result.stdout) == (3, "")
    for kind in bench_fio.KINDS:
        assert f"{kind} is skipped: no {kind} today\n" in result.stderr
    assert result.stderr.endswith("Error: none of these devices can be measured here\n")
    assert bench_fio.choose_kinds(("loop",)) == ([], {"loop": "no loop today"})


# Runs --------------------------------------------------------------------------------------------


def words_of(tmp_path: Path, *more: str) -> list[str]:
    places = [
        "--driver",
        DRIVER,
        "--folder",
        tmp_path / "f",
        "--output",
        tmp_path / "r" / "fio.json",
    ]
    return ["bench", "fio", *SHORT, *map(str, places), *more]


def test_a_file_is_measured_and_removed(tools, tmp_path, monkeypatch):
    monkeypatch.setitem(bench_fio.WHY_NOT, "zram", lambda: "not now")
    result = cubby(*words_of(tmp_path, "--device", "file", "--device", "zram"))
    assert result.exit_code == 0, result.stderr
    assert "zram was skipped: not now." in result.stdout
    results = json.loads((tmp_path / "r" / "fio.json").read_text())
    assert f"fio {results['fio_version']} was used" in result.stdout
    assert results["skipped"] == {"zram": "not now"}
    (device,) = results["devices"]
    assert (device["kind"], device["fio_goes_through_nbd"]) == ("file", False)
    rows = {row["workload"]: row for row in device["rows"]}
    assert {name: row["store_operation"] for name, row in rows.items()} == {
        "randread": "get",
        "mix": None,
        "randwrite": "update",
    }
    assert rows["randread"]["fio"]["read"]["iops"] > 0
    assert rows["randread"]["fio"]["write"] is None
    assert rows["mix"]["fio"]["write"]["p99_ns"] > 0
    assert rows["randwrite"]["fio"]["read"] is None
    assert rows["randwrite"]["share"] > 0
    assert any("--read_iolog" in line for line in device["commands"])
    assert list((tmp_path / "f").iterdir()) == []


def test_a_store_that_is_there_is_only_read(tools, tmp_path):
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="4M") as store:
        store.put_many((b"key %d" % number, b"x" * 300) for number in range(2000))
    before = path.read_bytes()
    result = cubby(*words_of(tmp_path, "--path", str(path)))
    assert result.exit_code == 0, result.stderr
    assert path.read_bytes() == before
    (device,) = json.loads((tmp_path / "r" / "fio.json").read_text())["devices"]
    assert device["gets_are_of_absent_keys"] is True
    assert [row["workload"] for row in device["rows"]] == ["randread"]
    assert "keys it has not" in result.stdout


@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [
        ("file", signal.SIGINT, 130),
        ("csd", signal.SIGINT, 130),
        ("loop", signal.SIGINT, 130),
        ("zram", signal.SIGINT, 130),
        ("zram", signal.SIGTERM, 143),
    ],
)
def test_interrupted_it_leaves_nothing_behind(tools, tmp_path, kind, number, code):
    reason = bench_fio.WHY_NOT[kind]()
    if reason is not None:
        pytest.skip(reason)
    # A session of its own, so that whatever it has left running is found.
    with subprocess.Popen(
        command(*words_of(tmp_path, "--device", kind)),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        line = next(line for line in process.stderr if "round 1" in line)
        device = line.split()[1].rstrip(",")
        time.sleep(0.5)  # fio has begun
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == code, said
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert list((tmp_path / "f").iterdir()) == []
    assert not list((tmp_path / "r").iterdir())
    if kind == "loop":
        backing = Path(f"/sys/block/{Path(device).name}/loop/backing_file")
        assert not (backing.exists() and str(tmp_path) in backing.read_text())
    else:
        assert not Path(device.removeprefix("csd:")).exists()
