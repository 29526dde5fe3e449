"""VoliMap in Python: an ordered mapping of ints, its bounds and errors, and many threads."""

import copy
import gc
import itertools
import os
import pickle
import subprocess
import sys
import threading
from array import array
from collections.abc import ItemsView, KeysView, MutableMapping, ValuesView

import pytest

import cubbydb
from cubbydb import VoliMap, errors

LAST = (1 << 64) - 1
EDGES = [0, 1, 255, 256, 1 << 20, (1 << 63) - 1, 1 << 63, LAST - 1, LAST]


@pytest.fixture
def numbers():
    with VoliMap() as numbers:
        yield numbers


def test_it_is_a_mutable_mapping_in_the_order_of_its_keys(numbers):
    assert isinstance(numbers, MutableMapping)
    numbers[30] = 3
    numbers.update({10: 1, 20: 2})
    assert list(numbers) == [10, 20, 30]
    assert list(reversed(numbers)) == [30, 20, 10]
    assert numbers == {30: 3, 20: 2, 10: 1}
    assert numbers != {30: 3, 20: 2, 10: 2}
    assert numbers != {30: 3, 20: 2}
    assert numbers != [10, 20, 30]
    assert len(numbers) == 3
    assert numbers
    assert 10 in numbers
    assert 11 not in numbers
    assert numbers.get(11) is None
    assert numbers.get(11, "none") == "none"
    del numbers[10]
    with pytest.raises(errors.NotFound):
        del numbers[10]
    with pytest.raises(KeyError, match="no pair has the key 10"):
        numbers[10]
    numbers.update([(1, 2)])
    numbers.clear()
    assert len(numbers) == 0
    assert not numbers
    with pytest.raises(TypeError, match="unhashable"):
        hash(numbers)


