import os
from pathlib import Path

import pytest

from transforms.errors import ImageError
from transforms.read import read_bytes, uri_scheme


def failure(uri: str, max_bytes: int = 1000) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        read_bytes(uri, max_bytes)
    assert caught.value.stage == "read"
    return caught.value.type, caught.value.message


def test_reads_paths_and_file_uris(tmp_path: Path) -> None:
    path = tmp_path / "a b%.bin"
    path.write_bytes(b"12345")
    assert read_bytes(str(path), 5) == b"12345"
    assert read_bytes("file://" + str(path).replace("%", "%25").replace(" ", "%20"), 5) == b"12345"
    (tmp_path / "empty").write_bytes(b"")
    assert read_bytes(str(tmp_path / "empty"), 5) == b""


def test_says_why_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"123456")
    os.mkfifo(tmp_path / "fifo")
    assert failure(str(tmp_path / "none")) == ("not_found", "no such file")
    assert failure(str(tmp_path)) == ("is_a_directory", "is a directory")
    assert failure(str(tmp_path / "large"), 5) == ("too_large", "6 bytes; image.max_bytes is 5")
    assert failure(str(tmp_path / "large" / "below"))[0] == "not_found"
    assert failure(str(tmp_path / "fifo")) == ("not_a_file", "not a regular file")
    assert failure("a\0b")[0] == "io_error"
    assert failure("gopher://x/y")[0] == "unsupported_scheme"
    assert failure("/dev/zero") == ("not_a_file", "not a regular file")


def test_a_file_without_size_is_still_bounded() -> None:
    assert failure("/proc/self/environ", 3)[0] == "too_large"


def test_file_uris_keep_every_byte_of_a_name(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9#1.jpg"
    with open(name, "wb") as file:
        file.write(b"ok")
    assert read_bytes(f"file://{tmp_path}/caf%E9#1.jpg", 5) == b"ok"
    assert read_bytes(f"file://localhost{tmp_path}/caf%E9%231.jpg", 5) == b"ok"
    assert failure("file://elsewhere/a.jpg") == ("unsupported_scheme", "file://elsewhere/ names another machine")


def test_schemes() -> None:
    assert uri_scheme("S3://b/k") == "s3"
    assert uri_scheme("/a/b://c") == ""
    assert uri_scheme("a.jpg") == ""
