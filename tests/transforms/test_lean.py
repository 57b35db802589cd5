"""What is left out of large imports, in processes of their own."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from transforms.lean import without


def said_by(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def test_tensorflow_comes_without_keras_until_it_is_asked_for() -> None:
    code = """
import sys
from transforms.lean import import_lean
import_lean("tensorflow")
import tensorflow as tf
print("keras.src" in sys.modules, tf.reduce_sum([1, 2]).numpy(), tf.keras.layers.Dense.__name__)
from tensorflow import keras
print("keras.src" in sys.modules, keras.activations.relu([-1.0, 1.0]).numpy().tolist())
"""
    assert said_by(code).splitlines() == ["False 3 Dense", "True [0.0, 1.0]"]


@pytest.mark.parametrize("library", ["openvino", "nncf"])
def test_openvino_tells_its_maker_nothing(library: str) -> None:
    code = f"""
import os
import sys
os.register_at_fork(before=lambda: print("forked"))
from transforms.lean import import_lean
import_lean("openvino").Core()
print(import_lean({library!r}).__name__)
print("openvino_telemetry" in sys.modules)
"""
    pytest.importorskip("openvino_telemetry", reason="a dependency of OpenVINO that some of its versions lack")
    assert said_by(code).splitlines() == [library, "False"]


def test_beam_does_without_clients_of_stores_that_are_not_read_through_it() -> None:
    code = """
import sys, warnings
warnings.simplefilter("ignore")
from transforms.lean import STORES, import_lean
beam = import_lean("apache_beam", *STORES)
print(sorted({*STORES, "google.cloud.storage"} & set(sys.modules)))
with beam.Pipeline("DirectRunner") as pipeline:
    pipeline | beam.Create([1, 2]) | beam.Map(print)
from apache_beam.io.filesystem import FileSystem
print(sorted({kind.scheme() for kind in FileSystem.get_all_subclasses()} & {"azfs", "hdfs"}))
from google.cloud import storage
import boto3
print(storage.Client.__name__, boto3.__name__)
"""
    assert said_by(code).splitlines() == ["[]", "1", "2", "['azfs', 'hdfs']", "Client boto3"]


def test_what_is_hidden_is_there_again() -> None:
    code = """
import sys
from transforms.lean import without
with without("wave", "json"):
    try:
        import wave
    except ModuleNotFoundError as error:
        print(error, error.name)
import wave
print(wave.__name__)
"""
    assert said_by(code).splitlines() == ["wave is hidden wave", "wave"]


def test_what_is_there_stays() -> None:
    with without("json"):
        assert importlib.import_module("json") is json
