"""A store does what a dict does, whatever the order of calls, and after its process has died."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule
from store_samples import some_bytes, sparse_copy

import cubbydb

KEYS = st.binary(min_size=1, max_size=20) | st.builds(some_bytes, st.integers(1, 5000))
# Up to several extents of 64 KiB.
VALUES = (
    st.binary(max_size=50)
    | st.builds(some_bytes, st.integers(0, 20_000))
    | st.builds(some_bytes, st.sampled_from([65_520, 65_536, 70_000, 300_000]))
)

DURABILITIES = st.sampled_from([None, "process", "power"])


class StoreModel(RuleBasedStateMachine):
    """A store does what a dict does."""

    keys = Bundle("keys")

    @initialize()
    def create(self):
        self.pairs: dict[bytes, bytes] = {}
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "model.cubby"
        self.store = cubbydb.open(self.path, "n", size="64M")

    @rule(target=keys, key=KEYS, value=VALUES, durability=DURABILITIES)
    def put(self, key, value, durability):
        self.pairs[key] = value
        self.store.put(key, value, durability=durability)
        return key

    @rule(key=keys, value=VALUES)
    def replace(self, key, value):
        self.pairs[key] = value
        self.store[key] = value

    @rule(key=consumes(keys) | KEYS)
    def delete(self, key):
        assert self.store.delete(key) is (self.pairs.pop(key, None) is not None)

    @rule(key=keys | KEYS)
    def get(self, key):
        assert self.store.get(key) == self.pairs.get(key)
        assert (key in self.store) is (key in self.pairs)

    @rule(wanted=st.lists(keys | KEYS, max_size=20))
    def get_many(self, wanted):
        assert self.store.get_many(wanted) == [self.pairs.get(key) for key in wanted]

    @rule(pairs=st.lists(st.tuples(keys | KEYS, VALUES), max_size=20))
    def put_many(self, pairs):
        self.pairs.update(pairs)
        self.store.put_many(pairs)

    @rule(
        changes=st.lists(st.tuples(keys | KEYS, st.none() | VALUES), max_size=20),
        durability=DURABILITIES,
        dropped=st.booleans(),
    )
    def batch(self, changes, durability, dropped):
        with self.store.batch(durability=durability) as batch:
            for key, value in changes:
                batch.delete(key) if value is None else batch.put(key, value)
            assert len(batch) == len(dict(changes))
            if dropped:
                batch.clear()
                return
        for key, value in changes:
            self.pairs.pop(key, None)
            if value is not None:
                self.pairs[key] = value

    @rule(count=st.integers(1, 300), seed=st.integers(0, 3))
    def grow(self, count, seed):
        pairs = {
            b"grow %d %d" % (seed, number): some_bytes(number, seed) for number in range(count)
        }
        self.pairs.update(pairs)
        self.store.put_many(pairs)

    @rule()
    def sync_and_step(self):
        self.store.sync()
        self.store.step()

    @rule()
    def reopen(self):
        self.store.close()
        self.store = cubbydb.open(self.path, "w")
        assert self.store.stats()["recovered"] == 0

    @rule()
    def reopen_with_recovery(self):
        self.store.close()
        self.store = cubbydb.open(self.path, "w", recover=True)

    @rule()
    def reopen_what_a_dead_process_would_have_left(self):
        path = self.path.with_name(f"{self.path.name}.")
        sparse_copy(self.path, path)
        with cubbydb.open(path) as store:
            assert dict(store.items()) == self.pairs
            assert len(store) == len(self.pairs)
        self.store.close()
        self.path = path
        self.store = cubbydb.open(self.path, "w")

    @rule()
    def compare(self):
        assert len(self.store) == len(self.pairs)
        found = list(self.store.scan())
        assert len(found) == len(self.pairs)
        assert dict(found) == self.pairs
        assert self.store.check() == []

    def teardown(self):
        if hasattr(self, "store"):
            self.compare()
            self.store.close()
            self.folder.cleanup()


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
