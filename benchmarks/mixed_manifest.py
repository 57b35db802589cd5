"""Label a large, dirty, mixed collection and check every row of the output.

python -m benchmarks.mixed_manifest --rows 100000        (two minutes; exit code 1 when any row is wrong)

One run over a compressed list, CSV with quoted newlines, compressed TSV, JSON lines, a folder of Parquet files, tars, a
folder and a glob of images; images of every format, some broken, on disk, behind an HTTP server and in an S3 store;
lines that cannot be read. A few dozen images are used over and over. What each row must be is known when it is written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.manifest_kinds import Expected, Table, write_inputs
from benchmarks.mixed import SIZE, save_model
from tests.object_store import BUCKET, S3Server
from tests.transforms.formats import dicom, exif, openexr, photo, radiance, saved

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 400_000
CONFIG = """
input:
  path: [{paths}]
  columns: [id, caption, cls, json]
  on_bad_line: row
  allow_private_hosts: true
  http: {{retries: 1, max_redirects: 3}}
model: {{handle: {model}, outputs: {{logits: output, embedding: features}}}}
image: {{size: [{size}, {size}], scale: 127.5, mean: [1, 1, 1], std: [1, 1, 1], max_bytes: {max_bytes}}}
output: {{path: {output}, top_k: 3}}
run: {{max_failed: {{fraction: 1.0}}}}
"""


@dataclass(frozen=True)
class Picture:
    """A file, and what becomes of it: `ok`, or the stage and type of the error."""

    name: str
    data: bytes
    outcome: str = "ok"


def pictures() -> list[Picture]:
    """One file of every format, and of everything that may be wrong with one."""
    pixels = photo()
    linear = pixels.astype(np.float32) / 255
    jpeg, png = saved(pixels, "JPEG"), saved(pixels, "PNG")
    grey16 = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    frames = [Image.fromarray(np.roll(pixels, step, 1)) for step in (8, 16)]
    good = {
        "baseline.jpg": jpeg,
        "progressive.JPG": saved(pixels, "JPEG", progressive=True),
        "grey.jpeg": saved(pixels[..., 0], "JPEG"),
        "cmyk.jpg": saved(Image.fromarray(pixels).convert("CMYK"), "JPEG"),
        "turned.jpg": saved(pixels, "JPEG", exif=exif(6)),
        "plain.png": png,
        "palette.png": saved(Image.fromarray(pixels).quantize(16), "PNG"),
        "alpha.png": saved(np.dstack([pixels, pixels[..., :1]]), "PNG"),
        "grey16.png": saved(grey16, "PNG"),
        "moving.gif": saved(pixels, "GIF", save_all=True, append_images=frames),
        "moving.webp": saved(pixels, "WEBP", save_all=True, append_images=frames),
        "plain.bmp": saved(pixels, "BMP"),
        "plain.tif": saved(pixels, "TIFF"),
        "plain.avif": saved(pixels, "AVIF"),
        "medical.dcm": dicom(pixels[..., 0]),
        "linear.exr": openexr(linear),
        "linear.hdr": radiance(linear),
        "really a png.jpg": png,
    }
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 0xFF
    bad = [
        Picture("empty.jpg", b"", "decode/empty"),
        Picture("page.png", b"<!doctype html><title>404</title>" * 9, "decode/unsupported_format"),
        Picture("half.jpg", jpeg[: len(jpeg) // 2], "decode/truncated"),
        Picture("half.png", png[: len(png) // 2], "decode/truncated"),
        Picture("damaged.png", bytes(damaged), "decode/corrupt"),
        Picture("bomb.png", saved(Image.new("1", (12_000, 12_000)), "PNG"), "decode/too_many_pixels"),
        Picture("large.bmp", saved(Image.new("RGB", (400, 400)), "BMP"), "read/too_large"),
    ]
    return [*(Picture(name, data) for name, data in good.items()), *bad]


@dataclass
class Places:
    """Where images are, and what reading them from there gives.

    Attributes:
        folder: of the manifests; `images/` in it has the files.
        http: address of the server, with a slash at its end.
    """

    folder: Path
    http: str
    files: list[Picture] = field(default_factory=pictures)

    def prepare(self) -> None:
        """Write the images, into the S3 store too."""
        import boto3

        images = self.folder / "images"
        images.mkdir(parents=True)
        store = boto3.client("s3")
        for picture in self.files:
            (images / picture.name).write_bytes(picture.data)
            store.put_object(Bucket=BUCKET, Key=f"images/{picture.name}", Body=picture.data)

    def draw(self, chance: random.Random) -> tuple[str, Expected]:
        """A URI as it stands in a manifest, and the row it must become."""
        picture = chance.choice(self.files[:18] if chance.random() < 0.8 else self.files)
        place = chance.random()
        path = f"{self.folder}/images/{picture.name}"
        if place < 0.90:
            forms = (f"images/{picture.name}", f"./images/{picture.name}", path, Path(path).as_uri())
            return chance.choice(forms), _row(path, picture)
        if place < 0.94:
            uri = f"{self.http}{picture.name.replace(' ', '%20')}"
            return uri, _row(uri, picture)
        if place < 0.96:
            uri = f"s3://{BUCKET}/images/{picture.name}"
            return uri, _row(uri, picture)
        uri, outcome = chance.choice(
            [
                (f"{self.folder}/images/none.jpg", "read/not_found"),
                (f"{self.folder}/images", "read/is_a_directory"),
                ("ftp://example.org/a.jpg", "read/unsupported_scheme"),
                (f"{self.http}missing", "read/http_404"),
                (f"{self.http}circle", "read/too_many_redirects"),
                (f"s3://{BUCKET}/images/none.jpg", "read/not_found"),
            ]
        )
        return uri, Expected(uri, outcome)


def _row(uri: str, picture: Picture) -> Expected:
    read = picture.outcome != "read/too_large"
    return Expected(uri, picture.outcome, hashlib.sha256(picture.data).hexdigest() if read else None)


@contextmanager
def http_server(files: list[Picture]) -> Iterator[str]:
    """A server that has the files, misses `missing` and redirects `circle` to itself; yields its address."""
    content = {f"/{picture.name.replace(' ', '%20')}": picture.data for picture in files}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            data = content.get(self.path, b"")
            self.send_response(302 if self.path == "/circle" else 200 if self.path in content else 404)
            if self.path == "/circle":
                self.send_header("Location", "/circle")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *arguments: Any) -> None:
            """Nothing: a client that is done resets its connections."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def prepare(folder: Path, http: str, rows: int, seed: int = 1) -> tuple[Path, list[Expected]]:
    """Write images, manifests, a model and a config into `folder`; returns the config and the rows expected."""
    places = Places(folder, http)
    places.prepare()
    files = [(picture.name, picture.data, _row("", picture)) for picture in places.files]
    chance = random.Random(seed)
    paths, expected = write_inputs(Table(folder, chance, lambda: places.draw(chance), files), rows)
    save_model(folder / "model")
    config = folder / "mixed.yaml"
    names = {"paths": ", ".join(json.dumps(path) for path in paths), "model": folder / "model", "size": SIZE}
    config.write_text(CONFIG.format(**names, max_bytes=MAX_BYTES, output=folder / "out"))
    return config, expected


