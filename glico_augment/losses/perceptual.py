"""The perceptual loss of GLICO on VGG-16, with pretrained or with fixed random weights."""

from __future__ import annotations

import itertools
import math
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import VGG16_Weights

from glico_augment.config import FitConfig
from glico_augment.losses.feature_loss import FeatureLoss

TAPS = ("conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2")

# VGG-16 (Simonyan & Zisserman 2015, configuration D) up to conv5_2: the channels of each block's convolutions,
# with the key of the block's first convolution in torchvision's state dict.
_BLOCKS = (((64, 64), 0), ((128, 128), 5), ((256, 256, 256), 10), ((512, 512, 512), 17), ((512, 512), 24))
_MIN_SIDE = 32  # four poolings leave 2 × 2
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class _VGGLoss(FeatureLoss):
    """Taps of a VGG-16 trunk on ImageNet-normalised images."""

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Sequence[float] | None, *, normalize: bool, width_divisor: int = 1) -> None:
        super().__init__(weights, normalize=normalize)
        if self.weights is not None and len(self.weights) != len(TAPS):
            raise ValueError(f"this loss has {len(TAPS)} taps {TAPS}, got {len(self.weights)} loss weights")
        self.blocks = nn.ModuleList()
        channels_in = 3
        with torch.device("meta"):  # constructors draw initial weights from torch's global generator
            for widths, _ in _BLOCKS:
                channels = [channels_in, *(width // width_divisor for width in widths)]
                convs = (nn.Conv2d(*pair, 3, padding=1, dtype=torch.float32) for pair in itertools.pairwise(channels))
                self.blocks.append(nn.ModuleList(convs))
                channels_in = channels[-1]
        self.blocks.to_empty(device="cpu")
        for name, values in (("mean", _IMAGENET_MEAN), ("std", _IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def check_images(self, image_shape: tuple[int, int, int]) -> None:
        """Raise ValueError unless images are grey, RGB or RGBA."""
        if image_shape[0] not in (1, 3, 4):
            raise ValueError(
                f"a VGG loss takes grey, RGB or RGBA images, got {image_shape[0]} channels: use loss='laplacian'"
            )

    def features(self, images: Tensor) -> list[Tensor]:
        """The activations after the rectifier of each tap; empty for a tap behind the last of positive weight."""
        taps = []
        hidden = (_as_rgb(_enlarge(images)) - self.mean) / self.std
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        last = max(block for block in range(len(TAPS)) if self.weights is None or self.weights[block])
        for block in range(last + 1):
            first, second, *others = self.blocks[block].children()
            hidden = F.relu(second(F.relu(first(hidden))))
            taps.append(hidden)
            if block < last:
                for conv in others:
                    hidden = F.relu(conv(hidden))
                hidden = F.max_pool2d(hidden, 2)
        # Later taps have weight 0; empty ones keep the list aligned with the weights.
        return taps + [hidden.new_zeros(len(hidden), 1)] * (len(TAPS) - len(taps))


class PerceptualLoss(_VGGLoss):
    """L1 between VGG-16 activations ``conv1_2, conv2_2, conv3_2, conv4_2, conv5_2``, pretrained on ImageNet.

    GLICO's reconstruction loss (Azuri & Weinshall 2020). Images whose shorter side is under 32 pixels are enlarged
    to it; grey images are repeated to three channels; an alpha channel is composited over grey.

    Args:
        weights: the five ``λ_j``; all 1 if None.
        normalize: whether to divide each tap by its scale on the real images.
        weights_file: state dict of ``torchvision.models.vgg16`` as ``.safetensors`` or ``.pth``. None takes
            torchvision's ``VGG16_Weights.IMAGENET1K_V1`` from its cache, or downloads it there.

    Raises:
        FileNotFoundError: if the weights are not at ``weights_file``, or neither in the cache nor to be downloaded.
        ValueError: if the file is not a VGG-16 state dict.
    """

    def __init__(
        self,
        weights: Sequence[float] | None = None,
        *,
        normalize: bool = True,
        weights_file: str | Path | None = None,
    ) -> None:
        super().__init__(weights, normalize=normalize)
        state = _read_weights(Path(weights_file)) if weights_file is not None else _cached_weights()
        for own_name, parameter in self.blocks.named_parameters():
            block, position, name = own_name.split(".")
            key = f"features.{_BLOCKS[int(block)][1] + 2 * int(position)}.{name}"
            value = state.get(key)
            if not isinstance(value, Tensor) or value.shape != parameter.shape:
                found = tuple(value.shape) if isinstance(value, Tensor) else "nothing"
                source, shape = weights_file or VGG16_Weights.IMAGENET1K_V1, tuple(parameter.shape)
                raise ValueError(f"{source} is not a VGG-16 state dict: expected {key} of shape {shape}, found {found}")
            parameter.data.copy_(value)

    @classmethod
    def from_config(cls, config: FitConfig) -> PerceptualLoss:
        """The loss of a fit with these settings; ``vgg_weights`` is the file."""
        return cls(config.loss_weights, normalize=config.loss_normalize, weights_file=config.vgg_weights)


class RandomPerceptualLoss(_VGGLoss):
    """L1 between the activations of a VGG-16 trunk with fixed random weights, which needs no download.

    He-initialised convolutions a quarter as wide as VGG-16's, the same for the same seed on every machine. Images
    are treated as by :class:`PerceptualLoss`.

    Args:
        weights: the five ``λ_j``; all 1 if None.
        normalize: whether to divide each tap by its scale on the real images.
        seed: of the random weights.
    """

    def __init__(self, weights: Sequence[float] | None = None, *, normalize: bool = True, seed: int = 0) -> None:
        super().__init__(weights, normalize=normalize, width_divisor=4)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.ndim == 4:
                fan_in = math.prod(parameter.shape[1:])
                parameter.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            else:
                parameter.data.zero_()


def _enlarge(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    if min(height, width) >= _MIN_SIDE:
        return images
    factor = _MIN_SIDE / min(height, width)
    size = (round(height * factor), round(width * factor))
    return F.interpolate(images, size, mode="bilinear", align_corners=False)


def _as_rgb(images: Tensor) -> Tensor:
    channels = images.shape[1]
    if channels == 1:
        return images.expand(-1, 3, -1, -1)
    if channels == 4:
        alpha = images[:, 3:]
        return images[:, :3] * alpha + 0.5 * (1 - alpha)
    return images


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(_no_weights(str(path)))
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # torch warns of a pickle before it refuses it
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ValueError(f"{path} is not a readable state dict of tensors: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is no state dict but of the type {type(state).__name__}")
    return state


def _cached_weights() -> dict[str, Tensor]:
    entry = VGG16_Weights.IMAGENET1K_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rsplit("/", 1)[-1]
    try:
        return dict(entry.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except OSError as error:  # urllib's URLError and HTTPError among them
        raise FileNotFoundError(_no_weights(f"{cached} (download from {entry.url} failed: {error})")) from error
    except _UNREADABLE as error:
        raise ValueError(f"{cached} is damaged; delete it to download it again: {error}") from error


# What torch.load(weights_only=True) and safetensors raise for a file that is cut short or holds more than tensors.
_UNREADABLE = (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError)


def _no_weights(looked_at: str) -> str:
    return (
        f"no VGG-16 weights at {looked_at}. Either put torchvision's vgg16 state dict there, or name a local copy "
        "with vgg_weights=PATH, or take a loss that needs no download: loss='laplacian' or loss='random-vgg16'"
    )
