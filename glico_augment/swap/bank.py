"""Synthetic images made ahead of their use, in memory that the workers of a DataLoader share."""

from __future__ import annotations

import torch
from torch import Tensor

from glico_augment import checks
from glico_augment.devices import choose_device
from glico_augment.images.values import from_unit
from glico_augment.synthesis.carry import Swapped
from glico_augment.synthesis.synthesizer import Synthesizer

_PIXELS_PER_CHUNK = 2**21  # moved to shared memory at a time; as floats with their styles some 150 MB


class SyntheticBank:
    """Synthetic images of every fitted image, made in large batches on the best device at hand.

    Give it to :meth:`GLICOAugment.wrap`: a worker process, forked or spawned, then takes a finished image where it
    would have run the generator on its core. Call :meth:`refresh` between epochs to replace those that were taken.

    An image is drawn by the law of the swap, independently of all others, when it is made; settings of the swap
    changed later count from the next refresh. The images that start from one fitted image are taken in turn. Only
    once all ``per_image`` of them are used up without a refresh do they come again, in the same order; two workers
    that reach for them at the same moment may take the same one.

    Args:
        augment: the fitted augmentation.
        per_image: images to hold for each fitted image, at least 1. With a refresh an epoch 2 are enough; without,
            an image repeats after ``per_image / p`` epochs on average.
        device: where to make them; None picks CUDA, MPS or the CPU.

    Raises:
        OSError: if there is not enough shared memory; containers often allow little of it.

    Example::

        bank = SyntheticBank(augment)
        loader = DataLoader(augment.wrap(train, transform=transform, bank=bank), num_workers=2)
        for epoch in range(100):
            for images, labels in loader:
                ...
            bank.refresh()
    """

    def __init__(self, augment: Synthesizer, *, per_image: int = 4, device: torch.device | str | None = None) -> None:
        per_image = checks.integer(1)("per_image", per_image)
        if not isinstance(augment, Synthesizer):
            raise TypeError(f"a bank is made of a fitted augmentation, SyntheticBank(augment); got {augment!r}")
        self.augment = augment
        self.is_carried = augment.carry
        self.device = choose_device(device)
        channels, height, width = augment.generator.image_shape
        shape = (augment.codes.n_labeled, per_image, height, width, channels)  # in memory as PIL has them
        try:
            self._reserve(shape)
        except RuntimeError as error:
            size = torch.Size(shape).numel() / 2**20
            raise OSError(f"a bank of {size:.0f} MiB does not fit into shared memory; lower per_image") from error
        self._make(*torch.ones(shape[:2], dtype=torch.bool, device="cpu").nonzero(as_tuple=True))

    @torch.inference_mode(False)  # tensors made in it could not be changed outside of it
    def _reserve(self, shape: tuple[int, ...]) -> None:
        def shared(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device="cpu").share_memory_()

        self._made = shared(*shape, dtype=torch.uint8)
        self._ratios = shared(*shape[:2], 1, *self.augment.generator.sizes[0], dtype=torch.float16)
        self._partners = shared(*shape[:2], dtype=torch.int64)
        self._n_taken = shared(shape[0], dtype=torch.int64)

    @property
    def images(self) -> Tensor:
        """``(m, per_image, channels, height, width)`` uint8, at the size of the fit."""
        return self._made.permute(0, 1, 4, 2, 3).clone()

    @property
    def per_image(self) -> int:
        """Images held for each fitted image."""
        return self._made.shape[1]

    @property
    def n_taken(self) -> Tensor:
        """How many images were taken since the last refresh, ``(m,)`` int64, over all workers."""
        return self._n_taken.clone()

    def take(self, anchors: Tensor) -> Swapped:
        """The next of each fitted image in ``anchors``, ``(k,)``, copied: uint8, at the size of the fit."""
        n_taken = self._n_taken.numpy()
        slots = []
        for anchor in anchors.tolist():
            slots.append(int(n_taken[anchor]) % self.per_image)
            n_taken[anchor] += 1
        place = (anchors, torch.tensor(slots, dtype=torch.int64, device="cpu"))
        return Swapped(
            self._made[place].permute(0, 3, 1, 2), anchors, self._partners[place], self._ratios[place].float()
        )

    def refresh(self) -> None:
        """Make new images in place of those taken. Call it while no worker reads: between epochs.

        Raises:
            ValueError: if ``augment.carry`` has changed since the bank was made, which holds something else then.
        """
        if self.augment.carry != self.is_carried:
            raise ValueError(f"the bank was made with carry={self.is_carried}: make a new one of this augmentation")
        n_used = self._n_taken.clamp(max=self.per_image)
        anchors, slots = (torch.arange(self.per_image, device="cpu") < n_used[:, None]).nonzero(as_tuple=True)
        self._make(anchors, slots)
        self._n_taken.zero_()

    def _make(self, anchors: Tensor, slots: Tensor) -> None:
        augment = self.augment
        labels = augment.codes.labels[anchors]
        _, height, width = augment.generator.image_shape
        for rows in torch.arange(len(anchors), device="cpu").split(max(1, _PIXELS_PER_CHUNK // (height * width))):
            place = (anchors[rows], slots[rows])
            params = augment.make_params(labels[rows].to(self.device), anchors=anchors[rows].to(self.device))
            images, _, partners, ratios = augment.make_swapped(params)
            self._made[place] = from_unit(images, torch.uint8).cpu().permute(0, 2, 3, 1)
            self._partners[place], self._ratios[place] = partners.cpu(), ratios.cpu().half()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._made)} × {self.per_image} images)"
