"""The optimisation: codes, generator and classifier against reconstruction and cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from glico_augment.config import FitConfig
from glico_augment.data.image_set import ImageSet
from glico_augment.devices import to_device
from glico_augment.errors import DivergenceError
from glico_augment.fit.ranks import Ranks
from glico_augment.fit.targets import Targets
from glico_augment.losses import build_loss
from glico_augment.model.model import GLICOModel

LOSS_PARTS = ("loss", "reconstruction", "classification")
_STEP_EPOCHS = 70  # of the "step" schedule
_FINITE_CHECK_EVERY = 20  # steps on an accelerator, where looking at a value waits for the device


@dataclass(frozen=True)
class FitProgress:
    """What a callback sees after an optimiser step.

    Attributes:
        step: steps made.
        total_steps: steps of the whole fit.
        model: the model as it is; do not change it. In a distributed fit only the codes of this process's images are
            up to date.
    """

    step: int
    total_steps: int
    model: GLICOModel
    _row: Tensor

    @property
    def losses(self) -> dict[str, float]:
        """The step's ``loss`` and its parts before weighting. Reading them waits for the device."""
        return dict(zip(LOSS_PARTS, self._row.tolist(), strict=True))


Callback = Callable[[FitProgress], Any]
"""Called after every step; a true return value ends the fit there."""


