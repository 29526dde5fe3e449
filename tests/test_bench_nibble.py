"""Nibble's benchmarks, as small as they go: what they write, and what they refuse.  Never speed."""

import subprocess
import sys

import pytest
from bench_drivers import bench, drive, driver, is_drawn, told

# The drivers -------------------------------------------------------------------------------------


def test_a_trace_adds_up_and_is_replayed_by_all():
    answer = told(
        drive(
            "cubby-churn",
            *("--engines", "nibble,nibble", "--rounds", "2"),
            *("--sizes", "8-64,20000", "--append", "1-100", "--begin", "200", "--end", "900"),
            *("--operations", "9000", "--updates", "30", "--turnover", "30"),
        )
    )
    marks = answer["marks"]
    kinds = ("inserts", "gets", "updates", "deletes")
    total = {kind: sum(mark[kind] for mark in marks) for kind in kinds}
    assert total["inserts"] == total["deletes"]
    assert sum(total.values()) == marks[-1]["end"]
    assert [mark["end"] for mark in marks] == sorted(mark["end"] for mark in marks)
    assert list(dict.fromkeys(mark["phase"] for mark in marks)) == ["setup", "churn", "clear"]
    by_phase = {mark["phase"]: mark for mark in marks}  # the last of each
    assert by_phase["setup"]["pairs"] == 200
    assert abs(by_phase["churn"]["pairs"] - 900) <= 1
    assert (marks[-1]["pairs"], marks[-1]["live_bytes"]) == (0, 0)
    assert [run["engine"] for run in answer["runs"]] == ["nibble"] * 4
    for run in answer["runs"]:
        assert len(run["samples"]) == len(marks)
        for clock in (0, 1):
            times = [sample[clock] for sample in run["samples"]]
            assert times == sorted(times)
        assert run["put_bytes"] > 0


def test_the_bare_accesses_and_nibble_replay_the_same_trace():
    options = ("--sizes", "64", "--begin", "10", "--end", "5000", "--operations", "40000")
    answer = told(drive("cubby-churn", "--engines", "nibble,bare", *options))
    assert [run["engine"] for run in answer["runs"]] == ["nibble", "bare"]
    assert answer["runs"][0]["index_splits"] > 0
    assert answer["runs"][0]["in_place_puts"] == sum(mark["updates"] for mark in answer["marks"])


def test_tables_are_as_full_as_they_were_to_be():
    small = ("--memory", "16777216", "--warm", "1", "--rounds", "3", "--slice", "1")
    tables = ("--table", "live=80,append-only,segment=131072", "--table", "live=40,cleaners=1")
    answer = told(
        drive("cubby-utilisation", *small, *tables, "--keys", "zipfian", "--gets", "50,0")
    )
    first, second = answer["tables"]
    assert (first["segment_bytes"], first["append_only"]) == (131072, True)
    assert (second["cleaners"], second["append_only"]) == (1, False)
    for table, percent in ((first, 80), (second, 40)):
        assert not table["is_full"]
        assert percent <= 100 * table["utilisation"] < percent + 2
        assert [mix["gets_percent"] for mix in table["mixes"]] == [50, 0]
        for mix in table["mixes"]:
            assert 0 < mix["thread_min_ns"] <= mix["thread_ns"] <= mix["thread_max_ns"]
    assert first["moved_bytes"] > 0
    assert first["in_place_puts"] == 0
    assert (second["put_bytes"], second["moved_bytes"]) == (0, 0)
    assert second["in_place_puts"] > 0


def test_a_cleaner_at_work_is_waited_for():
    options = ("--memory", "67108864", "--value-bytes", "64", "--gets", "0", "--rounds", "3")
    tables = ("--table=live=50,append-only,cleaners=1", "--table=live=80,append-only,cleaners=1")
    for table in told(drive("cubby-utilisation", *options, *tables))["tables"]:
        assert not table["is_full"]


