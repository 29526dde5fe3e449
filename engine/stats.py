"""What Store.stats returns, and how it is gathered from the C side.

Depends on: session.py.  Used by: store.py.
"""

from typing import Any, TypedDict, cast

from cubbydb._native import ffi, lib
from cubbydb.engine.session import Session

__all__ = ["OPERATIONS", "Latency", "StoreStat", "gather_stats"]

# Operation -> its number; what each is, says enum cubby_operation in engine/cubby.h.
OPERATIONS: dict[str, int] = {
    name.removeprefix("CUBBY_OPERATION_").lower(): number
    for number, name in sorted(ffi.typeof("enum cubby_operation").elements.items())
    if number != lib.CUBBY_OPERATION_COUNT
}
STAT_FIELDS = [name for name, _ in ffi.typeof("struct cubby_stat").fields]
LATENCY_FIELDS = [
    name
    for name, _ in ffi.typeof("struct cubby_latency").fields
    if name not in {"bucket_count", "buckets"}
]


class Latency(TypedDict):
    """How long the calls of one operation have taken since the store was opened.

    Of gets and deletes one in 17 is timed, and all figures are of those that were: percentiles
    and mean are the same, the longest call may have been missed.  A percentile is the end of its
    bucket, at most 3 % above; 0 where no call was timed.
    """

    one_in: int  # 1: every call is timed
    count: int
    sum_ns: int
    max_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int  # 99.9 %
    mean_ns: float
    """0 where no call was timed."""
    buckets: list[list[int]]  # [end in ns, calls up to it and above the end before], none empty


class StoreStat(TypedDict):
    """What Store.stats returns: the fields of struct cubby_stat in engine/cubby.h, and two more.

    Counters run from the opening of the store, gauges are of now.  json.dumps takes all of it.
    """

    pairs: int
    pair_bytes: int
    blobs: int
    segments: int
    home_blocks: int
    spill_blocks: int
    logical_bytes: int
    used_bytes: int
    quarantined_bytes: int
    fill_percent: int
    format_version: int
    feature_bits: int
    directory_bytes: int
    bitmap_bytes: int
    device_logical_bytes: int
    device_physical_bytes: int
    device_capacity_bytes: int
    device_compresses: int
    space_mark: int  # 0 to 3: none, warn, no growth, read and delete only; see StoreOptions
    device_source: str  # who tells the bytes: "zram", "st_blocks", "csd", ..., or "none"
    gets: int
    get_misses: int
    puts: int
    deletes: int
    get_home_reads: int
    get_spill_reads: int
    get_blob_reads: int
    get_retry_reads: int
    cache_hits: int
    """Keys that gets found in the cache, without a read of the device."""
    inserted_bytes: int
    rebuilt_bytes: int
    rebuilds: int
    splits: int
    checkpoints: int
    longest_put_ns: int
    longest_rebuild_ns: int
    blocks_read: int
    blocks_written: int
    dirty_pairs: int
    """In the log, and not in their place yet; deletes, too.  The first figures do not count them.
    """
    dirty_bytes: int
    dirty_limit_bytes: int
    log_bytes: int
    log_capacity_bytes: int
    degraded: int
    cache_limit_bytes: int
    cache_bytes: int
    cache_pairs: int
    cache_evicted: int
    cache_moved_bytes: int
    region_limit_bytes: int
    region_bytes: int
    """Of the blocks that are in memory, with io "mmap"; else 0, as the one before and after it."""
    region_evicted_blocks: int
    log_records: int
    log_appended_bytes: int
    log_writes: int
    log_flushes: int
    written_back_pairs: int
    home_writes: int
    spill_writes: int
    logged_again: int
    recovered: int
    lost_pairs: int
    replayed_pairs: int
    replayed_records: int
    replayed_bytes: int
    replay_ns: int
    torn_blocks: int
    device_reads_per_get: float | None
    """All four classes of reads by gets; None before the first get."""
    latency: dict[str, Latency]
    """By operation: "get", "put_many", and so on."""


def gather_stats(session: Session, path: str) -> StoreStat:
    """Ask the C side for all figures; the session is marked busy by the caller."""
    native = ffi.new("struct cubby_stat *")
    status = lib.cubby_stat(session.handle, native)
    if status != 0:
        session.fail(status, path)
    stat: dict[str, Any] = {name: getattr(native, name) for name in STAT_FIELDS}
    stat["device_source"] = ffi.string(native.device_source).decode()
    kinds = ("home", "spill", "blob", "retry")
    reads: int = sum(getattr(native, f"get_{kind}_reads") for kind in kinds)
    stat["device_reads_per_get"] = reads / native.gets if native.gets else None
    stat["latency"] = _gather_latency(session, path)
    return cast(StoreStat, stat)


def _gather_latency(session: Session, path: str) -> dict[str, Latency]:
    native = ffi.new("struct cubby_latency *")
    numbers = ffi.cast("uint64_t *", native.buckets)
    latency: dict[str, Latency] = {}
    for operation, number in OPERATIONS.items():
        status = lib.cubby_stat_latency(session.handle, number, native)
        if status != 0:
            session.fail(status, path)
        figures: dict[str, Any] = {name: getattr(native, name) for name in LATENCY_FIELDS}
        figures["mean_ns"] = native.sum_ns / native.count if native.count else 0.0
        flat = ffi.unpack(numbers, 2 * native.bucket_count)
        figures["buckets"] = [list(bucket) for bucket in zip(flat[::2], flat[1::2], strict=True)]
        latency[operation] = cast(Latency, figures)
    return latency
