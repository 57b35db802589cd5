from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.report_facts import Bin, Facts, Format, LabelCount, Reason, gather_facts
from tests.labelled_output import failed, labelled, output_of
from tests.object_store import BUCKET, ObjectStore
from transforms.records import Columns, Row
from transforms.storage import LocalStorage, open_storage

ROWS = [
    labelled("a.jpg", 1, 0.90, width=100, height=100, bytes=1000),
    labelled("b.jpg", 1, 0.50, width=100, height=100, bytes=1999),
    failed("c.jpg"),
    labelled("d.png", 0, 0.95, format="png", width=4000, height=3000, bytes=2_000_000),
    failed("e.jpg", "truncated", "it ends", "decode"),
    failed("f.jpg"),
    labelled("g.jpg", 1, 0.10, width=100, height=100, bytes=1000),
]


def facts_of(path: Path, pictures: int = 40) -> Facts:
    record = output_of(path, ROWS)
    return gather_facts(LocalStorage(str(path)), record, pictures)


def test_counts(tmp_path: Path) -> None:
    facts = facts_of(tmp_path)
    half, tenth, ninety, best = (float(np.float32(score)) for score in (0.5, 0.1, 0.9, 0.95))
    assert facts.labels == [
        LabelCount(1, "green", 3, pytest.approx((ninety + half + tenth) / 3), 0, ninety, tenth),
        LabelCount(0, "red", 1, best, 3, best, best),
    ]
    assert facts.formats == [Format("jpeg", 3, 3999), Format("not known", 3, 0), Format("png", 1, 2_000_000)]
    assert facts.reasons == [Reason("read", "not_found", 2, [2, 5]), Reason("decode", "truncated", 1, [4])]


def test_histograms_hold_every_image_once(tmp_path: Path) -> None:
    facts = facts_of(tmp_path)
    assert [(round(bin.start, 2), round(bin.end, 2), bin.images) for bin in facts.scores] == [
        (0.1, 0.12, 1), (0.5, 0.52, 1), (0.88, 0.9, 1), (0.94, 0.96, 1),
    ]  # fmt: skip
    assert facts.file_sizes == [
        Bin(1000, pytest.approx(1584.9, abs=0.1), 2),
        Bin(pytest.approx(1584.9, abs=0.1), pytest.approx(2511.9, abs=0.1), 1),
        Bin(pytest.approx(1_584_893, abs=1), pytest.approx(2_511_886, abs=1), 1),
    ]
    assert facts.pixels == [
        Bin(10_000, pytest.approx(15_848.9, abs=0.1), 3),
        Bin(10_000_000, pytest.approx(15_848_932, abs=1), 1),
    ]


def test_few_images_are_all_shown_by_falling_score(tmp_path: Path) -> None:
    facts = facts_of(tmp_path)
    assert (facts.confident, facts.doubtful, facts.by_label) == ([3, 0, 1, 6], [], {})
    assert sorted(facts.rows) == [0, 1, 2, 3, 4, 5, 6]
    assert facts.rows[0]["uri"] == "a.jpg"
    assert facts.rows[0]["top_k"][1]["label"] == "red"
    assert facts.rows[4]["error_message"] == "it ends"


def test_examples_of_many_images(tmp_path: Path) -> None:
    """Two labels, a hundred images each, scores rising with the row."""
    rows = [labelled(f"{n}.jpg", n % 2, (n + 1) / 201) for n in range(200)]
    record = output_of(tmp_path, rows, shard_size=16)
    facts = gather_facts(LocalStorage(str(tmp_path)), record, 16)
    assert facts.confident == [199, 198, 197, 196]
    assert facts.doubtful == [0, 1, 2, 3]
    assert {index: len(rows) for index, rows in facts.by_label.items()} == {0: 4, 1: 4}
    for index, chosen in facts.by_label.items():
        assert all(row % 2 == index for row in chosen)
    shown = [*facts.confident, *facts.doubtful, *(row for rows in facts.by_label.values() for row in rows)]
    assert len(set(shown)) == len(shown) == 16
    assert sorted(facts.rows) == sorted(shown)
    assert all(facts.rows[row]["uri"] == f"{row}.jpg" for row in shown)
    again = gather_facts(LocalStorage(str(tmp_path)), record, 16)
    assert again.by_label == facts.by_label


