"""The lease of an output in an object store, with clocks that only tests move."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable

import pytest

from pipeline import lease as lease_module
from pipeline.errors import UsageError
from pipeline.lease import BEAT, MISSED, NAME, Holder, Lease, LeaseLostError, keep, kept, machine
from pipeline.lock import OutputBusyError, output_lock
from tests.object_store import BUCKET, ObjectStore
from transforms.storage_s3 import S3Storage


class Clock:
    """Seconds that pass while somebody sleeps, and what happens in them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.each_beat: Callable[[], None] = lambda: None
        self._next_beat = BEAT

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self.now >= self._next_beat:
            self._next_beat += BEAT
            self.each_beat()


@pytest.fixture
def storage(object_store: ObjectStore) -> S3Storage:
    object_store.well()
    return S3Storage(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases seem to be held on another machine each, so that no look at a process can help."""
    monkeypatch.setattr(lease_module, "machine", lambda: uuid.uuid4().hex)


def silent(_: str) -> None:
    """Takes a notice nobody reads."""


def stored(storage: S3Storage) -> dict[str, object]:
    return json.loads(storage.read(NAME))


def taken(storage: S3Storage, clock: Clock | None = None) -> Lease:
    clock = clock or Clock()
    lease = Lease(storage, clock, clock.sleep)
    lease.acquire(silent)
    return lease


def test_a_lease_names_its_holder_and_goes_when_it_is_released(storage: S3Storage) -> None:
    clock = Clock()
    lease = taken(storage, clock)
    assert clock.now == 0
    values = stored(storage)
    assert len(str(values.pop("id"))) == 32
    assert len(str(values.pop("time"))) == len("2026-01-01T00:00:00Z")
    assert values == {"host": socket.gethostname(), "pid": os.getpid(), "machine": machine(), "beat": 1}
    lease.release()
    assert not storage.exists(NAME)
    taken(storage, clock)
    assert clock.now == 0


def test_a_live_holder_refuses_others_within_a_beat(storage: S3Storage) -> None:
    holder = taken(storage)
    clock = Clock()
    clock.each_beat = holder.renew
    said: list[str] = []
    message = f"^{storage.root}: process {os.getpid()} on {socket.gethostname()} is at work on this output; wait"
    with pytest.raises(OutputBusyError, match=message):
        Lease(storage, clock, clock.sleep).acquire(said.append)
    assert clock.now <= BEAT + 1
    assert len(said) == 1
    assert f"process {os.getpid()} on {socket.gethostname()} held this output; waiting" in said[0]
    holder.check()


@pytest.mark.usefixtures("elsewhere")
def test_a_silent_holder_is_taken_to_be_dead_after_the_missed_beats(storage: S3Storage) -> None:
    dead = taken(storage)
    clock = Clock()
    taken(storage, clock)
    assert clock.now == MISSED * BEAT
    dead.renew()
    message = rf"^{storage.root}: process {os.getpid()} on .* took over this output, as .* for 20 seconds"
    with pytest.raises(LeaseLostError, match=message):
        dead.check()


@pytest.mark.usefixtures("elsewhere")
def test_a_beat_starts_the_wait_anew(storage: S3Storage) -> None:
    """One sign of life just before the end is enough."""
    holder = taken(storage)
    clock = Clock()
    clock.each_beat = lambda: holder.renew() if clock.now >= (MISSED - 1) * BEAT else None
    with pytest.raises(OutputBusyError):
        taken(storage, clock)


def test_the_lease_of_a_process_that_died_here_is_free_at_once(storage: S3Storage) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    values = {"id": "x", "host": "whatever", "pid": ended.pid, "machine": machine()}
    storage.replace(NAME, json.dumps(values).encode())
    clock = Clock()
    said: list[str] = []
    Lease(storage, clock, clock.sleep).acquire(said.append)
    assert (clock.now, said) == (BEAT / 5, [])


def test_only_processes_of_this_machine_can_be_known_to_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert Holder("", "", ended.pid, machine()).is_dead_here()
    assert not Holder("", "", os.getpid(), machine()).is_dead_here()
    assert not Holder("", "", ended.pid, "another").is_dead_here()
    monkeypatch.setattr(lease_module, "machine", lambda: "")
    assert not Holder("", "", ended.pid, "").is_dead_here()


@pytest.mark.usefixtures("elsewhere")
def test_of_two_watchers_one_takes_over(storage: S3Storage) -> None:
    taken(storage)
    first, second = Clock(), Clock()
    winner: list[Lease] = []

    def race() -> None:
        """The other watcher is a moment faster."""
        if second.now >= MISSED * BEAT and not winner:
            winner.append(taken(storage, first))

    second.each_beat = race
    with pytest.raises(OutputBusyError):
        taken(storage, second)
    winner[0].renew()
    winner[0].check()


@pytest.mark.usefixtures("elsewhere")
def test_a_takeover_fails_when_the_holder_moves_at_the_last_moment(storage: S3Storage) -> None:
    holder = taken(storage)
    moved: list[bool] = []

    class Overtaken(S3Storage):
        def put_if(self, name: str, data: bytes, tag: str | None) -> str | None:
            holder.renew()
            moved.append(True)
            return super().put_if(name, data, tag)

    clock = Clock()
    with pytest.raises(OutputBusyError):
        Lease(Overtaken(storage.root), clock, clock.sleep).acquire(silent)
    assert moved == [True]
    assert clock.now == MISSED * BEAT
    holder.check()


def test_a_lease_that_somebody_removed_is_made_again(storage: S3Storage) -> None:
    lease = taken(storage)
    storage.delete(NAME)
    lease.renew()
    lease.check()
    assert stored(storage)["beat"] == 3
    lease.renew()
    lease.check()


def test_an_outage_is_survived_when_nobody_took_over(
    storage: S3Storage, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    lease = taken(storage)
    object_store.refuse = lambda *_: (503, "SlowDown")
    lease.renew()
    lease.check()
    object_store.refuse = lambda *_: None
    # carried out, and the answer lost for good: the lease is ours under a tag we have not heard of
    object_store.lose = lambda *_: (500, "InternalError")
    lease.renew()
    object_store.well()
    lease.renew()
    lease.check()
    lease.renew()
    lease.check()
    lease.release()
    assert not storage.exists(NAME)


def test_a_lost_lease_is_not_released(storage: S3Storage) -> None:
    lease = taken(storage)
    storage.replace(NAME, b"not a lease")
    lease.renew()
    with pytest.raises(LeaseLostError, match="another process took over"):
        lease.check()
    lease.release()
    assert storage.read(NAME) == b"not a lease"


def test_the_keeper_renews_after_each_beat(storage: S3Storage) -> None:
    lease = taken(storage)
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 4

    keep(lease, wait)
    assert waits == [BEAT] * 4
    assert stored(storage)["beat"] == 4


def test_the_lease_is_given_back_after_an_error(storage: S3Storage) -> None:
    def work() -> None:
        with kept(Lease(storage), silent):
            assert storage.exists(NAME)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        work()
    assert not storage.exists(NAME)


def test_the_lock_of_an_object_store_is_a_lease(storage: S3Storage, object_store: ObjectStore) -> None:
    with output_lock(storage.root) as hold:
        assert hold.descriptors == ()
        hold.check()
        assert stored(storage)["pid"] == os.getpid()
    assert not storage.exists(NAME)
    object_store.refuse = lambda *_: (403, "AccessDenied")
    with (
        pytest.raises(UsageError, match=rf"^output.path: {storage.root} cannot be written to: .*access denied"),
        output_lock(storage.root),
    ):
        pass
