"""The augmentation: fit it on a few labelled images, then swap real images for synthetic ones of their class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glico_augment.config import FitConfig, SwapConfig, split_overrides
from glico_augment.data.class_names import ClassNames
from glico_augment.data.samples import ImagesAlone, Key, LabelsGetter, SampleLayout
from glico_augment.data.sources import as_dataset
from glico_augment.fit.progress import Callback
from glico_augment.fit.run import Fitted, fit_model
from glico_augment.hub import Sharing
from glico_augment.pictures.mixin import Pictures
from glico_augment.swap.apply import labels_alone, swap_images
from glico_augment.swap.bank import SyntheticBank
from glico_augment.swap.coding import Coding
from glico_augment.swap.dataset import GLICODataset
from glico_augment.swap.filing import Filing
from glico_augment.swap.make import SwapMaker

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from glico_augment.settings import Settings, SwapSettings


class GLICOAugment(Coding, Filing, Pictures, Sharing, SwapMaker, nn.Module):
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
        fitted: codes and networks, the labelled images, and how they were made.
        swap: how images are swapped; None for the defaults. Its fields, ``p``, ``max_ratio`` and the others, are
            attributes that may be set at any time; workers of a ``DataLoader`` have them as they were when the workers
            started.
        layout: where a sample has its image and its label; None looks where ``v2.CutMix`` looks.
        settings: fields of ``swap`` to set otherwise.

    Example::

        augment = GLICOAugment.fit(ImageFolder("photos/train"))
        dataset = augment.wrap(ImageFolder("photos/train"), transform=v2.Compose([v2.AutoAugment(), v2.ToTensor()]))
    """

    def __init__(
        self,
        fitted: Fitted | None = None,
        swap: SwapConfig | None = None,
        *,
        layout: SampleLayout | None = None,
        **settings: Unpack[SwapSettings],
    ) -> None:
        super().__init__(*_check_fitted(fitted), (swap or SwapConfig()).replace(**settings))
        self.layout = layout or SampleLayout()
        if not self.record.is_labeled:
            self.layout = ImagesAlone(self.layout.image_key)
        self._has_checked_values = False

    @classmethod
    def fit(
        cls,
        dataset: Any,
        labels: Any = None,
        *,
        config: FitConfig | None = None,
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
        on_error: str = "raise",
        class_names: ClassNames | None = None,
        image_key: Key | None = None,
        label_key: Key | None = None,
        labels_getter: LabelsGetter | None = None,
        **overrides: Unpack[Settings],
    ) -> GLICOAugment:
        """Learn a generator and one code an image.

        In an initialised ``torch.distributed`` process group all processes must call it, with the same arguments:
        they share the work of each batch and all return the result. The first writes the checkpoint, which all read.

        Args:
            dataset: map-style, of ``(image, label)``, longer tuples, or mappings that have both: PIL images, or uint8,
                uint16 or float tensors and arrays; integer labels of at least two classes. Read once, and held as
                uint8. Or the path of a folder with one folder a class; or images, a tensor, array or sequence, with
            labels: their labels. Without, images alone are fitted as one class that nothing is classified by: they have
                codes and reconstructions, and a swap moves about an image's own code (``sampler="noise"``).
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
            on_error: what to do with an image that cannot be read: ``"raise"``, or ``"skip"``. Those skipped are
                listed in a warning when the fit ends; codes and their indices are those of the others.
            class_names: names in the order of the labels, or by label; None takes those of the dataset.
            image_key: of the image in a sample, see :class:`SampleLayout`; for ``wrap`` and calls as well.
            label_key: of the label, alike.
            labels_getter: a function from sample to label or labels, in place of ``label_key``.
            overrides: fields of :class:`FitConfig` and :class:`SwapConfig`, as in ``fit(dataset, epochs=50, p=0.3)``;
                ``noise_std`` is set in both.

        Warns:
            UserWarning: if the generator has not learned the images (``augment.quality``), if all images are the same,
                and of images skipped.

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
        if swap is not None and not isinstance(swap, SwapConfig):
            raise TypeError(f"swap must be a SwapConfig, or None; got {swap!r}")
        has_sampler = swap is not None or "sampler" in swap_overrides
        swap = swap or (SwapConfig.published() if preset == "published" else SwapConfig())
        swap = swap.replace(**swap_overrides)

        def finish(fitted: Fitted) -> GLICOAugment:
            has_partners = has_sampler or fitted.record.is_labeled
            return cls(fitted, swap if has_partners else swap.replace(sampler="noise"), layout=layout)

        layout = SampleLayout(image_key, label_key, labels_getter)
        fitted = fit_model(
            as_dataset(dataset, labels),
            config,
            fit_overrides,
            layout=layout,
            class_names=class_names,
            preset=preset,
            unlabeled=unlabeled,
            device=device,
            seed=seed,
            progress=progress,
            callback=callback,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            num_workers=num_workers,
            on_error=on_error,
            finish=finish,
        )
        return finish(fitted)

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
        labels = self.layout.labels(sample)
        image, put_back = self.layout.find(sample, labels)
        if not self.record.is_labeled:
            labels = labels_alone(image)
        # Looking at values makes an accelerator wait, so there it is done on the first batch alone.
        is_waited_for = isinstance(image, Tensor) and image.ndim == 4 and image.device.type != "cpu"
        swapped = swap_images(self, image, labels, look=not (is_waited_for and self._has_checked_values))
        self._has_checked_values |= is_waited_for
        return put_back(swapped)

    def wrap(
        self,
        dataset: Any,
        transform: Any = None,
        target_transform: Any = None,
        *,
        real_transform: Any = None,
        bank: SyntheticBank | None = None,
        class_names: ClassNames | None = None,
        image_key: Key | None = None,
        label_key: Key | None = None,
        labels_getter: LabelsGetter | None = None,
    ) -> GLICODataset:
        """Wrap a dataset so that its images are swapped; see :class:`GLICODataset`, and :meth:`fit` for the keys."""
        return GLICODataset(
            as_dataset(dataset),
            self,
            layout=self.layout.changed(image_key, label_key, labels_getter),
            transform=transform,
            target_transform=target_transform,
            real_transform=real_transform,
            bank=bank,
            class_names=class_names,
        )

    # The value is annotated as that of nn.Module, by which a type checker finds a misspelt setting.
    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        if type(self) is GLICOAugment:
            _check_attribute(name)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_has_checked_values": False}

    def __repr__(self) -> str:
        channels, height, width = self.generator.image_shape
        classes = f"classes={len(self.classes)}" if self.record.is_labeled else "no labels"
        sampler = "" if self.sampler == "same-class" else f"sampler={self.sampler!r}, "
        return (
            f"{type(self).__name__}(p={self.p:g}, max_ratio={self.max_ratio:g}, interpolation={self.interpolation!r}, "
            f"{sampler}images={self.codes.n_labeled}, {classes}, size={channels}×{height}×{width}, "
            f"latent_dim={self.codes.latent_dim}, R²={self.quality.r2:.3f})"
        )


def _check_fitted(fitted: Any) -> Fitted:
    if not isinstance(fitted, Fitted):
        raise TypeError(
            "a GLICOAugment is made by GLICOAugment.fit(dataset, p=0.5) or GLICOAugment.load(path, p=0.5); got "
            f"{'no fit' if fitted is None else repr(fitted)}"
        )
    return fitted


def _check_attribute(name: str) -> None:
    """Raise AttributeError for a misspelt setting, which would be an attribute that nobody reads."""
    if not (name.startswith("_") or name in _ATTRIBUTES or hasattr(GLICOAugment, name)):
        raise AttributeError(f"GLICOAugment has no setting {name!r}; a swap has {', '.join(SwapConfig().to_json())}")


_ATTRIBUTES = ("images", "record", "swap", "layout", "training")
