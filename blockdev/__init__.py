"""Block devices: memory, file or raw device, emulated drives, and devices that fail on purpose.

A device is a row of blocks of BLOCK_BYTES bytes, which are 4,096.  `BlockDevice` reads and writes
them; a store is a `cubbydb.Store`, which opens its device by itself.

>>> from cubbydb.blockdev import BlockDevice
>>> with BlockDevice.create("csd:drive.csd", physical="16M", logical="64M") as drive:
...     drive.write(7, b"x" * 4096)
...     drive.read(7) == b"x" * 4096, drive.usage().physical_bytes < 4096
(True, True)
"""

if __name__ != "cubbydb.blockdev":
    raise ImportError("this is cubbydb.blockdev: install the package and import it by that name")

from cubbydb.blockdev.device import BLOCK_BYTES, BlockDevice, DeviceStat, Usage, stored_bytes

__all__ = ["BLOCK_BYTES", "BlockDevice", "DeviceStat", "Usage", "stored_bytes"]
