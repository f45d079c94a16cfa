"""Few-shot tasks of synthetic images, for training networks that learn from few examples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from glico_augment import checks
from glico_augment.config import SAMPLERS
from glico_augment.devices import choose_device
from glico_augment.fit.start import stream
from glico_augment.images.values import from_unit
from glico_augment.model.sphere import geodesic_distance
from glico_augment.synthesis.draw import SwapParams, draw_params
from glico_augment.synthesis.synthesizer import Synthesizer

_TASKS_AT_ONCE = 16
_MAX_TRIES = 50  # draws of anchors


class Task(NamedTuple):
    """One task in the form of EasyFSL, images ordered by class.

    Attributes:
        support_images: ``(n_way · n_shot, …)``, to learn from.
        support_labels: ``(n_way · n_shot,)`` int64 in ``[0, n_way)``.
        query_images: ``(n_way · n_query, …)``, to be tested on.
        query_labels: ``(n_way · n_query,)`` int64.
        class_ids: the index of the fitted image that is the anchor of each class of the task.
    """

    support_images: Tensor
    support_labels: Tensor
    query_images: Tensor
    query_labels: Tensor
    class_ids: list[int]


class SyntheticTasks(IterableDataset[Task]):
    """Few-shot tasks, each of whose classes lies about the code of a fitted image: its anchor.

    The tasks of LASIUM, `Unsupervised Meta-Learning through Latent-Space Interpolation in Generative Models
    <https://arxiv.org/abs/2006.10236>`_ (Khodadadeh et al., ICLR 2021), on the sphere of a fit: the anchors are
    ``n_way`` codes at least ``min_angle`` apart, and all images of a class of the task are drawn about its anchor. No
    label is needed. Give it to a ``DataLoader`` with ``batch_size=None``; its workers share the tasks.

    Args:
        augment: the fitted augmentation, with labels or without. Its ``max_ratio``, ``sampler_std``,
            ``interpolation`` and ``noise_std`` count when a task is made.
        n_way: classes per task, at least 2.
        n_shot: images per class to learn from, at least 1.
        n_query: images per class to be tested on, at least 1.
        sampler: see :class:`SwapConfig`. ``"noise"``, ``"random-out"`` and ``"other-class"``, which goes towards
            another anchor of the task, are those of LASIUM; ``"same-class"`` takes anchors of different classes.
        n_tasks: tasks per pass, at least 1; None for an endless pass.
        min_angle: ``ε``, the smallest angle between two anchors, and from an anchor to a random point of
            ``"random-out"``, in radians in ``[0, π)``.
        transform: of one image, a uint8 tensor ``(channels, height, width)``; None for none.
        seed: for the same tasks in every pass; None draws others in each, from torch's global generator.
        device: where images are made; they are returned on the CPU. Workers can only use the CPU.

    Raises:
        TypeError, ValueError: for a wrong setting, a fit that has not learned its images, and where no ``n_way``
            anchors are found.

    Example::

        tasks = SyntheticTasks(augment, n_way=5, n_shot=1, n_query=15, transform=v2.ToDtype(torch.float32, scale=True))
        for support_images, support_labels, query_images, query_labels, _ in DataLoader(tasks, batch_size=None):
            ...
    """

    def __init__(
        self,
        augment: Synthesizer,
        n_way: int = 5,
        n_shot: int = 1,
        n_query: int = 15,
        *,
        sampler: str = "noise",
        n_tasks: int | None = None,
        min_angle: float = 1.0,
        transform: Callable[[Tensor], Any] | None = None,
        seed: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(augment, Synthesizer):
            raise TypeError(f"tasks are made of a fitted augmentation, SyntheticTasks(augment); got {augment!r}")
        if augment.quality.is_poor:
            raise ValueError(
                f"the generator has not learned its images, R² is {augment.quality.r2:.2f}: what it draws about two "
                "codes looks alike. Fit longer or at a lower rate"
            )
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be a function of an image, or None; got {transform!r}")
        self.augment = augment
        self.n_way = checks.integer(2)("n_way", n_way)
        self.n_shot, self.n_query = checks.integer(1)("n_shot", n_shot), checks.integer(1)("n_query", n_query)
        self.sampler = checks.choice(SAMPLERS)("sampler", sampler)
        self.n_tasks = checks.optional(checks.integer(1, ", or None"))("n_tasks", n_tasks)
        self.min_angle = augment.swap.replace(min_angle=min_angle).min_angle
        self.transform = transform
        self.seed = checks.optional(checks.integer(0, ", or None"))("seed", seed)
        self.device = choose_device(device)
        if self.sampler == "same-class":
            augment.check_sampler(self.sampler)
        self._is_apart = self._find_apart()
        self._worker_passes = 0
        self._draw_anchors(1, stream(0, "room"))  # refuses a setting that leaves no anchors

    def __len__(self) -> int:
        if self.n_tasks is None:
            raise TypeError("the tasks are endless and have no length: give n_tasks")
        return self.n_tasks

    def __iter__(self) -> Iterator[Task]:
        worker = get_worker_info()
        if worker is None:
            seed = int(torch.empty((), dtype=torch.int64, device="cpu").random_()) if self.seed is None else self.seed
            return self._tasks(seed, 0, 1)
        self._worker_passes += 1
        # All workers of a pass have the seed `worker.seed - worker.id`, and persistent ones have it in every pass.
        seed = worker.seed - worker.id + self._worker_passes if self.seed is None else self.seed
        return self._tasks(seed, worker.id, worker.num_workers)

    def _tasks(self, seed: int, first: int, step: int) -> Iterator[Task]:
        """The tasks of every ``step``-th chunk; what is drawn depends on the number of a chunk, not on its worker."""
        for chunk in itertools.count(first, step):
            start = chunk * _TASKS_AT_ONCE
            count = _TASKS_AT_ONCE if self.n_tasks is None else min(_TASKS_AT_ONCE, self.n_tasks - start)
            if count <= 0:
                return
            yield from self._make(count, stream(seed, f"tasks {chunk}"), stream(seed, f"images {chunk}", self.device))

    def _make(self, count: int, anchor_rng: torch.Generator, image_rng: torch.Generator) -> Iterator[Task]:
        """``count`` tasks, whose images are made in one batch."""
        anchors = self._draw_anchors(count, anchor_rng)
        each = self.n_shot + self.n_query
        chosen = anchors.repeat_interleave(each, dim=1).flatten().to(self.device)
        images = from_unit(self.augment.transform(self._draw(chosen, image_rng), carry=False), torch.uint8).cpu()
        images = images.unflatten(0, (count, self.n_way, each))
        labels = torch.arange(self.n_way, device="cpu")
        for task, ids in zip(images, anchors.tolist(), strict=True):
            support, query = task[:, : self.n_shot].flatten(0, 1), task[:, self.n_shot :].flatten(0, 1)
            support_labels, query_labels = (labels.repeat_interleave(count) for count in (self.n_shot, self.n_query))
            yield Task(self._transformed(support), support_labels, self._transformed(query), query_labels, ids)

    def _draw(self, anchors: Tensor, generator: torch.Generator) -> SwapParams:
        """The parameters of images about ``anchors``, sorted by task and class."""
        augment, model = self.augment, self.augment.model_on(self.device)
        # As in LASIUM: one ratio per image, and images of the generator alone.
        swap = augment.swap.replace(sampler=self.sampler, min_angle=self.min_angle, cells=1)
        if self.sampler != "other-class":
            labels = model.codes.labels[anchors]
            return draw_params(model, labels, swap, augment.noise_std, anchors=anchors, generator=generator)
        by_task = anchors.view(-1, self.n_way, self.n_shot + self.n_query)
        shift = torch.randint(1, self.n_way, by_task.shape, device=self.device, generator=generator)
        own = torch.arange(self.n_way, device=self.device).view(1, -1, 1)
        partners = by_task.gather(1, (own + shift) % self.n_way).flatten()
        ratios = swap.largest_ratio * torch.rand(len(anchors), device=self.device, generator=generator)
        noise = model.noise(len(anchors), augment.noise_std, generator=generator)
        return SwapParams(torch.ones_like(anchors, dtype=torch.bool), anchors, partners, ratios, noise)

    def _transformed(self, images: Tensor) -> Tensor:
        if self.transform is None:
            return images.clone()
        return torch.stack([torch.as_tensor(self.transform(image)) for image in images])

    def _find_apart(self) -> Tensor:
        """Which two fitted images may be anchors of one task, ``(m, m)`` bool."""
        codes = self.augment.codes
        points = codes.codes.detach()[: codes.n_labeled]
        rows = [geodesic_distance(point, points) >= self.min_angle for point in points]
        is_apart = torch.stack(rows) & ~torch.eye(len(points), dtype=torch.bool, device="cpu")
        if self.sampler == "same-class":
            is_apart &= codes.labels[:, None] != codes.labels
        return is_apart

    def _draw_anchors(self, count: int, generator: torch.Generator) -> Tensor:
        """``(count, n_way)`` indices of fitted images, those of a row at least ``min_angle`` apart.

        Raises:
            ValueError: if none are found.
        """
        found: list[Tensor] = []
        max_found = 0
        for _ in range(_MAX_TRIES):
            is_free = torch.ones(count, len(self._is_apart), dtype=torch.bool, device="cpu")
            picked = []
            for _ in range(self.n_way):
                # A row with no free image left is dropped below, whatever it picks.
                weights = is_free.float() + (~is_free.any(dim=1, keepdim=True)).float()
                picked.append(torch.multinomial(weights, 1, generator=generator)[:, 0])
                max_found = max(max_found, len(picked) if bool(is_free.any()) else 0)
                is_whole = is_free.gather(1, picked[-1][:, None])[:, 0]
                is_free &= self._is_apart[picked[-1]] & is_whole[:, None]
            found += torch.stack(picked, dim=1)[is_whole].unbind()
            if len(found) >= count:
                return torch.stack(found[:count])
        classes = " and of different classes" if self.sampler == "same-class" else ""
        raise ValueError(
            f"a task of {self.n_way} classes needs as many codes at least {self.min_angle:g} apart{classes}, and among "
            f"the {len(self._is_apart)} fitted ones no more than {max_found} were found: lower n_way or min_angle"
        )

    def __repr__(self) -> str:
        count = "endless" if self.n_tasks is None else f"n_tasks={self.n_tasks}"
        return (
            f"{type(self).__name__}(n_way={self.n_way}, n_shot={self.n_shot}, n_query={self.n_query}, "
            f"sampler={self.sampler!r}, {count})"
        )
