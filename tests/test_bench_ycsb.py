"""Tests of `cubby bench ycsb` and its driver: what they do and refuse, never how fast."""

import json
import re
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from cubby_command import command as cubby_command
from cubby_command import run as cubby

from cubbydb.bench._memory_group import memory_group, why_no_memory_group
from cubbydb.bench._ycsb_driver import workload_file

DRIVER = Path(str(resources.files("cubbydb.bench"))) / "cubby-ycsb"
SMALL = ["--pairs", "2000", "--seconds", "0.1", "--warm", "0", "--memory", "none"]


def drive(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DRIVER, *arguments], capture_output=True, text=True)


def results_of(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 2,000 records of YCSB's own shape: ten fields of 100 bytes."""
    path = tmp_path_factory.mktemp("ycsb") / "store.cubby"
    run = drive(
        "load", "--path", str(path), "-P", str(workload_file("a")), "-p", "recordcount=2000"
    )
    assert run.returncode == 0, run.stderr
    assert "[INSERT], Return=OK, 2000" in run.stdout
    return path


@pytest.mark.parametrize("workload", ["a", "b", "c", "d", "f"])
def test_workloads_run_and_are_counted(loaded: Path, workload: str) -> None:
    answer = results_of(
        drive(
            *("run", "--path", str(loaded), "-P", str(workload_file(workload)), "--json", "-"),
            *("-p", "recordcount=2000", "-p", "operationcount=1000", "-threads", "3"),
        )
    )
    assert answer["operations"] == 1000
    kinds = {name: kind["operations"] for name, kind in answer["kinds"].items()}
    if workload == "f":
        assert kinds["UPDATE"] == kinds["READ-MODIFY-WRITE"]
        assert kinds["READ"] == 1000
    else:
        assert sum(kinds.values()) == 1000
    for name, kind in answer["kinds"].items():
        assert sum(count for _, count in kind["buckets"]) == kind["operations"]
        assert (kind["user_bytes_written"] > 0) == (name in ("UPDATE", "INSERT"))
    assert answer["record_count"] == 2000 + kinds.get("INSERT", 0)


def test_summary_has_ycsbs_lines(loaded: Path) -> None:
    run = drive(
        *("run", "--path", str(loaded), "-P", str(workload_file("a"))),
        *("-p", "recordcount=2000", "-p", "operationcount=500", "-target", "5000"),
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"^\[OVERALL\], RunTime\(ms\), [\d.]+$", run.stdout, re.MULTILINE)
    assert re.search(r"^\[OVERALL\], Throughput\(ops/sec\), [\d.]+$", run.stdout, re.MULTILINE)
    for kind in ("READ", "UPDATE", "Intended-READ", "Intended-UPDATE"):
        for name in ("AverageLatency(us)", "99thPercentileLatency(us)", "Return=OK"):
            assert f"[{kind}], {name}, " in run.stdout


def test_open_loop_keeps_to_its_target(loaded: Path) -> None:
    answer = results_of(
        drive(
            *("run", "--path", str(loaded), "-P", str(workload_file("c")), "--json", "-"),
            *("-p", "recordcount=2000", "-p", "operationcount=400", "-target", "1000"),
        )
    )
    assert answer["seconds"] > 0.39  # never ahead of it
    kind = answer["kinds"]["READ"]
    assert kind["intended_ns"]["max"] >= kind["latency_ns"]["max"]


def test_wrong_values_end_the_run() -> None:
    run = drive(
        *("run", "--engine", "lying", "--path", "nowhere", "-P", str(workload_file("c"))),
    )
    assert run.returncode == 1
    assert re.search(r"a get of record \d+ gave a wrong value", run.stderr)
    assert run.stdout == ""


def test_values_of_another_shape_are_wrong(loaded: Path) -> None:
    run = drive(
        *("run", "--path", str(loaded), "-P", str(workload_file("c"))),
        *("-p", "recordcount=2000", "-p", "fieldlength=99"),
    )
    assert run.returncode == 1
    assert "gave a wrong value" in run.stderr


def test_records_that_are_not_there_end_the_run(loaded: Path) -> None:
    run = drive(
        *("run", "--path", str(loaded), "-P", str(workload_file("c"))),
        *("-p", "recordcount=200000", "-p", "requestdistribution=uniform"),
    )
    assert run.returncode == 1
    assert "nothing, although it was put" in run.stderr


def test_a_hash_has_no_ranges(loaded: Path) -> None:
    run = drive("run", "--path", str(loaded), "-P", str(workload_file("e")))
    assert run.returncode == 1
    assert "no order of keys" in run.stderr


@pytest.mark.parametrize("keys", [[], ["-p", "keybytes=16"], ["-p", "insertorder=ordered"]])
@pytest.mark.parametrize("workload", ["a", "b", "c", "d", "e", "f"])
def test_an_ordered_map_in_memory_is_loaded_before_each_run(workload: str, keys: list[str]) -> None:
    answer = results_of(
        drive(
            *("run", "--engine", "volimap", "-P", str(workload_file(workload)), "--json", "-"),
            *("-p", "recordcount=2000", "-p", "operationcount=3000", "-threads", "3", *keys),
        )
    )
    assert answer["operations"] == 3000
    kinds = {name: kind["operations"] for name, kind in answer["kinds"].items()}
    assert ("SCAN" in kinds) == (workload == "e")
    assert answer["record_count"] == 2000 + kinds.get("INSERT", 0)
    assert not answer["has_device_counters"]


def test_an_engine_on_a_device_needs_a_path() -> None:
    run = drive("run", "-P", str(workload_file("c")))
    assert run.returncode == 2
    assert "--path: is missing" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-p", "readproportoin=1"], "there is no such property: readproportoin"),
        (["-p", "recordcount=many"], "recordcount=many: it must be a whole number"),
        (["-p", "requestdistribution=normal"], "it must be one of uniform, zipfian, latest"),
        (["-p", "fieldlengthdistribution=zipfian"], "it must be one of constant"),
        (["-p", "operationcount=0"], "nothing ends the run"),
        (["-p", "nonsense"], "-p wants NAME=VALUE"),
        (["-P", "/nowhere/workload"], "No such file"),
        (["-threads", "0"], "threadcount=0"),
        (["--engine", "oracle"], "there is no such engine"),
        (["--engine", "lmdb"], "liblmdb-dev"),
        (["--durability", "eternal"], "eternal"),
        (["-p", "valuesource=/nowhere/text"], "/nowhere/text"),
    ],
)
def test_wrong_usage_is_named(arguments: list[str], sentence: str) -> None:
    run = drive("run", "--path", "nowhere", "-P", str(workload_file("c")), *arguments)
    assert run.returncode == 2
    assert sentence in run.stderr


