"""The stages of a run as functions over ready input, and a whole run in this process."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.config import RunConfig
from pipeline.loading import columns_and_labels, model_spec
from pipeline.plan import Plan, make_plan
from pipeline.reading import reader
from pipeline.record import RunRecord, save_record
from pipeline.versions import versions
from transforms.buffers import BATCHES
from transforms.classify import fill_rows
from transforms.decode import decode_image
from transforms.geometry import plan as lay_out
from transforms.header import check_limits, read_header
from transforms.model import load_classifier
from transforms.parts import PartFooter, encode_part
from transforms.records import Row, Shard, rows_to_table
from transforms.resize import normalize, resize
from transforms.storage import LocalStorage

Stage = Callable[[], None]


class Work:
    """What is measured over the images of one folder.

    Attributes:
        stages: hublabel's stages alone, by name, each over `images(name)` images.
        bare: the same work, as near as it goes, by the library alone.
    """

    def __init__(self, config: RunConfig, folder: Path, scratch: Path, ready: int) -> None:
        self._config, self._folder, self._scratch = config, folder, scratch
        scratch.mkdir(parents=True)
        self._spec, self._read = config.preprocessing(), reader(config)
        self._model = str(Path(config.model.handle).resolve())
        self._columns, self._labels = columns_and_labels(config, self._model)
        self._all = len(os.listdir(folder))
        self._runs = 0
        self._make_ready(sorted(map(str, folder.iterdir()))[:ready])
        self.stages: dict[str, Stage] = {
            "plan": self._plan,
            "read and hash": self._read_all,
            "decode": self._decode_all,
            "resize": self._resize_all,
            "fill the batch": self._normalize_all,
            "model": self._classify_all,
            "label": self._label_all,
            "write": self._write_all,
        }
        self.bare: dict[str, Stage] = {
            "plan": lambda: sorted(os.listdir(folder)) and None,
            "read and hash": lambda: [Path(uri).read_bytes() for uri in self._uris] and None,
            "decode": self._decode_bare,
            "resize": self._resize_bare,
            "fill the batch": self._copy_bare,
            "model": self._classify_bare,
            "write": self._write_bare,
        }

    def images(self, name: str) -> int:
        """How many images the stage of that name goes through."""
        return self._all if name == "plan" else len(self._uris)

    def _make_ready(self, uris: list[str]) -> None:
        """What each stage begins with."""
        spec, size = self._spec, self._config.batch.size
        self._uris = uris
        self._data = [self._read(uri, spec.max_bytes) for uri in uris]
        self._decoded = [decode_image(data, read_header(data), spec) for data in self._data]
        self._crops = [self._crop(pixels) for pixels in self._decoded]
        self._resized = [resize(pixels, spec) for pixels in self._decoded]
        self._slot = BATCHES.empty((size, *spec.model_shape), spec.dtype)
        self._batches = []
        for start in range(0, len(uris) - size + 1, size):
            batch = BATCHES.empty((size, *spec.model_shape), spec.dtype)
            for slot, pixels in enumerate(self._resized[start : start + size]):
                normalize(pixels, spec, batch[slot])
            self._batches.append(batch)
        self._classifier = load_classifier(model_spec(self._config, self._model))
        self._outputs = [self._classifier(batch) for batch in self._batches]
        self._rows = [self._row(position) for position in range(len(self._batches) * size)]
        self._label_all()
        self._table = rows_to_table(self._rows, self._columns, self._labels, 0, None)
        self._signature, self._tensors = self._load_bare()

    def _crop(self, pixels: np.ndarray) -> np.ndarray:
        top, left, height, width = lay_out(*pixels.shape[:2], self._spec).crop
        return np.ascontiguousarray(pixels[top : top + height, left : left + width])[np.newaxis]

    def _row(self, position: int) -> Row:
        data = self._data[position]
        digest = hashlib.sha256(data).hexdigest()
        height, width = self._decoded[position].shape[:2]
        return Row(position, position, self._uris[position], width, height, "jpeg", len(data), digest)

    def _load_bare(self) -> tuple[Any, list[Any]]:
        import tensorflow as tf

        model = tf.saved_model.load(self._model)
        signature = model.signatures["serving_default"]
        signature.keep_alive = model
        return signature, [tf.constant(batch) for batch in self._batches]

    # hublabel's stages.

    def _plan(self) -> None:
        self._new_plan(self._scratch / "plan-alone")

    def _new_plan(self, root: Path) -> Plan:
        shutil.rmtree(root, ignore_errors=True)
        size = self._config.run.shard_size
        return make_plan(self._config.input.paths, root, batch_size=self._config.batch.size, shard_size=size)

    def _read_all(self) -> None:
        for uri in self._uris:
            hashlib.sha256(self._read(uri, self._spec.max_bytes)).hexdigest()

    def _decode_all(self) -> None:
        for data in self._data:
            header = read_header(data)
            check_limits(header, data, self._spec)
            decode_image(data, header, self._spec)

    def _resize_all(self) -> None:
        for pixels in self._decoded:
            resize(pixels, self._spec)

    def _normalize_all(self) -> None:
        for number, pixels in enumerate(self._resized):
            normalize(pixels, self._spec, self._slot[number % len(self._slot)])

    def _classify_all(self) -> None:
        for batch in self._batches:
            self._classifier(batch)

    def _label_all(self) -> None:
        size = len(self._slot)
        for number, outputs in enumerate(self._outputs):
            rows = self._rows[number * size : (number + 1) * size]
            fill_rows(rows, outputs, {}, self._config.model.activation, self._columns)

    def _write_all(self) -> None:
        storage = LocalStorage(str(self._fresh("parts")))
        storage.prepare()
        size = int(self._config.run.shard_size)
        for number, start in enumerate(range(0, len(self._rows), size)):
            rows = self._rows[start : start + size]
            table = rows_to_table(rows, self._columns, self._labels, 0, None)
            footer = PartFooter("plan", 0, number, 0, len(rows), 0, "run")
            storage.put_if_absent(f"part-{number}.parquet", encode_part(table, footer))

    # The bare libraries.

    def _decode_bare(self) -> None:
        import simplejpeg

        for data in self._data:
            simplejpeg.decode_jpeg(data, "RGB")

    def _resize_bare(self) -> None:
        import tensorflow as tf

        size = tf.constant((self._spec.height, self._spec.width), tf.int32)
        for crop in self._crops:
            tf.raw_ops.ResizeBicubic(images=crop, size=size, half_pixel_centers=True)

    def _copy_bare(self) -> None:
        for number, pixels in enumerate(self._resized):
            np.copyto(self._slot[number % len(self._slot)], pixels)

    def _classify_bare(self) -> None:
        for tensor in self._tensors:
            self._signature(tensor)

    def _write_bare(self) -> None:
        folder = self._fresh("bare-parts")
        folder.mkdir()
        size = int(self._config.run.shard_size)
        for start in range(0, len(self._table), size):
            pq.write_table(self._table.slice(start, size), folder / f"{start}.parquet", compression="zstd")

    def _fresh(self, name: str) -> Path:
        folder = self._scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    # A run.

    def run_milliseconds(self) -> float:
        """Processor time of a run for each image but those of its first shard."""
        few, all_of_them = self._run(1), self._run(None)
        return 1000 * (all_of_them - few) / (self._all - int(self._config.run.shard_size))

    def _run(self, shards: int | None) -> float:
        """Processor seconds of labelling the first so many shards, or all, into a fresh output."""
        from pipeline.child import run

        output = Path(self._config.output.path)
        plan = self._new_plan(output)
        storage = LocalStorage(str(output))
        save_record(storage, RunRecord(str(output), self._config.resolved(), self._model, {}, plan, versions()))
        chosen = [Shard(0, number, plan.files[0].shard_rows(number)) for number in range(plan.shards)][:shards]
        began: list[float] = []

        def tell(event: str, **values: Any) -> None:
            if (event, values.get("name")) == ("phase", "labelling"):
                began.append(time.process_time())

        run(str(output), chosen, tell)
        return time.process_time() - began[0]
