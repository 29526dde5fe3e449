"""Memory-mapped I/O over any block device."""

if __name__ != "cubbydb.mmapio":
    raise ImportError("this is cubbydb.mmapio: install the package and import it by that name")
