"""What a live run makes, keeps and serves, without actors: the test makes the shards."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from postmean.base.errors import ConfigError, GenerationError, ShardError, StorageError
from postmean.runs.live_server import LiveServer
from postmean.runs.live_shards import LiveShards
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_reader, open_storage
from postmean.storage.storage import Reader, Storage
from postmean.training.stream.follow import Follower
from tests.support.runs import wait_until

FILES = {"manifest.json": b"the manifest", "certified_sigma.npy": b"", "plan.parquet": bytes(20 << 20) + b"end"}


def make_next(shards: LiveShards) -> int | None:
    shard = shards.take()
    if shard is not None:
        shards.done(shard, {f"commits/{shard:06d}.json": b"commit", f"shards/{shard:06d}.tar": b"%d" % shard})
    return shard


def ask(shards: LiveShards, shard: int) -> bytes | None:
    """Ask like a trainer for the commit record, then the shard, which is made meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(shards.read, f"commits/{shard:06d}.json", 60)
        while not reading.done():
            make_next(shards)
        reading.result()
    return shards.read(f"shards/{shard:06d}.tar", 0)


def make_all(shards: LiveShards) -> list[int]:
    return list(iter(lambda: make_next(shards), None))


def test_nothing_is_made_before_it_is_asked_for_and_then_depth_shards() -> None:
    shards = LiveShards(100, depth=4, trainers=1)
    assert make_all(shards) == []
    assert shards.read("commits/000010.json", 0) is None
    assert make_all(shards) == [10, 11, 12, 13]
    assert ask(shards, 11) == b"11"
    assert make_all(shards) == [14]


def test_what_is_held_is_bounded_however_long_it_runs() -> None:
    shards = LiveShards(1000, depth=4, trainers=1)
    for shard in range(1000):
        assert ask(shards, shard) == b"%d" % shard
        make_all(shards)
        assert shards.held() <= 8


@pytest.mark.parametrize("apart", [1, 2, 5])
def test_ranks_apart_are_one_trainer_and_each_shard_is_made_once(apart: int) -> None:
    shards = LiveShards(100, depth=5, trainers=1)
    made = []
    for shard in range(10, 50):
        while shards.read(f"shards/{shard:06d}.tar", 0) is None:
            made += make_all(shards)
        assert shards.read(f"shards/{shard - apart:06d}.tar", 0) in (b"%d" % (shard - apart), None)
        assert shards.newest() == shard
    assert len(made) == len(set(made))


def test_a_trainer_that_begins_again_earlier_gets_what_it_asks_for() -> None:
    shards = LiveShards(100, depth=3, trainers=1)
    for shard in (50, 51, 52, 20, 21):
        assert ask(shards, shard) == b"%d" % shard
    make_all(shards)
    assert shards.read("shards/000023.tar", 0) == b"23", "the window has moved along"


def test_two_trainers_at_places_of_their_own_are_both_served_ahead() -> None:
    shards = LiveShards(100, depth=3, trainers=2)
    for step in range(10):
        assert ask(shards, 10 + step) == b"%d" % (10 + step)
        assert ask(shards, 60 + step) == b"%d" % (60 + step)
    make_all(shards)
    assert shards.held() <= 2 * 6
    assert [shards.read(f"shards/{shard:06d}.tar", 0) for shard in (20, 21, 70, 71)] == [b"20", b"21", b"70", b"71"]


def test_requests_far_from_the_trainer_are_answered_and_cost_it_nothing() -> None:
    """Of a second reader with the token, such as one that looks at a few shards, or asks for all of them at random."""
    shards = LiveShards(1000, depth=4, trainers=1)
    ask(shards, 10)
    make_all(shards)
    for step in range(50):
        far = 900 - 9 * step
        assert ask(shards, far) == b"%d" % far
        make_all(shards)
        assert shards.newest() == 10 + step
        assert shards.held() <= 8 + 4
        held = [shards.read(f"shards/{10 + step + ahead:06d}.tar", 0) for ahead in (0, 1)]
        assert held == [b"%d" % (10 + step), b"%d" % (11 + step)], "still held, not made again"
        make_all(shards)


def test_a_trainer_that_waits_is_served_before_readers_far_from_it() -> None:
    shards = LiveShards(1000, depth=2, trainers=1)
    ask(shards, 500)
    make_all(shards)
    with ThreadPoolExecutor(20) as readers:
        for far in range(19):
            readers.submit(shards.read, f"commits/{20 * far:06d}.json", 60)
        wait_until(lambda: len(shards) == 19, "all wait")
        readers.submit(shards.read, "commits/000502.json", 60)
        wait_until(lambda: len(shards) >= 20, "the trainer waits as well")
        assert shards.take() == 502
        shards.close()


def test_a_second_reader_that_goes_on_takes_the_place_only_of_a_trainer_that_is_silent() -> None:
    shards = LiveShards(1000, depth=3, trainers=1)
    ask(shards, 10)
    for step in range(1, 5):
        ask(shards, 500 + step)
        ask(shards, 10 + step)
        assert shards.newest() == 10 + step, "the trainer goes on as well"
    ask(shards, 505)
    ask(shards, 506)
    assert shards.newest() == 506
    make_all(shards)
    assert shards.read("shards/000508.tar", 0) == b"508"


def test_a_shard_that_failed_is_told_once_and_tried_again() -> None:
    shards = LiveShards(10, depth=1, trainers=1)
    assert shards.read("commits/000003.json", 0) is None
    assert shards.take() == 3
    shards.failed(3, "not finite")
    assert shards.take() is None
    with pytest.raises(GenerationError, match="not finite"):
        shards.read("commits/000003.json", 0)
    assert ask(shards, 3) == b"3"


