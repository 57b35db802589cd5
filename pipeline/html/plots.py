"""Plots as Vega-Lite specs: https://vega.github.io/vega-lite/docs/. Colours are the page's, so they follow the dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Spec = dict[str, Any]
FONT = "system-ui, sans-serif"
CONFIG: Spec = {
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)", "titleColor": "var(--soft)", "gridColor": "var(--line)", "domain": False,
        "ticks": False, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelPadding": 6,
        "titlePadding": 8,
    },
    "bar": {"color": "var(--accent)"},
    "area": {"color": "var(--accent)", "fillOpacity": 0.25, "line": {"color": "var(--accent)", "strokeWidth": 2}},
    "line": {"color": "var(--accent)", "strokeWidth": 2},
    "rule": {"color": "var(--soft)"},
}  # fmt: skip
BAR = 22  # pixels of a horizontal bar with the space around it
HEIGHT = 220  # pixels of the other plots
PLOT_SQUARE = 300


def _plot(description: str, values: Sequence[Mapping[str, Any]], **spec: Any) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": description,
        "width": "container",
        "height": HEIGHT,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": list(values)},
        **spec,
    }


# "~s" alone writes 0 with the prefix of its neighbours: 0M
COUNTS: Spec = {"labelExpr": "datum.value == 0 ? '0' : format(datum.value, '~s')", "tickCount": 4, "tickMinStep": 1}

APART: Spec = {"labelOverlap": "greedy", "labelSeparation": 8}


def _axis(title: str | None, format: str | None = None, **options: Any) -> Spec:
    return {"title": title, **({"format": format} if format else {}), **options}


def bars(description: str, rows: Sequence[tuple[str, float]], title: str, whole: float) -> Spec:
    """Horizontal bars in the order given.

    Args:
        rows: name and value; a name may stand there twice.
        title: of the values.
        whole: what a share in the tooltip is of.
    """
    values = [
        {"key": f"{order}\t{name}", "name": name, "value": value, "share": value / whole if whole else 0}
        for order, (name, value) in enumerate(rows)
    ]
    after_tab = "slice(datum.value, indexof(datum.value, '\\t') + 1)"
    return _plot(
        description,
        values,
        height=BAR * len(values),
        mark={"type": "bar", "cornerRadiusEnd": 2},
        encoding={
            "y": {
                "field": "key", "type": "ordinal", "sort": None,
                "axis": _axis(None, labelExpr=after_tab, labelLimit=170, grid=False),
            },
            "x": {"field": "value", "type": "quantitative", "axis": _axis(title, **COUNTS)},
            "tooltip": [
                {"field": "name", "title": " "},
                {"field": "value", "title": title, "format": ","},
                {"field": "share", "title": "share", "format": ".2%"},
            ],
        },
    )  # fmt: skip


def histogram(description: str, bins: Sequence[tuple[float, float, float]], title: str, **options: Any) -> Spec:
    """Counts between edges.

    Args:
        bins: start, end and count of each.
        title: of what is counted by.
        options: `logarithmic` (edges are positive), `format` of the edges (d3-format), `domain` of the axis, `counted`
            (what the counts are of; images).
    """
    logarithmic, format, domain = (options.get(name) for name in ("logarithmic", "format", "domain"))
    counted = options.get("counted", "images")
    values = [{"start": start, "end": end, "images": count} for start, end, count in bins]
    scale: Spec = {"type": "log"} if logarithmic else {"type": "linear", "zero": False}
    scale |= {"domain": list(domain)} if domain else {"nice": False}
    tooltip = [
        {"field": "start", "title": "from", "format": format or ".3~g"},
        {"field": "end", "title": "to", "format": format or ".3~g"},
        {"field": "images", "title": counted, "format": ","},
    ]
    return _plot(
        description,
        values,
        mark={"type": "bar", "binSpacing": 1},
        encoding={
            "x": {
                "field": "start", "type": "quantitative", "bin": {"binned": True}, "scale": scale,
                "axis": _axis(title, format or ".3~g", grid=False, tickCount=6, **APART),
            },
            "x2": {"field": "end"},
            "y": {"field": "images", "type": "quantitative", "axis": _axis(counted, **COUNTS)},
            "tooltip": tooltip,
        },
    )  # fmt: skip


def rate(
    description: str, points: Sequence[tuple[float, float, float, str]], pauses: Sequence[tuple[float, str]]
) -> Spec:
    """Images a second over the time worked.

    Args:
        points: start and end in seconds of work, images a second between them, and when that was.
        pauses: seconds of work at which there was one, and what to say of it.
    """
    unit, seconds = _unit(points[-1][1])
    values = [
        {"start": start / seconds, "end": end / seconds, "rate": rate, "when": when}
        for start, end, rate, when in points
    ]
    x = {"type": "quantitative", "scale": {"nice": False}, "axis": _axis(f"{unit} of work", grid=False, tickCount=6)}
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "binSpacing": 1},
            "encoding": {
                "x": {"field": "start", "bin": {"binned": True}, **x},
                "x2": {"field": "end"},
                "y": {"field": "rate", "type": "quantitative", "axis": _axis("images/s", tickCount=4)},
                "tooltip": [
                    {"field": "when", "title": "from"},
                    {"field": "rate", "title": "images/s", "format": ",.3~g"},
                ],
            },
        }
    ]
    if pauses:
        told = [{"at": at / seconds, "what": what} for at, what in pauses]
        layers.append(
            {
                "data": {"values": told},
                "mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 2},
                "encoding": {"x": {"field": "at", **x}, "tooltip": [{"field": "what", "title": " "}]},
            }
        )
    return _plot(description, values, layer=layers)


def _unit(span: float) -> tuple[str, float]:
    """What to give a time of so many seconds in."""
    for unit, seconds in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if span >= 3 * seconds:
            return unit, float(seconds)
    return "seconds", 1.0


def reliability(description: str, bins: Sequence[tuple[float, float, float, float, float, int]]) -> Spec:
    """Accuracy over mean score, with its interval and the diagonal of a calibrated model.

    Args:
        bins: mean score, accuracy, lower and upper bound of its interval, share of the images, images.
    """
    names = ("score", "accuracy", "low", "high", "share", "images")
    values = [dict(zip(names, bin, strict=True)) for bin in bins]
    unit: Spec = {"type": "quantitative", "scale": {"domain": [0, 1]}}
    x = {"field": "score", **unit, "axis": _axis("mean score", ".1f", tickCount=5)}
    y = {"field": "accuracy", **unit, "axis": _axis("accuracy", ".1f", tickCount=5)}
    tooltip = [
        {"field": "score", "title": "mean score", "format": ".3f"},
        {"field": "accuracy", "title": "accuracy", "format": ".3f"},
        {"field": "low", "title": "95 % from", "format": ".3f"},
        {"field": "high", "title": "to", "format": ".3f"},
        {"field": "images", "title": "images", "format": ","},
    ]
    diagonal = {"data": {"values": [{"score": 0, "accuracy": 0}, {"score": 1, "accuracy": 1}]}}
    return _plot(
        description,
        values,
        height=PLOT_SQUARE,
        layer=[
            {
                **diagonal,
                "mark": {"type": "line", "color": "var(--soft)", "strokeDash": [4, 3], "strokeWidth": 1},
                "encoding": {"x": x, "y": y},
            },
            {
                "mark": {"type": "rule", "color": "var(--accent)"},
                "encoding": {"x": x, "y": {"field": "low", **unit, "axis": y["axis"]}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "circle", "color": "var(--accent)", "opacity": 1},
                "encoding": {
                    "x": x, "y": y, "tooltip": tooltip,
                    "size": {"field": "share", "type": "quantitative", "legend": None, "scale": {"range": [20, 300]}},
                },
            },
        ],
    )  # fmt: skip


def coverage(description: str, points: Sequence[tuple[float, float, float, float, float]]) -> Spec:
    """Accuracy over coverage, one point a threshold.

    Args:
        points: threshold, coverage, accuracy, lower and upper bound of its interval.
    """
    values = [dict(zip(("threshold", "coverage", "accuracy", "low", "high"), point, strict=True)) for point in points]
    # Of a few images the interval is wide; it may leave the picture, the line may not.
    lowest = min([point[2] for point in points] + [max(points, key=lambda point: point[1])[3]])
    x: Spec = {
        "field": "coverage", "type": "quantitative", "scale": {"domain": [0, 1]},
        "axis": _axis("images kept", ".0%", tickCount=5, **APART),
    }  # fmt: skip
    scale = {"domain": [max(0.0, lowest - 0.05), 1.0], "zero": False}
    y: Spec = {"type": "quantitative", "scale": scale, "axis": _axis("right of those", ".0%", tickCount=5)}
    tooltip = [
        {"field": "threshold", "title": "scores from", "format": ".3f"},
        {"field": "coverage", "title": "keep", "format": ".1%"},
        {"field": "accuracy", "title": "right", "format": ".1%"},
    ]
    return _plot(
        description,
        values,
        height=PLOT_SQUARE,
        layer=[
            {
                "mark": {"type": "area", "color": "var(--accent)", "fillOpacity": 0.18, "line": False, "clip": True},
                "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "color": "var(--accent)"},
                "encoding": {"x": x, "y": {"field": "accuracy", **y}},
            },
            {
                "mark": {"type": "point", "opacity": 0, "size": 150},
                "encoding": {"x": x, "y": {"field": "accuracy", **y}, "tooltip": tooltip},
            },
        ],
    )  # fmt: skip
