"""The sections of a config on what is labelled, how and where to; those on the run itself are in config_running.

Every key has its type, its default, what it must be and what it means.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, field_validator, model_validator
from pydantic_core import PydanticCustomError

# Every column a prediction may have; a carried input column of the same name would be ambiguous.
OUTPUT_COLUMNS = (
    *("row", "uri", "status", "label", "label_index", "score", "top_k"),
    *("width", "height", "format", "bytes", "sha256", "error_stage", "error_type", "error_message"),
    *("logits", "embedding"),
)

RESERVED_PREFIX = "_hublabel_"  # of a plan's own columns


def _text(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("empty")
    return value


def reason(message: str) -> PydanticCustomError:
    """A problem that `must_be` does not explain. The message is an argument: a brace in a template has a meaning."""
    return PydanticCustomError("reason", "{message}", {"message": message})


Text = Annotated[str, AfterValidator(_text)]
# YAML has lists where these have tuples: only the outer type is converted, the items stay strict.
Lengths = Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]], Strict(False)]
# Bounds that float32 arithmetic on 0..255 survives: 1e-300 is finite here and a division by zero there.
Factor = Annotated[float, Field(ge=1e-6, le=1e6)]
Offset = Annotated[float, Field(ge=-1e6, le=1e6)]
Factors = Annotated[tuple[Factor, Factor, Factor], Strict(False)]
Offsets = Annotated[tuple[Offset, Offset, Offset], Strict(False)]
Byte = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[tuple[Byte, Byte, Byte], Strict(False)]
Texts = Annotated[tuple[Text, ...], Strict(False)]


def key(default: Any, must_be: str, meaning: str, **bounds: Any) -> Any:
    """A config key: `must_be` completes "it must be ..." in messages, `meaning` is what docs/config.md says of it."""
    return Field(default, description=meaning, json_schema_extra={"must_be": must_be}, **bounds)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class HttpSection(Section):
    connect_timeout: float = key(
        10.0, "a number of seconds from 0.1 to 3600", "For a connection to a server.", ge=0.1, le=3600
    )
    read_timeout: float = key(
        30.0, "a number of seconds from 0.1 to 3600", "For the next piece of a server's answer.", ge=0.1, le=3600
    )
    retries: int = key(
        4,
        "a whole number from 0 to 100",
        "Further attempts, after growing pauses or when `Retry-After` says, where another may help: "
        "429, 5xx, time-outs, broken connections. All within `run.timeout.read`.",
        ge=0,
        le=100,
    )
    max_redirects: int = key(10, "a whole number from 0 to 100", "So many redirects are followed.", ge=0, le=100)
    per_host: int = key(
        16,
        "a whole number from 1 to 1024",
        "Requests to one host at a time, from each worker process.",
        ge=1,
        le=1024,
    )


class InputSection(Section):
    path: Text | Annotated[Texts, Field(min_length=1)] = key(
        ...,
        "a path, a glob or a URI, or a list of these",
        "What to label: a directory, a glob, a file of URIs, a table (CSV, TSV, JSON lines, Parquet), a WebDataset "
        "tar, or a list of these. Relative to the working directory.",
    )
    uri_column: Text = key("uri", "the name of a column", "The column of a table that holds the URIs.")
    columns: Texts = key(
        (),
        "a list of names of input columns, each once, none of them a column of the output",
        "Columns of tables, carried to the output with their types; null for images that have none.",
    )
    on_bad_line: Literal["fail", "row"] = key(
        "fail",
        "one of fail, row",
        "A line of a table that cannot be read, or names no image: end before anything runs, or make it a failed row.",
    )
    limit: int | None = key(None, "a whole number from 1, or null for all", "Only the first so many images.", ge=1)
    allow_private_hosts: bool = key(
        False,
        "true or false",
        "Read http(s):// from private, loopback and link-local addresses too. Only for lists that you trust.",
    )
    user_agent: Annotated[str, Field(pattern=r"^[!-~]([ -~]*[!-~])?$")] = key(
        "hublabel",
        "printable ASCII, with no space at either end",
        "What servers behind http(s):// are told about who asks: name your project and how to reach you.",
    )
    http: HttpSection = HttpSection()

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        # DuckDB and Spark do not tell `Label` from `label`.
        names = [name.casefold() for name in columns]
        clashes = [name for name in columns if name.casefold() in OUTPUT_COLUMNS]
        if clashes:
            raise reason(f"{', '.join(clashes)}: the output has a column of that name itself")
        if reserved := [name for name in names if name.startswith(RESERVED_PREFIX)]:
            raise reason(f"{', '.join(reserved)}: names that begin with {RESERVED_PREFIX} are kept for the plan")
        doubles = [name for name in columns if names.count(name.casefold()) > 1]
        if doubles:
            raise reason(f"{', '.join(doubles)}: a column can be carried once")
        return columns

    @property
    def paths(self) -> tuple[str, ...]:
        """`path` as a tuple, however it was written."""
        return (self.path,) if isinstance(self.path, str) else self.path


class ModelSection(Section):
    handle: Text = key(
        ...,
        "a SavedModel directory, a .tar.gz of one, or an http(s)://, gs:// or kaggle:// handle",
        "The model. Without a scheme it is a path relative to the working directory.",
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = key(
        None,
        "64 hexadecimal digits, or null",
        "The digest that the model's tar archive must have, fetched or local; null takes any.",
    )
    staging: Text | None = key(
        None,
        "a gs:// or s3:// URI, a path, or null",
        "Where workers elsewhere get the model from: a folder that they can reach, where the launcher puts it, once. "
        "Null: they read `handle` itself, a gs:// or s3:// folder, or an absolute path that they have too.",
    )
    signature: Text | None = key(
        "serving_default",
        "the name of a signature, or null",
        "The signature to call; null calls the object itself.",
    )
    input: Text | None = key(
        None,
        "the name of an input, or null",
        "The signature's input that takes the images; needed only when it has several.",
    )
    outputs: dict[Literal["logits", "probabilities", "embedding"], Text] = key(
        {"logits": "output"},
        "a mapping from logits, probabilities or embedding (one or more) to the module's name of that output",
        "What we call an output: the module's name for it.",
        min_length=1,
    )
    engine: Literal["tensorflow", "openvino"] = key(
        "tensorflow",
        "one of tensorflow, openvino",
        "What runs the model. `openvino` (`pip install 'hublabel[openvino]'`) is faster on processors; its outputs are "
        "compared with TensorFlow's before the first label. See docs/models.md.",
    )
    precision: Literal["float32", "bfloat16", "float16", "int8"] = key(
        "float32",
        "one of float32, bfloat16, float16, int8",
        "What the engine multiplies in. float32 is exact; bfloat16 (processors that have it), float16 (TensorFlow on a "
        "GPU) and int8 (OpenVINO, a model made by `hublabel quantize`) are faster, and how far they agree with float32 "
        "on a sample is measured and reported.",
    )
    activation: Literal["softmax", "sigmoid", "none"] = key(
        "softmax",
        "one of softmax, sigmoid, none",
        "Makes scores of logits. `none` where the model gives probabilities itself, or embeddings only.",
    )
    labels: Text | None = key(
        None,
        "the path of a local text file with one label a line, or null",
        "Names of the classes in the model's order; null writes indices only. Relative to the config file.",
    )
    label_offset: int = key(
        0,
        "a whole number from 0 to 1000",
        "Classes before the first label: 1 for modules with 1001 classes, where class 0 is background.",
        ge=0,
        le=1000,
    )

    @model_validator(mode="before")
    @classmethod
    def _default_activation(cls, values: Any) -> Any:
        """Without logits to turn into scores, or with scores given, there is nothing to activate."""
        outputs = values.get("outputs") if isinstance(values, dict) else None
        if isinstance(outputs, dict) and ("probabilities" in outputs or "logits" not in outputs):
            return {"activation": "none", **values}
        return values

    @field_validator("outputs")
    @classmethod
    def _check_outputs(cls, outputs: dict[str, str]) -> dict[str, str]:
        if len(set(outputs.values())) < len(outputs):
            raise reason("one output of the module can be only one of these")
        return outputs

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: str | None) -> str | None:
        if labels is not None and "://" in labels:
            raise ValueError("not local")
        return labels

    @property
    def classifies(self) -> bool:
        """Whether the outputs give scores by class, and so labels; otherwise only embeddings."""
        return "logits" in self.outputs or "probabilities" in self.outputs


class ImageSection(Section):
    size: Lengths = key(
        (224, 224),
        "[height, width], two whole numbers from 1 to 4096",
        "Height and width of the picture that the model gets, in pixels.",
    )
    dtype: Literal["float32", "uint8"] = key(
        "float32", "one of float32, uint8", "What the module takes; uint8 is 0..255, not normalized."
    )
    channels: Literal["rgb", "bgr"] = key("rgb", "one of rgb, bgr", "The order of the colours.")
    geometry: Literal["stretch", "resize_crop", "crop_resize", "pad"] = key(
        "stretch",
        "one of stretch, resize_crop, crop_resize, pad",
        "`stretch`: to size, whatever the proportions. `resize_crop`: short side to floor(size / fraction), then the "
        "centre (timm). `crop_resize`: the centre `fraction` of the short side, then to size (EfficientNet). "
        "`pad`: the long side to size, centred on black.",
    )
    fraction: float = key(
        1.0,
        "a number above 0 and up to 1",
        "Part of the picture that a crop keeps; for `resize_crop` and `crop_resize`.",
        gt=0,
        le=1,
    )
    resample: Literal["bilinear", "bicubic"] = key("bilinear", "one of bilinear, bicubic", "The resampling filter.")
    antialias: bool = key(
        False, "true or false", "Widen the filter when a picture shrinks: Pillow does, TensorFlow's default does not."
    )
    scale: Factor = key(
        255.0,
        "a number from 0.000001 to 1000000",
        "(pixel / scale - mean) / std. For [-1, 1]: scale 127.5, mean 1, std 1. float32 only.",
    )
    mean: Offsets = key(
        (0.485, 0.456, 0.406),
        "a list of three numbers, red, green, blue, from -1000000 to 1000000",
        "Subtracted after scaling, in RGB order. float32 only.",
    )
    std: Factors = key(
        (0.229, 0.224, 0.225),
        "a list of three numbers, red, green, blue, from 0.000001 to 1000000",
        "Divided by after that, in RGB order. float32 only.",
    )
    transpose: bool = key(
        False, "true or false", "Swap height and width before the model, for modules that see them swapped."
    )
    exif: bool = key(True, "true or false", "Turn a picture as its EXIF orientation says.")
    background: Colour = key(
        (255, 255, 255),
        "[red, green, blue], three whole numbers from 0 to 255",
        "What transparent pictures are laid on.",
    )
    max_bytes: int = key(
        64 * 1024 * 1024,
        "a whole number from 1 to 2147483647",
        "A larger file is a failed row.",
        ge=1,
        le=2**31 - 1,
    )
    max_pixels: int = key(
        100_000_000,
        "a whole number from 1 to 2147483647",
        "A picture with more pixels, by its header, is a failed row.",
        ge=1,
        le=2**31 - 1,
    )
    allow_truncated: bool = key(
        False,
        "true or false",
        "Label pictures whose file ends too early by what is there of them, instead of failing the row.",
    )
    decoder: Literal["auto", "tensorflow-io"] = key(
        "auto",
        "one of auto, tensorflow-io",
        "`tensorflow-io`: TensorFlow's and tensorflow-io's decoders wherever they know the format. "
        "Only for pictures that you trust.",
    )


class BatchSection(Section):
    size: int = key(
        32,
        "a whole number from 1 to 4096",
        "Images handed to the model at a time; it computes them in pieces, see performance.md.",
        ge=1,
        le=4096,
    )


class OutputSection(Section):
    path: Text = key(
        ...,
        "the path or URI of a directory that can be written to",
        "The directory of the results. Relative to the working directory.",
    )
    top_k: int = key(5, "a whole number from 1 to 1000", "So many best classes in `top_k`.", ge=1, le=1000)
    logits: bool = key(False, "true or false", "Write the column `logits`.")
    embedding: bool = key(False, "true or false", "Write the column `embedding`.")
    uri: Literal["as_given", "stripped"] = key(
        "as_given",
        "one of as_given, stripped",
        "The column `uri`: as in the input, or without user, password and query (signed URLs).",
    )

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if path.lower().startswith(("http://", "https://")):
            raise ValueError("not writable")
        return path