def test_the_views_are_in_order_both_ways(numbers):
    numbers.update({key: key // 2 for key in range(5000, 0, -1)})
    ordered = {key: key // 2 for key in range(1, 5001)}
    for view, expected, kind in (
        (numbers.keys(), list(ordered), KeysView),
        (numbers.values(), list(ordered.values()), ValuesView),
        (numbers.items(), list(ordered.items()), ItemsView),
    ):
        assert isinstance(view, kind)
        assert len(view) == 5000
        assert list(view) == expected
        assert list(reversed(view)) == expected[::-1]
        assert list(view) == expected  # each iteration begins anew
        assert expected[3] in view
    assert 9999 not in numbers.values()
    assert (1, 1) not in numbers.items()
    assert numbers.keys() & {1, 0} == {1}
    assert numbers.items() >= {(2, 1)}


def test_the_greatest_and_the_least_numbers_are_keys_and_values(numbers):
    numbers.put_many(zip(EDGES, reversed(EDGES), strict=True))
    assert list(numbers.items()) == list(zip(EDGES, reversed(EDGES), strict=True))
    assert numbers[LAST] == 0
    assert numbers[0] == LAST
    assert numbers.first() == (0, LAST)
    assert numbers.last() == (LAST, 0)
    assert list(numbers.range(LAST, 1 << 64)) == [(LAST, 0)]
    assert list(numbers.range(1 << 64)) == []
    assert list(numbers.range(high=0)) == []
    assert list(numbers.range(reverse=True, limit=1)) == [(LAST, 0)]


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 160, 161, 5000])
def test_ranges_are_half_open(numbers, size):
    numbers.put_many((3 * key, key) for key in range(size))
    pairs = [(3 * key, key) for key in range(size)]
    ends = [None, 0, 1, 3, 4, 3 * size - 3, 3 * size - 2, 3 * size + 5]
    for low, high in itertools.product(ends, ends):
        if (low or 0) < 0 or (high or 0) < 0:
            continue
        inside = [
            (key, value)
            for key, value in pairs
            if (low is None or key >= low) and (high is None or key < high)
        ]
        assert list(numbers.range(low, high)) == inside
        assert list(numbers.range(low, high, reverse=True)) == inside[::-1]
    for limit in (0, 1, 31, 32, 33, 200):
        assert list(numbers.range(limit=limit)) == pairs[:limit]
        assert list(numbers.range(limit=limit, reverse=True)) == pairs[::-1][:limit]


def test_iterating_is_safe_while_the_map_changes(numbers):
    numbers.put_many((key, key) for key in range(10_000))
    for key in numbers:
        del numbers[key]
    assert len(numbers) == 0
    numbers.put_many((key, key) for key in range(0, 10_000, 4))
    met = []
    for key in numbers:
        met.append(key)
        if key % 4 == 0:
            numbers[key + 1] = 0
            numbers.pop(key - 4 if key else 2, None)
    assert set(met) >= set(range(0, 10_000, 4))
    assert met == sorted(met)
    assert list(numbers) == [*range(1, 9996, 4), 9996, 9997]


def test_the_nearest_pairs(numbers):
    numbers.update({10: 1, 20: 2, 30: 3})
    assert numbers.floor(10) == numbers.floor(19) == (10, 1)
    assert numbers.floor(LAST) == numbers.last() == (30, 3)
    assert numbers.ceiling(10) == numbers.ceiling(0) == numbers.first() == (10, 1)
    assert numbers.ceiling(21) == (30, 3)
    assert numbers.floor(9, None) is None
    assert numbers.ceiling(31, default="none") == "none"
    with pytest.raises(KeyError, match="at most 9"):
        numbers.floor(9)
    with pytest.raises(errors.NotFound, match="at least 31"):
        numbers.ceiling(31)
    numbers.clear()
    assert numbers.first(None) is numbers.last(None) is None
    for call in (numbers.first, numbers.last, numbers.popitem):
        with pytest.raises(errors.NotFound, match="there is no pair"):
            call()
    error = pickle.loads(pickle.dumps(errors.NotFound(9, "no pair has a key of at most 9")))
    assert str(error) == "no pair has a key of at most 9"


def test_changes_on_a_condition(numbers):
    assert numbers.put_if_absent(1, 10)
    assert not numbers.put_if_absent(1, 11)
    assert numbers.setdefault(1, 12) == 10
    assert numbers.setdefault(2, 20) == 20
    assert numbers.setdefault(2) == 20
    with pytest.raises(TypeError, match="not NoneType"):
        numbers.setdefault(3)
    assert numbers.compare_and_swap(1, 10, 13)
    assert not numbers.compare_and_swap(1, 10, 14)
    assert not numbers.compare_and_swap(3, 10, 14)
    assert numbers.compare_and_swap(3, None, 30)
    assert not numbers.compare_and_swap(3, None, 31)
    assert not numbers.compare_and_swap(3, 31, None)
    assert numbers.compare_and_swap(3, 30, None)
    assert not numbers.compare_and_swap(3, 30, None)
    assert numbers.compare_and_swap(3, None, None)
    assert not numbers.compare_and_swap(1, None, None)
    assert numbers.remove(2)
    assert not numbers.remove(2)
    assert numbers == {1: 13}


def test_pop_and_popitem(numbers):
    numbers.update({10: 1, 20: 2, 30: 3, 40: 0})
    assert numbers.pop(40) == 0
    assert numbers.pop(40, None) is None
    assert numbers.pop(40, "none") == "none"
    with pytest.raises(errors.NotFound, match="40"):
        numbers.pop(40)
    assert numbers.popitem() == (30, 3)
    assert numbers.popitem(last=False) == (10, 1)
    assert numbers == {20: 2}


def test_many_pairs_at_once(numbers):
    pairs = {key * 7: key for key in range(10_000)}
    assert numbers.put_many(pairs) == 10_000
    assert numbers == pairs
    assert numbers.put_many(iter([(0, 1), (0, 2)])) == 2
    assert numbers.get_many([0, 1, 7, True]) == [2, None, 1, None]
    assert numbers.get_many(list(pairs))[1:] == list(pairs.values())[1:]
    assert numbers.get_many(key for key in (7, 7)) == [1, 1]
    assert numbers.get_many([]) == numbers.get_many(array("Q")) == []
    assert numbers.put_many({}) == 0
    assert numbers.put_many([], []) == 0
    assert len(numbers) == 10_000


def test_buffers_are_read_in_place(numbers):
    keys = array("Q", range(0, 30_000, 3))
    values = array("L", range(10_000))
    assert numbers.put_many(keys, values) == 10_000
    assert list(numbers.keys()) == keys.tolist()
    assert list(numbers.values()) == values.tolist()
    assert numbers.get_many(keys) == values.tolist()
    assert numbers.get_many(memoryview(keys)[10:20]) == list(range(10, 20))
    assert numbers.put_many([1, 2], array("Q", [5, LAST])) == 2
    assert numbers.put_many(range(4, 6), (6, 7)) == 2
    assert numbers.get_many([1, 2, 4, 5]) == [5, LAST, 6, 7]
    keys.append(1)  # nobody holds on to it
    with pytest.raises(ValueError, match="3 keys, and 2 values"):
        numbers.put_many([1, 2, 3], [1, 2])
    for wrong in (b"12345678", array("q", [1]), array("d", [1.0]), array("I", [1])):
        with pytest.raises(TypeError, match="unsigned and have 64 bits"):
            numbers.put_many(wrong, [1])
        with pytest.raises(TypeError, match="unsigned and have 64 bits"):
            numbers.get_many(wrong)
    with pytest.raises(TypeError, match="no gaps"):
        numbers.get_many(memoryview(keys)[::2])
    with pytest.raises(TypeError, match="one dimension"):
        numbers.get_many(memoryview(bytes(32)).cast("Q", (2, 2)))


def test_arrays_of_numpy_are_taken(numbers):
    numpy = pytest.importorskip("numpy")
    keys = numpy.arange(1000, dtype=numpy.uint64) * numpy.uint64(1 << 50)
    assert numbers.put_many(keys, keys + numpy.uint64(1)) == 1000
    assert numbers[keys[7]] == (7 << 50) + 1
    assert numbers.get_many(keys[:2]) == [1, (1 << 50) + 1]
    with pytest.raises(TypeError, match="unsigned"):
        numbers.put_many(numpy.arange(3), keys[:3])


class Index:
    """What can be used as an int."""

    def __index__(self) -> int:
        return 7


def test_whatever_is_an_int_is_taken(numbers):
    numbers[True] = False
    numbers[Index()] = Index()
    assert dict(numbers) == {1: 0, 7: 7}
    assert type(numbers[True]) is int
    assert numbers[Index()] == 7
    assert Index() in numbers
    assert numbers.put_many({Index(): True}) == 1
    assert numbers.get_many([Index()]) == [1]
    assert list(numbers.range(Index())) == [(7, 1)]


@pytest.mark.parametrize("wrong", [-1, 1 << 64, -(1 << 70), 1 << 5000])
def test_numbers_out_of_range_are_named(numbers, wrong):
    said = r"a key is 0 to 2\*\*64 - 1, not "
    for call in (
        lambda: numbers[wrong],
        lambda: numbers.get(wrong),
        lambda: wrong in numbers,
        lambda: numbers.put(wrong, 1),
        lambda: numbers.remove(wrong),
        lambda: numbers.pop(wrong, None),
        lambda: numbers.floor(wrong),
        lambda: numbers.ceiling(wrong, None),
        lambda: numbers.setdefault(wrong, 1),
        lambda: numbers.put_if_absent(wrong, 1),
        lambda: numbers.compare_and_swap(wrong, 1, 1),
        lambda: numbers.put_many({wrong: 1}),
        lambda: numbers.put_many([wrong], [1]),
        lambda: numbers.get_many([1, wrong]),
        lambda: numbers.update({wrong: 1}),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    for call in (
        lambda: numbers.put(1, wrong),
        lambda: numbers.setdefault(1, wrong),
        lambda: numbers.put_if_absent(1, wrong),
        lambda: numbers.compare_and_swap(1, wrong, 1),
        lambda: numbers.compare_and_swap(1, 1, wrong),
        lambda: numbers.put_many({1: wrong}),
    ):
        with pytest.raises(ValueError, match="a value is 0 to"):
            call()
    for call in (lambda: numbers.range(wrong), lambda: numbers.range(high=wrong)):
        if wrong != 1 << 64:
            with pytest.raises(ValueError, match=r"boundary is 0 to 2\*\*64, not"):
                call()
    assert len(numbers) == 0


@pytest.mark.parametrize("wrong", ["1", b"1", 1.0, None, (1,)])
def test_what_is_no_int_is_a_type_error(numbers, wrong):
    kind = type(wrong).__name__
    for call in (
        lambda: numbers[wrong],
        lambda: numbers.get(wrong),
        lambda: wrong in numbers,
        lambda: numbers.put(wrong, 1),
        lambda: numbers.put(1, wrong),
        lambda: numbers.remove(wrong),
        lambda: numbers.pop(wrong, None),
        lambda: numbers.floor(wrong),
        lambda: numbers.put_if_absent(1, wrong),
        lambda: numbers.compare_and_swap(wrong, 1, 1),
        lambda: numbers.put_many({wrong: 1}),
        lambda: numbers.put_many([(1, wrong)]),
        lambda: numbers.get_many([wrong]),
    ):
        with pytest.raises(TypeError, match=f"is an int, not {kind}"):
            call()
    with pytest.raises(TypeError, match="not float"):
        numbers.range(1.5)
    with pytest.raises(TypeError, match="limit is an int, not str"):
        numbers.range(limit="1")
    with pytest.raises(ValueError, match="limit is 0 or more"):
        numbers.range(limit=-1)
    with pytest.raises(TypeError, match="iterable"):
        numbers.get_many(5)
    with pytest.raises(TypeError, match="not str"):
        numbers.update(seven=7)
    assert len(numbers) == 0


def test_an_array_has_its_keys_and_no_other():
    with VoliMap({100: 1}, low=100, high=1 << 30) as numbers:
        numbers[1 << 30] = 2
        assert list(numbers.items()) == [(100, 1), (1 << 30, 2)]
        assert numbers.stats()["is_array"] in (0, 1)
        for wrong in (99, (1 << 30) + 1, LAST):
            with pytest.raises(
                ValueError, match=f"a key is 100 to 1,073,741,824 here, not {wrong:,}"
            ):
                numbers[wrong] = 1
            with pytest.raises(ValueError, match="stored: 1"):
                numbers.put_many([(101, 1), (wrong, 1)])
            assert wrong not in numbers
            assert numbers.get(wrong) is None
            assert not numbers.remove(wrong)
            assert numbers.get_many([wrong, 100]) == [None, 1]
        assert numbers.floor(LAST) == (1 << 30, 2)
        assert numbers.ceiling(0) == (100, 1)
        assert numbers.floor(99, None) is None
        assert len(numbers) == 3
    with VoliMap(high=1000) as numbers:
        numbers[0] = 1
        numbers[1000] = 2
        with pytest.raises(ValueError, match="0 to 1,000"):
            numbers[1001] = 1


def test_a_window_has_room_for_keys_that_come_in_order():
    with VoliMap(window=256) as numbers:
        for time in range(1_000_000, 1_002_000):
            numbers[time] = time * 2
            if len(numbers) > 200:
                numbers.popitem(last=False)
        assert list(numbers) == list(range(1_001_800, 1_002_000))
        if not numbers.stats()["is_array"]:
            pytest.skip("the system has refused an array")
        with pytest.raises(errors.Full, match="window"):
            numbers[1_001_800 + 256] = 1
        assert numbers[1_001_800] == 1_001_800 * 2
        assert 1_001_800 + 256 not in numbers
        assert list(numbers.range(1_001_990)) == [
            (time, 2 * time) for time in range(1_001_990, 1_002_000)
        ]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"low": 5}, ValueError, "low says nothing without high"),
        ({"low": 5, "high": 4}, ValueError, "high is above low"),
        ({"low": 0, "high": 1 << 41}, ValueError, "less than 2"),
        ({"low": 0, "high": 0}, ValueError, "high is above 0"),
        ({"low": -1, "high": 5}, ValueError, "a low is 0 to"),
        ({"high": 1 << 64}, ValueError, "a high is 0 to"),
        ({"high": "5"}, TypeError, "a high is an int, not str"),
        ({"low": 1, "high": 5, "window": 256}, ValueError, "not both"),
        ({"window": 255}, ValueError, "256 to 2"),
        ({"window": (1 << 40) + 1}, ValueError, "256 to 2"),
        ({"window": 1.5}, TypeError, "not float"),
        ({"items": 5}, TypeError, "not iterable"),
        ({"items": {-1: 0}}, ValueError, "not -1"),
        ({"path": 5}, TypeError, "int"),
        ({"path": "a\0b"}, ValueError, "null"),
        ({"path": ""}, ValueError, "at least one"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        VoliMap(**arguments)


def test_after_close_every_call_says_so():
    numbers = VoliMap({1: 10})
    iterator = iter(numbers)
    pairs = numbers.range()
    numbers.close()
    numbers.close()
    assert numbers.closed
    assert "closed" in repr(numbers)
    for call in (
        lambda: numbers[1],
        lambda: numbers.get(1),
        lambda: numbers.put(1, 2),
        lambda: numbers.remove(1),
        lambda: numbers.get_many([1]),
        lambda: numbers.put_many({1: 2}),
        lambda: len(numbers),
        lambda: numbers.first(),
        lambda: iter(numbers),
        lambda: reversed(numbers),
        lambda: next(iterator),
        lambda: next(pairs),
        lambda: list(numbers.items()),
        numbers.stats,
        numbers.clear,
        numbers.range,
        lambda: numbers.save("file"),
        lambda: numbers.load("file"),
    ):
        with pytest.raises(errors.Closed):
            call()
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            call(numbers)


def test_a_forked_child_is_told(tmp_path):
    code = (
        "import os, sys, warnings, cubbydb\n"
        "warnings.simplefilter('ignore')\n"
        "numbers = cubbydb.VoliMap(path=sys.argv[1])\n"
        "numbers[1] = 2\n"
        "numbers.save()\n"
        "numbers[1] = 3\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    for call in (lambda: numbers[1], lambda: numbers.put(1, 4), lambda: len(numbers),\n"
        "                 numbers.save):\n"
        "        try:\n"
        "            call()\n"
        "        except cubbydb.errors.Forked:\n"
        "            continue\n"
        "        os._exit(8)\n"
        "    repr(numbers)\n"
        "    numbers.close()\n"
        "    other = cubbydb.VoliMap(path=sys.argv[1])\n"
        "    os._exit(7 if other[1] == 2 else 9)\n"
        "_, status = os.waitpid(child, 0)\n"
        "assert numbers[1] == 3\n"
        "numbers.close()\n"
        "sys.exit(os.waitstatus_to_exitcode(status))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "map")]
    assert subprocess.run(command, check=False).returncode == 7
    assert dict(VoliMap(path=tmp_path / "map")) == {1: 3}


def test_memory_is_given_back():
    def resident() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - no file of ours
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    keys = array("Q", range(200_000))
    before = resident()
    for number in range(40):
        numbers = VoliMap()
        numbers.put_many(keys, keys)
        if number % 2:
            numbers.close()
    del numbers
    gc.collect()
    assert resident() - before < 40 << 20


def test_the_garbage_collector_may_end_a_map_before_its_sessions():
    for is_last in (False, True) * 10:
        numbers = VoliMap({1: 10})
        session = numbers._session()  # which holds the native map
        cycle = [numbers, session, session.map]
        if is_last:
            cycle.reverse()
        cycle.append(cycle)
        del numbers, session, cycle
        gc.collect()


def test_figures(numbers):
    numbers.put_many((key, key) for key in range(1000))
    figures = numbers.stats()
    assert figures["pairs"] == 1000
    assert figures["memory_bytes"] >= 16_000
    assert set(figures) == set(cubbydb.VoliMapStat.__annotations__)
    assert repr(numbers) == "<cubbydb.VoliMap, 1,000 pairs>"
    assert ", keys 5 to 6>" in repr(VoliMap(low=5, high=6))
    assert "a window of 256" in repr(VoliMap(window=256))


# Threads -----------------------------------------------------------------------------------------


def run_threads(count, work):
    failures = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_threads_share_one(numbers):
    def work(self: int) -> None:
        for number in range(3000):
            key = (number % 100) << 32 | self
            numbers[key] = number
            assert numbers[key] == number
            assert numbers.get_many([key, 1])[0] == number
            while True:
                count = numbers.setdefault(LAST, 0)
                if numbers.compare_and_swap(LAST, count, count + 1):
                    break
            if number % 100 == 0:
                assert sum(1 for key in numbers if key & 3 == self) >= 1

    run_threads(4, work)
    assert numbers[LAST] == 12_000
    assert len(numbers) == 401


def test_threads_take_different_pairs(numbers):
    numbers.put_many((key, key) for key in range(4000))
    taken = [[] for _ in range(4)]

    def work(self: int) -> None:
        while (key := numbers.first((None, None))[0]) is not None:
            if numbers.pop(key, None) is not None:
                taken[self].append(key)

    run_threads(4, work)
    assert sorted(itertools.chain(*taken)) == list(range(4000))


def use_for_ever(numbers):
    for number in itertools.count():
        numbers[number] = number
        list(numbers.range(0, 500))


def test_one_thread_closes_while_others_work():
    for _ in range(20):
        numbers = VoliMap((key, key) for key in range(1000))
        begun = threading.Barrier(4)

        def work(self: int, numbers: VoliMap = numbers, begun: threading.Barrier = begun) -> None:
            begun.wait()
            if self == 0:
                numbers.close()
                return
            with pytest.raises(errors.Closed):
                use_for_ever(numbers)

        run_threads(4, work)


def test_an_iterator_may_go_on_in_another_thread(numbers):
    numbers.put_many((key, key) for key in range(5000))
    iterator = iter(numbers)
    begun = [next(iterator) for _ in range(10)]
    rest = []
    run_threads(1, lambda _: rest.extend(iterator))
    assert begun + rest == list(range(5000))
