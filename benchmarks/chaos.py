"""Kill runs at random moments, go on with them, and check that the outcome is that of a run nobody disturbed.

python -m benchmarks.chaos --kills 200        (half an hour; exit code 1 when anything is wrong)

A mixed set of pictures (good, broken, missing, some of them twice) is labelled by `hublabel run` again and again.
Each run, here called a night, is killed and started again until it is done, and a new night begins until all kills
have been delivered: SIGKILL to all processes, to the child alone, to the parent alone, SIGTERM and SIGINT to the
parent; while starting, while labelling, while finishing.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psutil

from benchmarks import chaos_checks as checks
from benchmarks.mixed import mixed_set, save_model, write_config
from benchmarks.witness import Witness

IMAGES = 1_200
SHARD_SIZE = 8
BATCH_SIZE = 4
SLOW_DISK = 0.25  # seconds that opening an image takes, so that kills land in the middle of several shards
ORPHAN_SECONDS = 10.0  # a child whose parent was killed ends within, on a busy machine too
STOP_SECONDS = 5.0  # Ctrl-C and SIGTERM end a run within
HANG_SECONDS = 300.0  # after which a run is taken to hang
LOOK = 0.01  # seconds between looks at processes and files
KINDS = ("everything", "child", "parent", "SIGTERM", "SIGINT")
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Kill:
    """One kill to deliver: to whom, from which moment on, and how many seconds after it."""

    kind: str
    moment: str
    delay: float


def make_schedule(kills: int, seed: int) -> list[Kill]:
    """`kills` kills of all kinds in equal shares: half of them while labelling, some while finishing, else starting."""
    chance = random.Random(seed)
    kinds = [KINDS[number % len(KINDS)] for number in range(kills)]
    chance.shuffle(kinds)
    latest = {"starting": 5.0, "labelling": 1.5, "finishing": 0.2}
    schedule = []
    for number, kind in enumerate(kinds):
        moment = "labelling" if number % 2 else "starting"
        if number % 7 == 6 and kind != "child":  # when all is labelled there is no child
            moment = "finishing"
        # Some at once, before any shard is done: then the same shards die again and again, and are tried in isolation.
        at_once = moment == "labelling" and chance.random() < 0.4
        schedule.append(Kill(kind, moment, 0.0 if at_once else chance.uniform(0, latest[moment])))
    return schedule


@dataclass
class Verdict:
    """What the nights have shown."""

    delivered: Counter[str] = field(default_factory=Counter)
    nights: int = 0
    starts: int = 0
    rows: int = 0
    recomputed: int = 0
    isolated: int = 0
    slowest_orphan: float = 0.0
    slowest_stop: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.delivered.items()))
        lines = [
            f"kills: {sum(self.delivered.values())} ({kinds})",
            f"runs: {self.nights}, started {self.starts} times, {self.rows} rows",
            f"recomputed images: {self.recomputed}; labelled in isolation: {self.isolated}",
            f"slowest end after Ctrl-C or SIGTERM: {self.slowest_stop:.1f} s, of an orphaned child: "
            f"{self.slowest_orphan:.1f} s",
            *self.problems[:50],
            f"verdict: {f'{len(self.problems)} PROBLEMS' if self.problems else 'exactly one row for each input'}",
        ]
        return "\n".join(lines)


class Night:
    """One output, from nothing to done, however often its runs are killed.

    Args:
        folder: for the output, the config, the console's text and the witness's account.
        model: directory of the SavedModel.
        uris: the input.
        delay: seconds that opening an image takes.
        verdict: where it is written down what happens.
    """

    def __init__(self, folder: Path, model: Path, uris: list[str], delay: float, verdict: Verdict) -> None:
        folder.mkdir(parents=True)
        self.output, self._config, self._console = folder / "out", folder / "run.yaml", folder / "console.txt"
        self.uris, self.verdict = uris, verdict
        self.witness = Witness(Path(uris[0]).parent, folder / "witness.log", delay)
        self._environment = self.witness.environment()
        self._identities: dict[str, tuple[int, int, int]] = {}
        self._killed_children: set[int] = set()
        self._kills = 0
        self._said = 0  # bytes on the console before this start
        self._shards = -(-len(uris) // SHARD_SIZE)
        write_config(self._config, uris, model, self.output, BATCH_SIZE, SHARD_SIZE)

    def run(self, schedule: list[Kill]) -> bool:
        """Run, be killed as `schedule` says (what is delivered is taken off it), and go on until the run is done.

        Returns:
            Whether it was done; if not, the verdict says why.
        """
        while True:
            parent = self._start()
            code = self._disturb(parent, schedule)
            if code is None:
                code = self._ended(parent, HANG_SECONDS)
            self._check_parts()
            if code == 0:
                return True
            if code is None or (code > 0 and not self._may_fail(code)):
                self.verdict.problems.append(f"the run ended with {code}: {self._console.read_text()[-2000:]}")
                return False

    def _start(self) -> psutil.Popen:
        self.verdict.starts += 1
        command = [sys.executable, "-m", "pipeline.cli", "run", str(self._config)]
        with open(self._console, "ab") as console:
            self._said = console.tell()
            return psutil.Popen(
                command, stdout=console, stderr=console, env=self._environment, cwd=ROOT, start_new_session=True
            )

    def _may_fail(self, code: int) -> bool:
        """Stopped by a signal, or given up after several kills of the child in a row."""
        return code in (130, 143) or (code == 1 and "times in a row" in self._console.read_text()[-4000:])

    # Kills.

    def _disturb(self, parent: psutil.Popen, schedule: list[Kill]) -> int | None:
        """Deliver kills until the parent ends; its exit code, None when it hangs or no kill is left."""
        while schedule:
            kill = schedule[0]
            child = self._wait_for(kill, parent)
            if parent.poll() is not None or (kill.kind == "child" and child is None):
                if kill.moment == "finishing":  # over too soon; not again, or every night would be a whole one
                    schedule[0] = replace(kill, moment="starting")
                return parent.poll()
            schedule.pop(0)
            self._kills += 1
            self.verdict.delivered[kill.kind] += 1
            code = self._deliver(kill, parent, child)
            if kill.kind != "child":
                return code
        return None

    def _wait_for(self, kill: Kill, parent: psutil.Popen) -> psutil.Process | None:
        """Wait for the kill's moment, or the parent's end; the child that works by then."""
        noted = self.witness.size()
        begun: dict[str, Callable[[], bool]] = {
            # From the first line on: a signal that Python itself gets while it starts is none of ours.
            "starting": lambda: (
                self._console.stat().st_size > self._said and (kill.kind != "child" or self._child(parent) is not None)
            ),
            "labelling": lambda: self.witness.size() > noted,
            "finishing": lambda: len(checks.part_identities(self.output)) == self._shards,
        }
        self._wait(parent, begun[kill.moment], HANG_SECONDS)
        self._wait(parent, lambda: False, kill.delay)
        return self._child(parent)

    @staticmethod
    def _wait(parent: psutil.Popen, until: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while parent.poll() is None and not until() and time.monotonic() < deadline:
            time.sleep(LOOK)

    def _child(self, parent: psutil.Popen) -> psutil.Process | None:
        for process in _below(parent):
            if process.pid not in self._killed_children and _runs(process, "pipeline.child"):
                return process
        return None

    def _deliver(self, kill: Kill, parent: psutil.Popen, child: psutil.Process | None) -> int | None:
        family = _below(parent)
        began = time.monotonic()
        if kill.kind == "child" and child is not None:
            self._killed_children.add(child.pid)
            _kill(child)
            return None
        if kill.kind in ("SIGTERM", "SIGINT"):
            number = signal.Signals[kill.kind]
            parent.send_signal(number)
            code = self._ended(parent, STOP_SECONDS)
            self.verdict.slowest_stop = max(self.verdict.slowest_stop, time.monotonic() - began)
            # negative: before the handlers were there; 0: it was done at that moment
            if code not in (128 + number, -number, 0):
                self.verdict.problems.append(f"{kill}: exit code {code}")
        else:
            _kill(parent)
            for process in family if kill.kind == "everything" else []:
                _kill(process)
            code = self._ended(parent, ORPHAN_SECONDS)
        _, alive = psutil.wait_procs(family, ORPHAN_SECONDS)
        if kill.kind == "parent" and family:
            self.verdict.slowest_orphan = max(self.verdict.slowest_orphan, time.monotonic() - began)
        self.verdict.problems += [f"{kill}: {process} lives on" for process in alive]
        for process in alive:
            _kill(process)
        return code

    @staticmethod
    def _ended(parent: psutil.Popen, seconds: float) -> int | None:
        try:
            return parent.wait(seconds)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            for process in [*_below(parent), parent]:
                _kill(process)
            return None

    # Checks.

    def _check_parts(self) -> None:
        self.verdict.problems += checks.changed_parts(self._identities, self.output)
        self._identities = checks.part_identities(self.output)

    def check(self, reference: Night) -> None:
        """Compare the finished output with an undisturbed one."""
        rows = checks.read_rows(self.output)
        openings = self.witness.openings()
        again, too_many = checks.recomputed(openings, len(self.uris), self._kills, SHARD_SIZE)
        self.verdict.nights += 1
        self.verdict.rows += len(rows)
        self.verdict.recomputed += again
        self.verdict.isolated += sum(opening.module == "transforms.isolation" for opening in openings)
        self.verdict.problems += [
            *checks.compare_rows(rows, checks.read_rows(reference.output), self.uris),
            *checks.compare_trees(self.output, reference.output),
            *checks.read_again(openings, checks.read_parts(self.output)),
            *too_many,
            *self._verify(),
        ]

    def _verify(self) -> list[str]:
        command = [sys.executable, "-m", "pipeline.cli", "verify", str(self.output)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        return [f"hublabel verify: {done.stdout}{done.stderr}"] if done.returncode else []


def _below(parent: psutil.Popen) -> list[psutil.Process]:
    try:
        return parent.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _runs(process: psutil.Process, module: str) -> bool:
    try:
        return module in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process | psutil.Popen) -> None:
    try:
        process.kill()
    except (psutil.NoSuchProcess, ProcessLookupError):
        return


def chaos(folder: Path, kills: int, seed: int, say: Callable[[str], object] = str) -> Verdict:
    """Deliver `kills` kills to runs in `folder`; what came of it.

    Args:
        folder: an empty place for images, model and outputs.
        kills: how many; each takes some five seconds.
        seed: decides the images, the kinds and the moments.
        say: called with a line for each night.
    """
    # a shell that starts us in the background ignores Ctrl-C, and our children would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model, schedule = folder / "model", make_schedule(kills, seed)
    uris = mixed_set(folder / "photos", IMAGES, seed)
    save_model(model)
    undisturbed = Verdict()
    reference = Night(folder / "reference", model, uris, 0.0, undisturbed)
    if reference.run([]):
        reference.check(reference)
    verdict = Verdict(problems=[f"undisturbed: {problem}" for problem in undisturbed.problems])
    if undisturbed.recomputed or undisturbed.rows != IMAGES:
        verdict.problems.append(f"undisturbed: {undisturbed.rows} rows, {undisturbed.recomputed} images read again")
    while schedule and not verdict.problems:
        night = Night(folder / f"night-{verdict.nights}", model, uris, SLOW_DISK, verdict)
        if night.run(schedule):
            night.check(reference)
        say(f"night {verdict.nights}: {sum(verdict.delivered.values())} kills, {verdict.recomputed} images recomputed")
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="kills to deliver (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of images, kinds and moments (default: 0)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this folder and keep it")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        verdict = chaos(folder, arguments.kills, arguments.seed, partial(print, flush=True))
    print(verdict)
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
