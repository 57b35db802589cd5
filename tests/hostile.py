"""An output in which every text tries to become markup, script or a request."""

from __future__ import annotations

from pathlib import Path

from pipeline.record import RunRecord
from tests.labelled_output import failed, labelled, output_of

EVIL = "https://evil.example/leak"
ATTACKS = [
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    f"<img src={EVIL}.png>",
    f'"><iframe src="{EVIL}"></iframe>',
    f"<link rel=stylesheet href={EVIL}.css><base href={EVIL}>",
    f"<meta http-equiv=refresh content='0;url={EVIL}'>",
    "{{ 7 * 7 }}{% raw %}",
    "<!--<script>",
    "]]><svg onload=\"document.title='owned'\">",
    "' onmouseover='document.title=`owned`",
    "\u202eexe.gpj",
    f"</style><style>body {{ background: url({EVIL}.png) }}",
    "a\tb\u2028c",
    "é" * 5000,
]


def hostile_output(path: Path) -> RunRecord:
    """Labels, URIs, messages and config of `ATTACKS`; ten parts."""
    rows = [labelled(f"/nowhere/{text}", n, 0.9 - n / 100, format=None) for n, text in enumerate(ATTACKS)]
    rows += [failed(f"https://h/{text}", "not_found", text) for text in ATTACKS]
    sections = {
        "input": {"path": list(ATTACKS)},
        "model": {"handle": f"models/{ATTACKS[1]}", "labels": ATTACKS[2], "signature": ATTACKS[3]},
        "runner": {"options": {"project": ATTACKS[0], "password": "hunter2"}},
        "report": {"thumbnail_seconds": 60.0},
    }
    return output_of(path, rows, ATTACKS, shard_size=3, sections=sections)
