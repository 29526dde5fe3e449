"""Run the command cubby, here or in a process of its own, and other programs in Python."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from click.testing import CliRunner, Result

from cubbydb.cli.main import main


def cubby(*words: str | Path, stdin: bytes | str | None = None) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(word) for word in words], input=stdin)


def command(*words: str | Path) -> list[str]:
    """The command for a process of its own."""
    program = "import sys; from cubbydb.cli.main import main; sys.exit(main(prog_name='cubby'))"
    return [sys.executable, "-W", "error", "-c", program, *map(str, words)]


def run(*words: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, away from the checkout."""
    options = {"capture_output": True, "text": True, "cwd": "/", "timeout": 120} | options
    return subprocess.run(command(*words), **options)


def python(code: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, away from the checkout."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def succeeded(result: Result) -> bool:
    """Check that a command did what it was told without a word."""
    assert (result.exit_code, result.output) == (0, "")
    return True


def failed(result: Result, code: int, *texts: str) -> bool:
    """Check that a command failed with one sentence on standard error, and nothing else."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"cubby: [^\n]+\n", result.stderr)
    for text in texts:
        assert text in result.stderr
    return True


def misused(result: Result, *texts: str) -> bool:
    """Check that a command was refused for how it was called."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    said = " ".join(result.stderr.split())
    assert "Traceback" not in said
    for text in texts:
        assert text in said
    return True
