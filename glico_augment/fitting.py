"""The optimisation: codes, generator and classifier against reconstruction and cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glico_augment.config import FitConfig
from glico_augment.errors import DivergenceError
from glico_augment.image_set import ImageSet
from glico_augment.losses import build_loss
from glico_augment.model import GLICOModel
from glico_augment.targets import Targets

LOSS_PARTS = ("loss", "reconstruction", "classification")
_STEP_EPOCHS = 70  # of the "step" schedule
_FINITE_CHECK_EVERY = 20  # steps on an accelerator, where looking at a value waits for the device


@dataclass(frozen=True)
class FitProgress:
    """What a callback sees after an optimiser step.

    Attributes:
        step: steps made.
        total_steps: steps of the whole fit.
        model: the model as it is; do not change it.
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
    generator pass a step for both losses and the constraint kept by projection after each.

    Args:
        image_set: images, labelled ones first.
        config: the hyper-parameters.
        device: where to compute.
        seed: of the initial weights and codes, the order of the images and the noise.
    """

    def __init__(self, image_set: ImageSet, config: FitConfig, *, device: torch.device, seed: int) -> None:
        self.config = config
        self.device = device
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
        self._class_targets = F.pad(self.model.codes.class_indices, (0, self.n_images - n_labeled), value=_NO_CLASS)
        self.history = torch.zeros(self.total_steps, len(LOSS_PARTS), device=device, dtype=torch.float32)
        networks = [*self.model.generator.parameters(), *self.model.classifier.parameters()]
        self.optimizer = torch.optim.Adam(
            [{"params": [self.model.codes.codes], "lr": config.code_lr}, {"params": networks, "lr": config.lr}],
            betas=(config.adam_beta1, 0.999),
        )
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
            self.is_stopped = any(answers)
        self.check_finite()
        self._check_images()

    def step(self) -> None:
        """One optimiser step on the next batch."""
        indices = self._next_batch().to(self.device)
        noise = self.model.noise(len(indices), self.config.noise_std, generator=self._noise_rng)
        with self._autocast():
            outputs = self.model.generator(self.model.codes(indices), noise).float()
            reconstruction = self.targets.compare(outputs, indices)
            if self.config.pixel_weight:
                pixel = F.l1_loss(outputs, self.targets.unit(indices))
                reconstruction = reconstruction + self.config.pixel_weight * pixel
            classification = self._classification_loss(outputs, indices)
        loss = reconstruction + self.config.classifier_weight * classification

        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._set_learning_rates()
        self.optimizer.step()
        self.model.codes.project_()

        self.history[self.steps_done] = torch.stack([loss, reconstruction, classification]).detach()
        self.steps_done += 1

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
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
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
        optimizer_state = self.optimizer.state_dict()
        n_parameters = sum(len(group["params"]) for group in optimizer_state["param_groups"])
        optimizer_state["state"] = {
            index: state for index in range(n_parameters) if (state := _under(f"adam.{index}.", tensors))
        }
        self.optimizer.load_state_dict(optimizer_state)
        self.steps_done = numbers["steps_done"]
        self.is_stopped = bool(numbers["is_stopped"])
        self.history[: self.steps_done] = tensors["history"].to(self.device)
        self._order = tensors["order"]
        self._order_rng.set_state(tensors["order_rng"])
        self._noise_rng.set_state(tensors["noise_rng"])

    def _classification_loss(self, outputs: Tensor, indices: Tensor) -> Tensor:
        if not self.config.classifier_weight:
            return outputs.new_zeros(())
        targets = self._class_targets[indices]
        logits = self.model.classifier(outputs).float()
        total = F.cross_entropy(logits, targets, ignore_index=_NO_CLASS, reduction="sum")
        return total / (targets != _NO_CLASS).sum().clamp(min=1)

    def _next_batch(self) -> Tensor:
        """The next images of an endless run of shuffled passes over the set."""
        while len(self._order) < self.batch_size:
            self._order = torch.cat([self._order, torch.randperm(self.n_images, generator=self._order_rng)])
        batch, self._order = self._order[: self.batch_size], self._order[self.batch_size :].clone()
        return batch

    def _set_learning_rates(self) -> None:
        epochs_done = self.steps_done * self.batch_size / self.n_images
        factor = learning_rate_factor(self.config.schedule, self.steps_done / self.total_steps, epochs_done)
        for group, lr in zip(self.optimizer.param_groups, (self.config.code_lr, self.config.lr), strict=True):
            group["lr"] = lr * factor

    def _autocast(self) -> torch.autocast:
        is_half = self.config.precision == "bfloat16" or (
            self.config.precision == "auto"
            and self.device.type == "cuda"
            and torch.cuda.is_bf16_supported(including_emulation=False)
        )
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_half)


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


def choose_device(device: torch.device | str | None) -> torch.device:
    """The device asked for, or the best at hand: CUDA, then MPS, then the CPU.

    Raises:
        ValueError: if it is asked for and not there.
    """
    if device is None:
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be 'cuda', 'mps', 'cpu' or None; got {device!r}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(device)!r} was asked for but torch sees no CUDA GPU; leave device=None")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {str(device)!r} was asked for but torch sees {torch.cuda.device_count()} CUDA GPUs")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {str(device)!r} was asked for but torch sees no Apple GPU; leave device=None")
    return chosen


_NO_CLASS = -100


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
