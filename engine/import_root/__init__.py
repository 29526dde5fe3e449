"""CubbyDB: a table-less hash key-value store for devices that compress transparently.

A key is hashed straight to a block of 4 KiB in a file or on a raw device; no table of keys is kept
in memory, and a get is one device read.  Keys and values are bytes.

>>> import cubbydb
>>> with cubbydb.open("data.cubby", "c", size="64M") as store:
...     store[b"greeting"] = b"hello"
...     store.update({b"user1": b"Ada", b"user2": b"Alan"})
...     store.sync()
>>> with cubbydb.open("data.cubby") as store:
...     print(store[b"greeting"], store.get(b"absent"), len(store))
...     print(sorted(store.scan(prefix=b"user", keys_only=True)))
b'hello' None 3
[b'user1', b'user2']

`open` gives a `Store`, which is a `MutableMapping`: what works on a dict of bytes works on it.  In
the examples of these pages *store* is an open, empty one.

| to | there is |
|---|---|
| put and get | `Store.put`, `Store.get`, many at once: `Store.put_many`, `Store.get_many` |
| get without a bytes object | `Store.get_into`, `Store.get_view` |
| change a pair depending on what it is | `Store.add`, `Store.compare_and_swap`, `Store.incr`, ... |
| go through all pairs, or page by page | `Store.scan`, `Scan.cursor` |
| keep several mappings in one store | `Store.space` |
| change several pairs, all or none | `Store.batch` |
| have a change survive a power cut, or nothing | *durability* of `open`, and of each call |
| let pairs expire | `Store.put` with *ttl*, `Store.ttl`, `Store.expire`, `Store.compact` |
| await instead of wait | `Store.aget`, `Store.aget_many`, `Store.aput`, `Store.adelete` |
| see how full it is, and make it larger | `Store.stats`, `Store.resize` |
| look for damage, and repair it | `Store.check`, `Store.repair` |
| keep pairs in memory alone, within a number of bytes | `Nibble` |
| keep numbers by numbers in memory, in order: the next key, ranges | `VoliMap` |
| look at single blocks | `Store.inspect_lba`, `Store.inspect_key` |

# What is promised

- When a call that changes a pair has returned, the change survives the death of the process
  (kill -9): that is the *durability* "process".  With "power" it survives a power cut, too; with
  "none" nothing yet.  The store has one, and each call may have another.  What a crash takes is
  always a tail: the changes of the last moments, the latest first.
- After `Store.sync` everything before it survives a power cut.  After `Store.close` nothing is
  lost, and the next opening has nothing to recover.
- Each pair is changed by itself, but for those of a `Batch`: after a crash all of them are there,
  or none.  There are neither transactions nor snapshots.
- Threads may share one store, and of several that change one key each sees what the one before it
  has left.  The interpreter's lock is released while the device works.  A `Scan` belongs to the
  thread that made it.
- One process at a time may have a store open to write, and nobody else then has it open; or any
  number have it open to read.  Whoever comes second gets `cubbydb.errors.Locked`.  In a forked
  child a store of its parent raises `cubbydb.errors.Forked`.
- Every block has a checksum, and damage is `cubbydb.errors.Corrupt`.

Keys have 1 to 65,535 bytes, values 0 bytes to 1 GiB.  Pairs come in an order without meaning.

# The other modules

- `cubbydb.errors`: every exception.
- `cubbydb.dbm`: a store as a dbm database, for shelve.
- `cubbydb.prometheus`: the figures of `Store.stats` for Prometheus.
- `cubbydb.blockdev`: block devices without a store on them, and emulated drives.
"""

from cubbydb import errors
from cubbydb._native import ffi, lib
from cubbydb.engine.inspection import BlockInspection, KeyLocation, SegmentInspection
from cubbydb.engine.nibble_mapping import Nibble, NibbleStat
from cubbydb.engine.options import StoreOptions
from cubbydb.engine.stats import Latency, StoreStat
from cubbydb.engine.store import Batch, Compaction, Damage, Scan, Space, Store, open
from cubbydb.engine.volimap_mapping import VoliMap, VoliMapStat

__all__ = [
    "Batch",
    "BlockInspection",
    "Compaction",
    "Damage",
    "KeyLocation",
    "Latency",
    "Nibble",
    "NibbleStat",
    "Scan",
    "SegmentInspection",
    "Space",
    "Store",
    "StoreOptions",
    "StoreStat",
    "VoliMap",
    "VoliMapStat",
    "__version__",
    "errors",
    "open",
]

__version__: str = ffi.string(lib.cubby_version()).decode()
"""The version of CubbyDB, as in "0.1.0"; that of the format on the device is in Store.stats."""

del ffi, lib
