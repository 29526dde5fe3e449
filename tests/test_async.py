"""The calls of Store that are awaited: what they give, how they fail, what they leave behind."""

import asyncio
import gc
import textwrap
import threading
import weakref
from pathlib import Path

import pytest
from cubby_command import python
from store_samples import some_bytes, some_pairs

import cubbydb
from cubbydb import errors
from cubbydb.engine import aio

SIZES = [0, 1, 500, 1000, 1100, 4096, 65_000, 65_536, 200_000]


@pytest.fixture(params=["mem", "file", "csd"])
def store(request, tmp_path):
    """An empty store, which must be sound at the end."""
    path = {"mem": "mem:256M", "file": f"{tmp_path}/data", "csd": f"csd:{tmp_path}/data"}
    with cubbydb.open(path[request.param], "n", size="64M") as store:
        yield store
        if not store.closed:
            assert store.check() == []


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# Gets


@pytest.mark.parametrize("size", SIZES)
def test_aget_gives_what_get_gives(store, size):
    async def main():
        assert await store.aget(b"key") is None
        assert await store.aget(b"key", b"default") == b"default"
        await store.aput(b"key", some_bytes(size))
        assert await store.aget(b"key") == some_bytes(size)
        assert await store.aget(bytearray(b"key"), 5) == some_bytes(size)
        assert await store.aget(memoryview(b"key")) == some_bytes(size)

    asyncio.run(main())
    assert store[b"key"] == some_bytes(size)


def test_a_thousand_coroutines_each_get_their_own_values(store):
    pairs = some_pairs(2000, 300)
    store.put_many(pairs)
    keys = [b"key %d" % number for number in range(2200)]  # the last 200 are not there

    async def worker(number):
        for step in range(5):
            key = keys[(number * 17 + step * 331) % len(keys)]
            assert await store.aget(key) == pairs.get(key)

    async def main():
        await asyncio.gather(*(worker(number) for number in range(1000)))

    before = store.stats()["gets"]
    asyncio.run(main())
    assert store.stats()["gets"] - before == 5000


def test_aget_many_gives_what_get_many_gives(store):
    store.put_many({b"key %d" % number: some_bytes(SIZES[number % 9]) for number in range(300)})
    keys = [b"key %d" % number for number in range(0, 330, 3)]

    async def main():
        assert await store.aget_many([]) == []
        assert await store.aget_many(iter(keys)) == store.get_many(keys)
        both = await asyncio.gather(store.aget_many(keys), store.aget_many([bytearray(keys[0])]))
        assert both == [store.get_many(keys), [store[keys[0]]]]

    asyncio.run(main())


def test_a_key_that_cannot_be_one_fails_alone(store):
    async def main():
        with pytest.raises(TypeError, match="not str"):
            store.aget("key")
        with pytest.raises(TypeError, match="not int"):
            store.aput(b"key", 5)
        bad = [store.aget(b""), store.aget(bytes(65_536)), store.aget_many([b"key", b""])]
        good = store.aget(b"key")
        assert await good is None
        for future in bad:
            with pytest.raises(ValueError, match="a key has 1 to 65,535 bytes"):
                await future

    asyncio.run(main())


def test_what_is_cancelled_is_not_missed(store):
    store.put_many(some_pairs(100))

    async def main():
        early = store.aget(b"key 1")
        early.cancel()  # before it is submitted
        late = [store.aget(b"key 2"), store.aget(b"key 2", 0), store.aget_many([b"key 2"] * 9)]
        put = store.aput(b"key 3", b"not put")
        put.cancel()
        await asyncio.sleep(0)
        for future in late:
            future.cancel()
        assert await store.aget(b"key 3") == some_pairs(100)[b"key 3"]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.Event().wait()), 0.001)
        assert [future.cancelled() for future in [early, put, *late]] == [True] * 5

    asyncio.run(main())


