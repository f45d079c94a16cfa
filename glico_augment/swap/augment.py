"""The augmentation: fit it on a few labelled images, then swap real images for synthetic ones of their class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torchvision import tv_tensors

from glico_augment.config import FitConfig, SwapConfig, split_overrides
from glico_augment.data import samples
from glico_augment.data.labels import check_labels, read_label
from glico_augment.devices import choose_device, to_device
from glico_augment.files.fitted import load_model, save_model
from glico_augment.fit.progress import Callback
from glico_augment.fit.record import FitRecord
from glico_augment.fit.run import fit_model
from glico_augment.images import convert, values
from glico_augment.model.model import GLICOModel
from glico_augment.swap.bank import SyntheticBank
from glico_augment.swap.dataset import GLICODataset
from glico_augment.swap.draw import draw_rows
from glico_augment.swap.make import SwapMaker


class GLICOAugment(SwapMaker, nn.Module):
    """Swap images for synthetic ones of the same class, made by a generator fitted on a small labelled set.

    Method: `Generative Latent Implicit Conditional Optimization when Learning from Small Sample
    <https://arxiv.org/abs/2003.14297>`_ (Azuri & Weinshall, ICPR 2020). Make one with :meth:`fit` or :meth:`load`.

    Use it around a dataset (:meth:`wrap`), or call it as a transform on one sample, ``augment(image, label)``, or on
    a batch, ``augment(images, labels)``, as torchvision's ``v2.CutMix``. Every image has its own coin ``p``, partner
    and ratio ``r ~ U[0, max_ratio]``. The result has the type, dtype, value range, size, channels and device of the
    input; labels and all other entries of the sample pass through. Like torchvision's transforms it draws from
    torch's global generator, has no parameters and does not depend on ``train()``, ``eval()`` or ``to()``: the fitted
    networks stay on the CPU, and a copy is made, once, on each other device it is called with.

    .. note::
        Put it before normalisation, and before MixUp and CutMix, which need the labels it leaves alone. A label that
        was not in the fitted set passes its image through, with one warning.

    Args:
        model: codes, generator and classifier.
        images: ``(m, channels, height, width)`` uint8, the labelled images at the fitted size.
        record: how they were made.
        swap: how images are swapped; None for the defaults. Its fields ``p``, ``max_ratio``, ``interpolation`` and
            ``noise_std`` are attributes that may be set at any time; workers of a ``DataLoader`` have them as they were
            when the workers started.
        labels_getter: finds the label or labels in a sample; None looks where ``v2.CutMix`` looks.

    Example::

        augment = GLICOAugment.fit(ImageFolder("photos/train"))
        dataset = augment.wrap(ImageFolder("photos/train"), transform=v2.Compose([v2.AutoAugment(), v2.ToTensor()]))
    """

    def __init__(
        self,
        model: GLICOModel,
        images: Tensor,
        record: FitRecord,
        swap: SwapConfig | None = None,
        *,
        labels_getter: samples.LabelsGetter | None = None,
    ) -> None:
        super().__init__(model, images, record, swap)
        self.labels_getter = labels_getter or samples.find_labels
        self._has_checked_values = False

    @classmethod
    def fit(
        cls,
        dataset: Any,
        config: FitConfig | None = None,
        *,
        swap: SwapConfig | None = None,
        preset: str = "default",
        unlabeled: Any = None,
        device: torch.device | str | None = None,
        seed: int = 0,
        progress: bool = True,
        callback: Callback | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 200,
        num_workers: int = 0,
        labels_getter: samples.LabelsGetter | None = None,
        **overrides: Any,
    ) -> GLICOAugment:
        """Learn a generator and one code an image.

        In an initialised ``torch.distributed`` process group all processes must call it, with the same arguments:
        they share the work of each batch and all return the result. The first writes the checkpoint, which all read.

        Args:
            dataset: map-style, of pairs ``(image, label)``: PIL images, or uint8, uint16 or float tensors and
                arrays; integer labels of at least two classes. Read once, and held as uint8.
            config: the hyper-parameters of the fit; None for those of the preset.
            swap: how images are swapped; None for that of the preset.
            preset: ``"default"``, or ``"published"`` for the paper's fit and the paper's swap.
            unlabeled: further images, learned with the others but never swapped in (the transductive mode). Images
                alone or tuples that begin with one.
            device: where to fit; None picks CUDA, MPS or the CPU. The result is on the CPU and works on any device.
            seed: of all that is random. On a CPU one seed and one number of threads give one result, bit for bit.
            progress: show a bar (needs tqdm).
            callback: called with a :class:`FitProgress` after every step; returning ``True`` ends the fit there.
            checkpoint: file to write every ``checkpoint_every`` steps and at the end. The same call with the same
                file continues an interrupted fit, and returns at once after one that ended.
            checkpoint_every: steps between writes.
            num_workers: processes that read the dataset.
            labels_getter: see :class:`GLICOAugment`.
            overrides: fields of :class:`FitConfig` and :class:`SwapConfig`, as in ``fit(dataset, epochs=50, p=0.3)``;
                ``noise_std`` is set in both.

        Warns:
            UserWarning: if the generator has not learned the images (``augment.quality``).

        Raises:
            TypeError, ValueError: for input that cannot be fitted; the message says what was expected.
            FileNotFoundError: if pretrained weights are asked for and not to be had.
            DivergenceError: if the loss becomes NaN or infinite.
            OSError: if ``checkpoint`` cannot be written or read.
            FileFormatError: if ``checkpoint`` is damaged, or no checkpoint.
            RuntimeError: in a process group, if not all processes call it within five minutes. What one of them raises
                while it reads, calls back or writes is raised by all.
        """
        fit_overrides, swap_overrides = split_overrides(overrides)
        swap = swap or (SwapConfig.published() if preset == "published" else SwapConfig())
        swap = swap.replace(**swap_overrides)
        fitted = fit_model(
            dataset,
            config,
            fit_overrides,
            preset=preset,
            unlabeled=unlabeled,
            device=device,
            seed=seed,
            progress=progress,
            callback=callback,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            num_workers=num_workers,
            finish=lambda state: cls(*state, swap, labels_getter=labels_getter),
        )
        return cls(*fitted, swap, labels_getter=labels_getter)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, *inputs: Any) -> Any:
        """Swap the image, or each image of the batch, of a sample.

        Args:
            inputs: a sample of any structure, in one argument or several: ``augment(image, label)``,
                ``augment(images, labels)``, ``augment({"image": …, "label": …})``. One image is a PIL image, an array
                or a tensor ``(C, H, W)``; a batch is a tensor ``(k, C, H, W)`` with ``(k,)`` integer labels. Values
                are uint8, uint16 or float in ``[0, 1]``.

        Returns:
            The sample with its image replaced or not.

        Raises:
            TypeError: for labels that are not integers or images of another kind.
            ValueError: for normalised images, for labels and images of different lengths, and where no label or not
                one image is found. On an accelerator, values and labels of the first batch alone are looked at, since
                it would be waited for.
        """
        sample = inputs if len(inputs) > 1 else inputs[0]
        labels = self.labels_getter(sample)
        leaves, structure = tree_flatten(sample)
        position = samples.find_image(leaves, labels)
        image = leaves[position]
        is_batch = isinstance(image, Tensor) and image.ndim == 4
        leaves[position] = self._swap_batch(image, labels) if is_batch else self._swap_one(image, labels)
        return tree_unflatten(leaves, structure)

    def _swap_one(self, image: Any, label: Any) -> Any:
        convert.check_image(image)
        labels = torch.tensor([read_label(label)], device="cpu")
        is_known = self.find_known(labels)
        rows = draw_rows(1, self.p)
        if len(rows) == 0 or not is_known.item():
            return image
        return convert.like(self.transform(self.make_params(labels))[0], image)

    def _swap_batch(self, images: Tensor, labels: Any) -> Tensor:
        labels = to_device(check_labels(labels, images), images.device)
        values.check_dtype(images)
        # Looking at values makes an accelerator wait, so there it is done on the first batch alone.
        is_cpu = images.device.type == "cpu"
        if is_cpu or not self._has_checked_values:
            values.check_values(images)
            self.find_known(labels)
            self._has_checked_values |= not is_cpu
        rows = to_device(draw_rows(len(images), self.p), images.device)
        if len(rows) == 0:
            return images
        params = self.make_params(labels[rows])
        synthetic = values.like_shape(self.transform(params), tuple(images.shape[1:]))
        synthetic = values.from_unit(synthetic, images.dtype)
        swapped = values.replace_rows(images.as_subclass(Tensor), rows, synthetic, params.is_known)
        return tv_tensors.wrap(swapped, like=images) if isinstance(images, tv_tensors.TVTensor) else swapped

    def wrap(
        self,
        dataset: Any,
        transform: Any = None,
        target_transform: Any = None,
        *,
        real_transform: Any = None,
        bank: SyntheticBank | None = None,
    ) -> GLICODataset:
        """Wrap a dataset of ``(image, label)`` so that its images are swapped; see :class:`GLICODataset`."""
        return GLICODataset(
            dataset,
            self,
            transform=transform,
            target_transform=target_transform,
            real_transform=real_transform,
            bank=bank,
        )

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, atomically and with a checksum.

        Raises:
            OSError: if it cannot be written; an older file of that name is left as it was.
            ValueError: if the networks or codes were changed so that the file could not be read again.
        """
        save_model(path, self.model, self.images, self.record, self.swap)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: torch.device | str = "cpu",
        labels_getter: samples.LabelsGetter | None = None,
    ) -> GLICOAugment:
        """Read a file of :meth:`save`. The same images come out, bit for bit; nothing is unpickled.

        Args:
            path: the file.
            device: where to have the networks ready for the first batch.
            labels_getter: see :class:`GLICOAugment`.

        Raises:
            FileNotFoundError: if there is no such file.
            PermissionError, OSError: if it cannot be read.
            FileFormatError: if it is truncated, damaged, not such a file, or of another format version.
        """
        chosen_device = choose_device(device)
        augment = cls(*load_model(path), labels_getter=labels_getter)
        augment.model_on(chosen_device)
        return augment

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_has_checked_values": False}

    def __repr__(self) -> str:
        channels, height, width = self.generator.image_shape
        return (
            f"{type(self).__name__}(p={self.p:g}, max_ratio={self.max_ratio:g}, interpolation={self.interpolation!r}, "
            f"images={self.codes.n_labeled}, classes={len(self.classes)}, size={channels}×{height}×{width}, "
            f"latent_dim={self.codes.latent_dim}, R²={self.quality.r2:.3f})"
        )
