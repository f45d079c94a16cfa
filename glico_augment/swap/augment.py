"""The augmentation: fit it on a few labelled images, then swap real images for synthetic ones of their class."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from glico_augment import hub
from glico_augment.config import FitConfig, SwapConfig, did_you_mean, split_overrides
from glico_augment.data.class_names import ClassNames
from glico_augment.data.folders import ClassFolders, folder_as_fitted
from glico_augment.data.samples import ImagesAlone, Key, LabelsGetter, SampleLayout
from glico_augment.data.sources import as_dataset
from glico_augment.devices import choose_device
from glico_augment.fit.fitted_file import load_model, save_model
from glico_augment.fit.progress import Callback
from glico_augment.fit.record import Fitted
from glico_augment.fit.run import FitOptions, fit_model
from glico_augment.latent.encode import EncodeOptions, Encoding, encode
from glico_augment.latent.members import extended, restricted
from glico_augment.pictures import plots
from glico_augment.settings import Settings
from glico_augment.swap.bank import SyntheticBank
from glico_augment.swap.dataset import GLICODataset
from glico_augment.swap.transform import labels_alone, swap_images
from glico_augment.synthesis.recognition import Recognizer
from glico_augment.synthesis.synthesizer import Synthesizer

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


class LoadOptions(Settings, total=False):
    """The keywords of :meth:`GLICOAugment.load`."""

    device: torch.device | str
    image_key: Key | None
    label_key: Key | None
    labels_getter: LabelsGetter | None


class GLICOAugment(Synthesizer):
    """Swap images for synthetic ones of the same class, made by a generator fitted on a small labelled set.

    Method: `Generative Latent Implicit Conditional Optimization when Learning from Small Sample
    <https://arxiv.org/abs/2003.14297>`_ (Azuri & Weinshall, ICPR 2020). Make one with :meth:`fit` or :meth:`load`.

    Use it around a dataset (:meth:`wrap`), or call it as a transform on one sample, ``augment(image, label)``, or on
    a batch, ``augment(images, labels)``, as ``v2.CutMix`` of torchvision. Each image is swapped with probability ``p``,
    with its own partner and ratio ``r ~ U[0, max_ratio]``. The result has the type, dtype, value range, size, channels
    and device of the input; labels and all other entries of the sample pass through. Like the transforms of torchvision
    it draws from torch's global generator, has no parameters and does not depend on ``train()``, ``eval()`` or
    ``to()``: the fitted networks stay on the CPU, and are copied, once, to each other device it is called with.

    .. note::
        Put it before normalisation, and before MixUp and CutMix, which need the labels it leaves alone. The image of a
        label that was not fitted passes through, with one warning.

    Args:
        fitted: codes and networks, the labelled images, and how they were made.
        swap: how images are swapped; None for the defaults. Its fields, ``p``, ``max_ratio`` and the others, are
            attributes that may be set at any time; a change reaches the workers of a ``DataLoader`` that run already.
        layout: where a sample has its image and its label; None looks where ``v2.CutMix`` looks.
        settings: fields of ``swap`` to change.

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
        **settings: Unpack[Settings],
    ) -> None:
        if not isinstance(fitted, Fitted):
            raise TypeError(
                "a GLICOAugment is made by GLICOAugment.fit(dataset, p=0.5) or GLICOAugment.load(path, p=0.5); got "
                f"{'no fit' if fitted is None else repr(fitted)}"
            )
        super().__init__(fitted, (swap or SwapConfig()).replace(**settings))
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
    ) -> Self:
        """Learn a generator and one code per image.

        In an initialised ``torch.distributed`` process group all processes must call it, with the same arguments:
        they share the work of each batch and all return the result. The first writes the checkpoint, which all read.

        Args:
            dataset: map-style, of ``(image, label)``, longer tuples, or mappings that have both: PIL images, or uint8,
                uint16 or float tensors and arrays; integer labels of at least two classes. Read once, and held as
                uint8. Or the path of a folder with one folder per class; or images, a tensor, array or sequence, with
            labels: their labels. Images without labels are fitted as one class, without a classifier: they have codes
                and reconstructions, and a swap moves about the code of the image itself (``sampler="noise"``).
            config: the settings of the fit; None for those of the preset.
            swap: how images are swapped; None for that of the preset.
            preset: ``"default"``, or ``"published"`` for the fit and the swap of the paper.
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
                if those of different channels are read as RGB, and of images skipped.

        Raises:
            TypeError, ValueError: for input that cannot be fitted; the message says what was expected.
            FileNotFoundError: if pretrained weights are not found.
            DivergenceError: if the loss becomes NaN or infinite.
            OSError: if ``checkpoint`` cannot be written or read.
            FileFormatError: if ``checkpoint`` is damaged, or no checkpoint.
            RuntimeError: in a process group, if not all processes call it within five minutes. What one of them raises
                while it reads, calls back or writes is raised by all.
        """
        arguments = [name for name in inspect.signature(cls.fit).parameters if name != "overrides"]
        fit_overrides, swap_overrides = split_overrides(overrides, arguments)
        if swap is not None and not isinstance(swap, SwapConfig):
            raise TypeError(f"swap must be a SwapConfig, or None; got {swap!r}")
        has_sampler, has_cells = (swap is not None or name in swap_overrides for name in ("sampler", "cells"))
        swap = swap or (SwapConfig.published() if preset == "published" else SwapConfig())
        swap = swap.replace(**swap_overrides)
        layout = SampleLayout(image_key, label_key, labels_getter)

        def finish(fitted: Fitted) -> Any:
            changes: dict[str, Any] = {}
            if not (has_sampler or fitted.record.is_labeled):
                changes["sampler"] = "noise"
            if not has_cells:  # the default is for images of 4 pixels and more per side
                changes["cells"] = min(swap.cells, *fitted.model.generator.sizes[0])
            return cls(fitted, swap.replace(**changes), layout=layout)

        options = FitOptions(
            config,
            fit_overrides,
            preset,
            layout,
            class_names=class_names,
            unlabeled=unlabeled,
            device=device,
            seed=seed,
            progress=progress,
            callback=callback,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            num_workers=num_workers,
            on_error=on_error,
            cells=swap.cells if has_cells else 1,
        )
        return finish(fit_model(as_dataset(dataset, labels), options, finish=finish))

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, atomically and with a checksum.

        Raises:
            OSError: if it cannot be written; an older file of that name is left as it was.
        """
        save_model(path, self.fitted, self.swap)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: torch.device | str = "cpu",
        image_key: Key | None = None,
        label_key: Key | None = None,
        labels_getter: LabelsGetter | None = None,
        **settings: Unpack[Settings],
    ) -> Self:
        """Read a file of :meth:`save`. The same images come out, bit for bit; nothing is unpickled.

        Args:
            path: the file, or ``"hf://user/name/file"`` on the Hugging Face Hub (the extra ``hub``).
            device: where to have the networks ready for the first batch.
            image_key: see :meth:`fit`.
            label_key: see :meth:`fit`.
            labels_getter: see :meth:`fit`.
            settings: fields of :class:`SwapConfig` to change from those of the file.

        Raises:
            FileNotFoundError: if there is no such file.
            PermissionError, OSError: if it cannot be read.
            FileFormatError: if it is truncated, damaged, not such a file, or of a newer format version.
        """
        chosen_device = choose_device(device)
        layout = SampleLayout(image_key, label_key, labels_getter)
        augment = cls(*load_model(hub.local_path(path)), layout=layout, **settings)
        augment.model_on(chosen_device)
        return augment

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the fit, a picture and a model card to a folder; see :func:`glico_augment.hub.save`."""
        return hub.save(self, folder)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Read a folder of :meth:`save_pretrained` or a repository of the Hub; see :func:`glico_augment.hub.fetch`."""
        return cls.load(hub.fetch(name, revision=revision, token=token, cache_dir=cache_dir), **options)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = True,
        revision: str | None = None,
        token: str | None = None,
        message: str = "Add a fit of GLICO",
    ) -> str:
        """Upload the fit to a repository of the Hugging Face Hub; see :func:`glico_augment.hub.push`."""
        return hub.push(self, name, private=private, revision=revision, token=token, message=message)

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
                one image is found. On an accelerator only the values and labels of the first batch are checked, since
                a check waits for it.
        """
        sample = inputs if len(inputs) > 1 else inputs[0]
        labels = self.layout.labels(sample)
        image, put_back = self.layout.find(sample, labels)
        if not self.record.is_labeled:
            labels = labels_alone(image)
        is_accelerated = isinstance(image, Tensor) and image.ndim == 4 and image.device.type != "cpu"
        swapped = swap_images(self, image, labels, check=not (is_accelerated and self._has_checked_values))
        self._has_checked_values |= is_accelerated
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
        return_swapped: bool = False,
        unfitted: str = "raise",
        image_key: Key | None = None,
        label_key: Key | None = None,
        labels_getter: LabelsGetter | None = None,
    ) -> GLICODataset:
        """Wrap a dataset so that its images are swapped; see :class:`GLICODataset`, and :meth:`fit` for the keys."""
        dataset = as_dataset(dataset)
        if isinstance(dataset, ClassFolders):  # a path was given
            dataset = folder_as_fitted(dataset, Recognizer(self.record, self.codes).is_fitted)
        return GLICODataset(
            dataset,
            self,
            layout=self.layout.changed(image_key, label_key, labels_getter),
            transform=transform,
            target_transform=target_transform,
            real_transform=real_transform,
            bank=bank,
            class_names=class_names,
            return_swapped=return_swapped,
            unfitted=unfitted,
        )

    def encode(self, images: Any, **options: Unpack[EncodeOptions]) -> Encoding:
        """Find the codes of any images: the points of the sphere whose images are nearest in the loss of the fit.

        The generator is frozen. Half of the starts are the codes of the fitted images that look most alike, the others
        random; the best of all of them and of where Adam takes them is returned.

        Args:
            images: a tensor ``(k, C, H, W)``, an array, a sequence of images, a dataset of images or of samples that
                have one, or the path of a folder. They are brought to the size and channels of the fit. Labels are
                not read.
            options: ``steps=200`` of each start; ``starts=4`` per image; ``lr=0.05``, the learning rate of Adam at the
                first step, which falls to 0 as a cosine; ``loss``, the module that was given to the fit, which no file
                keeps; ``device``, where to work, None for CUDA, MPS or the CPU; ``seed=0`` of the random starts (on a
                CPU one seed gives one result); ``progress=True`` for a bar (needs tqdm).

        Returns:
            The codes and what the generator makes of them, on the CPU.

        Warns:
            UserWarning: if the generator has not learned its own images.

        Raises:
            TypeError, ValueError: for images that are none, or that cannot be brought to the channels of the fit; the
                message names the first.
        """
        return encode(self, images, self.layout, **options)

    def extend(self, dataset: Any, **options: Unpack[EncodeOptions]) -> Self:
        """An augmentation in which further images are anchors and partners of their classes too.

        The networks stay as they are; the images are coded by :meth:`encode`. ``quality`` is that of all images, so it
        says how well the generator draws those it has not learned. Images that were fitted under their label already
        are left out.

        Args:
            dataset: as for :meth:`fit`, map-style with labels or a folder, of classes that were fitted.
            options: of :meth:`encode`.

        Warns:
            UserWarning: if the generator has not learned its own images, or not the new ones.

        Raises:
            TypeError, ValueError: for a dataset that cannot be read, labels that were not fitted, classes that are
                numbered otherwise, and where every image was fitted already.
        """
        return self._with(extended(self, dataset, self.layout, **options))

    def restrict(self, dataset: Any, *, on_error: str = "raise") -> Self:
        """An augmentation that draws anchors and partners among the images of ``dataset`` alone.

        For a fit on more images than are trained on. The networks are the same: they have learned the other images as
        well, so that an honest validation needs a fit on the training images alone.

        Args:
            dataset: map-style, of fitted images with their labels; others in it are ignored.
            on_error: ``"raise"``, or ``"skip"`` for images that cannot be read, which a warning lists.

        Raises:
            TypeError: unless it is map-style, with samples of an image and an integer label.
            ValueError: if none of its images was fitted.
        """
        return self._with(restricted(self, dataset, self.layout, on_error=on_error))

    plot_paths = plots.plot_paths
    plot_swaps = plots.plot_swaps
    plot_reconstructions = plots.plot_reconstructions
    plot_samples = plots.plot_samples
    plot_losses = plots.plot_losses
    _repr_html_ = plots.to_html

    def fit_transform(self, *inputs: Any, **options: Any) -> NoReturn:
        """Raise TypeError: in a pipeline of scikit-learn stands :class:`glico_augment.sklearn.GLICOFeatures`."""
        raise TypeError(
            "GLICOAugment is no transformer of scikit-learn, whose pipelines do not change images while they train: "
            "take GLICOFeatures of glico_augment.sklearn, or fit on images made ahead, augment.synthesize(labels)"
        )

    get_params = fit_transform  # asked for where a pipeline is cloned

    def _with(self, fitted: Fitted) -> Self:
        return type(self)(fitted, self.swap, layout=self.layout)

    # The value is annotated as that of nn.Module, by which a type checker finds a misspelt setting.
    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        if type(self) is GLICOAugment and not (name.startswith("_") or name in _ATTRIBUTES):
            known = SwapConfig.names()
            raise AttributeError(
                f"GLICOAugment has no setting {name!r}{did_you_mean([name], known)}; a swap has {', '.join(known)}"
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_has_checked_values": False}

    def __repr__(self) -> str:
        channels, height, width = self.generator.image_shape
        classes = f"classes={len(self.classes)}" if self.record.is_labeled else "no labels"
        sampler = "" if self.sampler == "same-class" else f"sampler={self.sampler!r}, "
        return (
            f"{type(self).__name__}(p={self.p:g}, max_ratio={self.max_ratio:g}, cells={self.cells}, "
            f"carry={self.carry}, interpolation={self.interpolation!r}, {sampler}images={self.codes.n_labeled}, "
            f"{classes}, size={channels}×{height}×{width}, "
            f"latent_dim={self.codes.latent_dim}, R²={self.quality.r2:.3f})"
        )


_ATTRIBUTES = (*SwapConfig.names(), "images", "record", "swap", "layout", "training")
