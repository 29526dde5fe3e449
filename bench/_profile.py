"""Where the processors' time goes while a program runs: perf's samples, and whose work each is.

Samples are taken of all processors (perf record -a, the software clock, which virtual machines
have, too), so what the kernel does in threads of its own counts as well.  A sample belongs to the
part of the innermost of its functions that PARTS knows; who copies or takes a lock on behalf of the
device, say, is the device's.  Where interrupts are off a sample comes late, when they are on again:
short stretches of the kernel's may be told as their callers'.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

from cubbydb.bench._driver import note_command

__all__ = ["PARTS", "Sample", "by_part", "profile", "why_no_profile"]

PER_SECOND = 1999  # prime, so that nothing that recurs is in step with it

# Of the kernel, innermost first: the first part of which a function's name begins so.
KERNEL = {
    "device": "zram_ zcomp zs_ lz4_ LZ4_ lzo submit_bio __submit_bio blk_ blkdev_ __blkdev bio_ "
    "bdev_ __bio nvme virtio virtblk scsi_ ext4_ generic_ iov_iter_extract bvec_ dio_ iomap_",
    "signals": "arch_do_signal get_signal __x64_sys_rt_sigreturn restore_sigcontext setup_rt_frame "
    "x64_setup_rt_frame get_sigframe force_sig __force_sig dequeue_signal __dequeue_signal "
    "copy_fpstate fpu_ fpregs_ __restore_fpregs restore_fpregs signal_ set_current_blocked "
    "do_sigaltstack __send_signal send_signal complete_signal prepare_signal collect_signal",
    "page tables": "flush_tlb native_flush_tlb smp_call on_each_cpu change_p mwriteprotect mfill_ "
    "userfaultfd uffd zap_ unmap_ do_madvise __x64_sys_process_madvise madvise_ try_to_unmap "
    "rmap_ page_mkclean folio_mkclean page_vma_mapped vma_mkclean walk_p __walk_page tlb_ "
    "ptep_ pte_ __pte set_pte do_wp_page wp_page finish_fault set_pte_range mas_ find_vma "
    "lock_vma lock_mm vm_normal free_pages_and_swap invalidate_",
    "page cache": "filemap_ __filemap folio_ __folio xas_ xa_ lru_ shrink_ reclaim try_to_free "
    "workingset mpage_ do_mpage writeback wb_ __writeback do_writepages write_cache balance_dirty "
    "page_cache read_pages readahead force_page_cache mem_cgroup __mem_cgroup charge_ try_charge "
    "alloc_p __alloc get_page_from free_ __free clear_page rmqueue isolate_ move_folios "
    "block_write __block_write block_read block_dirty create_empty_buffers kswapd balance_pgdat "
    "prep_ post_alloc cgroup_ shmem_ vfs_fallocate lookup_ find_get clear_huge drop_buffers",
    "faults": "exc_page_fault asm_exc_page_fault do_user_addr_fault handle_mm_fault "
    "__handle_mm_fault do_fault __do_fault do_shared error_entry handle_userfault do_pte_missing "
    "do_read_fault do_anonymous",
    "scheduler": "schedule __schedule futex __futex do_futex finish_task "
    "wake_up_q wake_up_process try_to_wake ttwu_ __x64_sys_futex do_nanosleep hrtimer_ sched_",
}
PARTS: tuple[str, ...] = (
    *("program", "store", "copies", "region", "signals", "faults", "page tables"),
    *("page cache", "system calls", "scheduler", "device"),
)

HEAD = re.compile(r"^(\S.*?)\s+(\d+)/(\d+)\s+(\d+\.\d+):")
FRAME = re.compile(r"^\s+[0-9a-f]+ (\S+) \((.*)\)$")
# Of the C library.
COPIES = re.compile(r"mem(cpy|move|set|cmp)")
SYSTEM_CALLS = re.compile(r"pread|pwrite|ioctl|syscall|fallocate|madvise|restore_rt")
KERNEL_THREADS = ("kworker", "kswapd", "ksoftirqd", "flush-", "kcompactd")


@dataclass(frozen=True)
class Sample:
    """One moment of one processor."""

    at_ns: int
    """Of CLOCK_MONOTONIC."""
    command: str
    frames: tuple[tuple[str, str], ...]
    """Function and file, the innermost first."""


def why_no_profile() -> str | None:
    """Why nothing can be sampled here; None if it can."""
    if shutil.which("perf") is None:
        return "perf is missing (Debian package: linux-perf)"
    if shutil.which("nm") is None:
        return "nm is missing (Debian package: binutils)"
    if os.geteuid() != 0:
        return "perf samples the kernel's threads for root alone"
    with tempfile.NamedTemporaryFile() as file:
        run = subprocess.run([*_record(Path(file.name)), "true"], capture_output=True, text=True)
    return None if run.returncode == 0 else f"perf record: {run.stderr.strip()[-200:]}"


def _record(path: Path) -> list[str]:
    record = ["perf", "record", "--quiet", "--all-cpus", "--clockid", "CLOCK_MONOTONIC", "-g"]
    return [*record, "-e", "cpu-clock", "-F", str(PER_SECOND), "-o", str(path), "--"]


def profile(command: list[str], commands: list[str]) -> tuple[dict[str, Any], list[Sample]]:
    """Run a driver under perf, and note its command; the JSON that it prints, and all samples."""
    note_command(command, commands)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "perf.data"
        run = subprocess.run([*_record(path), *command], capture_output=True, text=True)
        if run.returncode != 0:
            text = f"{shlex.join(command)}: {run.stderr.strip()[-2000:]}"
            raise click.ClickException(text)
        script = ["perf", "script", "-i", str(path), "-F", "comm,pid,tid,time,ip,sym,dso"]
        told = subprocess.run(script, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer, list(_samples(told.stdout))


def _samples(text: str) -> Iterator[Sample]:
    for block in text.split("\n\n"):
        lines = block.strip("\n").splitlines()
        head = HEAD.match(lines[0]) if lines else None
        if head is not None:
            frames = tuple((m[1], m[2]) for m in map(FRAME.match, lines[1:]) if m is not None)
            seconds, fraction = head[4].split(".")
            at_ns = int(seconds) * 10**9 + int(fraction.ljust(9, "0"))
            yield Sample(at_ns, head[1], frames)


@cache
def _core_parts(programs: Path) -> dict[str, str]:
    """The part that each function of the core is of, by what the compiler has made of it."""
    parts: dict[str, str] = {}
    for path in (programs / "CMakeFiles" / "cubby_core.dir").rglob("*.o"):
        told = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True)
        for line in told.stdout.splitlines():
            kind, _, name = line[17:].partition(" ")
            if kind in ("t", "T"):
                parts.setdefault(
                    name.split(".")[0], "region" if path.parent.name == "mmapio" else "store"
                )
    return parts


@cache
def _part_of_function(function: str, file: str, program: Path) -> str | None:
    """None: what it does is on behalf of who has called it."""
    if file == "[kernel.kallsyms]":
        found = (
            part for part, names in KERNEL.items() if function.startswith(tuple(names.split()))
        )
        return next(found, None)
    if file == str(program.resolve()):
        return _core_parts(program.parent).get(function.split(".")[0], "program")
    return None


def _part_of(sample: Sample, program: Path) -> str:
    for function, file in sample.frames:
        part = _part_of_function(function, file, program)
        if part is not None:
            return part
        if COPIES.search(function) and file.startswith("/"):
            return "copies"
    is_system = any(
        file == "[kernel.kallsyms]" or SYSTEM_CALLS.search(name) for name, file in sample.frames
    )
    return "system calls" if is_system else "program"


def by_part(samples: list[Sample], program: Path, begin_ns: int, end_ns: int) -> dict[str, float]:
    """Nanoseconds of processor time of each part, of a program and of the kernel's threads."""
    name = program.name[:15]  # as much as the kernel keeps
    counts: Counter[str] = Counter()
    for sample in samples:
        if not begin_ns <= sample.at_ns < end_ns:
            continue
        if sample.command == name or sample.command.startswith(KERNEL_THREADS):
            counts[_part_of(sample, program)] += 1
    return {part: counts[part] * 1e9 / PER_SECOND for part in PARTS}
