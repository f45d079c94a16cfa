"""The optimisation: codes, generator and classifier against reconstruction and cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from glico_augment.capture import CapturedStep, can_capture, set_learning_rate
from glico_augment.config import FitConfig
from glico_augment.data.image_set import ImageSet
from glico_augment.devices import to_device
from glico_augment.errors import DivergenceError
from glico_augment.fit.code_adam import CodeAdam
from glico_augment.fit.order import ShuffledPasses
from glico_augment.fit.pixel_loss import PixelLoss
from glico_augment.fit.progress import LOSS_PARTS, Callback, FitProgress
from glico_augment.fit.quality import FitQuality, measure
from glico_augment.fit.ranks import Ranks
from glico_augment.fit.schedule import learning_rate_factor
from glico_augment.fit.start import initial_model, stream
from glico_augment.fit.targets import Targets
from glico_augment.losses import build_loss
from glico_augment.model.model import GLICOModel

_FINITE_CHECK_EVERY = 20  # steps on an accelerator, where looking at a value waits for the device
_TRIAL_SHARE = 0.15  # of the steps, after which a fit must have left the mean image
_TRIAL_STEPS = 30  # a shorter trial says nothing
_TRIAL_R2 = 0.01
_TRIAL_IMAGES = 512
MAX_RESTARTS = 2
_RESTART_RATE = 1 / 3  # of both learning rates


class Fit:
    """One run of the optimisation, which can be stopped after any step and restored.

    ``min over θ_G, {z_i}, θ_F of L_recon + γ·L_CE, subject to ‖z_i‖ = 1`` (Azuri & Weinshall 2020), with one
    generator pass a step for both losses and the constraint kept by projection after each. A step touches only the
    codes of its batch, with Adam's moments of those alone, so its cost does not grow with the set.

    A fit that still draws the mean image, or one colour, after a seventh of its steps starts again from other weights
    at a third of the learning rates, at most twice. The squared distance is then replaced by the cross-entropy of pixel
    values: where a few bright pixels are all that tells images apart, the others take every image to black, and there
    the sigmoid passes the gradient of the cross-entropy alone.

    In a process group all processes draw the same batches, and each computes the part of a batch that it owns. Alone on
    a CUDA device, and with a loss of this library, a step is one CUDA graph.

    Args:
        image_set: images, labelled ones first.
        config: the hyper-parameters, resolved.
        device: where to compute.
        seed: of the initial weights and codes, the order of the images and the noise.
        finish: makes of a model what :attr:`FitProgress.augment` returns.
    """

    def __init__(
        self,
        image_set: ImageSet,
        config: FitConfig,
        *,
        device: torch.device,
        seed: int,
        finish: Callable[[GLICOModel], Any] = lambda model: model,
    ) -> None:
        assert config.steps is not None
        assert config.batch_size is not None
        self.config = config
        self.device = device
        self.seed = seed
        self.finish = finish
        self.ranks = Ranks()
        self.n_images = len(image_set)
        self.batch_size = config.batch_size
        self.total_steps = config.steps
        self.image_set = image_set
        self._n_labeled = len(image_set.labels)
        with self.ranks.together(), self._autocast():
            loss = build_loss(config, image_set.image_shape).to(device)
            self.targets = Targets(image_set.images.to(device), loss)
        self._labeled_images = self.targets.images[: self._n_labeled]
        self._pixel_loss = PixelLoss(self._labeled_images, config)
        self.restarts = 0
        self.is_stopped = False
        self.start()

    def start(self) -> None:
        """Bring codes, networks and optimisers to their start, the one of the current number of restarts."""
        self.steps_done = 0
        self._finite_steps = 0
        attempt = f" {self.restarts}" if self.restarts else ""
        self.order = ShuffledPasses(self.n_images, self.batch_size, stream(self.seed, f"order{attempt}"))
        self.noise_rng = stream(self.seed, f"noise{attempt}", self.device)
        n_unlabeled = self.n_images - self._n_labeled
        self.model = initial_model(
            self.image_set.labels,
            n_unlabeled,
            self.config,
            self.image_set.image_shape,
            self._pixel_loss.mean_image,
            stream(self.seed, f"start{attempt}"),
        ).to(self.device)
        # Unlabelled images enter the reconstruction only (the transductive mode).
        class_indices = self.model.codes.class_indices.cpu()
        self._class_targets = F.pad(class_indices, (0, n_unlabeled), value=_NO_CLASS).to(self.device)
        self.history = torch.zeros(self.total_steps, len(LOSS_PARTS), device=self.device, dtype=torch.float32)
        self.networks = _Networks(self.model, has_classifier=self.config.classifier_weight > 0)
        self._forward = self.networks if self.ranks.count == 1 else DistributedDataParallel(self.networks)
        betas = (self.config.adam_beta1, 0.999)
        self.code_adam = CodeAdam(self.model.codes.codes.data, betas)
        is_captured = can_capture(self.device) and self.ranks.count == 1 and isinstance(self.config.loss, str)
        lr: float | Tensor = self.config.lr
        if is_captured:  # a number would be part of the graph
            lr = torch.tensor(lr, dtype=torch.float32, device=self.device)
        self.network_adam = torch.optim.Adam(
            self.networks.parameters(), lr=lr, betas=betas, fused=True, capturable=is_captured
        )
        self._optimize = CapturedStep(self._optimize_eagerly, is_wanted=is_captured)

    def run(self, callbacks: Iterable[Callback] = (), *, between_steps: Callback | None = None) -> None:
        """Make the remaining steps, calling every callback after each; one that returns True ends the fit.

        Args:
            callbacks: of which one may raise in one process alone, and is then raised by all.
            between_steps: called after them, by all processes or by none, so that it may sum over them.

        Raises:
            DivergenceError: if the loss becomes NaN or infinite.
        """
        callbacks = list(callbacks)
        check_every = 1 if self.device.type == "cpu" else _FINITE_CHECK_EVERY
        while self.steps_done < self.total_steps and not self.is_stopped:
            if self._has_failed_trial():  # before a step, so that a fit continued from just there looks as well
                self.restarts += 1
                self.start()
            self.step()
            if self.steps_done % check_every == 0 or self.steps_done == self.total_steps:
                self.check_finite()
            row = self.history[self.steps_done - 1].detach()
            progress = FitProgress(self.steps_done, self.total_steps, self.restarts, self.model, row, self.finish)
            self.is_stopped = self.ranks.any(lambda: _ask(callbacks, progress), self.device)  # noqa: B023
            if between_steps is not None:
                between_steps(progress)
        self.check_finite()  # and so waited for
        self._optimize.forget()
        self.share_codes()
        self._check_images()

    def step(self) -> None:
        """One optimiser step on the next batch."""
        batch = self.order.next_batch()
        noise = self.model.noise(len(batch), self.config.noise_std, generator=self.noise_rng)
        batch, noise, share = self._own_part(batch, noise)
        factor = self._learning_rate_factor()
        set_learning_rate(self.network_adam, self.config.lr * factor)
        code_lr = torch.tensor(self.config.code_lr * factor, dtype=torch.float32)
        inputs = (to_device(batch, self.device), noise, to_device(code_lr, self.device))
        losses = self._optimize(*inputs) if self.ranks.count == 1 else self._optimize_eagerly(*inputs, share=share)
        self.history[self.steps_done] = self.ranks.sum_(losses)
        self.steps_done += 1

    def _optimize_eagerly(
        self, indices: Tensor, noise: Tensor | None, code_lr: Tensor, *, share: float = 1.0
    ) -> Tensor:
        """Move networks and codes against their gradients, and bring the codes back to the sphere.

        Args:
            indices: ``(k,)`` of the batch's images.
            noise: ``(k, noise_dim)``, or None for none.
            code_lr: the learning rate of the codes, a scalar.
            share: of the batch, which this process has.

        Returns:
            The loss and its parts, as in the history, ``(3,)``.
        """
        codes = self.model.codes.codes.detach()[indices].requires_grad_()
        with self._autocast():
            outputs, logits = self._forward(codes, noise)
            reconstruction = share * self._reconstruction_loss(outputs, indices)
            # Over all images of the batch: where few are labelled, each weighs what it does in the reconstruction.
            classification = self._classification_loss(logits, indices) / self.batch_size
            classification = classification if share else 0 * classification
        loss = reconstruction + self.config.classifier_weight * classification
        self.network_adam.zero_grad(set_to_none=True)
        (self.ranks.count * loss).backward()  # DistributedDataParallel takes the mean over processes
        if self.config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.networks.parameters(), self.config.max_grad_norm)
        self.network_adam.step()
        if share:
            assert codes.grad is not None
            # A small set may show an image twice in a batch: one code, which the sum of both gradients moves.
            is_same = (indices[:, None] == indices).to(codes.dtype)
            self.code_adam.step(indices, is_same @ codes.grad / self.ranks.count, code_lr)
            self.model.codes.project_(indices)
        return torch.stack([loss, reconstruction, classification]).detach()

    def _own_part(self, batch: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None, float]:
        """What this process owns of a batch and of its noise, and its share of it."""
        if self.ranks.count == 1:
            return batch, noise, 1.0
        mine = self.ranks.own(batch).nonzero().flatten()
        share = len(mine) / len(batch)
        if share == 0:
            mine = torch.zeros(1, dtype=torch.int64)  # gradients, of weight 0, which the others wait for
        return batch[mine], None if noise is None else noise[to_device(mine, self.device)], share

    def _reconstruction_loss(self, outputs: Tensor, indices: Tensor) -> Tensor:
        loss = _check_scalar(self.targets.compare(outputs, indices))
        return loss + self._pixel_loss(outputs, self.targets.unit(indices), restarts=self.restarts)

    def _classification_loss(self, logits: Tensor | None, indices: Tensor) -> Tensor:
        """The cross-entropy of the labelled images among ``indices``, added up."""
        if logits is None:
            return torch.zeros((), device=self.device)
        targets = self._class_targets[indices]
        return F.cross_entropy(logits.float(), targets, ignore_index=_NO_CLASS, reduction="sum")

    def _has_failed_trial(self) -> bool:
        """Whether the fit is at the end of its trial and still draws the mean image, or worse."""
        trial_steps = math.ceil(_TRIAL_SHARE * self.total_steps)
        if self.steps_done != trial_steps or trial_steps < _TRIAL_STEPS or self.restarts == MAX_RESTARTS:
            return False
        self.share_codes()
        return measure(self.model, self._labeled_images, limit=_TRIAL_IMAGES).r2 < _TRIAL_R2

    def check_finite(self) -> None:
        """Raise DivergenceError if a loss since the start is NaN or infinite, naming the first such step."""
        is_finite = self.history[self._finite_steps : self.steps_done].isfinite().all(dim=1)
        if bool(is_finite.all()):
            self._finite_steps = self.steps_done
            return
        step = self._finite_steps + int(is_finite.int().argmin())
        row = dict(zip(LOSS_PARTS, self.history[step].tolist(), strict=True))
        raise self.divergence(step + 1, ", ".join(f"{name} {value:g}" for name, value in row.items()))

    def _check_images(self) -> None:
        """Raise DivergenceError if the last step broke the generator, which no loss has seen yet."""
        if not self.model.reconstruct(torch.zeros(1, dtype=torch.int64, device=self.device)).isfinite().all():
            raise self.divergence(self.steps_done, "the generator makes NaN")

    def divergence(self, step: int, shown: str) -> DivergenceError:
        """The error of a step after which ``shown`` is wrong."""
        return DivergenceError(
            f"the fit diverged at step {step} of {self.total_steps} ({shown}). Lower lr (now {self.config.lr:g}) "
            f"and code_lr (now {self.config.code_lr:g}), or set precision='float32'"
        )

    def quality(self) -> FitQuality:
        """How well the labelled images are rebuilt."""
        return measure(self.model, self._labeled_images)

    def share_codes(self) -> None:
        """Bring every process up to date with the codes that the others own, and with their moments."""
        self.ranks.share_rows_([self.model.codes.codes.data, *self.code_adam.state().values()])

    def _learning_rate_factor(self) -> float:
        epochs_done = self.steps_done * self.batch_size / self.n_images
        factor = learning_rate_factor(self.config.schedule, self.steps_done / self.total_steps, epochs_done)
        return factor * _RESTART_RATE**self.restarts

    def _autocast(self) -> torch.autocast:
        is_half = self.config.precision == "bfloat16" or (
            self.config.precision == "auto"
            and self.device.type == "cuda"
            and torch.cuda.is_bf16_supported(including_emulation=False)
        )
        # No cache of cast weights: it outlives a step where a caller is in autocast as well, even one that is off.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_half, cache_enabled=False)


def _check_scalar(loss: Any) -> Tensor:
    """What a loss returns; TypeError unless it is one number."""
    if isinstance(loss, Tensor) and loss.numel() == 1 and loss.is_floating_point():
        return loss
    got = f"{loss.dtype} {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
    raise TypeError(f"the loss must return a scalar tensor, such as the mean over all pixels; got {got}")


def _ask(callbacks: list[Callback], progress: FitProgress) -> bool:
    """Whether a callback wants to stop. All are called though one raises: they may sum over processes, which wait."""
    if not callbacks:
        return False
    try:
        answer = callbacks[0](progress) is True
    finally:
        others = _ask(callbacks[1:], progress)
    return answer or others


class _Networks(nn.Module):
    """Generator and classifier in one forward pass, as the reduction of their gradients needs it."""

    def __init__(self, model: GLICOModel, *, has_classifier: bool) -> None:
        super().__init__()
        self.generator = model.generator
        self.classifier = model.classifier if has_classifier else None

    def forward(self, codes: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        images = self.generator(codes, noise).float()
        return images, None if self.classifier is None else self.classifier(images)


_NO_CLASS = -100
