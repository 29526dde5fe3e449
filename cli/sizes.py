"""Sizes on the command line: 64M."""

import click

from cubbydb.blockdev.sizes import size_in_bytes

__all__ = ["SizeType"]


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