def test_of_many_labels_the_surest_each_have_another(tmp_path: Path) -> None:
    """Label n has the images n and n + 100, the second one surer; higher labels are surer."""
    rows = [labelled(f"{n}.jpg", n % 100, (n + 1) / 201) for n in range(200)]
    record = output_of(tmp_path, rows, labels=[str(n) for n in range(100)], shard_size=64)
    assert gather_facts(LocalStorage(str(tmp_path)), record, 16).confident == [199, 198, 197, 196]
    rows = [labelled(f"{n}.jpg", n % 100, 1 - (n % 100) / 200 - n / 10_000) for n in range(200)]
    record = output_of(tmp_path / "b", rows, labels=[str(n) for n in range(100)], shard_size=64)
    assert gather_facts(LocalStorage(str(tmp_path / "b")), record, 16).confident == [0, 1, 2, 3]


def test_scores_outside_0_to_1(tmp_path: Path) -> None:
    rows = [labelled(f"{n}.jpg", 0, score) for n, score in enumerate([-10.0, 0.0, 40.0])]
    record = output_of(tmp_path, rows)
    bins = gather_facts(LocalStorage(str(tmp_path)), record, 4).scores
    assert [(bin.start, bin.end, bin.images) for bin in bins] == [(-10, -9, 1), (0, 1, 1), (39, 40, 1)]


def test_one_score_alone_has_a_bin(tmp_path: Path) -> None:
    record = output_of(tmp_path, [labelled("a.jpg", 0, 7.0)])
    [bin] = gather_facts(LocalStorage(str(tmp_path)), record, 4).scores
    assert (bin.start, bin.images) == (7.0, 1)
    assert bin.end > bin.start


def test_without_label_names_indices_stand_for_them(tmp_path: Path) -> None:
    record = output_of(tmp_path, [labelled("a.jpg", 2, 0.5)], labels=None)
    assert [label.label for label in gather_facts(LocalStorage(str(tmp_path)), record, 4).labels] == ["2"]


def test_embeddings_alone(tmp_path: Path) -> None:
    rows = [Row(0, 0, "a.jpg", 4, 3, "png", 100, "0" * 64, embedding=np.ones(2, np.float32)), failed("b.jpg")]
    record = output_of(tmp_path, rows, columns=Columns(top_k=0, embedding=2))
    facts = gather_facts(LocalStorage(str(tmp_path)), record, 4)
    assert (facts.labels, facts.scores, facts.confident) == ([], [], [])
    assert [reason.images for reason in facts.reasons] == [1]
    assert [bin.images for bin in facts.pixels] == [1]


def test_all_failed(tmp_path: Path) -> None:
    record = output_of(tmp_path, [failed("a.jpg"), failed("b.jpg")])
    facts = gather_facts(LocalStorage(str(tmp_path)), record, 4)
    assert (facts.labels, facts.scores, facts.file_sizes, facts.confident) == ([], [], [], [])
    assert facts.reasons == [Reason("read", "not_found", 2, [0, 1])]


def test_a_retry_counts_once(tmp_path: Path) -> None:
    from dataclasses import replace

    from transforms.parts import commit_part, part_footer, part_name, read_rows
    from transforms.records import Shard

    record = output_of(tmp_path, ROWS)
    storage = LocalStorage(str(tmp_path))
    name = part_name(Shard(0, 0, 4))
    footer = replace(part_footer(storage, name), generation=1)
    commit_part(storage, Shard(0, 0, 4, generation=1), read_rows(storage, name), footer)
    facts = gather_facts(storage, record, 40)
    assert sum(label.images for label in facts.labels) == 4
    assert sum(reason.images for reason in facts.reasons) == 3


def test_an_output_in_an_object_store(tmp_path: Path, object_store: ObjectStore) -> None:
    local = facts_of(tmp_path)
    storage = open_storage(f"s3://{BUCKET}/facts")
    for path in tmp_path.rglob("*.parquet"):
        storage.replace(path.relative_to(tmp_path).as_posix(), path.read_bytes())
    from pipeline.query import open_output

    _, record = open_output(str(tmp_path))
    assert gather_facts(storage, record, 40) == local
