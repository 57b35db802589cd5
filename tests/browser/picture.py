"""The picture of the report in README: `python -m tests.browser.picture` after `make run`.

The top of the report on the sample photos (CC0, see samples/ORIGINS.md): on a desk in the light, on a telephone in
the dark.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.chromium import PHONE, Chromium, Screen, missing

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "out" / "quickstart" / "report.html"
PICTURE = ROOT / "docs" / "assets" / "report.png"
DESK, HEIGHT = 1100, 780  # CSS pixels
GAP = 24


def main() -> None:
    """Write `PICTURE`."""
    if why := missing():
        sys.exit(why)
    browser = Chromium()
    try:
        desk = _shot(browser, Screen(DESK), 1)
        phone = _shot(browser, Screen(PHONE, dark=True), 2)
    finally:
        browser.quit()
    picture = Image.new("RGB", (DESK + GAP + phone.width, HEIGHT), "white")
    picture.paste(desk, (0, 0))
    picture.paste(phone, (DESK + GAP, 0))
    PICTURE.parent.mkdir(exist_ok=True)
    picture.quantize(256, Image.Quantize.MEDIANCUT, kmeans=3).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


def _shot(browser: Chromium, screen: Screen, scale: int) -> Image.Image:
    """The top of the page, `HEIGHT` high."""
    browser.open(PAGE, screen)
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        browser.screenshot(Path(file.name))
        shot = Image.open(io.BytesIO(Path(file.name).read_bytes())).convert("RGB")
    top = shot.crop((0, 0, shot.width, min(shot.height, 2 * HEIGHT if scale == 2 else HEIGHT)))
    return top.resize((HEIGHT * top.width // top.height, HEIGHT), Image.Resampling.LANCZOS) if scale == 2 else top


if __name__ == "__main__":
    main()