COLUMNS = ["row", "uri", "id", "caption", "cls", "json", "status", "label_index", "sha256", "error_stage", "error_type"]


def problems(output: Path, expected: list[Expected]) -> list[str]:
    """What is wrong with the rows of an output."""
    rows: list[dict[str, Any]] = []
    for part in output.glob("predictions/*/part-*.parquet"):
        rows += pq.ParquetFile(part).read(columns=COLUMNS).to_pylist()
    rows.sort(key=lambda row: row["row"])
    if [row["row"] for row in rows] != list(range(len(expected))):
        return [f"{len(rows)} rows, and {len(expected)} were written"]
    found = []
    labels: dict[str, set[int]] = {}
    for row, wanted in zip(rows, expected, strict=True):
        outcome = "ok" if row["status"] == "ok" else f"{row['error_stage']}/{row['error_type']}"
        got = Expected(row["uri"], outcome, row["sha256"], row["id"], row["caption"], row["cls"], row["json"])
        if got != wanted:
            found.append(f"row {row['row']}: {got}, and it should be {wanted}")
        if outcome == "ok":
            labels.setdefault(row["sha256"], set()).add(row["label_index"])
    several = [sha256 for sha256, indices in labels.items() if len(indices) > 1]
    return found + [f"the same image, {sha256}, has several labels" for sha256 in several]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed_manifest", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mixed-manifest-"))
    store = S3Server()
    try:
        os.environ.update(store.environment)
        with store.running(), http_server(pictures()) as address:
            config, expected = prepare(folder, address, arguments.rows, arguments.seed)
            began = time.monotonic()
            code = subprocess.run([sys.executable, "-m", "pipeline.cli", "run", str(config)], cwd=ROOT).returncode
            seconds = time.monotonic() - began
        wrong = problems(folder / "out", expected)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for outcome, count in sorted(Counter(row.outcome for row in expected).items()):
        print(f"{count:8,} {outcome}")
    print(f"{len(expected):,} rows in {seconds:.0f} s, exit code {code}, {len(wrong)} wrong")
    for problem in wrong[:20]:
        print(problem)
    sys.exit(1 if wrong or code else 0)


if __name__ == "__main__":
    main()
