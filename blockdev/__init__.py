"""Block devices: memory, file or raw device, and devices that fail on purpose."""

if __name__ != "cubbydb.blockdev":
    raise ImportError("this is cubbydb.blockdev: install the package and import it by that name")