def test_a_table_that_cannot_be_so_full_is_said_to_be_full():
    options = ("--memory", "16777216", "--warm", "1", "--table", "live=99,append-only")
    (table,) = told(drive("cubby-utilisation", *options))["tables"]
    assert table["is_full"]
    assert "mixes" not in table


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("cubby-churn", ["--engines", "bare"], "bare: it has values of one size alone"),
        ("cubby-churn", ["--engines", "cubby"], "cubby: is no table in memory that deletes"),
        ("cubby-churn", ["--sizes", "9-8"], "--sizes: 8"),
        ("cubby-churn", ["--updates", "60", "--turnover", "60"], "more than 100 percent"),
        ("cubby-churn", ["--live", "100"], "--live: 100"),
        ("cubby-churn", ["more"], "unexpected argument: more"),
        ("cubby-utilisation", [], "--table: there is none"),
        ("cubby-utilisation", ["--table", "append-only"], "it needs live=PERCENT"),
        ("cubby-utilisation", ["--table", "live=50,full"], "--table: full"),
        ("cubby-utilisation", ["--table", "live"], "--table: live"),
        ("cubby-utilisation", ["--table", "live=100"], "--table live: 100"),
        ("cubby-utilisation", ["--keys", "latest"], "--keys: latest"),
        ("cubby-utilisation", ["--gets", "50,101"], "--gets: 101"),
        ("cubby-fragment", ["--engine", "cubby"], "cubby: is no table that deletes"),
        ("cubby-fragment", ["--first", "x"], "--first: x"),
    ],
)
def test_wrong_usage_is_refused_in_a_sentence(name, arguments, sentence):
    run = drive(name, *arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert sentence in run.stderr.partition("usage:")[0]


def test_what_nibble_refuses_is_said():
    run = drive("cubby-utilisation", "--memory", "16777216", "--table", "live=50,segment=1000")
    assert (run.returncode, run.stdout) == (1, "")
    assert "segment_bytes must be a power of two" in run.stderr


# The benchmarks ----------------------------------------------------------------------------------


def test_utilisation_tells_its_claims(tmp_path):
    driver("cubby-utilisation")
    content = bench("utilisation", tmp_path, "--quick")
    assert [len(run["tables"]) for run in content["runs"]] == [14, 14, 2, 2, 4]
    claims = content["claims"]
    assert claims["nibble2_puts_at_90_over_30_same_pairs"] > 0
    written = claims["written_at_90_uniform"]
    assert written > 2
    assert claims["written_at_90_uniform_over_simulated"] == pytest.approx(written / 6.0)
    for run in content["runs"]:
        for table in run["tables"]:
            assert table["append_only"] or table["put_bytes"] == 0
    assert is_drawn(tmp_path, "utilisation")


def test_sweep_varies_one_thing_at_a_time(tmp_path):
    driver("cubby-utilisation")
    content = bench("sweep", tmp_path, "--quick")
    for run in content["runs"]:
        default, *others = run["tables"]
        assert default["varied"] == ""
        for table in others:
            name, _, value = table["varied"].partition("=")
            field = {"segment": "segment_bytes", "block": "block_bytes"}.get(name, name)
            assert table[field] == int(value)
            changed = [key for key in ("segment_bytes", "block_bytes", "cleaners")
                       if table[key] != default[key]]  # fmt: skip
            assert changed == [field]
    assert is_drawn(tmp_path, "sweep")


def test_churn_has_nibble_and_its_peers(tmp_path):
    driver("cubby-churn")
    content = bench("churn", tmp_path, "--files", "300", "--operations", "5000")
    engines = [run["runs"][0]["engine"] for run in content["runs"]]
    assert engines == ["nibble"] * 5 + ["libcuckoo", "unordered"]
    first, *others = [run["marks"] for run in content["runs"]]
    assert all(marks == first for marks in others)  # one trace for all
    assert is_drawn(tmp_path, "churn")


def test_growth_grows_and_tells_a_ratio(tmp_path):
    driver("cubby-churn")
    content = bench("growth", tmp_path, "--scale", "0.02", "--rounds", "2")
    assert [run["name"] for run in content["runs"]] == ["growing", "steady"] * 2
    for run in content["runs"]:
        assert run["summary"]["ratio"] > 0
        assert run["summary"]["nibble_ns"] <= run["summary"]["nibble_with_cleaner_ns"]
        assert [each["engine"] for each in run["runs"]] == ["nibble", "bare"] * 2
        assert run["cleaners"] == 1


def test_fragment_is_drawn(tmp_path):
    driver("cubby-fragment")
    content = bench("fragment", tmp_path, "--bytes", "20000000")
    assert {run["engine"] for run in content["runs"]} == {"nibble", "libcuckoo", "unordered"}
    assert is_drawn(tmp_path, "fragment")


def test_hit_ratio_is_below_the_best(tmp_path):
    content = bench("hit_ratio", tmp_path, "--pairs", "2000", "--folder", str(tmp_path))
    for figures in content["workloads"].values():
        assert 0 < figures["hit_ratio"] <= 1
        assert figures["best"] == 1  # at so few pairs the least memory has room for all
        assert figures["share"] == figures["hit_ratio"]
        assert figures["gets"] <= 2048


def test_what_are_no_results_is_not_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "other.json"
    for text in ("{", "[]", '{"benchmark": "ycsb"}', '{"benchmark": "churn", "runs": []}'):
        path.write_text(text)
        run = subprocess.run(
            [sys.executable, "-m", "cubbydb.bench.nibble_plots", path],
            capture_output=True,
            text=True,
        )
        assert run.returncode == 1
        assert "other.json holds no results that can be drawn" in run.stderr
    assert not (tmp_path / "report").exists()