def test_a_device_error_reaches_one_get_and_no_other(tmp_path):
    path = tmp_path / "data"
    pairs = some_pairs(50)
    with cubbydb.open(path, "n", size="16M") as store:
        store.put_many(pairs)

    async def main(store):
        gets = [store.aget(key) for key in pairs for _ in range(10)]
        return await asyncio.gather(*gets, return_exceptions=True)

    with cubbydb.open(f"fault:read=200,once:{path}") as store:
        results = asyncio.run(main(store))
    failures = [result for result in results if isinstance(result, Exception)]
    assert [type(failure) for failure in failures] == [errors.DeviceError]
    assert "LBA" in str(failures[0])
    expected = [value for value in pairs.values() for _ in range(10)]
    assert sum(a == b for a, b in zip(results, expected, strict=True)) == len(expected) - 1


# Changes


class CountingStore(cubbydb.Store):
    """A store that counts the calls of put_many."""

    calls = 0

    def put_many(self, pairs, **options):
        self.calls += 1
        return super().put_many(pairs, **options)


def test_the_puts_of_one_turn_are_one_put_many():
    with CountingStore("mem:64M", cubbydb.StoreOptions(flag="n")) as store:

        async def main():
            await asyncio.gather(*(store.aput(b"%d" % i, b"value") for i in range(500)))
            assert store.calls == 1
            await store.aput(b"0", b"other")
            assert store.calls == 2

        asyncio.run(main())
        assert len(store) == 500
        assert store[b"0"] == b"other"


def test_changes_of_one_key_are_made_in_their_order(store):
    async def main():
        done = await asyncio.gather(
            store.adelete(b"key"),
            store.aput(b"key", b"one"),
            store.aput(b"key", b"two"),
            store.aput(b"other", bytearray(b"three")),
            store.adelete(b"key"),
            store.adelete(b"key"),
            store.aput(b"key", b"four"),
        )
        assert done == [False, None, None, None, True, False, None]
        assert await store.aget_many([b"key", b"other"]) == [b"four", b"three"]

    asyncio.run(main())


def test_a_put_that_fails_fails_alone(store):
    async def main():
        puts = [store.aput(b"key %d" % number, b"value") for number in range(100)]
        puts.insert(50, store.aput(b"", b"value"))
        puts.append(store.adelete(bytes(65_536)))
        done = await asyncio.gather(*puts, return_exceptions=True)
        assert [n for n, each in enumerate(done) if isinstance(each, ValueError)] == [50, 101]
        assert len(store) == 100

    asyncio.run(main())


def test_a_full_store_fails_the_puts_that_it_has_not_stored():
    async def main(store):
        keys = [b"key %d" % number for number in range(400)]
        done = await asyncio.gather(
            *(store.aput(key, bytes(60_000)) for key in keys), return_exceptions=True
        )
        stored = [key for key, each in zip(keys, done, strict=True) if each is None]
        assert {type(each) for each in done} == {type(None), errors.Full}
        assert len(stored) == len(store)
        assert all(key in store for key in stored)

    with cubbydb.open("mem:8M", "n") as store:
        asyncio.run(main(store))


def test_a_read_only_store_refuses_each_change(tmp_path):
    path = tmp_path / "data"
    cubbydb.open(path, "n", size="16M").close()

    async def main(store):
        changes = [store.aput(b"key", b""), store.adelete(b"key"), store.aput(b"other", b"")]
        done = await asyncio.gather(*changes, return_exceptions=True)
        assert [type(each) for each in done] == [errors.ReadOnly] * 3

    with cubbydb.open(path) as store:
        asyncio.run(main(store))


# Ends


def test_closing_the_store_fails_what_is_under_way(store):
    store.put_many(some_pairs(1000))

    async def main():
        gets = [store.aget(b"key %d" % number) for number in range(1000)]
        await asyncio.sleep(0)  # submitted
        late = [store.aget(b"key 1"), store.aget_many([b"key 1"]), store.aput(b"key 1", b"")]
        store.close()
        done = await asyncio.gather(*gets, *late, return_exceptions=True)
        assert {type(each) for each in done[1000:]} == {errors.Closed}
        assert {type(each) for each in done} <= {bytes, errors.Closed}
        for call in (lambda: store.aget(b"key"), lambda: store.aput(b"key", b"")):
            with pytest.raises(errors.Closed):
                await call()

    asyncio.run(main())


def test_closing_the_store_in_another_thread_wakes_the_loop(store):
    store.put_many(some_pairs(1000))

    async def get_for_ever():
        while True:
            await asyncio.gather(*(store.aget(b"key %d" % number) for number in range(1000)))

    async def main():
        gets = asyncio.create_task(get_for_ever())
        await asyncio.sleep(0)
        closer = threading.Thread(target=store.close)
        closer.start()
        with pytest.raises(errors.Closed):
            await gets
        closer.join()

    asyncio.run(main())


