"""A store's figures for Prometheus: pip install cubbydb[prometheus].

>>> from prometheus_client import CollectorRegistry, generate_latest
>>> from cubbydb.prometheus import Collector
>>> registry = CollectorRegistry()
>>> registry.register(Collector(store))
>>> store[b"key"] = b"value"
>>> b'cubby_puts_total{store="%s"} 1.0' % store.path.encode() in generate_latest(registry)
True

`prometheus_client.start_http_server(9121, registry=registry)` serves them.  The figures are
gathered when they are asked for, and at no other time.  Every sample has the label store, which is
the store's path.  A closed store has no samples; in a forked child its parent's store raises
errors.Forked.  text returns the figures without a registry or a server.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

try:
    from prometheus_client import generate_latest
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )
    from prometheus_client.registry import Collector as _Collector
    from prometheus_client.registry import CollectorRegistry
except ModuleNotFoundError as error:
    raise ImportError(
        "cubbydb.prometheus needs prometheus-client: pip install cubbydb[prometheus]"
    ) from error

from cubbydb import errors
from cubbydb.engine.stats import Latency, StoreStat
from cubbydb.engine.store import Store

__all__ = ["Collector", "text"]

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily

NS_PER_SECOND = 1e9


class Metric(NamedTuple):
    """How one figure of StoreStat is shown; a counter's name gets _total behind it."""

    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    name: str
    help: str
    divisor: float = 1


COUNTER = CounterMetricFamily
GAUGE = GaugeMetricFamily

