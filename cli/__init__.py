"""The command cubby: words only; what they do is in cubbydb.engine."""

if __name__ != "cubbydb.cli":
    raise ImportError("this is cubbydb.cli: install the package and import it by that name")
