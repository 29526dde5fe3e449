"""Where the time goes on mapped memory: what a sample is, and the benchmark as small as it goes."""

from pathlib import Path

import pytest
from bench_drivers import bench, driver, is_drawn

from cubbydb.bench._memory_group import why_no_memory_group
from cubbydb.bench._profile import PARTS, Sample, _samples, by_part, why_no_profile

KERNEL = "[kernel.kallsyms]"
SCRIPT = """\
cubby-mmap 12/13    5.000000250:\x20
\tffffffff821f3a68 __pi_memcpy ([kernel.kallsyms])
\tffffffff81d7745a zram_submit_bio ([kernel.kallsyms])
\tffffffff81000130 exc_page_fault ([kernel.kallsyms])
\t           f6483 run_pointers (/x/cubby-mmap)

kworker/0:1 7/7    6.5:\x20
\tffffffff81697211 folio_mkclean ([kernel.kallsyms])

"""


def test_what_perf_prints_is_read():
    first, second = _samples(SCRIPT)
    assert first.at_ns == 5_000_000_250
    assert first.command == "cubby-mmap"
    assert first.frames[1] == ("zram_submit_bio", KERNEL)
    assert first.frames[3] == ("run_pointers", "/x/cubby-mmap")
    assert second == Sample(6_500_000_000, "kworker/0:1", (("folio_mkclean", KERNEL),))


def parts_of(*samples: Sample) -> dict[str, float]:
    found = by_part(list(samples), Path("/x/cubby-mmap"), 10, 20)
    assert tuple(found) == PARTS
    return {part: ns for part, ns in found.items() if ns}


def test_a_sample_is_the_innermost_function_s_that_is_known():
    for frames, part in (
        (("__pi_memcpy", "zram_submit_bio", "exc_page_fault"), "device"),
        (("_raw_spin_lock", "shrink_folio_list", "filemap_fault"), "page cache"),
        (("flush_tlb_mm_range", "mwriteprotect_range"), "page tables"),
        (("get_signal", "arch_do_signal_or_restart"), "signals"),
        (("fdget", "__x64_sys_pread64"), "system calls"),
    ):
        sample = Sample(15, "cubby-mmap", tuple((name, KERNEL) for name in frames))
        assert list(parts_of(sample)) == [part]
    copy = Sample(15, "cubby-mmap", (("__memmove_avx_unaligned_erms", "/lib/libc.so.6"),))
    assert list(parts_of(copy)) == ["copies"]


def test_others_and_other_times_do_not_count():
    frames = (("zram_submit_bio", KERNEL),)
    assert not parts_of(Sample(15, "cc1", frames), Sample(9, "cubby-mmap", frames))
    assert not parts_of(Sample(20, "cubby-mmap", frames))
    assert list(parts_of(Sample(10, "kworker/u4:2", frames))) == ["device"]


def test_the_benchmark_tells_all_kinds(tmp_path):
    driver("cubby-mmap")
    driver("cubby-gets")
    if (why_not := why_no_profile() or why_no_memory_group()) is not None:
        pytest.skip(why_not)
    content = bench("breakdown", tmp_path, "--quick", "--seconds", "0.05", "--threads", "1")
    found = {(s["subject"], s["workload"], s["kind"]) for s in content["summaries"]}
    pages = {
        ("pages", workload, kind)
        for workload in ("read", "mixed", "write")
        for kind in ("kernel", "pins", "pointers", "pread")
    }
    assert found <= pages | {
        ("store", workload, kind)
        for workload in ("get", "update")
        for kind in ("kernel", "region", "direct")
    }
    assert len(found) >= len(pages) + 6 - 3  # pointers are of the system's grace
    assert all(summary["rate"] > 0 for summary in content["summaries"])
    assert any(summary["parts"]["device"] > 0 for summary in content["summaries"])
    assert is_drawn(tmp_path, "breakdown")
