"""What a dict that is kept sorted does, a VoliMap does: for keys of every kind, in every mode."""

from bisect import bisect_left, bisect_right

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cubbydb import VoliMap, errors

LAST = (1 << 64) - 1
NUMBERS = st.integers(0, LAST)

# Numbers of one kind, so that keys meet again: dense ones; clusters far from each other; all with
# the same high bits, down to a place where they part; powers of two and their neighbours.
DENSE = st.integers(0, 600)
CLUSTERED = st.builds(lambda base, more: base << 40 | more, st.integers(0, 5), st.integers(0, 70))
PREFIXED = st.builds(
    lambda bit, low: (0x123456789ABCDEF0 >> bit << bit | low) & LAST,
    st.sampled_from([4, 8, 9, 17, 18, 27, 63]),
    st.integers(0, 15),
)
POWERS = st.builds(
    lambda bit, more: ((1 << bit) + more) & LAST, st.integers(0, 64), st.integers(-1, 1)
)
ENDS = st.builds(lambda number: LAST - number, st.integers(0, 300))
KEYS = {
    "dense": DENSE,
    "clustered": CLUSTERED,
    "random": NUMBERS,
    "prefixed": PREFIXED,
    "powers": POWERS,
    "ends": ENDS,
    "mixed": st.one_of(DENSE, CLUSTERED, PREFIXED, POWERS, ENDS, NUMBERS),
}


class Model:
    """A dict in the order of its keys."""

    def __init__(self) -> None:
        self.pairs: dict[int, int] = {}

    @property
    def keys(self) -> list[int]:
        return sorted(self.pairs)

    def range(self, low, high) -> list[tuple[int, int]]:
        keys = self.keys
        inside = keys[bisect_left(keys, low) : bisect_left(keys, high)]
        return [(key, self.pairs[key]) for key in inside]

    def floor(self, key):
        keys = self.keys
        at = bisect_right(keys, key)
        return (keys[at - 1], self.pairs[keys[at - 1]]) if at else None

    def ceiling(self, key):
        keys = self.keys
        at = bisect_left(keys, key)
        return (keys[at], self.pairs[keys[at]]) if at < len(keys) else None