# Each figure of StoreStat but those below.
METRICS: dict[str, Metric] = {
    "pairs": Metric(GAUGE, "pairs", "Pairs in the store, but for those that are dirty."),
    "pair_bytes": Metric(GAUGE, "pair_bytes", "Their keys and values."),
    "blobs": Metric(GAUGE, "blobs", "Pairs too large to sit in a home block."),
    "segments": Metric(GAUGE, "segments", "Segments of the store."),
    "home_blocks": Metric(GAUGE, "home_blocks", "Home blocks of all segments."),
    "spill_blocks": Metric(GAUGE, "spill_blocks", "Spill blocks of all segments."),
    "logical_bytes": Metric(GAUGE, "logical_bytes", "The size of the store."),
    "used_bytes": Metric(GAUGE, "used_bytes", "Taken by segments, blobs and checkpoints."),
    "quarantined_bytes": Metric(
        GAUGE, "quarantined_bytes", "Freed, but not reusable before the next checkpoint."
    ),
    "fill_percent": Metric(GAUGE, "fill_target_ratio", "How full blocks are made.", 100),
    "format_version": Metric(GAUGE, "format_version", "Version of the format on the device."),
    "feature_bits": Metric(GAUGE, "feature_bits", "Incompatible feature bits of the format."),
    "directory_bytes": Metric(GAUGE, "directory_bytes", "Memory of the directory of segments."),
    "bitmap_bytes": Metric(GAUGE, "bitmap_bytes", "Memory of the allocation bitmaps."),
    "device_logical_bytes": Metric(
        GAUGE, "device_logical_bytes", "Blocks that hold something, before compression."
    ),
    "device_physical_bytes": Metric(
        GAUGE, "device_physical_bytes", "What these blocks take up in the device; 0 if untold."
    ),
    "device_capacity_bytes": Metric(
        GAUGE, "device_capacity_bytes", "Physical bytes there are for them; 0 if untold."
    ),
    "device_compresses": Metric(GAUGE, "device_compresses", "Whether the device compresses."),
    "space_mark": Metric(
        GAUGE, "space_mark", "0 room, 1 warning, 2 no growth, 3 reads and deletes only."
    ),
    "gets": Metric(COUNTER, "gets", "Keys asked for by get, contains and get_many."),
    "get_misses": Metric(COUNTER, "get_misses", "Keys asked for and not found."),
    "puts": Metric(COUNTER, "puts", "Pairs put."),
    "deletes": Metric(COUNTER, "deletes", "Pairs deleted."),
    "get_home_reads": Metric(COUNTER, "get_home_reads", "Device reads by gets: home blocks."),
    "get_spill_reads": Metric(COUNTER, "get_spill_reads", "Device reads by gets: spill blocks."),
    "get_blob_reads": Metric(COUNTER, "get_blob_reads", "Device reads by gets: blobs."),
    "get_retry_reads": Metric(
        COUNTER, "get_retry_reads", "Device reads by gets, repeated as something had moved."
    ),
    "cache_hits": Metric(COUNTER, "cache_hits", "Keys that gets found in memory."),
    "inserted_bytes": Metric(COUNTER, "inserted_bytes", "Pairs put that were not there before."),
    "rebuilt_bytes": Metric(COUNTER, "rebuilt_bytes", "Pairs rewritten by rebuilds and splits."),
    "rebuilds": Metric(COUNTER, "rebuilds", "Segments rebuilt."),
    "splits": Metric(COUNTER, "splits", "Segments split."),
    "checkpoints": Metric(COUNTER, "checkpoints", "Checkpoints written."),
    "longest_put_ns": Metric(
        GAUGE, "longest_put_seconds", "The longest put since the opening.", NS_PER_SECOND
    ),
    "longest_rebuild_ns": Metric(
        GAUGE, "longest_rebuild_seconds", "The longest rebuild or split so far.", NS_PER_SECOND
    ),
    "blocks_read": Metric(COUNTER, "blocks_read", "Blocks of 4,096 bytes read by anything."),
    "blocks_written": Metric(COUNTER, "blocks_written", "Blocks of 4,096 bytes written."),
    "dirty_pairs": Metric(GAUGE, "dirty_pairs", "Pairs in the log, not in their place yet."),
    "dirty_bytes": Metric(GAUGE, "dirty_bytes", "Memory that they take."),
    "dirty_limit_bytes": Metric(GAUGE, "dirty_limit_bytes", "Memory that they may take."),
    "log_bytes": Metric(GAUGE, "log_bytes", "Of the log that a recovery would read now."),
    "log_capacity_bytes": Metric(GAUGE, "log_capacity_bytes", "Bytes that the log has room for."),
    "degraded": Metric(GAUGE, "degraded", "Whether writing back failed, and writes are refused."),
    "cache_limit_bytes": Metric(GAUGE, "cache_limit_bytes", "Memory for cached and dirty pairs."),
    "cache_bytes": Metric(GAUGE, "cache_bytes", "Memory that cached pairs take."),
    "cache_pairs": Metric(GAUGE, "cache_pairs", "Pairs in the cache."),
    "cache_evicted": Metric(COUNTER, "cache_evicted", "Pairs that the cache has evicted."),
    "cache_moved_bytes": Metric(
        COUNTER, "cache_moved_bytes", "Bytes of pairs in memory that compaction moved."
    ),
    "region_limit_bytes": Metric(GAUGE, "region_limit_bytes", "Memory for blocks, with io mmap."),
    "region_bytes": Metric(GAUGE, "region_bytes", "Memory that blocks take."),
    "region_evicted_blocks": Metric(
        COUNTER, "region_evicted_blocks", "Blocks that the region has evicted."
    ),
    "log_records": Metric(COUNTER, "log_records", "Records appended to the log."),
    "log_appended_bytes": Metric(COUNTER, "log_appended_bytes", "Bytes of these records."),
    "log_writes": Metric(COUNTER, "log_writes", "Writes of the log to the device or page cache."),
    "log_flushes": Metric(COUNTER, "log_flushes", "Flushes of the device for commits and syncs."),
    "written_back_pairs": Metric(
        COUNTER, "written_back_pairs", "Pairs of the log that have reached their place."
    ),
    "home_writes": Metric(COUNTER, "home_writes", "Home blocks written in place for them."),
    "spill_writes": Metric(COUNTER, "spill_writes", "Spill blocks written in place for them."),
    "logged_again": Metric(COUNTER, "logged_again", "Hot pairs moved to the end of the log."),
    "recovered": Metric(GAUGE, "recovered", "Whether the last stop was not clean."),
    "lost_pairs": Metric(GAUGE, "lost_pairs", "Pairs that recovery had to give up."),
    "replayed_pairs": Metric(GAUGE, "replayed_pairs", "Pairs that opening found in the log."),
    "replayed_records": Metric(GAUGE, "replayed_records", "Records of the log that it read."),
    "replayed_bytes": Metric(GAUGE, "replayed_bytes", "Bytes of the log that it read."),
    "replay_ns": Metric(GAUGE, "replay_seconds", "How long that took.", NS_PER_SECOND),
    "torn_blocks": Metric(GAUGE, "torn_blocks", "Torn blocks that opening has restored."),
}
SOURCE = "device_source"  # the info metric's label
LATENCY = "latency"  # the histograms
# From about a microsecond to 17 seconds, in steps of four.  Powers of two in nanoseconds are ends
# of the store's own buckets, so that the count up to each is exact.
LATENCY_BOUNDS_NS = [1 << bits for bits in range(10, 36, 2)]
NOT_SHOWN = {"device_reads_per_get"}  # the ratio of counters that are


