"""mmapio beside the kernel's mmap, as small as it goes: what is written, and what is refused."""

import pytest
from bench_drivers import bench, drive, driver, is_drawn, told

KINDS = ["kernel", "kernel-default", "pins", "pins-armed", "pointers", "views", "pread"]
WORKLOADS = ["read", "mixed", "write", "zipf-read", "zipf-mixed", "zipf-write"]
WORKLOADS += ["hit-read", "hit-mixed", "hit-write", "scan", "storm"]
SMALL = ("--bytes", "4194304", "--cache", "1048576", "--rounds", "2", "--slice", "3")
SMALL += ("--loop", "1000", "--json")
OPTIONAL = {
    "pins-armed",
    "pointers",
    "views",
    "pread",
}  # of the system's, or the file system's, grace


def figures_of(tmp_path, *options):
    return told(drive("cubby-mmap", "--path", str(tmp_path / "device"), *SMALL, *options))


def test_every_kind_answers_right_in_every_workload(tmp_path):
    answer = figures_of(tmp_path)
    assert answer["missing"].keys() <= OPTIONAL
    kinds = [kind for kind in KINDS if kind not in answer["missing"]]
    expected = {
        (kind, workload, threads, number)
        for kind in kinds
        for workload in WORKLOADS
        for threads in ([1] if workload == "storm" else [1, 2])
        for number in (0, 1)
        if (kind, workload) != ("pread", "storm")
    }
    rows = answer["rows"]
    found = {(row["kind"], row["workload"], row["threads"], row["round"]) for row in rows}
    assert found == expected
    assert len(rows) == len(expected)
    for row in rows:
        assert row["accesses"] > 0
        assert row["wall_ns"] > 0
        assert row["process_ns"] > 0
        latencies = list(row["percentile_ns"].values())
        assert latencies == sorted(latencies)
        assert latencies[-1] <= row["max_ns"]


def test_a_region_loads_what_does_not_fit_and_writes_it_back(tmp_path):
    options = ("--kinds", "pins", "--workloads", "write,storm,hit-read", "--threads", "1")
    rows = figures_of(tmp_path, *options)["rows"]
    for row in rows:
        region = row["region"]
        if row["workload"] == "write":
            assert region["loads"] > 0
            assert region["writes"] >= region["write_calls"]
        elif row["workload"] == "storm":
            assert row["accesses"] == 64  # half of the pages, of half of the cache
            assert region["writes"] == 64
            assert row["sync_ns"] < row["wall_ns"]
        else:
            assert region["loads"] == 0


def test_hits_are_timed_alone(tmp_path):
    loops = figures_of(tmp_path, "--workloads", "loops", "--rounds", "3")["loops"]
    assert {"pin-read", "pin-write", "few-memory", "far-memory", "far-huge"} <= loops.keys()
    assert ("few-pointer" in loops) == ("armed-read" in loops)
    for rounds in loops.values():
        assert len(rounds) == 3
        assert min(rounds) > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--path: is missing"),
        (["--path", "x", "--kinds", "pens"], "--kinds: pens"),
        (["--path", "x", "--workloads", "reed"], "--workloads: reed"),
        (["--path", "x", "--threads", "0"], "--threads: 0"),
        (["--path", "x", "--cache", "4096"], "--cache: 4096"),
        (["--path", "x", "--bytes", "1048576"], "--bytes: is less than the cache"),
        (["more"], "unexpected argument: more"),
    ],
)
def test_wrong_usage_is_named(arguments, sentence):
    run = drive("cubby-mmap", *arguments)
    assert run.returncode == 2
    assert sentence in run.stderr


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    run = drive("cubby-mmap", "--path", str(tmp_path / "no" / "device"), *SMALL)
    assert run.returncode == 1
    assert "no/device" in run.stderr


def test_results_are_written_and_drawn(tmp_path):
    driver("cubby-mmap")
    options = ("--quick", "--no-root", "--rounds", "1", "--workloads", "read,storm")
    content = bench("mapped", tmp_path, *options)
    assert content["device"].startswith("a file here")
    assert not content["is_limited"]
    assert len(content["notes"]) == 1
    summaries = {(s["workload"], s["threads"], s["kind"]): s for s in content["summaries"]}
    assert summaries["read", 2, "kernel"]["times_kernel"] == 1
    assert summaries["read", 1, "pins"]["thread_times_alone"] == 1
    assert summaries["read", 1, "pins"]["p99_ns"] <= summaries["read", 1, "pins"]["p99.9_ns"]
    assert summaries["storm", 1, "pins"]["pages_per_write"] >= 0
    assert content["verdicts"]
    assert is_drawn(tmp_path, "mapped")