class VoliMapMachine(RuleBasedStateMachine):
    """Ordinary mode; the other modes change what it is made with, and which keys it takes."""

    arguments: dict[str, int] = {}  # noqa: RUF012 - of the class
    key: st.SearchStrategy[int]  # of this machine

    def __init__(self) -> None:
        super().__init__()
        self.numbers = VoliMap(**self.arguments)
        self.model = Model()

    def refusal(self, key):
        """The exception that a put of a key raises now, if it is not there."""
        return None

    def put_into_both(self, put, key, value):
        refusal = self.refusal(key)
        if refusal is None:
            put()
            self.model.pairs[key] = value
        else:
            with pytest.raises(refusal):
                put()

    @rule(data=st.data(), value=NUMBERS)
    def put(self, data, value):
        key = data.draw(self.key)
        self.put_into_both(lambda: self.numbers.put(key, value), key, value)

    @rule(data=st.data(), count=st.integers(1, 700), value=NUMBERS)
    def put_a_run(self, data, count, value):
        begin = data.draw(self.key)
        step = data.draw(st.sampled_from([1, 2, 256, 1 << 20]))
        for key in range(begin, min(begin + count * step, LAST + 1), step):
            if self.refusal(key) is None:
                self.numbers[key] = value
                self.model.pairs[key] = value

    @rule(data=st.data(), values=st.lists(NUMBERS, max_size=40))
    def put_many(self, data, values):
        pairs = [(data.draw(self.key), value) for value in values]
        for stored, (key, value) in enumerate(pairs):
            if self.refusal(key) is not None:
                with pytest.raises(self.refusal(key), match=f"stored: {stored}"):
                    self.numbers.put_many(pairs)
                return
            self.model.pairs[key] = value
        assert self.numbers.put_many(pairs) == len(pairs)

    @rule(data=st.data())
    def remove(self, data):
        key = data.draw(self.key)
        assert self.numbers.remove(key) == (self.model.pairs.pop(key, None) is not None)

    @rule(data=st.data())
    def pop(self, data):
        key = self.some_key(data)
        assert self.numbers.pop(key, None) == self.model.pairs.pop(key, None)

    def some_key(self, data):
        """One that is there, more often than not."""
        keys = self.model.keys
        if not keys:
            return data.draw(self.key)
        return data.draw(st.one_of(st.sampled_from(keys), st.sampled_from(keys), self.key))

    @rule(data=st.data(), value=NUMBERS)
    def add(self, data, value):
        key = self.some_key(data)
        if key in self.model.pairs:
            assert not self.numbers.put_if_absent(key, value)
            assert self.numbers.setdefault(key, value) == self.model.pairs[key]
        elif self.refusal(key) is None:
            assert self.numbers.setdefault(key, value) == value
            self.model.pairs[key] = value
        else:
            with pytest.raises(self.refusal(key)):
                self.numbers.put_if_absent(key, value)

    @rule(data=st.data(), value=NUMBERS, other=NUMBERS, is_removed=st.booleans())
    def swap(self, data, value, other, is_removed):
        key = self.some_key(data)
        now = self.model.pairs.get(key)
        assume(other != now)
        assert not self.numbers.compare_and_swap(key, other, value)
        assert not self.numbers.compare_and_swap(key, other, None)
        if now is not None:
            assert self.numbers.compare_and_swap(key, now, None if is_removed else value)
            self.model.pairs[key] = value
            if is_removed:
                del self.model.pairs[key]

    @rule(last=st.booleans())
    def popitem(self, last):
        if self.model.pairs:
            key = self.model.keys[-1 if last else 0]
            assert self.numbers.popitem(last) == (key, self.model.pairs.pop(key))

    @rule(data=st.data())
    def remove_a_range(self, data):
        low, high = sorted((self.some_key(data), self.some_key(data)))
        for key, _ in self.numbers.range(low, high):
            del self.numbers[key]
            del self.model.pairs[key]
        assert list(self.numbers.range(low, high)) == self.model.range(low, high) == []

    @rule()
    def clear(self):
        self.numbers.clear()
        self.model.pairs.clear()

    @rule(data=st.data())
    def look(self, data):
        key, other = self.some_key(data), data.draw(st.one_of(self.key, NUMBERS))
        wanted = [key, other, min(key + 1, LAST), max(key - 1, 0)]
        assert self.numbers.get_many(wanted) == [self.model.pairs.get(each) for each in wanted]
        for each in wanted:
            assert self.numbers.get(each) == self.model.pairs.get(each)
            assert (each in self.numbers) == (each in self.model.pairs)
            assert self.numbers.floor(each, None) == self.model.floor(each)
            assert self.numbers.ceiling(each, None) == self.model.ceiling(each)

    @rule(data=st.data(), limit=st.one_of(st.none(), st.integers(0, 100)))
    def range(self, data, limit):
        low = data.draw(st.one_of(st.just(0), self.key))
        high = data.draw(st.one_of(st.just(LAST + 1), self.key))
        pairs = self.model.range(low, high)
        assert list(self.numbers.range(low, high, limit=limit)) == pairs[:limit]
        descending = list(self.numbers.range(low, high, limit=limit, reverse=True))
        assert descending == pairs[::-1][:limit]

    @invariant()
    def it_has_as_many(self):
        assert len(self.numbers) == len(self.model.pairs)

    def teardown(self):
        assert list(self.numbers.items()) == self.model.range(0, LAST + 1)
        assert list(reversed(self.numbers)) == self.model.keys[::-1]
        assert self.numbers.stats()["pairs"] == len(self.model.pairs)
        self.numbers.close()


class OrdinaryMachine(VoliMapMachine):
    @initialize(kind=st.sampled_from(sorted(KEYS)))
    def choose(self, kind):
        self.key = KEYS[kind]


class ArrayMachine(VoliMapMachine):
    arguments = {"low": 1000, "high": 1000 + (1 << 30)}  # noqa: RUF012 - of the class
    key = st.one_of(
        st.integers(990, 1600),
        st.integers(1000, 1000 + (1 << 30)),
        st.integers((1 << 30) + 990, (1 << 30) + 1010),
    )

    def refusal(self, key):
        return None if 1000 <= key <= 1000 + (1 << 30) else ValueError


class WindowMachine(VoliMapMachine):
    arguments = {"window": 300}  # noqa: RUF012 - of the class
    key = st.one_of(st.integers(0, 700), ENDS)

    def refusal(self, key):
        if not self.numbers.stats()["is_array"]:  # the system has refused one
            return None
        other = any(each % 300 == key % 300 and each != key for each in self.model.pairs)
        return errors.Full if other else None


TestOrdinary = OrdinaryMachine.TestCase
TestOrdinary.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestArray = ArrayMachine.TestCase
TestArray.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestWindow = WindowMachine.TestCase
TestWindow.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
