"""cubbydb.prometheus: what is exposed, read back as Prometheus reads it."""

from typing import cast

import pytest

import cubbydb

prometheus_client = pytest.importorskip("prometheus_client")

from cubby_command import cubby, misused, python  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from cubbydb import prometheus  # noqa: E402


@pytest.fixture
def store(tmp_path):
    with cubbydb.open(tmp_path / 'a "path".cubby', "n", size="4M") as store:
        yield store


def exposed(*stores: cubbydb.Store) -> dict:
    registry = prometheus_client.CollectorRegistry()
    registry.register(prometheus.Collector(*stores))
    text = prometheus_client.generate_latest(registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_every_figure_of_stat_is_exposed_or_named_as_not():
    shown = {*prometheus.METRICS, prometheus.SOURCE, prometheus.LATENCY}
    assert shown | prometheus.NOT_SHOWN == set(cubbydb.StoreStat.__annotations__)
    assert shown & prometheus.NOT_SHOWN == set()


def test_the_exposition_has_the_values_of_stat(store):
    store.put_many((b"%d" % number, bytes(200)) for number in range(500))
    assert store.get(b"7") == bytes(200)
    assert store.get(b"none") is None
    stat = store.stats()
    families = exposed(store)
    for field, metric in prometheus.METRICS.items():
        family = families[f"cubby_{metric.name}"]
        (sample,) = family.samples
        assert family.documentation == metric.help
        assert sample.labels == {"store": store.path}
        assert sample.value == stat[field] / metric.divisor
    assert families["cubby_gets"].samples[0].value == 2
    assert families["cubby_fill_target_ratio"].samples[0].value == 0.5


def test_counters_end_in_total_and_no_gauge_does(store):
    for family in exposed(store).values():
        is_counter = family.type == "counter"
        assert {sample.name.endswith("_total") for sample in family.samples} == {is_counter}


def test_the_source_of_the_bytes_is_a_label(store):
    (sample,) = exposed(store)["cubby_device_info"].samples
    assert sample.labels == {"store": store.path, "source": store.stats()["device_source"]}
    assert sample.value == 1


def test_stores_are_told_apart_and_a_closed_one_has_no_samples(store, tmp_path):
    with cubbydb.open(tmp_path / "other.cubby", "n", size="4M") as other:
        other[b"key"] = b"value"
        assert len(other) == 1  # it has been written to its place, and counts
        values = {
            sample.labels["store"]: sample.value
            for sample in exposed(store, other)["cubby_pairs"].samples
        }
        assert values == {store.path: 0, other.path: 1}
    (sample,) = exposed(store, other)["cubby_pairs"].samples
    assert sample.labels["store"] == store.path


def test_a_second_collector_is_refused_by_the_registry(store):
    registry = prometheus_client.CollectorRegistry()
    registry.register(prometheus.Collector(store))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(prometheus.Collector(store))


def test_latencies_are_histograms_with_exact_counts(store):
    for number in range(200):
        store[b"%d" % number] = bytes(100)
    store.sync()
    latency = store.stats()["latency"]
    family = exposed(store)["cubby_operation_seconds"]
    assert family.type == "histogram"
    found: dict[str, list[tuple[float, float]]] = {operation: [] for operation in latency}
    for sample in family.samples:
        figures = latency[sample.labels["operation"]]
        assert sample.labels["store"] == store.path
        if sample.name.endswith("_bucket"):
            bound = float(sample.labels["le"])
            found[sample.labels["operation"]].append((bound, sample.value))
        elif sample.name.endswith("_count"):
            assert sample.value == figures["count"]
        else:
            assert sample.name == "cubby_operation_seconds_sum"
            assert sample.value == figures["sum_ns"] / 1e9
    bounds_ns = [4**power for power in range(5, 18)]
    for operation, figures in latency.items():
        counts = [
            sum(count for end_ns, count in figures["buckets"] if end_ns <= bound_ns)
            for bound_ns in bounds_ns
        ]
        expected = [(ns / 1e9, count) for ns, count in zip(bounds_ns, counts, strict=True)]
        assert found[operation] == [*expected, (float("inf"), figures["count"])]
    assert found["put"][-1][1] == 200
    assert found["sync"][-1][1] == 1


def test_what_took_longer_than_every_bound_is_in_the_last_bucket_alone():
    buckets = [[1024, 2], [1056, 1], [17179869184, 1], [18253611008, 3]]
    latency = cast(cubbydb.Latency, {"count": 7, "buckets": buckets})
    counts = [count for _, count in prometheus._cumulative(latency)]
    assert counts == [2, *[3] * 11, 4, 7]


def test_text_is_what_a_registry_would_expose(store, tmp_path):
    with cubbydb.open(tmp_path / "other.cubby", "n", size="4M") as other:
        text = prometheus.text(store, other)
    names = {family.name for family in text_string_to_metric_families(text)}
    assert names == set(exposed(store))
    for path in (store.path, other.path):
        label = path.replace('"', '\\"')
        assert f'cubby_pairs{{store="{label}"}} 0.0\n' in text


def test_a_path_that_is_not_utf8_is_escaped(tmp_path):
    with cubbydb.open(bytes(tmp_path) + b"/\xff.cubby", "n", size="4M") as store:
        sample = exposed(store)["cubby_pairs"].samples[0]
    assert sample.labels["store"].endswith("/\\xff.cubby")


def test_the_command_prints_the_text(store):
    store[b"key"] = b"value"
    store.close()
    result = cubby("stat", store.path, "--prometheus")
    assert (result.exit_code, result.stderr) == (0, "")
    families = {family.name: family for family in text_string_to_metric_families(result.stdout)}
    assert families["cubby_pairs"].samples[0].value == 1


@pytest.mark.parametrize("words", [["--json"], ["--watch", "1"]])
def test_the_command_prints_text_or_something_else(store, words):
    result = cubby("stat", store.path, "--prometheus", *words)
    assert misused(result, "--prometheus goes with neither --json nor --watch")


def test_without_the_extra_both_say_what_to_install(store, tmp_path):
    store.close()
    run = python(
        """
        import sys
        sys.modules["prometheus_client"] = None  # as if it was not installed
        try:
            import cubbydb.prometheus
        except ImportError as error:
            print(error)
        from cubbydb.cli.main import main
        main(["stat", sys.argv[1], "--prometheus"])
        """,
        store.path,
        cwd=tmp_path,
    )
    sentence = "cubbydb.prometheus needs prometheus-client: pip install cubbydb[prometheus]"
    assert run.stdout == f"{sentence}\n"
    assert run.stderr.endswith(f"Error: {sentence}\n")
    assert run.returncode == 2
