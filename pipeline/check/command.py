"""The command `hublabel check CONFIG`: a sample through decoding and the model, nothing written."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.console import plain_console
from transforms.lean import import_lean
from transforms.masking import mask_credentials

if TYPE_CHECKING:
    from pipeline.check.sample import Sample
    from pipeline.check.summary import Summary
    from pipeline.config import RunConfig
    from pipeline.console import Voice

IMAGES = 256  # of a sample, unless told otherwise


def check_command(
    path: str,
    overrides: Sequence[str],
    images: int = IMAGES,
    workers: int = 1,
    price: float | None = None,
    as_json: bool = False,
) -> int:
    """Try the config at `path` on a sample and say what a run would be like.

    Args:
        overrides: `--set`.
        images: of the sample.
        workers: machines to tell the time on.
        price: of a machine an hour.
        as_json: print one JSON object instead of a text.

    Returns:
        0, or 1 when something would spoil a run.

    Raises:
        UsageError: the config does not fit what it names.
        HublabelError: the model cannot be fetched or fails.
    """
    console = plain_console(stderr=True)
    console.print(f"hublabel: checking {path}")

    from pipeline.config import load_config

    config = load_config(path, overrides)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    summary = check(path, config, console, images, workers, price)
    if as_json:
        text = json.dumps(summary.values(), indent=2, ensure_ascii=False)
        sys.stdout.write(mask_credentials(text) + "\n")
    else:
        summary.print(plain_console())
    return 0 if summary.passed else 1


def check(
    path: str, config: RunConfig, console: Voice, images: int, workers: int = 1, price: float | None = None
) -> Summary:
    """Draw the sample, label it, judge it; see `check_command`."""
    from pipeline.resolve import resolve_model
    from pipeline.versions import pinned_libraries, versions

    pinned_libraries(config.model.engine)  # raises when the engine is not installed
    sample = draw(config, console, images)
    model = resolve_model(config.model.handle, config.model.sha256, console)
    console.print("loading the model ...")
    import_quietly()
    from pipeline.check.findings import judge
    from pipeline.check.forecast import forecast
    from pipeline.check.guarded import fail_killers
    from pipeline.check.output import judge_output
    from pipeline.check.progress import Progress
    from pipeline.check.rescaling import find_rescaling
    from pipeline.check.summary import Summary
    from pipeline.check.trial import try_sample
    from pipeline.loading import columns_and_labels, model_spec
    from pipeline.record import hash_folder, recorded
    from transforms.model import load_classifier

    fingerprint = hash_folder(model)
    columns, labels = columns_and_labels(config, model, fingerprint)
    fail_killers(sample.rows, config, model, console)
    classifier = load_classifier(model_spec(config, model, fingerprint))
    with Progress(console, "labelling the sample", len(sample.rows)) as progress:

        def done(images: int) -> None:
            progress.update(images, "measuring the rate" if images == len(sample.rows) else "")

        trial = try_sample(sample.rows, config, classifier, columns, progress=done)
    classes = classifier.lengths.get("probabilities", classifier.lengths.get("logits"))
    rescaling = find_rescaling(model, config.model.signature, config.model.input)
    found = judge(trial, config, images=sample.images, classes=classes, labels=labels, rescaling=rescaling)
    about_output, output = judge_output(config.output.path)
    facts = {
        "model": _model_text(config, model, classifier.lengths),
        "input": _input_text(config, trial.fed),
        "output": output,
    }
    return Summary(
        path,
        [*about_output, *found],
        sample,
        trial,
        forecast(sample.images, trial.rate, workers, price),
        labels,
        config.model.label_offset,
        facts,
        recorded(config),
        versions(),
    )


def import_quietly() -> None:
    """Import TensorFlow and Beam without what they say of themselves."""
    logging.basicConfig(level=logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # One after the other: see `child.main`.
        import_lean("tensorflow")
        import pipeline.graph  # noqa: F401


def draw(config: RunConfig, console: Voice, images: int) -> Sample:
    """The sample of a config's input, and how many images it has.

    Raises:
        UsageError: as planning a run would.
    """
    from pipeline.arrow import forgo_pandas
    from pipeline.check.sample import spread_sample
    from pipeline.inputs import find_inputs
    from pipeline.pinning import table_reading
    from pipeline.reading import check_readable
    from transforms.storage import is_remote

    forgo_pandas()
    console.print("looking through the input ...")
    found = config.input
    output = config.output.path
    skip = output if is_remote(output) else os.path.abspath(output.removeprefix("file://"))
    sample = spread_sample(find_inputs(found.path), images, table_reading(config), limit=found.limit, skip=skip)
    check_readable(row.uri for row in sample.rows)
    return sample


def _model_text(config: RunConfig, path: str, lengths: dict[str, int]) -> str:
    outputs = ", ".join(f"{kind} [{length:,}]" for kind, length in sorted(lengths.items()))
    where = "" if path == config.model.handle else f" in {path}"
    return mask_credentials(f"{config.model.handle}{where}, by {config.model.engine}: {outputs}")


def _input_text(config: RunConfig, fed: tuple[float, float] | None) -> str:
    from pipeline.check.findings import readable

    shape = [config.batch.size, *config.preprocessing().model_shape]
    text = f"{config.image.dtype} {shape}"
    return text if fed is None else f"{text}, values from {readable(fed[0])} to {readable(fed[1])}"
