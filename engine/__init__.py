"""The storage engine: Store and StoreOptions, the Python face of engine/cubby.h."""

if __name__ != "cubbydb.engine":
    raise ImportError("this is cubbydb.engine: install the package and import it by that name")
