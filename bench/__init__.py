"""Benchmarks: what is measured, against what, and the figures as JSON."""

if __name__ != "cubbydb.bench":
    raise ImportError("this is cubbydb.bench: install the package and import it by that name")
