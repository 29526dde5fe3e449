"""Block devices: memory, file or raw device, emulated drives, and devices that fail on purpose."""

if __name__ != "cubbydb.blockdev":
    raise ImportError("this is cubbydb.blockdev: install the package and import it by that name")

from cubbydb.blockdev.device import BLOCK_BYTES, BlockDevice, DeviceStat, Usage, stored_bytes

__all__ = ["BLOCK_BYTES", "BlockDevice", "DeviceStat", "Usage", "stored_bytes"]
