"""Memory-mapped I/O over any block device: files, raw devices, emulated drives, memory.

A `MappedRegion` gives each byte of a device an address, and holds what is in use in a cache of a
fixed size.  What is stored reaches the device later, or by sync.

>>> from cubbydb.mmapio import MappedRegion
>>> with MappedRegion.open("mem:64M", cache_bytes="1M") as region:
...     with region.view(1 << 20, 4096) as memory:
...         memory[:5] = b"hello"
...     region.sync()
...     region.read(1 << 20, 8)
b'hello\\x00\\x00\\x00'
"""

if __name__ != "cubbydb.mmapio":
    raise ImportError("this is cubbydb.mmapio: install the package and import it by that name")

from cubbydb.mmapio.region import MappedRegion, RegionStats
from cubbydb.mmapio.view import View

__all__ = ["MappedRegion", "RegionStats", "View"]