def test_a_closed_loop_leaves_nothing_behind(store):
    store[b"key"] = b"value"
    left = []

    async def main():
        assert await store.aget(b"key") == b"value"
        left.append(weakref.ref(store._loops.latest()))
        for _ in range(300):  # nobody waits for these
            store.aget(b"key")
        await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    before = open_descriptors()
    for _ in range(10):
        asyncio.run(main())
    gc.collect()
    assert [reference() for reference in left] == [None] * 11
    assert open_descriptors() == before
    assert len(store._loops.by_loop) == 0


def test_loops_that_take_turns_keep_what_they_have(store):
    store[b"key"] = b"value"
    loops = [asyncio.new_event_loop() for _ in range(2)]

    async def main():
        assert await store.aget(b"key") == b"value"

    for loop in loops:
        loop.run_until_complete(main())
    before = open_descriptors()
    for loop in loops * 3:
        loop.run_until_complete(main())
    assert open_descriptors() == before
    for loop in loops:
        loop.close()


def test_loops_of_several_threads_share_a_store(store):
    pairs = some_pairs(600, 300)
    store.put_many(pairs)
    failures = []

    async def main(number):
        await store.aput(b"own %d" % number, b"%d" % number)
        for _ in range(5):
            assert await store.aget_many(pairs) == list(pairs.values())
        assert await store.aget(b"own %d" % number) == b"%d" % number

    def run(number):
        try:
            asyncio.run(main(number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_store_that_nobody_holds_lives_until_its_gets_are_done(tmp_path):
    path = tmp_path / "data"
    with cubbydb.open(path, "n", size="16M") as store:
        store[b"key"] = b"value"
    del store

    async def main():
        assert await cubbydb.open(path).aget(b"key") == b"value"
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed store"):
        asyncio.run(main())
    with cubbydb.open(path, "w"):
        pass


def test_a_forked_child_is_refused(tmp_path):
    run = python(
        """
        import asyncio, os, sys, cubbydb
        from cubbydb import errors
        store = cubbydb.open(sys.argv[1], "n", size="16M")
        store[b"key"] = b"value"

        async def child():
            for call in (lambda: store.aget(b"key"), lambda: store.aput(b"key", b"")):
                try:
                    await call()
                except errors.Forked:
                    continue
                os._exit(2)

        async def main():
            assert await store.aget(b"key") == b"value"
            pending = [store.aget(b"key") for _ in range(300)]
            await asyncio.sleep(0)
            calls = store._loops.latest()
            child_id = os.fork()
            if child_id == 0:
                calls.take()  # as the parent's loop would, and its epoll is shared
                asyncio.run(child())
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child_id, 0)[1]) == 0
            assert await asyncio.gather(*pending) == [b"value"] * 300

        asyncio.run(main())
        store.close()
        print("good")
        """,
        tmp_path / "data",
        cwd=tmp_path,
    )
    assert (run.stdout, run.stderr) == ("good\n", "")


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begin = aio.__doc__.index("    async def main")
    example = textwrap.dedent(aio.__doc__[begin : aio.__doc__.index("Each event loop")]).strip()
    assert example.endswith("asyncio.run(main())")
    exec(example, {"asyncio": asyncio, "cubbydb": cubbydb})
    with cubbydb.open("data.cubby") as store:
        assert store[b"key"] == b"value"


def test_a_pair_that_has_expired_is_not_there(store):
    async def main() -> None:
        await asyncio.gather(
            store.aput(b"lasting", b"value"),
            store.aput(b"short", b"value", ttl=0.001),
            store.aput(b"large", b"v" * 5000, ttl=0.001),
        )
        await asyncio.sleep(0.002)
        keys = [b"lasting", b"short", b"large"]
        assert await store.aget_many(keys) == [b"value", None, None]

    asyncio.run(main())
    with pytest.raises(ValueError, match="a ttl is above 0"):
        asyncio.run(bad_ttl(store))


async def bad_ttl(store: cubbydb.Store) -> None:
    await store.aput(b"key", b"value", ttl=0)
