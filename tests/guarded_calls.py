"""Every public call of every object that ends with a store or a device, for test_guards.py.

A call that is neither in these tables, nor in a set of those that need nothing of what has ended,
fails a test there: so a new method says here what becomes of it after close and in a child.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import cubbydb
from cubbydb import dbm, prometheus
from cubbydb.blockdev import BlockDevice

BLOCK = bytes(4096)
PAIRS = {b"%d" % number: b"1" for number in range(100)}
CONTEXT = {"__enter__", "__exit__", "__reduce__", "__repr__", "close"}

Calls = dict[str, Callable[[Any], Any]]

MAPPING: Calls = {
    "__getitem__": lambda it: it[b"1"],
    "__setitem__": lambda it: it.__setitem__(b"1", b"2"),
    "__delitem__": lambda it: it.__delitem__(b"1"),
    "__contains__": lambda it: b"1" in it,
    "__iter__": lambda it: list(it),
    "__len__": len,
    "__eq__": lambda it: it == PAIRS,
    "clear": lambda it: it.clear(),
    "get": lambda it: it.get(b"1"),
    "items": lambda it: list(it.items()),
    "keys": lambda it: list(it.keys()),
    "pop": lambda it: it.pop(b"1", None),
    "popitem": lambda it: it.popitem(),
    "setdefault": lambda it: it.setdefault(b"1", b"2"),
    "update": lambda it: it.update(PAIRS),
    "values": lambda it: list(it.values()),
}
BYTES_MAPPING = MAPPING | {
    "delete": lambda it: it.delete(b"1"),
    "get_many": lambda it: it.get_many([b"1"]),
    "put": lambda it: it.put(b"1", b"2"),
    "put_many": lambda it: it.put_many(PAIRS),
    "scan": lambda it: it.scan(),
}
EXPIRING_MAPPING = BYTES_MAPPING | {
    "batch": lambda it: it.batch().close(),
    "expire": lambda it: it.expire(b"1", 60),
    "ttl": lambda it: it.ttl(b"1"),
}
STORE = EXPIRING_MAPPING | {
    "add": lambda it: it.add(b"1", b"2"),
    "adelete": lambda it: run(lambda: it.adelete(b"1")),
    "aget": lambda it: run(lambda: it.aget(b"1")),
    "aget_many": lambda it: run(lambda: it.aget_many([b"1"])),
    "aput": lambda it: run(lambda: it.aput(b"1", b"2")),
    "check": lambda it: it.check(),
    "check_progress": lambda it: it.check_progress(),
    "compact": lambda it: it.compact(),
    "compare_and_swap": lambda it: it.compare_and_swap(b"1", None, None),
    "delete_many": lambda it: it.delete_many([b"1"]),
    "get_into": lambda it: it.get_into(b"1", bytearray(9)),
    "get_view": lambda it: it.get_view(b"1"),
    "incr": lambda it: it.incr(b"1"),
    "inspect_key": lambda it: it.inspect_key(b"1"),
    "inspect_lba": lambda it: it.inspect_lba(0),
    "inspect_segment": lambda it: it.inspect_segment(0),
    "put_until": lambda it: it.put_until(b"1", b"2", None),
    "repair": lambda it: it.repair(),
    "replace": lambda it: it.replace(b"1", b"2"),
    "resize": lambda it: it.resize("16M"),
    "stats": lambda it: it.stats(),
    "step": lambda it: it.step(),
    "sync": lambda it: it.sync(),
}
BATCH: Calls = {
    "__setitem__": lambda it: it.__setitem__(b"1", b"2"),
    "__delitem__": lambda it: it.__delitem__(b"1"),
    "clear": lambda it: it.clear(),
    "commit": lambda it: it.commit(),
    "delete": lambda it: it.delete(b"1"),
    "put": lambda it: it.put(b"1", b"2"),
}
SCAN: Calls = {"__next__": next}
VIEW: Calls = {"__contains__": lambda it: b"1" in it, "__iter__": lambda it: list(it)} | {
    "__len__": len
}
DEVICE: Calls = {
    "block_count": lambda it: it.block_count,
    "discard": lambda it: it.discard(0, 1),
    "flush": lambda it: it.flush(),
    "kind": lambda it: it.kind,
    "read": lambda it: it.read(0),
    "read_into": lambda it: it.read_into(0, bytearray(BLOCK)),
    "read_many": lambda it: it.read_many([0]),
    "resize": lambda it: it.resize(1),
    "stat": lambda it: it.stat(),
    "usage": lambda it: it.usage(),
    "write": lambda it: it.write(0, BLOCK),
}


def run(call: Callable[[], Awaitable[Any]]) -> Any:
    """What is awaited, in a loop of its own."""

    async def main() -> Any:
        return await call()

    return asyncio.run(main())


def set_calls(element: object) -> Calls:
    """What a view that is a set can do more, each with another set that has one element of it."""
    names = {"isdisjoint"}
    names |= {f"__{name}__" for name in ("and", "or", "sub", "xor", "rand", "ror", "rsub", "rxor")}
    names |= {f"__{name}__" for name in ("lt", "le", "gt", "ge", "eq")}
    return {name: lambda it, name=name: call_and_use(it, name, {element}) for name in names}


def call_and_use(view: Any, name: str, other: set[Any]) -> None:
    found = getattr(view, name)(other)
    assert found is not NotImplemented


class Guarded(NamedTuple):
    """One object, the calls that must fail, and the public names that need nothing that ended."""

    thing: Any
    calls: Calls
    quiet: set[str] = CONTEXT


# What is called of an object, though nobody defines it for it: as objects, generics and abstract
# classes have it.
MACHINERY = {"__class_getitem__", "__init__", "__init_subclass__", "__subclasshook__", "__del__"}


def public_names(kind: type) -> set[str]:
    """Public methods and properties of a class, and special methods that it or its bases define."""
    return {
        name
        for base in kind.__mro__
        if base is not object
        for name, value in vars(base).items()
        if not name.startswith("_") or (name.endswith("__") and callable(value))
    } - MACHINERY


@contextmanager
def all_guarded(store: cubbydb.Store, device: BlockDevice) -> Iterator[dict[str, Guarded]]:
    """Everything that a store and a device give out, with iterators that are under way."""
    store.put_many(PAIRS)
    space = store.space(b"name")
    space.put_many(PAIRS)
    begun = [store.scan(), space.scan(), store.scan(keys_only=True), iter(store.values())]
    for iterator in begun:
        next(iterator)
    pairs, space_pairs, keys, values = begun
    batches = [store.batch(), space.batch()]
    for batch in batches:
        batch[b"2"] = b"3"
    store_quiet = CONTEXT | {"closed", "path", "read_only", "space"}
    scan_quiet = CONTEXT - {"__repr__"} | {"__iter__", "cursor", "expires", "expires_ms"}
    yield {
        "store": Guarded(store, STORE, store_quiet),
        "space": Guarded(
            space,
            EXPIRING_MAPPING | {"__bool__": bool},
            {"__repr__", "prefix", "space", "store"},
        ),
        "batch": Guarded(batches[0], BATCH, CONTEXT | {"__bool__", "__len__"}),
        "batch of a space": Guarded(batches[1], BATCH, CONTEXT | {"__bool__", "__len__"}),
        "scan": Guarded(pairs, SCAN, scan_quiet),
        "scan of a space": Guarded(space_pairs, SCAN, scan_quiet),
        "scan of keys": Guarded(keys, SCAN, scan_quiet),
        "iterator of values": Guarded(values, SCAN, {*public_names(type(values))} - {"__next__"}),
        "keys": Guarded(store.keys(), VIEW | set_calls(b"1"), {"__repr__"}),
        "items": Guarded(
            store.items(),
            VIEW | set_calls((b"1", b"1")) | {"__contains__": lambda it: (b"1", b"1") in it},
            {"__repr__"},
        ),
        "values": Guarded(store.values(), VIEW, {"__repr__"}),
        "device": Guarded(
            device, DEVICE, CONTEXT | {"closed", "create", "name", "open", "read_only"}
        ),
        "database": Guarded(
            dbm.Database(store),
            MAPPING | {"sync": lambda it: it.sync()},
            CONTEXT - {"__repr__"} | {"store"},
        ),
        "collector": Guarded(
            prometheus.Collector(store), {"collect": lambda it: list(it.collect())}, {"describe"}
        ),
    }
    for under_way in (*begun, *batches):
        under_way.close()


def ends_of_calls(guarded: dict[str, Guarded]) -> dict[str, BaseException | None]:
    """What each call raised: "store.get" -> the exception, None if there was none."""
    ends: dict[str, BaseException | None] = {}
    for name, (thing, calls, _) in guarded.items():
        for call_name, call in calls.items():
            ends[f"{name}.{call_name}"] = None
            try:
                call(thing)
            except Exception as error:
                # The error of dbm has that of the store as its cause.
                ends[f"{name}.{call_name}"] = error.__cause__ or error
    return ends
