"""The rate of `hublabel run` over HTTP when one fetch in a hundred takes two seconds, against none.

The server is a process of this machine. Both runs are done in turn, in alternating order:

    python -m benchmarks.slow_fetches [--images 2000] [--rounds 3] [--model small] [--write]

`--model small` labels with a model that costs next to nothing: fetching and decoding are the rate.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.commands import MODEL, run_hublabel
from benchmarks.mixed import SIZE, save_model
from benchmarks.photos import photo_folder, photo_kind
from benchmarks.tables import replace_table, table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reading.md"
DIFFERENT = 200  # photos
SLOW_EVERY, SLOW_SECONDS = 100, 2.0


class _Handler(BaseHTTPRequestHandler):
    """`/fast/NUMBER.jpg` at once; of `/slow/NUMBER.jpg` one in a hundred late."""

    protocol_version = "HTTP/1.1"
    photos: tuple[bytes, ...] = ()
    never = threading.Event()

    def do_GET(self) -> None:
        kind, number = self.path.removesuffix(".jpg").strip("/").split("/")
        if kind == "slow" and int(number) % SLOW_EVERY == 7:
            self.never.wait(SLOW_SECONDS)
        data = self.photos[int(number) % len(self.photos)]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


def serve(folder: Path) -> None:
    """Serve the photos of a folder until the process is ended; the port is printed first."""
    _Handler.photos = tuple(path.read_bytes() for path in sorted(folder.iterdir()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.slow_fetches", "--serve", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def _overrides(model: str, scratch: Path) -> list[str]:
    if model == "quickstart":
        return [f"model.handle={MODEL}"]
    folder = scratch / "small"
    save_model(folder)
    settings = ["model.labels=null", f"image.size=[{SIZE}, {SIZE}]", "image.resample=bilinear"]
    return [f"model.handle={folder}", *settings]


def measure(images: int, rounds: int, model: str) -> dict[str, list[float]]:
    """Images a second of each round, by `fast` and `slow`."""
    rates: dict[str, list[float]] = {"fast": [], "slow": []}
    with tempfile.TemporaryDirectory(prefix="hublabel-bench-") as folder:
        scratch = Path(folder)
        # One host stands for many here: of 16 requests at a time to one, 13 would be slow ones at 650 images a second.
        overrides = ["input.allow_private_hosts=true", "input.http.per_host=32", *_overrides(model, scratch)]
        with _serving(photo_folder(scratch / "photos", DIFFERENT)) as url:
            for round_number in range(rounds):
                for kind in ("fast", "slow") if round_number % 2 == 0 else ("slow", "fast"):
                    listing = scratch / f"{kind}.txt"
                    listing.write_text("".join(f"{url}/{kind}/{number}.jpg\n" for number in range(images)))
                    rates[kind].append(run_hublabel(listing, scratch, *overrides).rate)
                    print(f"{kind}: {rates[kind][-1]:.1f} images/s", flush=True)
    return rates


def report(images: int, rounds: int, model: str, write: bool) -> float:
    """Measure, print, and put the table into docs/reading.md when `write`; the median ratio of the rounds."""
    rates = measure(images, rounds, model)
    ratios = [slow / fast for slow, fast in zip(rates["slow"], rates["fast"], strict=True)]
    ratio = statistics.median(ratios)
    rows = [
        ["none is slow", f"{statistics.median(rates['fast']):.0f}"],
        ["1 % take two seconds", f"{statistics.median(rates['slow']):.0f}"],
        ["ratio, median of the rounds (lowest)", f"{ratio:.2f} ({min(ratios):.2f})"],
    ]
    named = "EfficientNet-Lite0" if model == "quickstart" else "a model that costs next to nothing"
    caption = f"{images:,} {photo_kind()}, over HTTP from the same machine, {named}, {rounds} rounds:"
    text = f"{caption}\n\n{table(['fetches', 'images/s'], rows)}"
    print(f"\n{text}\n")
    if write:
        replace_table(f"slow-fetches-{model}", text, PAGE)
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=("quickstart", "small"), default="quickstart")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reading.md")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
    else:
        report(arguments.images, arguments.rounds, arguments.model, arguments.write)


if __name__ == "__main__":
    main()
