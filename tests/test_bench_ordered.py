"""VoliMap beside other maps, as small as it goes: what is written, and what is refused."""

import pytest
from bench_drivers import bench, drive, driver, is_drawn, told

SMALL = ("--keys", "3000", "--rounds", "2", "--json")


def test_every_map_gives_right_answers_for_every_set():
    answer = told(drive("cubby-ordered", "--parts", "sets", *SMALL))
    sets = {run["set"]: run["maps"] for run in answer["sets"]}
    assert list(sets) == ["ordered", "shuffled", "random", "clusters", "text"]
    for name, maps in sets.items():
        assert {"volimap", "array", "flat"} <= maps.keys()
        assert ("volimap-array" in maps) == (name in ("ordered", "shuffled"))
        for figures in maps.values():
            assert figures["memory_bytes"] >= 16 * 3000
            assert len(figures["hit"]["rounds_ns"]) == 2
            assert figures["pages"]
        assert not {"range", "scan"} & maps["flat"].keys()
        assert "sort" in maps["flat"]
        assert "put" not in maps["array"]
        assert {"put", "hit", "miss", "range", "scan"} <= maps["volimap"].keys()


def test_a_map_of_a_bounded_range_is_an_array():
    options = ("--parts", "sets", "--sets", "ordered", "--maps", "volimap,volimap-array")
    (run,) = told(drive("cubby-ordered", *options, *SMALL))["sets"]
    assert run["maps"]["volimap"]["is_array"] == 0
    assert run["maps"]["volimap-array"]["is_array"] == 1


def test_threads_share_what_can_be_shared():
    options = ("--parts", "crowd", "--sets", "random", "--threads", "4", "--slice", "1")
    (run,) = told(drive("cubby-ordered", *options, *SMALL))["crowd"]
    assert {"volimap", "flat"} <= run["maps"].keys()
    assert not {"array", "map", "btree"} & run["maps"].keys()
    for sizes in run["maps"].values():
        assert list(sizes) == ["1", "2", "4"]
        for threads, figures in sizes.items():
            assert figures["median_ns"] > 0
            assert 0 < figures["running"] <= int(threads) * 1.01


def test_single_puts_are_all_counted():
    options = ("--parts", "spikes", "--maps", "volimap,null", "--spike-keys", "5000")
    spikes = told(drive("cubby-ordered", *options, "--spike-rounds", "2", "--json"))["spikes"]
    assert len(spikes) == 8
    runs = {(run["map"], run["set"]): run for run in spikes}
    assert len(runs) == 4
    for (name, _), run in runs.items():
        assert run["puts"] == 5000
        latencies = list(run["percentile_ns"].values())
        assert latencies == sorted(latencies)
        assert latencies[-1] <= run["max_ns"]
        assert ("page_copies_max" in run) == (name == "volimap")


def test_the_kernels_aliases_are_counted():
    options = ("--parts", "aliases", "--alias-pages", "320", "--json")
    aliases = told(drive("cubby-ordered", *options))["aliases"]
    assert aliases["pages_mapped"] == 320
    assert aliases["error"] == 0
    assert aliases["areas"] > 280  # a neighbour on the next physical page needs none of its own


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--maps", "tree"], "tree: there is no such map"),
        (["--sets", "primes"], "--sets: primes"),
        (["--parts", "all"], "--parts: all"),
        (["--threads", "17"], "--threads: 17"),
        (["more"], "unexpected argument: more"),
    ],
)
def test_wrong_usage_is_named(arguments, sentence):
    run = drive("cubby-ordered", *arguments)
    assert run.returncode == 2
    assert sentence in run.stderr


def test_results_are_written_and_drawn(tmp_path):
    driver("cubby-ordered")
    content = bench("ordered", tmp_path, "--quick", "--rounds", "1", "--threads", "2")
    assert [run["set"] for run in content["sets"]] == [
        "ordered", "shuffled", "random", "clusters", "text"
    ]  # fmt: skip
    for run in content["sets"]:
        assert run["maps"]["volimap"]["hit"]["times_volimap"] == 1
        assert run["maps"]["volimap"]["bytes_per_key"] >= 16
    assert {run["set"] for run in content["crowd"]} == {"shuffled", "random"}
    for run in content["crowd"]:
        assert run["maps"]["flat"]["1"]["times_alone"] == 1
        assert run["maps"]["flat"]["2"]["times_flat"] == 1
    assert {run["map"] for run in content["spikes"]} >= {"volimap", "touch", "null"}
    assert content["aliases"]["pages_mapped"] > 0
    assert is_drawn(tmp_path, "ordered")