def test_unknown_properties_of_a_file_are_ignored_aloud(loaded: Path, tmp_path: Path) -> None:
    file = tmp_path / "workload"
    file.write_text("recordcount=2000\noperationcount=100\nmongodb.url=elsewhere\n")
    run = drive("run", "--path", str(loaded), "-P", str(file))
    assert run.returncode == 0
    assert "mongodb.url is not known here" in run.stderr


def test_command_compares_and_writes_results(tmp_path: Path) -> None:
    output = tmp_path / "results" / "small.json"
    run = cubby(
        *("bench", "ycsb", "-e", "cubby", "-e", "pread", "-e", "lmdb", "-w", "ad"),
        *(*SMALL, "--keys", "zipfian,uniform", "--rounds", "2", "--threads", "2"),
        *("--on", str(tmp_path), "--output", str(output)),
    )
    assert run.returncode == 0, run.stderr
    results = json.loads(output.read_text())
    assert results["skipped"].keys() <= {"lmdb"}
    cells = results["cells"]
    assert {cell["distribution"] for cell in cells if cell["workload"] == "D"} == {"latest"}
    for cell in cells:
        if cell["engine"] in ("cubby", "pread"):
            assert cell["failure"] is None
            assert len(cell["figures"]["ops_per_second"]["rounds"]) == 2
            assert cell["buckets"]["READ"]
    for name in ("pairs", "memory_bytes", "durability", "compress", "limit"):
        assert name in results["terms"]
    assert results["engines"]["cubby"]["space"]["physical_bytes"] > 0
    assert list(tmp_path.iterdir()) == [output.parent]  # the stores are gone


