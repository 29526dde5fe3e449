"""Do what the README files tell a stranger to do, line by line, and see whether it works.

    python tests/readme.py [FILE...]    all README files, if none is named

Indented blocks are lines for a shell, blocks in ```python fences are programs.  They are run in
their order, in one new folder per file, a shell and a Python for each block; what they leave in
the folder, the next ones find there.  A line fails by its exit code, and then its output is shown.

Not every line can be taken as it stands.  What is done instead is in LINES below, and is said:

  - make and cmake are run in a checkout (cmake in a copy); of make's longer targets it is only
    looked up that they are there: `make test` would run itself.
  - what runs until Ctrl-C gets it after two seconds, and must then end well and without a word.
  - what the machine cannot do (no root, no zram, no lmdb-utils) is left out.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cubbydb.blockdev

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
FILES = (
    "README.md",
    "blockdev/README.md",
    "mmapio/README.md",
    "bench/README.md",
    "engine/README.md",
)
SECONDS_UNTIL_INTERRUPT = 2
BLOCK_SECONDS_MAX = 600
STAND_IN_PACKAGES = 3000
NBDKIT_PLUGIN = "nbdkit-cubby-plugin.so"


@dataclass(frozen=True)
class Block:
    """Consecutive lines of one language, each with its number in the file."""

    language: str
    lines: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Deed:
    """What is done for a line: shell code, or nothing; and what is to be said about it."""

    code: str | None
    note: str = ""


class Failed(Exception):
    """A line of a README is not true."""


# To read -----------------------------------------------------------------------------------------


def blocks_of(text: str) -> Iterator[Block]:
    """The blocks of code; a line of a shell that ends in a backslash goes on in the next one."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        after_blank = number == 0 or not lines[number - 1].strip()
        if line.startswith("```"):
            block = Block(line[3:].strip())
            number += 1
            while lines[number] != "```":
                block.lines.append((number + 1, lines[number]))
                number += 1
            yield block
        elif after_blank and line.startswith("    "):
            block = Block("shell")
            while number < len(lines) and lines[number].startswith("    "):
                begin = number
                while lines[number].endswith("\\"):
                    number += 1
                whole = "\n".join(lines[begin : number + 1])
                block.lines.append((begin + 1, re.sub(r"^    ", "", whole, flags=re.MULTILINE)))
                number += 1
            yield block
            continue
        number += 1


def wrong_links(file: Path) -> list[str]:
    """Links to files that are not there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text())
    return [link for link in links if not (file.parent / link).exists()]


# What is done for a line -------------------------------------------------------------------------


class Machine:
    """What this machine has, found when it is asked for; and a copy of the checkout."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def zram(self) -> str | None:
        """Why there is no zram; None if there is."""
        if os.geteuid() != 0:
            return "needs root"
        control = Path("/sys/class/zram-control/hot_add")
        if not control.exists():
            subprocess.run(["modprobe", "zram"], capture_output=True, check=False)
        return None if control.exists() else "this kernel has no zram"

    @property
    def copy(self) -> Path:
        """The files of the checkout that git knows, with their changes."""
        copy = self._folder / "checkout"
        if not copy.exists():
            ask = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others"]
            names = subprocess.run(
                [*ask, "--exclude-standard"], capture_output=True, text=True, check=True
            ).stdout.split("\0")
            for name in filter(None, names):
                if (ROOT / name).is_file():
                    (copy / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / name, copy / name)
        return copy


