"""What the tests of mapped regions share."""

from pathlib import Path

import pytest

from cubbydb.mmapio import MappedRegion

PAGE = 4096
PAGES = 512  # of a file
CACHE = "256K"  # 64 pages, so that some always have to leave


def has_views() -> bool:
    with MappedRegion.open("mem:1M") as region:
        return region.has_pointers


VIEWS = has_views()
needs_views = pytest.mark.skipif(not VIEWS, reason="this system refuses userfaultfd")


def make_file(folder: Path, pages: int = PAGES) -> str:
    path = folder / "pages"
    with path.open("wb") as file:
        file.truncate(pages * PAGE)
    return f"file:{path}"
