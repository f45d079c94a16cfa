"""Saving and loading, as methods of :class:`GLICOAugment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch

from glico_augment.data.samples import Key, LabelsGetter, SampleLayout
from glico_augment.devices import choose_device
from glico_augment.files.fitted import load_model, save_model
from glico_augment.fit.run import Fitted
from glico_augment.hub import local_path
from glico_augment.settings import SwapSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from glico_augment.swap.augment import GLICOAugment

_Augment = TypeVar("_Augment", bound="Filing")


class LoadOptions(SwapSettings, total=False):
    """The keywords of :meth:`Filing.load`."""

    device: torch.device | str
    image_key: Key | None
    label_key: Key | None
    labels_getter: LabelsGetter | None


class Filing:
    """A fit in one file, and back."""

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, atomically and with a checksum.

        Raises:
            OSError: if it cannot be written; an older file of that name is left as it was.
        """
        augment = cast("GLICOAugment", self)
        save_model(path, augment.model, augment.images, augment.record, augment.swap)

    @classmethod
    def load(
        cls: type[_Augment],
        path: str | Path,
        *,
        device: torch.device | str = "cpu",
        image_key: Key | None = None,
        label_key: Key | None = None,
        labels_getter: LabelsGetter | None = None,
        **settings: Unpack[SwapSettings],
    ) -> _Augment:
        """Read a file of :meth:`save`. The same images come out, bit for bit; nothing is unpickled.

        Args:
            path: the file, or ``"hf://user/name/file"`` on the Hugging Face Hub (the extra ``hub``).
            device: where to have the networks ready for the first batch.
            image_key: see :meth:`fit`.
            label_key: see :meth:`fit`.
            labels_getter: see :meth:`fit`.
            settings: fields of :class:`SwapConfig` to set otherwise than in the file.

        Raises:
            FileNotFoundError: if there is no such file.
            PermissionError, OSError: if it cannot be read.
            FileFormatError: if it is truncated, damaged, not such a file, or of another format version.
        """
        chosen_device = choose_device(device)
        layout = SampleLayout(image_key, label_key, labels_getter)
        model, images, record, swap = load_model(local_path(path))
        augment = cast("type[GLICOAugment]", cls)(Fitted(model, images, record), swap, layout=layout, **settings)
        augment.model_on(chosen_device)
        return cast("_Augment", augment)
