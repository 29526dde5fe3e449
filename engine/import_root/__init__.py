"""CubbyDB: a table-less hash key-value store for devices that compress.

    with cubbydb.open("data.cubby", "c", size="256M") as store:
        store[b"key"] = b"value"

Keys and values are bytes.  The errors are in cubbydb.errors.
"""

from cubbydb import errors
from cubbydb._native import ffi, lib
from cubbydb.engine.options import StoreOptions
from cubbydb.engine.stats import Latency, StoreStat
from cubbydb.engine.store import Damage, Scan, Space, Store, open

__all__ = [
    "Damage",
    "Latency",
    "Scan",
    "Space",
    "Store",
    "StoreOptions",
    "StoreStat",
    "__version__",
    "errors",
    "open",
]

__version__: str = ffi.string(lib.cubby_version()).decode()

del ffi, lib
