"""A store that grows while it is read, as small as it goes."""

import pytest
from bench_drivers import drive, told

from cubbydb.bench.serving import p999_ratio

SMALL = ("--pairs", "300", "--times", "3", "--warm", "0.01", "--seconds", "0.05", "--json")


def test_it_grows_while_it_is_read(tmp_path):
    answer = told(drive("cubby-serving", "--path", str(tmp_path / "store"), *SMALL))
    phases = answer["phases"]
    assert list(phases) == ["before", "growth", "after"]
    assert phases["growth"]["loads"] == 600
    for name, phase in phases.items():
        assert (phase["reads"] > 0) or name == "growth"
        assert (phase["loads"] > 0) == (name == "growth")
    assert p999_ratio(answer) >= 0


def test_wrong_values_are_noticed(tmp_path):
    for engine in ("null", "nothing"):
        run = drive("cubby-serving", "--path", str(tmp_path / "x"), "--engine", engine)
        assert run.returncode == 2
        assert engine in run.stderr
    run = drive("cubby-serving", "--path", str(tmp_path / "x"), "--engine", "lying", *SMALL)
    assert run.returncode == 1
    assert "although it was put" in run.stderr or "another pair" in run.stderr


@pytest.mark.parametrize("options", [(), ("--path", "x", "--pairs", "0"), ("--path", "x", "y")])
def test_wrong_usage_is_told(options):
    assert drive("cubby-serving", *options).returncode == 2
