"""The transform that gives an image the local brightness and contrast of another of a set."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glico_augment import checks
from glico_augment.data.reading import read_each, skipped_by, warn_of_skipped
from glico_augment.data.samples import Key, SampleLayout, find_image, find_labels, flatten
from glico_augment.data.sources import as_images
from glico_augment.devices import to_device
from glico_augment.errors import FileFormatError
from glico_augment.files.format import STYLE, read_file, reason, write_file
from glico_augment.images import convert, values
from glico_augment.shared import SharedNumbers
from glico_augment.style.transfer import GRID, match_channels, style_of, transfer_style

_SETTINGS = ("p", "max_ratio")
_ROUNDING = 1e-4  # of a mean or standard deviation of many float32 values


@dataclass(frozen=True)
class StyleParams:
    """One draw for a batch, on the CPU.

    Attributes:
        rows: ``(j,)`` int64, ascending: which images of the batch are changed.
        styles: ``(j,)`` int64, whose style each of them takes on.
        ratios: ``(j,)`` float32 ``s`` in ``[0, max_ratio]``.
    """

    rows: Tensor
    styles: Tensor
    ratios: Tensor


class LocalStyle(nn.Module):
    """Give an image the local brightness and contrast of a random image of a set, part of the way.

    The style of an image is the mean and standard deviation of each channel in each cell of a grid. With probability
    ``p`` an image is moved a share ``s ~ U[0, max_ratio]`` of the way to the style of an image of the set, whatever
    its class: means and standard deviations are matched as in `Color Transfer between Images
    <https://doi.org/10.1109/38.946629>`_ (Reinhard et al., 2001), but cell by cell, and mixed as in `Domain
    Generalization with MixStyle <https://arxiv.org/abs/2104.02008>`_ (Zhou et al., ICLR 2021), but of pixels. Nothing
    is fitted, and labels are not needed. It is not part of the GLICO method.

    Call it as any transform of torchvision, on a sample of any structure. Each image of a batch has its own coin,
    style and share. The result has the type, dtype, value range, size, channels and device of the input; labels,
    boxes, masks and all else pass through. It draws from torch's global CPU generator, has no parameters, and does
    not depend on ``train()``, ``eval()`` or ``to()``.

    .. note::
        Put it before normalisation. Where the class lies in brightness or colour, or strokes are thin, a full
        transfer (``s = 1``) can change what is seen: lower ``max_ratio``.

    Args:
        dataset: map-style, of samples as :meth:`GLICOAugment.fit` takes them or of images alone; or images, or the path
            of a folder. Each is read once, and its style alone is kept. Sizes may differ, and so may channels among 1
            to 4: the styles are then those of RGB.
        p: probability in ``[0, 1]`` that an image is changed.
        max_ratio: largest share in ``[0, 1]`` of the way from an image's style to the other's.
        grid: cells per side, at least 1; no more than the pixels per side of any image of the set.
        image_key: see :meth:`GLICOAugment.fit`.
        on_error: ``"raise"``, or ``"skip"`` for images that cannot be read, which a warning lists.

    ``p`` and ``max_ratio`` are attributes that may be set at any time; workers of a ``DataLoader`` see it, those of
    before as well.

    Attributes:
        styles: ``(n, 2, channels, grid, grid)`` float32 on the CPU, means before standard deviations.

    Raises:
        TypeError: for a setting of the wrong type, a dataset that is not map-style, or a sample that is no image.
        ValueError: for a setting out of range, an empty dataset, or an image that is normalised, smaller than the
            grid or of channels that cannot be matched; the message names its index.

    Example::

        photos = FakeData(size=8, image_size=(3, 64, 64))  # or ImageFolder("photos/train")
        style = LocalStyle(photos, p=0.5)
        photos.transform = v2.Compose([style, v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, True)])
    """

    p: float
    max_ratio: float
    styles: Tensor
    _numbers: SharedNumbers

    def __init__(
        self,
        dataset: Any,
        *,
        p: float = 0.5,
        max_ratio: float = 1.0,
        grid: int = GRID,
        image_key: Key | None = None,
        on_error: str = "raise",
    ) -> None:
        super().__init__()
        self._numbers = SharedNumbers((0, 0))
        self.p, self.max_ratio = p, max_ratio
        # No buffer: moving or casting the network it is part of leaves the styles as they are.
        self.styles = _read_styles(dataset, checks.integer(1)("grid", grid), SampleLayout(image_key), on_error)
        self._has_checked_values = False

    def __getattr__(self, name: str) -> Any:
        if name == "available_keys":  # asked for by albumentations
            raise AttributeError(
                "LocalStyle is no transform of albumentations: call it before the Compose, image = style(image)"
            )
        return self._numbers.read()[_SETTINGS.index(name)] if name in _SETTINGS else super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SETTINGS:
            settings = dict(zip(_SETTINGS, self._numbers.read(), strict=True))
            self._numbers.write((settings | {name: checks.proportion(name, value)}).values())
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_numbers": copy.copy(self._numbers)}  # a copy has its own, a worker shares them

    def forward(self, *inputs: Any) -> Any:
        """Change the image, or each image of the batch, of a sample.

        Args:
            inputs: a sample of any structure, in one argument or several: ``style(image)``, ``style(images, labels)``,
                ``style({"image": …, "label": …})``. One image is a PIL image, an array or a tensor ``(C, H, W)``; a
                batch is a tensor ``(k, C, H, W)``. Values are uint8, uint16 or float in ``[0, 1]``.

        Returns:
            The sample with its image changed or not.

        Raises:
            TypeError: for an image of another kind.
            ValueError: for normalised images (on an accelerator only in the first batch, since a check waits for it),
                for channels that the styles cannot be brought to, and unless exactly one image is found.
        """
        sample = inputs[0] if len(inputs) == 1 else inputs
        leaves, rebuild = flatten(sample)
        position = find_image(leaves, _labels_of(sample))
        image = leaves[position]
        is_batch = isinstance(image, Tensor) and image.ndim == 4
        leaves[position] = self._style_batch(image) if is_batch else self._style_one(image)
        return rebuild(leaves)

    def make_params(self, count: int) -> StyleParams:
        """Draw the coins of ``count`` images, and a style and a share for each that is changed."""
        # On the CPU whatever the device of the images, or torch's default: there is nothing to wait for.
        rows = (torch.rand(count, device="cpu", dtype=torch.float32) < self.p).nonzero().flatten()
        styles = torch.randint(len(self.styles), rows.shape, device="cpu")
        return StyleParams(rows, styles, self.max_ratio * torch.rand(len(rows), device="cpu", dtype=torch.float32))

    def transform(self, images: Tensor, params: StyleParams) -> Tensor:
        """A copy of a batch with the images of ``params`` changed.

        Args:
            images: ``(k, C, H, W)`` uint8, uint16 or float in ``[0, 1]``.
            params: what :meth:`make_params` drew for ``k`` images.

        Raises:
            ValueError: for channels that the styles cannot be brought to.
        """
        chosen_styles = self._styles_for(images.shape[1], params.styles)
        rows, styles, ratios = (to_device(x, images.device) for x in (params.rows, chosen_styles, params.ratios))
        # torch cannot index uint16. A view of the images' own type would lose their gradients.
        chosen = images.view(torch.int16)[rows].view(torch.uint16) if images.dtype == torch.uint16 else images[rows]
        changed = values.from_unit(transfer_style(values.to_unit(chosen), styles, ratios), images.dtype)
        return values.replace_rows(images, rows, changed, torch.ones_like(rows, dtype=torch.bool))

    def save(self, path: str | Path) -> None:
        """Write the styles and settings to one safetensors file, atomically.

        Raises:
            OSError: if it cannot be written; an older file of that name is left as it was.
        """
        write_file(path, {"styles": self.styles}, {"p": self.p, "max_ratio": self.max_ratio}, kind=STYLE)

    @classmethod
    def load(cls, path: str | Path) -> LocalStyle:
        """Read a file of :meth:`save`; nothing is unpickled.

        Raises:
            FileNotFoundError: if there is no such file.
            FileFormatError: if it is damaged, not such a file, or of another format version.
        """
        tensors, info = read_file(path, names=["styles"], kind=STYLE)
        style = cls.__new__(cls)
        nn.Module.__init__(style)
        style._numbers = SharedNumbers((0, 0))
        try:
            style.p, style.max_ratio = info["p"], info["max_ratio"]
            style.styles = _check_styles(tensors["styles"])
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"{path} is damaged: {reason(error)}") from error
        style._has_checked_values = False
        return style

    @property
    def grid(self) -> int:
        """Cells per side."""
        return self.styles.shape[-1]

    def extra_repr(self) -> str:
        """What ``repr`` shows between the brackets."""
        return f"p={self.p:g}, max_ratio={self.max_ratio:g}, grid={self.grid}, images={len(self.styles)}"

    def _style_one(self, image: Any) -> Any:
        convert.check_image(image)
        params = self.make_params(1)
        if len(params.rows) == 0:
            return image
        return convert.like(self.transform(convert.to_float(image)[None], params)[0], image)

    def _style_batch(self, images: Tensor) -> Tensor:
        if 0 in images.shape[1:]:
            raise ValueError(f"a batch of images must have shape (k, C, H, W); got {tuple(images.shape)}")
        values.check_dtype(images)
        # Looking at values makes an accelerator wait, so there it is done on the first batch alone.
        is_cpu = images.device.type == "cpu"
        if is_cpu or not self._has_checked_values:
            values.check_values(images)
            self._has_checked_values |= not is_cpu
        params = self.make_params(len(images))
        if len(params.rows) == 0:
            return images
        return values.as_type_of(self.transform(images.as_subclass(Tensor), params), images)

    def _styles_for(self, channels: int, chosen: Tensor) -> Tensor:
        """The chosen styles, ``(j, 2, channels, grid, grid)``, for images of so many channels."""
        try:
            return match_channels(self.styles[chosen], channels)
        except ValueError:
            raise ValueError(
                f"an image has {channels} channels, and those whose styles are held have {self.styles.shape[2]}: make "
                "LocalStyle of images like those it is to change"
            ) from None


def _read_styles(dataset: Any, grid: int, layout: SampleLayout, on_error: str) -> Tensor:
    """The styles of a dataset's images, each read once, ``(n, 2, channels, grid, grid)`` float32 on the CPU."""
    unreadable = skipped_by(on_error)
    dataset = as_images(dataset)

    def style(image: Any) -> Tensor:
        pixels = convert.to_float(image).cpu()
        height, width = pixels.shape[-2:]
        if min(height, width) < grid:
            raise ValueError(
                f"it is {height} × {width} pixels, too small for its style to be taken in {grid} × {grid} cells: leave "
                "it out, or lower grid"
            )
        return style_of(pixels[None], grid)

    read = {
        index: found for index, found, _ in read_each(dataset, layout, style, with_labels=False, unreadable=unreadable)
    }
    warn_of_skipped([str(each.error) for each in unreadable or ()], len(dataset))
    styles = list(read.values())
    most = values.common_channels({each.shape[2] for each in styles})
    for index, each in read.items():
        if each.shape[2] != most and most > max(values.COLOUR_CHANNELS):
            raise ValueError(f"image {index} has {each.shape[2]} channels, another has {most}: make sets of one kind")
    return torch.cat([match_channels(each, most) for each in styles])


def _check_styles(styles: Tensor) -> Tensor:
    """The ``styles`` of a file; raises ValueError unless they may be those of images."""
    is_shape = (
        styles.ndim == 5 and 0 not in styles.shape and styles.shape[1] == 2 and styles.shape[3] == styles.shape[4]
    )
    if styles.dtype != torch.float32 or not is_shape:
        raise ValueError(
            f"its styles must be float32 (n, 2, channels, grid, grid); got {styles.dtype} {tuple(styles.shape)}"
        )
    highest = 1 + _ROUNDING - 0.5 * torch.arange(2, device="cpu").view(2, 1, 1, 1)
    if not bool(((styles >= 0) & (styles <= highest)).all()):
        raise ValueError("its styles must be means in [0, 1] and standard deviations in [0, 0.5]")
    return styles


def _labels_of(sample: Any) -> Any:
    """What a mapping names labels, which is no image even where it has two dimensions; None elsewhere."""
    holder = sample[1] if isinstance(sample, (tuple, list)) and len(sample) > 1 else sample
    with suppress(ValueError):
        return find_labels(holder) if isinstance(holder, Mapping) else None
    return None