def test_what_is_given_back_is_taken_again() -> None:
    shards = LiveShards(10, depth=2, trainers=1)
    shards.read("commits/000003.json", 0)
    assert [shards.take(), shards.take(), shards.take()] == [3, 4, None]
    shards.put_back(3)
    assert shards.take() == 3


def test_closing_lets_all_readers_go() -> None:
    shards = LiveShards(10, depth=2, trainers=1)
    reader = threading.Thread(target=shards.read, args=("commits/000003.json", 3600))
    reader.start()
    shards.close()
    reader.join(60)
    assert not reader.is_alive() and shards.is_over()


@pytest.fixture
def shards() -> LiveShards:
    return LiveShards(10, depth=2, trainers=1)


@pytest.fixture
def storage(shards: LiveShards, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text("a token of the tests\n")
    monkeypatch.setenv("POSTMEAN_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("POSTMEAN_STORAGE_DEADLINE", "2")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LiveServer("127.0.0.1", 0, FILES, shards, "a token of the tests") as server:
        yield open_reader(f"http://127.0.0.1:{server.port}")
        shards.close()


def test_readers_get_files_whole_and_in_parts_and_shards_as_they_are_made(storage: Reader, shards: LiveShards) -> None:
    assert storage.get("manifest.json") == FILES["manifest.json"]
    assert storage.get("plan.parquet") == FILES["plan.parquet"], "more than one part"
    assert storage.get_range("manifest.json", 4, 5) == b"manif"
    with pytest.raises(ShardError, match="ends 3 bytes early"):
        storage.get_range("manifest.json", 10, 5)

    def make() -> None:
        while not make_next(shards):
            time.sleep(0.01)

    maker = threading.Thread(target=make)
    maker.start()
    assert storage.exists("commits/000004.json")
    maker.join()
    assert storage.get("shards/000004.tar") == b"4"


def test_what_is_there_exists_even_if_empty(storage: Reader) -> None:
    assert all(storage.exists(path) for path in FILES)


@pytest.mark.parametrize("path", ["config.json", "etc/passwd", "commits/000010.json", "shards/4.tar", "commits/x.json"])
def test_nothing_else_is_served(storage: Reader, path: str) -> None:
    assert not storage.exists(path)


def test_a_shard_that_cannot_be_made_is_an_error_that_says_why(storage: Reader, shards: LiveShards) -> None:
    shards.read("commits/000001.json", 0)
    shards.take()
    shards.failed(1, "no space left")
    with pytest.raises(StorageError, match="a shard could not be made: no space left"):
        storage.get("commits/000001.json")


def test_a_trainer_that_waits_for_a_shard_is_told_why_it_could_not_be_made(storage: Reader, shards: LiveShards) -> None:
    follower = Follower(RunFolder(storage), seconds=60)
    with ThreadPoolExecutor(1) as trainer:
        waiting = trainer.submit(follower.wait_for_shard, 3)
        while shards.take() != 3:
            time.sleep(0.01)
        shards.failed(3, "shard 3 is not finite")
        with pytest.raises(StorageError, match="a shard could not be made: shard 3 is not finite"):
            waiting.result()
        waiting = trainer.submit(follower.wait_for_shard, 3)
        while not waiting.done():
            make_next(shards)
        waiting.result()


def test_without_the_token_nothing_is_served(storage: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POSTMEAN_TOKEN", "some other token of the tests")
    for path in ("manifest.json", "absent"):
        with pytest.raises(StorageError, match="refuses the token: set POSTMEAN_TOKEN_PATH") as error:
            open_reader(storage.url).get(path)
        assert "other token" not in str(error.value)
    monkeypatch.delenv("POSTMEAN_TOKEN")
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="others may read it: chmod 600"):
        open_reader(storage.url)
    monkeypatch.setenv("POSTMEAN_TOKEN_PATH", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="no token of a live run"):
        open_reader(storage.url)


def test_it_can_only_be_read(storage: Reader) -> None:
    assert not isinstance(storage, Storage)
    assert not any(hasattr(storage, name) for name in ("put", "create", "delete", "list"))
    with pytest.raises(ConfigError, match="--follow-seconds"):
        open_storage(storage.url)


def test_a_server_that_is_gone_is_an_error_after_the_deadline(storage: Reader) -> None:
    gone = open_reader("http://127.0.0.1:9")
    with pytest.raises(StorageError, match="no success within 2 s"):
        gone.get("manifest.json")


@pytest.mark.parametrize(
    "url",
    [
        "http://[x",
        "http://h:99999",
        "http://h:abc",
        "http://a b",
        "http://h\n",
        "http://256.1.1.1",
        "http://",
        "http://h?x",
    ],
)
def test_what_is_no_url_is_one_line(storage: Reader, url: str) -> None:
    with pytest.raises(ConfigError) as error:
        open_reader(url)
    assert "\n" not in str(error.value) and "http://" in str(error.value)


@pytest.mark.parametrize("host", ["256.1.1.1", "no such host", "a" * 300, "nul\0", "192.0.2.1", "ü" * 70])
def test_a_host_that_cannot_be_listened_on_is_refused(shards: LiveShards, host: str) -> None:
    with pytest.raises(ConfigError, match="--port 0: cannot listen there"):
        LiveServer(host, 0, {}, shards, "token")
    with pytest.raises(ConfigError, match="--port 70000: cannot listen there"):
        LiveServer("127.0.0.1", 70000, {}, shards, "token")


def test_an_address_that_is_taken_is_refused(storage: Reader, shards: LiveShards) -> None:
    port = int(storage.url.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"--port {port}: cannot listen there"):
        LiveServer("127.0.0.1", port, {}, shards, "token")
