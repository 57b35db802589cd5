from collections import Counter
from pathlib import Path

import pytest

from pipeline import cli
from tests.outputs import MadeOutput, make_output
from tests.pipeline.verifying import image_problems, read_made, said
from transforms.errors import ImageError


@pytest.fixture
def made(tmp_path: Path) -> MadeOutput:
    return make_output(tmp_path / "out")


def test_a_sample_of_images_is_compared(made: MadeOutput) -> None:
    read: list[str] = []

    def noting(uri: str, max_bytes: int) -> bytes:
        read.append(uri)
        return read_made(uri, max_bytes)

    assert image_problems(made, noting, 100) == []
    failed = "https://user:pw@host/3.png?sig=3"
    assert sorted(read) == [f"https://user:pw@host/{n}.png?sig={n}" for n in range(10) if n != 3]
    assert failed not in read
    samples = []
    for seed in (0, 0, 1, 2):
        read.clear()
        assert image_problems(made, noting, 3, seed) == []
        assert len(set(read)) == 3
        samples.append(tuple(sorted(read)))
    assert samples[0] == samples[1]
    assert len(set(samples)) > 1


def test_changed_and_missing_images_are_told_without_credentials(made: MadeOutput) -> None:
    def read(uri: str, max_bytes: int) -> bytes:
        data = read_made(uri, max_bytes)
        if "/0.png" in uri:
            return data + b"x"
        if "/1.png" in uri:
            return data[:-1] + b"x"
        if "/2.png" in uri:
            raise ImageError("read", "not_found", "no such file")
        return data

    assert image_problems(made, read, 100) == [
        "row 0, https://***@host/0.png?sig=***: it has 8 bytes, and had 7 when it was labelled",
        "row 1, https://***@host/1.png?sig=***: its bytes are not those that were labelled (sha256)",
        "row 2, https://***@host/2.png?sig=***: it cannot be read any more: no such file",
    ]


def test_the_sample_is_even(tmp_path: Path) -> None:
    made = make_output(tmp_path / "out", images=30, shard_size=2)
    read: Counter[str] = Counter()

    def noting(uri: str, max_bytes: int) -> bytes:
        read[uri] += 1
        return read_made(uri, max_bytes)

    for seed in range(40):
        image_problems(made, noting, 9, seed)
    assert len(read) == 26  # of 30, 4 failed
    assert max(read.values()) < 30  # 40 * 9 / 26 is 14 each


def test_the_command_reads_images_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_output(tmp_path / "out")
    code, out, _ = said(capsys, str(made.path), "--images", "2", "--seed", "7")
    assert code == 1  # https:// cannot be read, or there is no such host
    assert "2 read again (seed 7)" in out
    assert "pw@" not in out
    with pytest.raises(SystemExit, match="2"):
        cli.main(["verify", str(made.path), "--images", "-1"])
