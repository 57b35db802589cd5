"""A template and values made into one HTML file that asks for nothing from anywhere.

Texts cannot become markup: the template escapes them, and what the scripts read is JSON in which `<`, `>` and `&` are
escaped. Should that fail, the page's own policy still lets no script run but ours, and nothing be fetched.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.html.plots import CONFIG
from transforms.masking import mask_credentials

FOLDER = Path(__file__).parent
SCRIPTS = ("vega", "vega-lite", "vega-embed")  # each needs those before it
TEXT_LIMIT = 300  # characters of a label, a URI or a message


def render(template: str, plots: Mapping[str, Any], **values: Any) -> str:
    """The page that `templates/TEMPLATE` makes of `values`.

    Args:
        plots: Vega-Lite specs by the name that the template knows them by; it leaves out those that are not there.
    """
    page = _environment().get_template(template)
    return page.render(nonce=secrets.token_urlsafe(16), plots={"config": CONFIG, "plots": plots}, **values)


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(number=number, percent=percent, size=size, shown=shown, duration=duration)
    found.globals.update(asset=asset, vega=vega)
    return found


def asset(name: str) -> Markup:
    """A style sheet or script of ours, as it is."""
    return Markup((FOLDER / "templates" / name).read_text(encoding="utf-8"))


def vega() -> Markup:
    """Vega's scripts with their licence; without the comments that make a browser look for source maps."""
    licence = (FOLDER / "vega" / "LICENSE").read_text(encoding="utf-8")
    texts = [f"/* Vega, Vega-Lite, Vega-Embed\n{licence}*/"]
    for name in SCRIPTS:
        text = (FOLDER / "vega" / f"{name}.min.js").read_text(encoding="utf-8")
        texts.append(text.partition("//# sourceMappingURL=")[0])
    return Markup("\n".join(texts))


def shown(text: Any, limit: int = TEXT_LIMIT) -> str:
    """A text as people may see it: credentials masked, then cut short."""
    masked = mask_credentials(str(text))
    return masked if len(masked) <= limit else masked[: limit - 1] + "…"


def number(value: float) -> str:
    """`12,345`, `0.25`, `1.2`."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.3g}"


def percent(part: float, whole: float) -> str:
    """`12.3 %`, its space unbroken; never `100 %` of what is not all, nor `0 %` of what is something."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if part in (0, whole):
        return f"{share:.0f}\u00a0%"
    return f"{min(max(share, 0.1), 99.9):.1f}\u00a0%"


def size(count: float) -> str:
    """A number of bytes as `1.2 MB`, in powers of 1,000."""
    units = ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while count >= 999.5 and len(units) > 1:  # what would be shown as 1e+03
        count /= 1000
        units.pop(0)
    return f"{count:.3g} {units[0]}"


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min`, `5 h 12 min`, `2 d 3 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