class Collector(_Collector):
    """The figures of one or more stores, to be registered with a registry of prometheus-client.

    Args:
        stores: stores of different paths; they stay their owner's to close.
    """

    def __init__(self, *stores: Store) -> None:
        self._stores = stores

    def describe(self) -> Iterator[_Family]:
        """The metrics without their samples, by which a registry finds duplicates."""
        yield from _empty_families().values()

    def collect(self) -> Iterator[_Family]:
        """The metrics, with one sample per store that is open."""
        families = _empty_families()
        for store in self._stores:
            try:
                stat = store.stats()
            except errors.Forked:
                raise  # a mistake to be told, not an end that was meant
            except errors.Closed:
                continue
            # Prometheus reads UTF-8, and a path may be any bytes.
            path = os.fsencode(store.path).decode(errors="backslashreplace")
            for field, family in families.items():
                _add(family, field, path, stat)
        yield from families.values()


def text(*stores: Store) -> str:
    """The figures of stores as text for Prometheus to read, also from a file."""
    registry = CollectorRegistry()
    registry.register(Collector(*stores))
    return generate_latest(registry).decode()


def _empty_families() -> dict[str, _Family]:
    families: dict[str, _Family] = {
        field: metric.kind(f"cubby_{metric.name}", metric.help, labels=["store"])
        for field, metric in METRICS.items()
    }
    families[SOURCE] = InfoMetricFamily("cubby_device", "Who tells its bytes.", labels=["store"])
    families[LATENCY] = HistogramMetricFamily(
        "cubby_operation_seconds",
        "How long calls took: all, but of gets and deletes one in 17.",
        labels=["store", "operation"],
    )
    return families


def _add(family: _Family, field: str, path: str, stat: StoreStat) -> None:
    if isinstance(family, InfoMetricFamily):
        family.add_metric([path], {"source": stat["device_source"]})
    elif isinstance(family, HistogramMetricFamily):
        for operation, latency in stat["latency"].items():
            seconds = latency["sum_ns"] / NS_PER_SECOND
            family.add_metric([path, operation], _cumulative(latency), seconds)
    else:
        family.add_metric([path], stat[field] / METRICS[field].divisor)  # type: ignore[literal-required]


def _cumulative(latency: Latency) -> list[tuple[str, float]]:
    """Bounds in seconds, and how many calls took no longer."""
    counts: list[tuple[str, float]] = [
        (
            str(bound_ns / NS_PER_SECOND),
            sum(count for end_ns, count in latency["buckets"] if end_ns <= bound_ns),
        )
        for bound_ns in LATENCY_BOUNDS_NS
    ]
    return [*counts, ("+Inf", latency["count"])]
