"""What is done to a picture between its bytes and the model: plain values, picklable, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """The `image` section of a run's config.

    Attributes:
        height, width: pixels of the resized picture; the model sees `[height, width, 3]`, or `[width, height, 3]` with
            `transpose`.
        dtype: `float32` (normalized) or `uint8` (0..255 as decoded; scale, mean and std do not apply).
        channels: `rgb` or `bgr`.
        geometry: `stretch`; `resize_crop` (shorter side to floor(size / fraction), centre crop, as timm does);
            `crop_resize` (centre crop of `fraction` of the shorter side, then resize, as EfficientNet does);
            `pad` (longer side to size, centred on black).
        fraction: of `resize_crop` and `crop_resize`, in (0, 1].
        resample: `bilinear` or `bicubic`.
        antialias: widen the filter when a picture shrinks, as Pillow does and TensorFlow does on request.
        scale, mean, std: normalized = (pixel / scale - mean) / std, by channel in RGB order.
        transpose: swap height and width after resizing.
        exif: turn the picture as its EXIF orientation says.
        background: RGB, 0 to 255, under pictures with transparency.
        max_bytes: a larger file is a failed row (bytes).
        max_pixels: a picture with more pixels, as its header says, is a failed row.
        allow_truncated: decode what there is of a file that ends too early, instead of failing the row.
        decoder: `auto`, or `tensorflow-io`: TensorFlow's and tensorflow-io's decoders wherever they know the format.
    """

    height: int = 224
    width: int = 224
    dtype: str = "float32"
    channels: str = "rgb"
    geometry: str = "stretch"
    fraction: float = 1.0
    resample: str = "bilinear"
    antialias: bool = False
    scale: float = 255.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    transpose: bool = False
    exif: bool = True
    background: tuple[int, int, int] = (255, 255, 255)
    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000
    allow_truncated: bool = False
    decoder: str = "auto"

    @property
    def model_shape(self) -> tuple[int, int, int]:
        """Shape of one image as the model takes it."""
        if self.transpose:
            return (self.width, self.height, 3)
        return (self.height, self.width, 3)

    @property
    def needs_tensorflow(self) -> bool:
        """Whether TensorFlow decodes or resamples every picture, see `resize`; a format may need it in any case."""
        resamples = not self.antialias and (self.resample == "bicubic" or self.geometry == "resize_crop")
        return resamples or self.decoder == "tensorflow-io"
