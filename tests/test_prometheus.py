"""cubbydb.prometheus: what is exposed, read back as Prometheus reads it."""

import pytest

import cubbydb

prometheus_client = pytest.importorskip("prometheus_client")

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
    shown = {*prometheus.METRICS, prometheus.SOURCE}
    assert shown | prometheus.NOT_SHOWN == set(cubbydb.StoreStat.__annotations__)
    assert shown & prometheus.NOT_SHOWN == set()


def test_the_exposition_has_the_values_of_stat(store):
    store.put_many((b"%d" % number, bytes(200)) for number in range(500))
    assert store.get(b"7") == bytes(200)
    assert store.get(b"none") is None
    stat = store.stat()
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
        assert [sample.name.endswith("_total") for sample in family.samples] == [is_counter]


def test_the_source_of_the_bytes_is_a_label(store):
    (sample,) = exposed(store)["cubby_device_info"].samples
    assert sample.labels == {"store": store.path, "source": store.stat()["device_source"]}
    assert sample.value == 1


def test_stores_are_told_apart_and_a_closed_one_has_no_samples(store, tmp_path):
    with cubbydb.open(tmp_path / "other.cubby", "n", size="4M") as other:
        other[b"key"] = b"value"
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
