from pathlib import Path

import numpy as np
import pytest

from pipeline.models.saved_model import save_classifier

WEIGHTS = {"dense/kernel": np.arange(6, dtype=np.float32).reshape(3, 2)}


def forward(images, weights):
    import tensorflow as tf

    return tf.reduce_mean(images, [1, 2]) @ weights["dense/kernel"]


def save(folder, weights=WEIGHTS):
    save_classifier(forward, weights, (4, 6), folder)


def logits(folder):
    import tensorflow as tf

    return tf.saved_model.load(str(folder))(np.ones((1, 4, 6, 3), np.float32)).numpy().tolist()


def test_makes_parent_folders_and_leaves_nothing_else(tmp_path):
    save(tmp_path / "a" / "b" / "model")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["model"]
    assert logits(tmp_path / "a" / "b" / "model") == [[6.0, 9.0]]


def test_replaces_an_older_model_and_an_empty_folder(tmp_path):
    (tmp_path / "model").mkdir()
    save(tmp_path / "model")
    save(tmp_path / "model", {"dense/kernel": np.ones((3, 2), np.float32)})
    assert logits(tmp_path / "model") == [[3.0, 3.0]]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_refuses_to_replace_what_is_no_model(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"photo")
    with pytest.raises(ValueError, match="photos: exists and is no SavedModel"):
        save(photos)
    with pytest.raises(ValueError, match=r"a\.jpg: exists and is no SavedModel"):
        save(photos / "a.jpg")
    assert (photos / "a.jpg").read_bytes() == b"photo"


def test_failure_leaves_the_older_model_and_no_scratch_folder(tmp_path):
    save(tmp_path / "model")
    with pytest.raises(ValueError, match="Dimensions must be equal"):
        save(tmp_path / "model", {"dense/kernel": np.ones((5, 2), np.float32)})
    assert logits(tmp_path / "model") == [[6.0, 9.0]]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(Path("model"))
    assert logits(tmp_path / "model") == [[6.0, 9.0]]


def test_variables_are_there_for_keras_and_for_counting(tmp_path):
    import tensorflow as tf

    save(tmp_path / "model")
    model = tf.saved_model.load(str(tmp_path / "model"))
    assert [variable.shape.as_list() for variable in model.variables] == [[3, 2]]
    assert [variable.name for variable in model.trainable_variables] == ["dense/kernel:0"]