def make(line: str, machine: Machine) -> Deed:
    target = line.split()[1]
    if not re.search(rf"^{re.escape(target)}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE):
        raise Failed(f"the Makefile has no target {target}")
    if target == "demo":
        return Deed(f"(cd '{ROOT}' && {line}\n)", "in the checkout")
    return Deed(None, f"the target {target} is there; it is not run from here")


def cmake(line: str, machine: Machine) -> Deed:
    return Deed(f"(cd '{machine.copy}' && {line}\n)", "in a copy of the checkout")


def in_checkout(line: str, machine: Machine) -> Deed:
    return Deed(f"cd '{ROOT}'\n{line}\ncd - > /dev/null", "in the checkout")


def benchmark(line: str, machine: Machine) -> Deed:
    short = f"{line.partition('#')[0].strip()} --help"  # which looks at the other options first
    return Deed(f"(cd '{ROOT}' && {short})", "takes minutes; only asked for --help, too")


def until_interrupted(line: str, machine: Machine) -> Deed:
    if "device serve" in line and (without := with_nbdkit(line, machine)).code is None:
        return without
    command = line.partition("#")[0].strip()
    # One signal, as from a terminal: else timeout sends it to all of its group, too.
    interrupt = f"timeout --foreground -v --preserve-status -s INT {SECONDS_UNTIL_INTERRUPT}"
    code = f"{interrupt} {command} 2> interrupted"
    # It ran until then, and did not say a word about it.
    quiet = (
        "grep -q '^timeout: sending signal INT' interrupted && ! grep -v '^timeout:' interrupted"
    )
    return Deed(f"{code} && {quiet}", f"Ctrl-C after {SECONDS_UNTIL_INTERRUPT} seconds")


def with_lmdb(line: str, machine: Machine) -> Deed:
    missing = [tool for tool in ("mdb_load", "mdb_dump") if tool in line and not shutil.which(tool)]
    if missing:
        return Deed(None, f"needs {missing[0]} (Debian package lmdb-utils)")
    return Deed(line)


def with_nbdkit(line: str, machine: Machine) -> Deed:
    text = f"nbdkit {line}"
    missing = [tool for tool in ("nbdkit", "fio") if tool in text and not shutil.which(tool)]
    if not missing and not (Path(cubbydb.blockdev.__path__[0]) / NBDKIT_PLUGIN).exists():
        missing = [NBDKIT_PLUGIN]
    return Deed(None, f"needs {missing[0]}") if missing else Deed(line)


def device_name(line: str, machine: Machine) -> Deed:
    return Deed(None, "the name of a device, no command")


# The first that matches is taken; a line that none matches is run as it stands.
LINES: list[tuple[str, Callable[[str, Machine], Deed]]] = [
    (r"make ", make),
    (r"cmake ", cmake),
    (r"\. \.venv/bin/activate", in_checkout),
    (r"\S*python -m cubbydb\.bench\.|cubby bench fio", benchmark),
    (r"cubby .*--watch|cubby device serve", until_interrupted),
    (r".*\bmdb_(load|dump)\b", with_lmdb),
    (r"nbdkit ", with_nbdkit),
    (r"fault:", device_name),
]


def deed_for(line: str, machine: Machine) -> Deed:
    for pattern, deed in LINES:
        if re.match(pattern, line):
            return deed(line, machine)
    return Deed(line)


# To do -------------------------------------------------------------------------------------------


def say(number: int, result: str, line: str, note: str = "") -> None:
    first = line.partition("\n")[0]
    print(f"{number:5}  {result:9}{first}" + (f"   [{note}]" if note else ""), flush=True)


class Tour:
    """One file's blocks, done in a folder of their own.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._home = folder / "home"
        self._work = folder / "work"
        self._said = folder / "said"
        for made in (self._home, self._work, self._said, folder / "bin"):
            made.mkdir()
        self._machine = Machine(folder)
        self._environment = os.environ | {
            "HOME": str(self._home),
            "PATH": f"{folder / 'bin'}:{BIN}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count()),
        }
        self.failures = 0

    def do(self, block: Block) -> None:
        """Do a block, and print what has come of each line."""
        if block.language == "python":
            self._do_python(block)
        elif block.language == "shell":
            self._do_shell(block)
        else:
            say(block.lines[0][0], "skipped", block.lines[0][1], f"a block of {block.language}")

    def _fail(self, number: int, line: str, output: str) -> None:
        self.failures += 1
        say(number, "FAILED", line)
        print("".join(f"       | {text}\n" for text in output.splitlines()), end="", flush=True)

    def _do_python(self, block: Block) -> None:
        number, first = block.lines[0][0], f"a program of {len(block.lines)} lines"
        program = "\n".join(line for _, line in block.lines)
        begin = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-W", "error", "-"],
            input=program,
            cwd=self._work,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_SECONDS_MAX,
            check=False,
        )
        if run.returncode != 0:
            self._fail(number, first, run.stdout)
        else:
            say(number, f"{time.monotonic() - begin:.1f} s", first)

    def _do_shell(self, block: Block) -> None:
        text = "\n".join(line for _, line in block.lines)
        if "zram" in text and (reason := self._machine.zram) is not None:
            for number, line in block.lines:
                say(number, "skipped", line, reason)
            return
        if "apt-cache" in text:
            self._stand_in_for_apt()
        deeds: list[Deed] = []
        for number, line in block.lines:
            try:
                deeds.append(deed_for(line, self._machine))
            except Failed as failure:
                self._fail(number, line, str(failure))
                return
        status = self._run_shell(deeds)
        self._report(block, deeds, status)

    def _run_shell(self, deeds: list[Deed]) -> int:
        """Run a script that keeps apart what its lines say, and when they end."""
        script = ["set -euo pipefail"]
        if any("hot_add" in (deed.code or "") for deed in deeds):
            remove = 'echo "$n" > /sys/class/zram-control/hot_remove'
            script.append(f"trap '[ -z \"${{n:-}}\" ] || {remove}' EXIT")
        for index, deed in enumerate(deeds):
            if deed.code is not None:
                # set -e is not enough: it does not see the first parts of a && b fail.
                script += [f"exec > '{self._said}/{index}' 2>&1", deed.code, "status=$?"]
                script += ["[ $status = 0 ] || exit $status", f"touch '{self._said}/{index}.done'"]
        script.append("trap - EXIT")
        for left in self._said.iterdir():
            left.unlink()
        (self._said / "begin").touch()
        try:
            run = subprocess.run(
                ["bash", "-c", "\n".join(script)],
                cwd=self._work,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                timeout=BLOCK_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return 124
        return run.returncode

    def _report(self, block: Block, deeds: list[Deed], status: int) -> None:
        last = (self._said / "begin").stat().st_mtime  # when the line before has ended
        failed = False
        for index, ((number, line), deed) in enumerate(zip(block.lines, deeds, strict=True)):
            said, done = self._said / str(index), self._said / f"{index}.done"
            if failed:
                say(number, "-", line, "not reached")
            elif deed.code is None:
                say(number, "skipped", line, deed.note)
            elif done.exists():
                say(number, f"{done.stat().st_mtime - last:.1f} s", line, deed.note)
                last = done.stat().st_mtime
            else:
                failed = True
                output = said.read_text(errors="replace") if said.exists() else ""
                self._fail(number, line, f"{output}\nexit code {status}")
        if status != 0 and not failed:
            self._fail(block.lines[-1][0], "the end of the block", f"exit code {status}")

    def _stand_in_for_apt(self) -> None:
        """Where this machine has no package index, let apt-cache write a made-up one."""
        command = ["bash", "-c", "apt-cache dumpavail 2> /dev/null | head -c 100000"]
        if subprocess.run(command, capture_output=True, check=False).stdout.count(b"Package: ") > 9:
            return
        stanza = r"Package: python3-sample%05d\nVersion: 1.0\nDescription: a stand-in\n\n"
        program = self._folder / "bin" / "apt-cache"
        code = f"for n in $(seq {STAND_IN_PACKAGES}); do printf '{stanza}' $n; done"
        program.write_text(f"#!/bin/bash\n{code}\n")
        program.chmod(0o755)
        print("       no package index here: apt-cache is a stand-in that writes a made-up one")


def take(file: Path) -> int:
    """Take the tour of one file; return how much of it is not true."""
    print(f"== {file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}")
    failures = 0
    for link in wrong_links(file):
        print(f"       FAILED   a link leads nowhere: {link}")
        failures += 1
    with tempfile.TemporaryDirectory(prefix="cubby-readme-") as folder:
        tour = Tour(Path(folder))
        for block in blocks_of(file.read_text()):
            tour.do(block)
    return failures + tour.failures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    files = parser.parse_args().files or [ROOT / name for name in FILES]
    failures = sum(take(file.resolve()) for file in files)
    print(f"not true: {failures}" if failures else "every line is true, or skipped as said")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
