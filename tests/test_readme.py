"""readme.py: that it finds lines of a README that are not true, and says what it leaves out."""

import pytest
import readme

TRUE = """
# A README

    cubby create data.cubby --size 16M \\
        --fill 0.4
    cubby put data.cubby key value

Then

```python
import cubbydb

with cubbydb.open("data.cubby") as store:
    assert store[b"key"] == b"value"
```

    test "$(cubby get data.cubby key)" = value
    cubby stat data.cubby --watch 1    # until Ctrl-C
    make test

- a list

  goes on; [this file](README.md)
"""

# What a README may say -> what is said of it.
LIES = {
    "    cubby get absent.cubby key": "does not exist",
    "    false | true": "exit code 1",
    "    false && true": "exit code 1",
    "    true\n    cubby get": "Missing argument",
    "    cubby stat absent.cubby --watch 1": "FAILED",
    "    cubby device serve csd:absent.csd": "FAILED",
    "    make nonsense": "the Makefile has no target nonsense",
    "```python\nassert 1 == 2\n```": "AssertionError",
    "[a file](absent.md)": "a link leads nowhere: absent.md",
}


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        (tmp_path / "README.md").write_text(text)
        return tmp_path / "README.md"

    return write


def test_what_is_true_passes_and_what_is_left_out_is_said(write, capsys):
    assert readme.take(write(TRUE)) == 0
    said = capsys.readouterr().out
    assert "FAILED" not in said
    assert "a program of 4 lines" in said
    assert "Ctrl-C after 2 seconds" in said
    assert "skipped  make test   [the target test is there" in said


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found(write, capsys, lie):
    if "serve" in lie and readme.with_nbdkit(lie, readme.Machine(write("").parent)).code is None:
        pytest.skip("there is no nbdkit, or no plugin for it")
    assert readme.take(write(f"Do this:\n\n{lie}\n")) == 1
    assert LIES[lie] in capsys.readouterr().out


def test_lines_behind_a_lie_are_not_called_true(write, capsys):
    assert readme.take(write("\n    false\n    cubby version\n")) == 1
    assert "cubby version   [not reached]" in capsys.readouterr().out


def test_a_command_that_ends_by_itself_does_not_watch(write, capsys):
    assert readme.take(write("\n    cubby --version --watch 1\n")) == 1