class Fit:
    """One run of the optimisation, which can be stopped after any step and restored.

    ``min over θ_G, {z_i}, θ_F of L_recon + γ·L_CE, subject to ‖z_i‖ = 1`` (Azuri & Weinshall 2020), with one
    generator pass a step for both losses and the constraint kept by projection after each. A step touches only the
    codes of its batch, with Adam's moments of those alone, so its cost does not grow with the set.

    In a process group all processes draw the same batches, and each computes the part of a batch that it owns.

    Args:
        image_set: images, labelled ones first.
        config: the hyper-parameters.
        device: where to compute.
        seed: of the initial weights and codes, the order of the images and the noise.
    """

    def __init__(self, image_set: ImageSet, config: FitConfig, *, device: torch.device, seed: int) -> None:
        self.config = config
        self.device = device
        self.ranks = Ranks()
        self.n_images = len(image_set)
        self.batch_size = config.batch_size_for(self.n_images)
        self.total_steps = config.total_steps(self.n_images)
        self.steps_done = 0
        self.is_stopped = False
        self._finite_steps = 0
        self._order_rng = torch.Generator().manual_seed(seed)
        self._noise_rng = torch.Generator(device).manual_seed(seed)
        n_labeled = len(image_set.labels)
        self.model = GLICOModel.initialize(
            image_set.labels, self.n_images - n_labeled, config, image_set.image_shape, self._order_rng
        ).to(device)
        loss = build_loss(config, image_set.image_shape).to(device)
        with self._autocast():
            self.targets = Targets(image_set.images.to(device), loss)
        # Unlabelled images enter the reconstruction only (the transductive mode).
        n_unlabeled = self.n_images - n_labeled
        class_indices = self.model.codes.class_indices.cpu()
        self._class_targets = F.pad(class_indices, (0, n_unlabeled), value=_NO_CLASS).to(device)
        self._n_labeled = n_labeled
        self.history = torch.zeros(self.total_steps, len(LOSS_PARTS), device=device, dtype=torch.float32)
        self.networks = _Networks(self.model, has_classifier=config.classifier_weight > 0)
        self._forward = self.networks if self.ranks.count == 1 else DistributedDataParallel(self.networks)
        betas = (config.adam_beta1, 0.999)
        self._is_sparse = device.type != "mps"  # which has no sparse gradients
        code_adam = torch.optim.SparseAdam if self._is_sparse else torch.optim.Adam
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "codes": code_adam([self.model.codes.codes], lr=config.code_lr, betas=betas),
            "networks": torch.optim.Adam(self.networks.parameters(), lr=config.lr, betas=betas, fused=True),
        }
        self._order = torch.empty(0, dtype=torch.int64)

    def run(self, callbacks: Iterable[Callback] = ()) -> None:
        """Make the remaining steps, calling every callback after each.

        Raises:
            DivergenceError: if the loss becomes NaN or infinite.
        """
        callbacks = list(callbacks)
        check_every = 1 if self.device.type == "cpu" else _FINITE_CHECK_EVERY
        while self.steps_done < self.total_steps and not self.is_stopped:
            self.step()
            if self.steps_done % check_every == 0 or self.steps_done == self.total_steps:
                self.check_finite()
            progress = FitProgress(
                self.steps_done, self.total_steps, self.model, self.history[self.steps_done - 1].detach()
            )
            answers = [callback(progress) for callback in callbacks]
            self.is_stopped = self.ranks.any(any(answers), self.device)
        self.check_finite()
        self._share_codes()
        self._check_images()

    def step(self) -> None:
        """One optimiser step on the next batch."""
        batch = self._next_batch()
        noise = self.model.noise(len(batch), self.config.noise_std, generator=self._noise_rng)
        n_classified = int((batch < self._n_labeled).sum())
        share = 1.0
        if self.ranks.count > 1:
            rows = self.ranks.own(batch).nonzero().flatten()
            share = len(rows) / len(batch)
            if share == 0:
                rows = torch.zeros(1, dtype=torch.int64)  # gradients, of weight 0, which the others wait for
            batch, noise = batch[rows], None if noise is None else noise[to_device(rows, self.device)]
        indices = to_device(batch, self.device)
        with self._autocast():
            codes = F.embedding(indices, self.model.codes.codes, sparse=self._is_sparse)
            outputs, logits = self._forward(codes, noise)
            reconstruction = share * self._reconstruction_loss(outputs, indices)
            classification = self._classification_loss(logits, indices, n_classified)
            classification = classification if share else 0 * classification
        loss = reconstruction + self.config.classifier_weight * classification
        self._update(loss, indices)

        row = torch.stack([loss, reconstruction, classification]).detach()
        self.history[self.steps_done] = self.ranks.sum_(row)
        self.steps_done += 1

    def _reconstruction_loss(self, outputs: Tensor, indices: Tensor) -> Tensor:
        loss = self.targets.compare(outputs, indices)
        if self.config.pixel_weight:
            loss = loss + self.config.pixel_weight * F.l1_loss(outputs, self.targets.unit(indices))
        return loss

    def _classification_loss(self, logits: Tensor | None, indices: Tensor, n_classified: int) -> Tensor:
        """The cross-entropy of the labelled images among ``indices``, over the number of them in all processes."""
        if logits is None:
            return torch.zeros((), device=self.device)
        total = F.cross_entropy(logits.float(), self._class_targets[indices], ignore_index=_NO_CLASS, reduction="sum")
        return total / max(1, n_classified)

    def _update(self, loss: Tensor, indices: Tensor) -> None:
        codes = self.model.codes
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        (self.ranks.count * loss).backward()  # DistributedDataParallel takes the mean over processes
        if self.ranks.count > 1 and codes.codes.grad is not None:
            codes.codes.grad = codes.codes.grad / self.ranks.count
        self._set_learning_rates()
        for optimizer in self.optimizers.values():
            optimizer.step()
        codes.project_(indices if self._is_sparse else None)

    def check_finite(self) -> None:
        """Raise DivergenceError if a loss since the start is NaN or infinite, naming the first such step."""
        is_finite = self.history[self._finite_steps : self.steps_done].isfinite().all(dim=1)
        if bool(is_finite.all()):
            self._finite_steps = self.steps_done
            return
        step = self._finite_steps + int(is_finite.int().argmin())
        row = dict(zip(LOSS_PARTS, self.history[step].tolist(), strict=True))
        raise self._divergence(step + 1, ", ".join(f"{name} {value:g}" for name, value in row.items()))

    def _check_images(self) -> None:
        """Raise DivergenceError if the last step broke the generator, which no loss has seen yet."""
        first = torch.zeros(1, dtype=torch.int64, device=self.device)
        if not self.model.interpolate(first, first, torch.zeros(1, device=self.device), None).isfinite().all():
            raise self._divergence(self.steps_done, "the generator makes NaN")

    def _divergence(self, step: int, shown: str) -> DivergenceError:
        return DivergenceError(
            f"the fit diverged at step {step} of {self.total_steps} ({shown}). Lower lr (now {self.config.lr:g}) "
            f"and code_lr (now {self.config.code_lr:g}), or set precision='float32'"
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """All that the remaining steps depend on, as tensors and numbers."""
        self._share_codes()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"adam.{name}.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
        tensors["history"] = self.history[: self.steps_done]
        tensors["order"] = self._order
        tensors["order_rng"] = self._order_rng.get_state()
        tensors["noise_rng"] = self._noise_rng.get_state()
        return tensors, {"steps_done": self.steps_done, "is_stopped": self.is_stopped}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        """Continue from a :meth:`state` of a fit of the same images, config and seed.

        Raises:
            KeyError, RuntimeError, ValueError: if it is of another fit.
        """
        self.model.load_state_dict(_under("model.", tensors))
        for name, optimizer in self.optimizers.items():
            state = optimizer.state_dict()
            parameters = dict(enumerate(optimizer.param_groups[0]["params"]))
            state["state"] = {
                index: {key: _as_state(value, parameter) for key, value in kept.items()}
                for index, parameter in parameters.items()
                if (kept := _under(f"adam.{name}.{index}.", tensors))
            }
            optimizer.load_state_dict(state)
        self.steps_done = numbers["steps_done"]
        self.is_stopped = bool(numbers["is_stopped"])
        self.history[: self.steps_done] = tensors["history"].to(self.device)
        self._order = tensors["order"]
        self._order_rng.set_state(tensors["order_rng"])
        self._noise_rng.set_state(tensors["noise_rng"])

    def _share_codes(self) -> None:
        """Bring every process up to date with the codes that the others own, and with their moments."""
        state = self.optimizers["codes"].state[self.model.codes.codes]
        rows = [value for value in state.values() if isinstance(value, Tensor) and value.ndim == 2]
        self.ranks.share_rows_([self.model.codes.codes.data, *rows])

    def _next_batch(self) -> Tensor:
        """The next images of an endless run of shuffled passes over the set."""
        while len(self._order) < self.batch_size:
            self._order = torch.cat([self._order, torch.randperm(self.n_images, generator=self._order_rng)])
        batch, self._order = self._order[: self.batch_size], self._order[self.batch_size :].clone()
        return batch

    def _set_learning_rates(self) -> None:
        epochs_done = self.steps_done * self.batch_size / self.n_images
        factor = learning_rate_factor(self.config.schedule, self.steps_done / self.total_steps, epochs_done)
        for name, lr in (("codes", self.config.code_lr), ("networks", self.config.lr)):
            self.optimizers[name].param_groups[0]["lr"] = lr * factor

    def _autocast(self) -> torch.autocast:
        is_half = self.config.precision == "bfloat16" or (
            self.config.precision == "auto"
            and self.device.type == "cuda"
            and torch.cuda.is_bf16_supported(including_emulation=False)
        )
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_half)


class _Networks(nn.Module):
    """Generator and classifier in one forward pass, as the reduction of their gradients needs it."""

    def __init__(self, model: GLICOModel, *, has_classifier: bool) -> None:
        super().__init__()
        self.generator = model.generator
        self.classifier = model.classifier if has_classifier else None

    def forward(self, codes: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        images = self.generator(codes, noise).float()
        return images, None if self.classifier is None else self.classifier(images)


def learning_rate_factor(schedule: str, share_done: float, epochs_done: float) -> float:
    """The factor on the learning rates: ``"cosine"`` to 0, ``"step"`` (halved every 70 epochs) or ``"constant"``.

    Args:
        schedule: the name.
        share_done: steps made over all steps, in ``[0, 1]``.
        epochs_done: passes made over the set.
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share_done))
    if schedule == "step":
        return 0.5 ** (epochs_done // _STEP_EPOCHS)
    return 1.0


_NO_CLASS = -100


def _as_state(value: Tensor, parameter: Tensor) -> Tensor | int:
    """A saved value as an optimiser holds it: moments in the memory format of their parameter, counts as numbers."""
    if value.shape == parameter.shape:
        return torch.empty_like(parameter).copy_(value)
    return value if value.is_floating_point() else int(value)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
