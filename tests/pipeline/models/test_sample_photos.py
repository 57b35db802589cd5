"""The sample photos are what samples/ORIGINS.md says they are."""

from pathlib import Path

import pytest
from PIL import Image, ImageOps, ImageStat

SAMPLES = Path(__file__).parents[3] / "samples"
PHOTOS = SAMPLES / "photos"
EXIF_ORIENTATION = 0x0112

# name: format, mode, size as stored, EXIF orientation
WHOLE = {
    "astronaut_exif6.jpg": ("JPEG", "RGB", (512, 512), 6),
    "camera_grey.png": ("PNG", "L", (512, 512), None),
    "chelsea.png": ("PNG", "RGB", (420, 279), None),
    "clock_grey.jpg": ("JPEG", "L", (400, 300), None),
    "coffee.jpg": ("JPEG", "RGB", (600, 400), None),
    "hubble.webp": ("WEBP", "RGB", (640, 558), None),
    "retina.webp": ("WEBP", "RGB", (640, 640), None),
    "rocket.jpg": ("JPEG", "RGB", (640, 427), None),
}
TRUNCATED = "coffee_truncated.jpg"


def test_there_are_these_photos_and_no_others():
    assert sorted(path.name for path in PHOTOS.iterdir()) == sorted([*WHOLE, TRUNCATED])


@pytest.mark.parametrize("name", WHOLE)
def test_photo_has_the_format_that_it_is_there_for(name):
    with Image.open(PHOTOS / name) as image:
        image.load()
        found = (image.format, image.mode, image.size, image.getexif().get(EXIF_ORIENTATION))
    assert found == WHOLE[name]


def test_rotated_photo_is_upright_once_its_exif_tag_is_applied():
    helmet = (320, 390, 440, 490)  # black, lower right when upright
    with Image.open(PHOTOS / "astronaut_exif6.jpg") as image:
        stored = _brightness(image, helmet)
        upright = _brightness(ImageOps.exif_transpose(image), helmet)
    assert upright < 60 < 100 < stored


def test_truncated_photo_breaks_off_in_the_middle():
    data = (PHOTOS / TRUNCATED).read_bytes()
    whole = (PHOTOS / "coffee.jpg").read_bytes()
    assert data == whole[: len(whole) * 6 // 10]
    with Image.open(PHOTOS / TRUNCATED) as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_every_photo_has_its_origin_and_licence_on_record():
    rows = [line.split("|") for line in (SAMPLES / "ORIGINS.md").read_text().splitlines() if line.startswith("| `")]
    licences = {row[1].strip(" `"): row[4].strip() for row in rows}
    assert sorted(licences) == sorted(path.name for path in PHOTOS.iterdir())
    assert all(licence.startswith(("CC0", "public domain")) for licence in licences.values())


def test_photos_are_small():
    assert max(path.stat().st_size for path in PHOTOS.iterdir()) <= 200_000


def _brightness(image, box):
    return ImageStat.Stat(image.convert("L").crop(box)).mean[0]
