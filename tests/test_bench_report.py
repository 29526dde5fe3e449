"""Tests of `cubby bench report`: what the page says, and that it needs nothing else."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cubby_command import run as cubby

pytest.importorskip("matplotlib")


def figure(*rounds: float) -> dict[str, Any]:
    middle = sorted(rounds)[len(rounds) // 2]
    return {"median": middle, "min": min(rounds), "max": max(rounds), "rounds": list(rounds)}


def cell(engine: str, workload: str, threads: int, rate: float) -> dict[str, Any]:
    return {
        "engine": engine,
        "workload": workload,
        "distribution": "latest" if workload == "D" else "uniform",
        "threads": threads,
        "failure": None,
        "figures": {
            "ops_per_second": figure(rate * 0.9, rate, rate * 1.1),
            "cpu_gross_ns": figure(9100.0),
            "cpu_net_ns": figure(4200.0),
            "read_mean_ns": figure(7300.0),
            "read_p99_ns": figure(31000.0),
            "device_reads_per_op": figure(1.0),
            "device_written_bytes_per_op": figure(0.0),
            "peak_resident_bytes": figure(50 << 20),
            "placement_bytes_per_pair": figure(0.03),
        },
        "buckets": {"READ": [[1000, 5], [2000, 90], [64000, 5]]},
    }


RESULTS: dict[str, Any] = {
    "benchmark": "ycsb",
    "machine": {
        "time": "2026-01-02T03:04:05+00:00",
        "commit": "0123456789abcdef",
        "commit_is_changed": False,
        "kernel": "6.1",
        "processor": "a <fast> one",
        "processors": 2,
        "memory": "1 kB",
        "load_average": [0.1, 0.2, 0.3],
    },
    "medium": "zram",
    "skipped": {"wiredtiger": "it is not here"},
    "terms": {
        "pairs": 1000,
        "key_bytes": 16,
        "value_bytes": 384,
        "data_bytes": 400_000,
        "zero_proportion": 0.5,
        "memory_bytes": 64 << 20,
        "limit": "a memory cgroup",
        "durability": "process",
        "compress": False,
        "rounds": 3,
        "seconds": 1.5,
    },
    "device_cost": {"read_ns": 2400.0, "write_ns": 6700.0},
    "engines": {
        name: {
            "place": "somewhere",
            "settings": "as they are",
            "space": {"stored_bytes": 9, "physical_bytes": 250_000, "media_written_bytes": None},
        }
        for name in ("cubby", "rocksdb")
    },
    "cells": [
        cell(engine, workload, threads, rate)
        for engine, rate in (("cubby", 123_400.0), ("rocksdb", 61_700.0), ("pread", 150_000.0))
        for workload in "ACD"
        for threads in (1, 4)
    ],
    "commands": ["cubby-ycsb run --path 'a & b'"],
}


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_page_says_what_the_results_say_and_needs_nothing_else(tmp_path: Path) -> None:
    results = copy.deepcopy(RESULTS)
    failed = cell("lmdb", "E", 1, 1.0) | {"figures": {}, "buckets": {}, "failure": "it is <full>"}
    results["cells"].append(failed)
    run = cubby("bench", "report", write(tmp_path, "one.json", results), "--output", tmp_path / "r")
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "r" / "report.html").read_text()
    for text in ("CubbyDB", "RocksDB", "LMDB", "bare reads", "123.4", "61.7", "2.00 times", "250"):
        assert text in page
    assert "82 %" in page  # of what bare reads reach
    for text in ("it is not here", "it is &lt;full&gt;", "a &lt;fast&gt; one", "a &amp; b"):
        assert text in page
    assert "0123456789ab" in page
    sources = re.findall(r"(?:src|href)=['\"]([^'\"]{1,60})", page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in page
    plots = list((tmp_path / "r").glob("one_*.png"))
    assert {plot.stem for plot in plots} >= {"one_throughput", "one_latency", "one_memory"}
    assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)


def test_small_results_of_one_engine_are_drawn(tmp_path: Path) -> None:
    results = copy.deepcopy(RESULTS)
    results["cells"] = [cell("cubby", "D", 1, 5.0)]
    results["terms"]["memory_bytes"] = None
    run = cubby("bench", "report", write(tmp_path, "d.json", results), "--output", tmp_path / "r")
    assert run.returncode == 0, run.stderr
    assert "not limited" in (tmp_path / "r" / "report.html").read_text()


def test_fio_stands_beside_the_store(tmp_path: Path) -> None:
    row = {
        "workload": "randread",
        "depth": 1,
        "fio": {"read": {"iops": 1000.0}, "write": None},
        "store_ops_per_second": 870.0,
        "share": 0.87,
    }
    results = {
        "benchmark": "fio",
        "machine": RESULTS["machine"],
        "fio_version": "3.33",
        "skipped": {"loop": "no root"},
        "devices": [{"kind": "zram", "rows": [row], "commands": ["fio --name=x"]}],
    }
    run = cubby("bench", "report", write(tmp_path, "fio.json", results), "--output", tmp_path)
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "report.html").read_text()
    for text in ("87 %", "1,000", "870", "no root", "fio 3.33 was used"):
        assert text in page


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds no results"),
        ('{"benchmark": "ycsb", "cells": []}', "holds no results"),
        ('{"benchmark": "other"}', "holds no results"),
        ('{"benchmark": "ycsb", "cells": [1]}', "is not as `cubby bench` writes it"),
        ('{"benchmark": "fio", "devices": [{}]}', "is not as `cubby bench` writes it"),
    ],
)
def test_files_that_are_no_results_are_named(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content)
    run = cubby("bench", "report", path, "--output", tmp_path / "r")
    assert run.returncode == 1
    assert "wrong.json" in run.stderr
    assert sentence in run.stderr
    assert not (tmp_path / "r" / "report.html").exists()


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    paths = [write(tmp_path, "x.json", RESULTS), write(tmp_path / "a", "x.json", RESULTS)]
    run = cubby("bench", "report", *paths, "--output", tmp_path / "r")
    assert run.returncode == 1
    assert "two of the files are called x" in run.stderr


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    run = cubby("bench", "report", tmp_path / "nowhere.json")
    assert run.returncode == 1
    assert "nowhere.json: No such file" in run.stderr
