"""The command `hublabel inspect`."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.console import plain_console
from pipeline.errors import HublabelError
from pipeline.handles.cache import archive_digest
from pipeline.inspection.interface import Interface, choose, interfaces
from pipeline.inspection.judgement import Judgement
from pipeline.inspection.snippet import image_size, snippet
from pipeline.resolve import resolve_model
from transforms.masking import mask_credentials

HOW = "judged by what {title} gives for 8 generated pictures (flat, gradient, stripes, noise{amplified})"


@dataclass(frozen=True)
class Inspection:
    """What is known of a model.

    Attributes:
        path: directory of the SavedModel.
        size: bytes of its files.
        parameters: numbers that the chosen interface computes with; None where it cannot be traced.
        variables: numbers in the SavedModel's variables; the other parameters are constants in its graph.
        found: all ways to call it.
        chosen: the one for hublabel, if any.
        judged: its outputs by name.
        problem: why there is none, or why it fails.
        sha256: digest of the archive it came from, if it came from one.
    """

    handle: str
    path: str
    size: int
    files: int
    parameters: int | None
    variables: int
    found: list[Interface]
    chosen: Interface | None
    judged: dict[str, Judgement] = field(default_factory=dict)
    problem: str | None = None
    sha256: str | None = None

    @property
    def classes(self) -> int | None:
        return next((judgement.length for judgement in self.judged.values() if judgement.classifies), None)

    @property
    def config(self) -> str | None:
        return snippet(self.handle, self.sha256, self.chosen, self.judged) if self.chosen else None


def inspect_command(handle: str, as_json: bool) -> int:
    """Print what the model is; returns the exit code.

    Raises:
        UsageError: `handle` names no model.
        HublabelError: it cannot be fetched or loaded.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    inspection = inspect(handle, resolve_model(handle, console=plain_console(stderr=True)))
    print(json.dumps(_values(inspection), indent=2) if as_json else "\n".join(_lines(inspection)))
    return 0


def inspect(handle: str, path: str) -> Inspection:
    """Load the SavedModel in `path`, call it on generated pictures and judge what comes.

    Raises:
        HublabelError: it cannot be loaded.
    """
    import tensorflow as tf

    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    import tensorflow_hub as hub

    from pipeline.inspection.graph import variables
    from pipeline.inspection.trial import ModelError, try_out

    files = [file for file in Path(path).rglob("*") if file.is_file()]
    try:
        module = hub.load(path)
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise HublabelError(f"model.handle: {path} cannot be loaded as a SavedModel: {reason}") from None
    found = interfaces(module)
    chosen = choose(found)
    facts: dict[str, Any] = {"parameters": None}
    if chosen is None:
        facts["problem"] = "; ".join(f"{interface.title}: {interface.problem}" for interface in found) or (
            "it has no signature, and the object itself cannot be called"
        )
    else:
        try:
            facts["parameters"], facts["judged"] = try_out(path, module, chosen)
        except ModelError as error:
            facts["problem"] = f"{chosen.title}: {error}"
    size = sum(file.stat().st_size for file in files)
    numbers = variables(Path(path))
    facts["sha256"] = archive_digest(Path(path))
    return Inspection(handle, path, size, len(files), variables=numbers, found=found, chosen=chosen, **facts)


def _values(inspection: Inspection) -> dict[str, Any]:
    chosen = inspection.chosen
    return {
        "handle": mask_credentials(inspection.handle),
        "path": inspection.path,
        "bytes": inspection.size,
        "files": inspection.files,
        "sha256": inspection.sha256,
        "parameters": inspection.parameters,
        "variables": inspection.variables,
        "interfaces": [asdict(interface) for interface in inspection.found],
        "chosen": asdict(chosen) if chosen else None,
        "classes": inspection.classes,
        "outputs": {name: asdict(judgement) for name, judgement in inspection.judged.items()},
        "problem": inspection.problem,
        "config": inspection.config,
    }


def _lines(inspection: Inspection) -> list[str]:
    lines = [
        mask_credentials(inspection.handle),
        f"  directory   {inspection.path}",
        f"  on disk     {inspection.size / 1e6:,.1f} MB in {inspection.files} files",
        f"  parameters  {_parameters(inspection)}",
    ]
    if inspection.sha256:
        lines.insert(2, f"  archive     sha256 {inspection.sha256}")
    if inspection.classes:
        lines.append(f"  classes     {inspection.classes:,}")
    for interface in inspection.found:
        lines += ["", interface.title + (" (model.signature: null)" if interface.signature is None else "")]
        lines += [f"  takes {tensor.name}: {tensor}" for tensor in interface.inputs]
        judged = inspection.judged if interface == inspection.chosen else {}
        for tensor in interface.outputs:
            found = judged.get(tensor.name)
            lines.append(f"  gives {tensor.name}: {tensor}" + (f": {found.kind}" if found else ""))
            lines += [f"    {found.why}"] if found else []
    return [*lines, "", *_conclusion(inspection)]


def _parameters(inspection: Inspection) -> str:
    total, variables = inspection.parameters, inspection.variables
    if total is None:
        return f"{variables:,} in variables"
    if not variables:
        return f"{total:,}, as constants in the graph"
    rest = total - variables
    return f"{variables:,} in variables" + (f", and {rest:,} constants in the graph" if rest > 0 else "")


def _conclusion(inspection: Inspection) -> list[str]:
    chosen, config = inspection.chosen, inspection.config
    if inspection.problem or chosen is None or config is None:
        reason = inspection.problem or "no output is logits, probabilities or a vector of features"
        return [f"hublabel cannot label with it: {reason}"]
    assert chosen.image_input is not None
    amplified = "; half of them amplified tenfold" if chosen.image_input.dtype == "float32" else ""
    size = "x".join(map(str, image_size(chosen)))
    return [
        HOW.format(title=chosen.title, amplified=amplified) + f", {size} pixels",
        "",
        "A config to begin with:",
        "",
        config.rstrip(),
    ]
