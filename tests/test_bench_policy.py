"""Which pages a region keeps beside other policies, as small as it goes."""

import pytest
from bench_drivers import bench, drive, driver, told

SMALL = ("--pages", "1280", "--accesses", "20000", "--json")


def test_nobody_hits_more_than_the_best():
    answer = told(drive("cubby-policy", *SMALL, "--cache", "128"))
    traces = answer["traces"]
    assert set(traces) == {"uniform", "zipf", "zipf-80", "scanned", "loop", "shifting"}
    for hits in traces.values():
        assert all(0 <= count <= hits["min"] < 20000 for count in hits.values())
    loop = traces["loop"]
    assert loop["lru"] == loop["fifo"] == 0
    assert loop["min"] == pytest.approx(20000 * 127 / 159, rel=0.01)
    uniform = traces["uniform"]
    for kind in ("fifo", "clock", "lru", "s3-fifo"):
        assert uniform[kind] == pytest.approx(2000, rel=0.15)
    for skewed in ("zipf", "scanned"):
        assert traces[skewed]["fifo"] < traces[skewed]["pins"]
        assert traces[skewed]["fifo"] < traces[skewed]["lru"] < traces[skewed]["s3-fifo"]


def test_the_benchmark_is_written(tmp_path):
    driver("cubby-policy")
    content = bench("policy", tmp_path, "--pages", "1280", "--accesses", "5000")
    assert [run["cache"] for run in content["runs"]] == [320, 128]


@pytest.mark.parametrize(
    "options", [("--cache", "63"), ("--pages", "200", "--cache", "190"), ("x",)]
)
def test_wrong_usage_is_told(options):
    assert drive("cubby-policy", *options).returncode == 2