def test_command_compares_what_keeps_nothing(tmp_path: Path) -> None:
    output = tmp_path / "memory.json"
    run = cubby(
        *("bench", "ycsb", "-e", "cubby", "-e", "volimap", "-w", "ce", "--pairs", "2000"),
        *("--seconds", "0.1", "--warm", "0.1", "--on", str(tmp_path), "--output", str(output)),
    )
    assert run.returncode == 0, run.stderr
    assert "volimap: all pairs in memory" in run.stdout
    results = json.loads(output.read_text())
    assert "in memory" in results["engines"]["volimap"]["settings"]
    failures = {(cell["engine"], cell["workload"]): cell["failure"] for cell in results["cells"]}
    assert failures.pop(("cubby", "E")) is not None
    assert set(failures.values()) == {None}


def test_one_run_prints_ycsbs_summary(tmp_path: Path) -> None:
    run = cubby("bench", "ycsb", "-e", "cubby", "-w", "c", *SMALL, "--on", str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert "[OVERALL], Throughput(ops/sec)" in run.stdout


def test_a_mix_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("readproportion=0.5\nupdateproportion=0.2\nreadmodifywriteproportion=0.3\n")
    output = tmp_path / "mine.json"
    run = cubby(
        *("bench", "ycsb", "-e", "cubby", "-P", str(file), *SMALL, "-p", "seed=7"),
        *("-p", "requestdistribution=uniform", "--on", str(tmp_path), "--output", str(output)),
    )
    assert run.returncode == 0, run.stderr
    (cell,) = json.loads(output.read_text())["cells"]
    assert (cell["workload"], cell["distribution"]) == ("P", "as given")
    assert set(cell["buckets"]) == {"READ", "UPDATE", "READ-MODIFY-WRITE"}


def test_media_writes_of_an_emulated_drive(tmp_path: Path) -> None:
    output = tmp_path / "csd.json"
    run = cubby(
        *("bench", "ycsb", "-w", "ae", *SMALL, "--on", "csd", "--drive", "p4800x"),
        *("--output", str(output)),
    )
    assert run.returncode == 0, run.stderr
    update, scan = json.loads(output.read_text())["cells"]
    assert update["figures"]["media_write_amplification"]["median"] > 0
    assert "no order of keys" in scan["failure"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-w", "ag"], "letters from a to f"),
        (["--keys", "normal"], "zipfian or uniform"),
        (["--threads", "two"], "numbers from 1 to 256"),
        (["--memory", "lots"], "a percentage of the data"),
        (["--on", "/nowhere"], "a folder that exists"),
        (["--drive", "p4800x"], "only a csd"),
        (["-e", "oracle"], "'oracle': there are cubby"),
        (["-p", "nonsense"], "not name=value"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], sentence: str) -> None:
    run = cubby("bench", "ycsb", *arguments)
    assert run.returncode == 2
    assert sentence in run.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["-p", "readproportoin=1"], 1, "Error: there is no such property: readproportoin"),
        (["--values", "/nowhere/text"], 1, "/nowhere/text: No such file"),
        (["-e", "pread"], 1, "there is no engine to be measured (pread: "),
        (["-e", "cubby", "--output", "/proc/none/x.json"], 3, "/proc/none: "),
    ],
)
def test_what_cannot_be_is_one_sentence(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    run = cubby("bench", "ycsb", "-w", "c", *SMALL, "--on", str(tmp_path), *arguments)
    assert run.returncode == code
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = cubby_command("bench", "ycsb", "-e", "cubby", "-w", "a", "--on", tmp_path)
    command += ["--pairs", "2000", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("cubby-bench-*/store.cubby")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        process.communicate(timeout=30)
        assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.device
def test_memory_group_holds_a_process_to_its_limit() -> None:
    why_not = why_no_memory_group()
    if why_not is not None:
        pytest.skip(why_not)
    with memory_group(32 << 20) as group:
        taking = [sys.executable, "-c", "x = b'x' * (100 << 20)"]
        run = subprocess.run(group.command(taking), capture_output=True)
        assert run.returncode != 0
        assert group.was_killed()
        folder = group.folder
        assert folder.is_dir()
    assert not folder.exists()
