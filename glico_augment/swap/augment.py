"""The augmentation: fit it on a few labelled images, then swap real images for synthetic ones of their class."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torchvision import tv_tensors

from glico_augment import checks
from glico_augment.config import FitConfig
from glico_augment.data import samples
from glico_augment.data.labels import as_integers, check_labels, read_label
from glico_augment.devices import choose_device, to_device
from glico_augment.files.fitted import FitRecord, load_model, save_model
from glico_augment.fit.loop import Callback
from glico_augment.fit.run import fit_model
from glico_augment.images import convert, values
from glico_augment.model.classifier import Classifier
from glico_augment.model.codes import SphereCodes
from glico_augment.model.generator import Generator
from glico_augment.model.model import GLICOModel
from glico_augment.swap.draw import (
    SwapParams,
    SwapSetting,
    SwapSettings,
    draw_params,
    draw_rows,
    make_images,
    replace_images,
)

if TYPE_CHECKING:
    from glico_augment.swap.bank import SyntheticBank
    from glico_augment.swap.dataset import GLICODataset


class GLICOAugment(nn.Module):
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
        record: how they were made.
        p: probability in ``[0, 1]`` that an image is swapped.
        max_ratio: largest share in ``[0, 1]`` of the arc from an image's code to its partner's.
        interpolation: ``"slerp"``, or ``"lerp"`` for the paper's ablation.
        noise_std: ``σ`` of the generator's noise, at least 0; None for that of the fit.
        pixel_share: probability in ``[0, 1]`` that a synthetic image is the average of its two real images instead of
            the generator's; 0 is the paper's swap.
        max_style_ratio: largest share in ``[0, 1]`` of the way from a synthetic image's local brightness and contrast
            to those of a random fitted image of any class; 0 is the paper's swap.
        labels_getter: finds the label or labels in a sample; None looks where ``v2.CutMix`` looks.

    ``p``, ``max_ratio``, ``interpolation``, ``noise_std``, ``pixel_share`` and ``max_style_ratio`` are attributes that
    may be set at any time. Workers of a ``DataLoader`` have them as they were when the workers started.

    Example::

        augment = GLICOAugment.fit(ImageFolder("photos/train"), p=0.67)
        policy = v2.RandomApply([v2.AutoAugment()])  # for half of the images that are not swapped
        dataset = augment.wrap(ImageFolder("photos/train"), transform=v2.ToTensor(), real_transform=policy)
    """

    p = SwapSetting()
    max_ratio = SwapSetting()
    interpolation = SwapSetting()
    noise_std = SwapSetting()
    pixel_share = SwapSetting()
    max_style_ratio = SwapSetting()

    def __init__(
        self,
        model: GLICOModel,
        record: FitRecord,
        *,
        p: float = 0.5,
        max_ratio: float = 1.0,
        interpolation: str = "slerp",
        noise_std: float | None = None,
        pixel_share: float = 0.9,
        max_style_ratio: float = 1.0,
        labels_getter: samples.LabelsGetter | None = None,
    ) -> None:
        super().__init__()
        noise_std = record.config.noise_std if noise_std is None else noise_std
        self.swap_settings = SwapSettings(p, max_ratio, interpolation, noise_std, pixel_share, max_style_ratio)
        self.record = record
        self.labels_getter = labels_getter or samples.find_labels
        # In a dict the models are no submodules: the transform has no parameters, and moving or casting the network
        # it is part of leaves them as they are.
        self._models = {_CPU: model.to(_CPU).requires_grad_(False).eval()}
        self._has_checked_values = False
        self._has_warned_unknown = torch.zeros(1, dtype=torch.bool).share_memory_()  # one warning over all workers

    @classmethod
    def fit(
        cls,
        dataset: Any,
        config: FitConfig | None = None,
        *,
        unlabeled: Any = None,
        device: torch.device | str | None = None,
        seed: int = 0,
        progress: bool = True,
        callback: Callback | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 200,
        num_workers: int = 0,
        p: float = 0.5,
        max_ratio: float = 1.0,
        pixel_share: float = 0.9,
        max_style_ratio: float = 1.0,
        labels_getter: samples.LabelsGetter | None = None,
        **overrides: Any,
    ) -> GLICOAugment:
        """Learn a generator and one code an image.

        In an initialised ``torch.distributed`` process group all processes must call it, with the same arguments:
        they share the work of each batch and all return the result. The first writes the checkpoint, which all read.

        Args:
            dataset: map-style, of pairs ``(image, label)``: PIL images, or uint8, uint16 or float tensors and
                arrays; integer labels of at least two classes. Read once, and held as uint8.
            config: the hyper-parameters; None for the defaults.
            unlabeled: further images, learned with the others but never swapped in (the transductive mode). Images
                alone or tuples that begin with one.
            device: where to fit; None picks CUDA, MPS or the CPU. The result is on the CPU and works on any device.
            seed: of all that is random. On a CPU one seed gives one result, bit for bit.
            progress: show a bar (needs tqdm).
            callback: called with a :class:`FitProgress` after every step; a true return value ends the fit there.
            checkpoint: file to write every ``checkpoint_every`` steps and at the end. The same call with the same
                file continues an interrupted fit, and returns at once after one that ended.
            checkpoint_every: steps between writes.
            num_workers: processes that read the dataset.
            p: see :class:`GLICOAugment`.
            max_ratio: see :class:`GLICOAugment`.
            pixel_share: see :class:`GLICOAugment`.
            max_style_ratio: see :class:`GLICOAugment`.
            labels_getter: see :class:`GLICOAugment`.
            overrides: fields of :class:`FitConfig` to set, as in ``fit(dataset, epochs=50)``.

        Raises:
            TypeError, ValueError: for input that cannot be fitted; the message says what was expected.
            FileNotFoundError: if pretrained weights are asked for and not to be had.
            DivergenceError: if the loss becomes NaN or infinite.
            OSError: if ``checkpoint`` cannot be written.
        """
        config = (config or FitConfig()).replace(**overrides)
        swap = SwapSettings(
            p=p,
            max_ratio=max_ratio,
            noise_std=config.noise_std,
            pixel_share=pixel_share,
            max_style_ratio=max_style_ratio,
        )
        model, record = fit_model(
            dataset,
            config,
            unlabeled=unlabeled,
            device=device,
            seed=seed,
            progress=progress,
            callback=callback,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            num_workers=num_workers,
        )
        return cls(model, record, labels_getter=labels_getter, **dataclasses.asdict(swap))

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

    def make_params(self, labels: Tensor, *, anchors: Tensor | None = None) -> SwapParams:
        """Draw the random parameters of images with ``labels``, ``(k,)``, that are swapped.

        All but ``is_averaged`` are on the labels' device.

        Args:
            labels: ``(k,)`` integers.
            anchors: ``(k,)`` codes to start from; −1, or None for all, for a random one of the class.
        """
        return draw_params(self.model_on(labels.device), labels, self.swap_settings, anchors=anchors)

    def transform(self, params: SwapParams) -> Tensor:
        """The synthetic images of ``params``, float32 ``(k, channels, height, width)`` in ``[0, 1]``."""
        return make_images(self.model_on(params.anchors.device), params, self.interpolation)

    def _swap_one(self, image: Any, label: Any) -> Any:
        convert.check_image(image)
        labels = torch.tensor([read_label(label)])
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
        swapped = replace_images(images.as_subclass(Tensor), rows, synthetic, params.is_known)
        return tv_tensors.wrap(swapped, like=images) if isinstance(images, tv_tensors.TVTensor) else swapped

    def find_known(self, labels: Tensor) -> Tensor:
        """Which of ``labels``, ``(k,)``, were fitted, ``(k,)`` bool; warns, once, if one was not."""
        _, is_known = self.model_on(labels.device).codes.index_of(labels)
        if not self._has_warned_unknown.item() and not bool(is_known.all()):
            self._has_warned_unknown.fill_(True)
            unknown = int(labels[int(is_known.int().argmin())])
            warnings.warn(
                f"label {unknown} was not in the set GLICO was fitted on; images of such labels pass through unchanged",
                UserWarning,
                stacklevel=4,
            )
        return is_known

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
        from glico_augment.swap.dataset import GLICODataset

        return GLICODataset(
            dataset,
            self,
            transform=transform,
            target_transform=target_transform,
            real_transform=real_transform,
            bank=bank,
        )

    def reconstruct(self, indices: Any = None) -> Tensor:
        """The generator's images of fitted images, ``G([z_i, 0])``.

        Args:
            indices: of fitted images, a sequence or tensor ``(k,)``; all if None. Labelled images come first, in
                the order of their dataset, then unlabelled ones.

        Returns:
            ``(k, channels, height, width)`` float32 in ``[0, 1]``.
        """
        chosen = torch.arange(len(self.codes)) if indices is None else self._indices(indices)
        return self.model.interpolate(chosen, chosen, torch.zeros(len(chosen)), None)

    def synthesize(
        self, labels: Any = None, *, n_per_class: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw synthetic images with the settings of the swap.

        Args:
            labels: ``(k,)`` fitted labels, one for each image wanted; or
            n_per_class: how many images of every class.
            generator: CPU source of randomness; torch's global one if None.

        Returns:
            Images ``(k, channels, height, width)`` float32 in ``[0, 1]`` and their labels ``(k,)`` int64.

        Raises:
            ValueError: for a label that was not fitted, or unless exactly one of the two is given.
        """
        if (labels is None) == (n_per_class is None):
            raise ValueError("give either labels or n_per_class")
        if labels is None:
            wanted = self.codes.classes.repeat_interleave(checks.integer(1)("n_per_class", n_per_class))
        else:
            wanted = as_integers("labels", labels)
        _, is_known = self.codes.index_of(wanted)
        if not bool(is_known.all()):
            raise ValueError(f"label {wanted[~is_known][0].item()} was not fitted; fitted: {self._shown_labels()}")
        return self.transform(draw_params(self.model, wanted, self.swap_settings, generator=generator)), wanted

    def interpolate(self, i: int, j: int, steps: int = 8) -> Tensor:
        """Images along the path from the code of image ``i`` to that of image ``j``, ends included, without noise.

        Returns:
            ``(steps, channels, height, width)`` float32 in ``[0, 1]``.
        """
        if steps < 2:
            raise ValueError(f"steps must be at least 2, for the two ends; got {steps}")
        ends = self._indices([i, j])
        ratios = torch.linspace(0, 1, steps)
        return self.model.interpolate(ends[0].expand(steps), ends[1].expand(steps), ratios, None, self.interpolation)

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, atomically.

        Raises:
            OSError: if it cannot be written; an older file of that name is left as it was.
        """
        save_model(path, self.model, self.record, self.swap_settings)

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
            FileFormatError: if it is truncated, not such a file, or of another format version.
        """
        chosen_device = choose_device(device)
        model, record, swap = load_model(path)
        augment = cls(model, record, labels_getter=labels_getter, **dataclasses.asdict(swap))
        augment.model_on(chosen_device)
        return augment

    def model_on(self, device: torch.device | str) -> GLICOModel:
        """The model on ``device``, copied there the first time."""
        device = torch.device(device)
        if device.index is None and device.type != "cpu":
            device = torch.empty(0, device=device).device  # "cuda" is the current one, "cuda:0" say
        if device not in self._models:
            self._models[device] = copy.deepcopy(self.model).to(device)
        return self._models[device]

    def __getstate__(self) -> dict[str, Any]:
        # A pickle goes to worker processes and other machines, where another device may not exist.
        return {**self.__dict__, "_models": {_CPU: self.model}, "_has_checked_values": False}

    @property
    def model(self) -> GLICOModel:
        """Codes, generator and classifier, on the CPU."""
        return self._models[_CPU]

    @property
    def codes(self) -> SphereCodes:
        """The codes and labels of the fitted images."""
        return self.model.codes

    @property
    def generator(self) -> Generator:
        """The generator ``G``."""
        return self.model.generator

    @property
    def classifier(self) -> Classifier:
        """The joint classifier ``F``; its logits follow :attr:`SphereCodes.classes`."""
        return self.model.classifier

    @property
    def config(self) -> FitConfig:
        """The hyper-parameters of the fit."""
        return self.record.config

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in ascending order of their labels."""
        return self.record.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of the generator's images."""
        return self.generator.image_shape

    @property
    def history(self) -> dict[str, list[float]]:
        """The loss and its parts before weighting, a value a step."""
        return self.record.history

    def __repr__(self) -> str:
        channels, height, width = self.image_shape
        return (
            f"{type(self).__name__}(p={self.p:g}, max_ratio={self.max_ratio:g}, interpolation={self.interpolation!r}, "
            f"images={self.codes.n_labeled}, classes={len(self.classes)}, size={channels}×{height}×{width}, "
            f"latent_dim={self.codes.latent_dim})"
        )

    def _indices(self, indices: Any) -> Tensor:
        chosen = as_integers("indices", indices)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(self.codes):
            raise IndexError(f"indices must lie in [0, {len(self.codes)}); got {chosen.tolist()}")
        return chosen

    def _shown_labels(self) -> str:
        labels = self.codes.classes.tolist()
        return ", ".join(map(str, labels[:10])) + (", …" if len(labels) > 10 else "")


_CPU = torch.device("cpu")
