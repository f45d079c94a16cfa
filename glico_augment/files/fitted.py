"""How a model was made, and the file that holds both."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glico_augment.config import FitConfig
from glico_augment.data.image_set import ImageSet
from glico_augment.errors import FileFormatError
from glico_augment.files.format import read_file, write_file
from glico_augment.fit.loop import LOSS_PARTS
from glico_augment.images.identity import fingerprint
from glico_augment.model.codes import SphereCodes
from glico_augment.model.model import GLICOModel
from glico_augment.swap.draw import SwapSettings


@dataclass(frozen=True)
class FitRecord:
    """What a fit was made of.

    Attributes:
        config: the hyper-parameters.
        class_names: names of the classes, in ascending order of their labels.
        image_shape: ``(channels, height, width)``.
        digests: ``(n,)`` int64 hashes of the images as their dataset yields them.
        glimpses: ``(n,)`` int64 hashes of a few of their pixels, by which fitted images are recognised.
        fingerprint: 32 hexadecimal digits over images, labels and their order.
        seed: of the fit.
        losses: ``(steps, 3)``, the loss and its parts a step.
    """

    config: FitConfig
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    digests: Tensor
    glimpses: Tensor
    fingerprint: str
    seed: int
    losses: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, len(LOSS_PARTS)))

    @classmethod
    def of(cls, image_set: ImageSet, config: FitConfig, seed: int) -> FitRecord:
        """The record of a fit about to start."""
        names, shape = image_set.class_names, image_set.image_shape
        config = FitConfig.from_json(config.to_json())  # with a module as loss by its name
        return cls(config, names, shape, image_set.digests, image_set.glimpses, image_set.fingerprint, seed)

    @property
    def history(self) -> dict[str, list[float]]:
        """The loss and its parts before weighting, a value a step."""
        return {name: self.losses[:, column].tolist() for column, name in enumerate(LOSS_PARTS)}

    def to_json(self) -> dict[str, Any]:
        """All but the tensors, as JSON values."""
        return {
            "config": self.config.to_json(),
            "class_names": list(self.class_names),
            "image_shape": list(self.image_shape),
            "fingerprint": self.fingerprint,
            "seed": self.seed,
        }


def save_model(path: str | Path, model: GLICOModel, record: FitRecord, settings: SwapSettings) -> None:
    """Write a fitted model to one safetensors file.

    Tensors: ``codes``, ``labels``, ``images``, ``digests``, ``glimpses``, ``losses``, ``generator.*`` and
    ``classifier.*``.
    """
    tensors = {
        "codes": model.codes.codes,
        "labels": model.codes.labels,
        "digests": record.digests,
        "glimpses": record.glimpses,
        "losses": record.losses,
        **{f"generator.{name}": value for name, value in model.generator.state_dict().items()},
        **{f"classifier.{name}": value for name, value in model.classifier.state_dict().items()},
    }
    if model.images is not None:
        tensors["images"] = model.images
    write_file(path, tensors, {**record.to_json(), "swap": dataclasses.asdict(settings)})


def load_model(path: str | Path) -> tuple[GLICOModel, FitRecord, SwapSettings]:
    """Read a file of :func:`save_model`, onto the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: if it is not whole, or its header and its tensors do not fit together.
    """
    tensors, info = read_file(path)
    try:
        record = _read_record(tensors, info)
        settings = SwapSettings(**info["swap"])
        codes = SphereCodes(tensors["codes"], tensors["labels"])
        if not torch.equal(codes.codes, tensors["codes"]):
            raise ValueError("its codes are not on the unit sphere")
        if codes.latent_dim != record.config.latent_dim_for(len(codes)) or len(codes.classes) != len(
            record.class_names
        ):
            raise ValueError("its codes and its header do not fit together")
        if len(record.digests) != len(codes) or fingerprint(record.digests, codes.labels) != record.fingerprint:
            raise ValueError("its fingerprint is not that of its labels and digests")
        if record.glimpses.dtype != torch.int64 or record.glimpses.shape != record.digests.shape:
            raise ValueError("its glimpses are not integers, one a digest")
        model = GLICOModel(codes, record.config, record.image_shape)
        for name, network in (("generator.", model.generator), ("classifier.", model.classifier)):
            network.load_state_dict(
                {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}
            )
        if "images" in tensors:
            model.hold_images(_check_images(tensors["images"], (codes.n_labeled, *record.image_shape)))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise FileFormatError(f"{path} is damaged: {reason}") from error
    return model, record, settings


def _check_images(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    if images.dtype != torch.uint8 or images.shape != shape:
        raise ValueError(f"its images must be uint8 of shape {shape}")
    return images


def _read_record(tensors: dict[str, Tensor], info: dict[str, Any]) -> FitRecord:
    names, shape, seed = info["class_names"], info["image_shape"], info["seed"]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise TypeError("class_names must be a list of strings")
    if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)):
        raise TypeError("image_shape must be three positive integers")
    if not isinstance(seed, int) or not isinstance(info["fingerprint"], str):
        raise TypeError("seed must be an integer and fingerprint a string")
    losses = tensors["losses"]
    if losses.ndim != 2 or losses.shape[1] != len(LOSS_PARTS):
        raise ValueError(f"losses must have {len(LOSS_PARTS)} columns")
    config = FitConfig.from_json(info["config"])
    return FitRecord(
        config,
        tuple(names),
        (shape[0], shape[1], shape[2]),
        tensors["digests"],
        tensors["glimpses"],
        info["fingerprint"],
        seed,
        losses,
    )
