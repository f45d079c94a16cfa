"""One learnable code on the unit sphere per training image, and same-class sampling among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from glico_augment.errors import FileFormatError
from glico_augment.files.format import read_file
from glico_augment.model import sphere


class SphereCodes(nn.Module):
    """The codes ``z_i`` of a training set, with the labels that say which of them may be mixed.

    The first ``len(labels)`` codes belong to labelled images. Further codes belong to unlabelled images (the
    transductive mode), which are never an anchor or a partner.

    Args:
        codes: ``(n, latent_dim)`` floating point, ``latent_dim`` at least 2; projected onto the sphere unless of length
            1 within rounding.
        labels: ``(m,)`` integers, ``1 <= m <= n``, in any range, not necessarily contiguous.

    Attributes:
        codes: ``(n, latent_dim)`` learnable unit vectors.
        labels: ``(m,)`` int64, as given.
        classes: ``(n_classes,)`` int64, the distinct labels in ascending order.
        class_indices: ``(m,)`` int64, the position of each label in ``classes``.

    Raises:
        TypeError: if the labels are not integers or the codes not floating point.
        ValueError: if the shapes are not as above.
    """

    codes: nn.Parameter
    labels: Tensor
    classes: Tensor
    class_indices: Tensor
    _members: Tensor
    _first_member: Tensor
    _class_size: Tensor
    _rank: Tensor

    def __init__(self, codes: Tensor, labels: Tensor) -> None:
        super().__init__()
        _check(codes, labels)
        codes = codes.detach()
        is_unit = (codes.norm(dim=1, keepdim=True) - 1).abs() < 1e-5
        self.codes = nn.Parameter(torch.where(is_unit, codes, sphere.normalize(codes)))
        labels = labels.detach().to(device=codes.device, dtype=torch.int64)
        classes, class_indices, class_size = torch.unique(labels, return_inverse=True, return_counts=True)
        # `_members` has the images sorted by class, so that a draw within a class is one offset.
        members = torch.argsort(class_indices, stable=True)
        first_member = class_size.cumsum(0) - class_size
        rank = torch.empty_like(members)
        rank[members] = torch.arange(len(labels), device=labels.device) - first_member[class_indices[members]]
        self.register_buffer("labels", labels)
        derived = {"classes": classes, "class_indices": class_indices, "_members": members}
        derived |= {"_first_member": first_member, "_class_size": class_size, "_rank": rank}
        for name, value in derived.items():  # not part of a state, where they could contradict the labels
            self.register_buffer(name, value, persistent=False)

    @classmethod
    def random(
        cls, labels: Tensor, latent_dim: int, *, n_unlabeled: int = 0, generator: torch.Generator | None = None
    ) -> SphereCodes:
        """Codes drawn uniformly from the sphere, the start of a fit.

        Args:
            labels: ``(m,)`` integers.
            latent_dim: dimension of the sphere's space, at least 2.
            n_unlabeled: how many codes to add for unlabelled images.
            generator: CPU generator to draw from; torch's global one if None.
        """
        return cls(sphere.sample_uniform(len(labels) + n_unlabeled, latent_dim, generator=generator), labels)

    @classmethod
    def load(cls, path: str | Path, *, device: torch.device | str = "cpu") -> SphereCodes:
        """Read only the codes and labels of a file of :meth:`GLICOAugment.save`; the whole file is verified.

        Raises:
            FileNotFoundError: if there is no such file.
            FileFormatError: if the file is not a whole glico-augment file of this format version.
        """
        tensors, _ = read_file(path, names=("codes", "labels"))
        try:
            return cls.read(tensors).to(device)
        except ValueError as error:
            raise FileFormatError(f"{path} is damaged: {error}") from error

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> SphereCodes:
        """The ``codes`` and ``labels`` of a file, on the CPU.

        Raises:
            KeyError: if one of them is missing.
            ValueError: if they are not what a fit leaves there.
        """
        stored, labels = tensors["codes"], tensors["labels"]
        if stored.dtype != torch.float32 or labels.dtype != torch.int64:
            raise ValueError(f"its codes must be float32 and its labels int64; got {stored.dtype} and {labels.dtype}")
        with torch.inference_mode(False):
            codes = cls(stored, labels)
        if not torch.equal(codes.codes, stored):
            raise ValueError("its codes are not on the unit sphere")
        return codes

    def __len__(self) -> int:
        return self.codes.shape[0]

    @property
    def latent_dim(self) -> int:
        """Dimension of the sphere's space."""
        return self.codes.shape[1]

    @property
    def n_labeled(self) -> int:
        """How many of the codes belong to labelled images, which come first."""
        return self.labels.shape[0]

    def forward(self, indices: Tensor) -> Tensor:
        """The codes of the images ``indices``, ``(k,)`` to ``(k, latent_dim)``."""
        return self.codes[indices]

    @torch.no_grad()
    def project_(self, indices: Tensor | None = None) -> None:
        """Project the codes ``indices``, ``(k,)``, or all if None, onto the unit sphere, in place."""
        if indices is None:
            self.codes.copy_(sphere.normalize(self.codes))
        else:
            self.codes[indices] = sphere.normalize(self.codes[indices])

    def index_of(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Look labels up among the fitted ones.

        Args:
            labels: ``(k,)`` integers.

        Returns:
            The position of each label in :attr:`classes`, ``(k,)`` int64, 0 for a label that was not fitted, and
            whether it was, ``(k,)`` bool.
        """
        labels = labels.to(torch.int64).contiguous()
        position = torch.searchsorted(self.classes, labels).clamp_(max=len(self.classes) - 1)
        is_known = self.classes[position] == labels
        return torch.where(is_known, position, 0), is_known

    def sample_anchors(self, class_positions: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw one image per class at ``class_positions`` in :attr:`classes`, ``(k,)``: image indices, ``(k,)``."""
        drawn = _draw_below(self._class_size[class_positions], generator)
        return self._members[self._first_member[class_positions] + drawn]

    def sample_partners(self, anchors: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw for each image another one of its class, uniformly; itself if it is the only one.

        Args:
            anchors: ``(k,)`` indices of labelled images.
            generator: source of randomness on the codes' device; torch's global one if None.

        Returns:
            ``(k,)`` int64 image indices.
        """
        class_positions = self.class_indices[anchors]
        size, own_rank = self._class_size[class_positions], self._rank[anchors]
        drawn = _draw_below(size - 1, generator)
        is_alone = size == 1
        rank = torch.where(is_alone, own_rank, drawn + (drawn >= own_rank))
        return self._members[self._first_member[class_positions] + rank]

    def sample_others(self, anchors: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw for each image one of another class, uniformly over all such images.

        Args:
            anchors: ``(k,)`` indices of labelled images.
            generator: source of randomness on the codes' device; torch's global one if None.

        Returns:
            ``(k,)`` int64 image indices.

        Raises:
            ValueError: if there is only one class.
        """
        if len(self.classes) < 2:
            raise ValueError("there is one class only, and no image of another to draw")
        class_positions = self.class_indices[anchors]
        first, size = self._first_member[class_positions], self._class_size[class_positions]
        drawn = _draw_below(self.n_labeled - size, generator)
        return self._members[drawn + size * (drawn >= first)]

    def extra_repr(self) -> str:  # noqa: D102 — torch documents it
        unlabeled = len(self) - self.n_labeled
        extra = f", unlabeled={unlabeled}" if unlabeled else ""
        return f"n={len(self)}, classes={len(self.classes)}, latent_dim={self.latent_dim}{extra}"


def _draw_below(sizes: Tensor, generator: torch.Generator | None) -> Tensor:
    """A uniform integer in ``[0, size)`` for each of ``sizes``, int64; 0 where the size is 0."""
    # MPS has no float64; float32 is exact for sizes of up to 2**24.
    uniform = torch.rand(sizes.shape, dtype=torch.float32, device=sizes.device, generator=generator)
    return torch.minimum((uniform * sizes).long(), (sizes - 1).clamp_(min=0))


def _check(codes: Tensor, labels: Tensor) -> None:
    if not isinstance(codes, Tensor) or not isinstance(labels, Tensor):
        raise TypeError(f"codes and labels must be tensors, got {type(codes).__name__} and {type(labels).__name__}")
    if not codes.is_floating_point():
        raise TypeError(f"codes must be floating point, got {codes.dtype}")
    if codes.ndim != 2 or codes.shape[1] < 2:
        raise ValueError(f"codes must have shape (n, latent_dim) with latent_dim >= 2, got {tuple(codes.shape)}")
    if not bool(codes.isfinite().all()):
        raise ValueError("codes must be finite, got NaN or infinite entries")
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if labels.ndim != 1 or not 1 <= len(labels) <= len(codes):
        raise ValueError(f"labels must have shape (m,) with 1 <= m <= {len(codes)} codes, got {tuple(labels.shape)}")
