"""Sizes on the command line, and for people: 64M, 64.0 MiB."""

import click

from cubbydb.blockdev.sizes import size_in_bytes

__all__ = ["SizeType", "in_bytes"]


class SizeType(click.ParamType[int]):
    """A number of bytes with K, M, G or T after it.

    Args:
        least: the smallest one that is taken, as text.
    """

    name = "size"

    def __init__(self, least: str = "0") -> None:
        self._least = least

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Read the size; a usage error if it is none, or too small."""
        try:
            size = size_in_bytes(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if size < size_in_bytes(self._least):
            self.fail(f"the smallest size is {self._least}, not {value}", param, ctx)
        return size


def in_bytes(count: int) -> str:
    """A number of bytes for people: 1,023 B, 1.0 KiB, 256.0 MiB."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count:,} B" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"
