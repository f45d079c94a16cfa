"""The optimisation: codes, generator and classifier against reconstruction and cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glico_augment.capture import CapturedStep, can_capture, set_learning_rate
from glico_augment.config import FitConfig
from glico_augment.data.image_set import ImageSet
from glico_augment.devices import to_device
from glico_augment.errors import DivergenceError
from glico_augment.fit.code_adam import CodeAdam
from glico_augment.fit.distributed import ProcessGroup
from glico_augment.fit.progress import LOSS_PARTS, Callback, FitProgress
from glico_augment.fit.quality import FitQuality, measure
from glico_augment.fit.reconstruction import PixelLoss, Targets
from glico_augment.fit.start import initial_model, stream
from glico_augment.losses import build_loss
from glico_augment.model.model import GLICOModel

MAX_RESTARTS = 2
_LOOK_EVERY = 20  # steps on an accelerator, where looking at a value waits for the device
_TRIAL_SHARE = 0.15  # of the steps, after which a fit must draw more than the mean image
_TRIAL_STEPS = 90  # or more: images that hardly differ are below their mean for the first 60
_TRIAL_R2 = 0.01
_TRIAL_IMAGES = 512
_RESTART_RATE = 1 / 3  # of both learning rates
_HALVING_EPOCHS = 70  # of the schedule "step"
_NO_CLASS = -100  # of unlabelled images


class Saver(Protocol):
    """What writes a running fit to disk. All processes call its methods after the same steps."""

    @property
    def has_signal(self) -> bool:
        """Whether this process was told to end."""

    def save(self) -> None:
        """Write the fit, if a write is due."""

    def end(self) -> None:
        """Write the fit, of which a process was told to end, and do as it was told."""


class Fit:
    """One run of the optimisation, which can be stopped after any step and restored.

    ``min over θ_G, {z_i}, θ_F of L_recon + γ·L_CE, subject to ‖z_i‖ = 1`` (Azuri & Weinshall 2020), with one
    generator pass per step for both losses and the constraint kept by projection after each. A step touches only the
    codes of its batch, with Adam's moments of those alone, so its cost does not grow with the set.

    A fit that still draws the mean image, or one colour, after 0.15 of its steps starts again from other weights at a
    third of the learning rates, at most twice. The squared distance is then replaced by the cross-entropy of pixel
    values: where a few bright pixels are all that tells images apart, the others take every image to black, and there
    the sigmoid passes the gradient of the cross-entropy alone.

    In a process group all processes hold the same model and draw the same batches. Each computes the gradients of its
    part of a batch; one all-reduce sums them, and all make the same optimiser step. Alone on a CUDA device, and with a
    loss of this library, a step is one CUDA graph.

    Args:
        image_set: images, labelled ones first.
        config: resolved.
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
        self.look_every = 1 if device.type == "cpu" else _LOOK_EVERY
        self.seed = seed
        self.finish = finish
        self.group = ProcessGroup()
        self.n_images = len(image_set)
        self.batch_size = config.batch_size
        self.total_steps = config.steps
        self.image_set = image_set
        self._n_labeled = len(image_set.labels)
        with self.group.raising_together(), self._autocast():
            loss = build_loss(config, image_set.image_shape).to(device)
            self.targets = Targets(image_set.images.to(device), loss, n_calibration=self._n_labeled)
        self._labeled_images = self.targets.images[: self._n_labeled]
        self._pixel_loss = PixelLoss(self._labeled_images, config)
        self._flags = [False, False, False]  # of this process: a callback ends the fit, one failed, a signal came
        self._flags_of_all = torch.zeros(3)
        self._error: Exception | None = None
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
        has_classifier = self.config.classifier_weight > 0
        self.networks = nn.ModuleList([self.model.generator, *([self.model.classifier] if has_classifier else [])])
        betas = (self.config.adam_beta1, 0.999)
        self.code_adam = CodeAdam(self.model.codes.codes.data, betas)
        is_captured = can_capture(self.device) and self.group.size == 1 and isinstance(self.config.loss, str)
        lr: float | Tensor = self.config.lr
        if is_captured:  # a number would be part of the graph
            lr = torch.tensor(lr, dtype=torch.float32, device=self.device)
        self.network_adam = torch.optim.Adam(
            self.networks.parameters(), lr=lr, betas=betas, fused=True, capturable=is_captured
        )
        for parameter in self.networks.parameters():  # as the first step makes it, for a checkpoint to be read into
            self.network_adam.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=self.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        self._optimize = CapturedStep(self._optimize_eagerly, is_wanted=is_captured)

    def run(self, callbacks: Iterable[Callback] = (), *, saver: Saver | None = None) -> None:
        """Make the remaining steps, calling every callback after each; one that returns True ends the fit.

        In a process group a callback may raise or return True, and a signal may come, in one process alone. The others
        are told with the gradients of the next step, and all end together after it; on an accelerator, where looking
        waits for the device, after the next step that is a multiple of 20.

        Raises:
            DivergenceError: if the loss becomes NaN or infinite.
        """
        callbacks = list(callbacks)
        is_alone = self.group.size == 1
        while self.steps_done < self.total_steps and not self.is_stopped:
            if self._has_failed_trial():  # before a step, so that a fit continued from just there looks as well
                self.restarts += 1
                self.start()
            self.step()
            is_looked_at = self.steps_done % self.look_every == 0
            if is_looked_at or self.steps_done == self.total_steps:
                self.check_finite()
            if is_looked_at and not is_alone:
                self._obey(self._flags_of_all, saver)
            if saver is not None:
                saver.save()
            self._ask(callbacks, saver)
            if is_alone:
                self._obey(torch.tensor(self._flags), saver)
        if not is_alone:
            last = torch.tensor(self._flags, dtype=torch.float32, device=self.device)
            self.group.sum_([last])
            self._obey(last, saver)
        self.check_finite()  # and so waited for
        self._optimize.forget()
        if not self.model.reconstruct(torch.zeros(1, dtype=torch.int64, device=self.device)).isfinite().all():
            raise self.divergence(self.steps_done, "the generator makes NaN")  # of the last step, which no loss saw

    def _ask(self, callbacks: list[Callback], saver: Saver | None) -> None:
        """Call the callbacks, unless one has failed already, and note what this process has to tell the others."""
        row = self.history[self.steps_done - 1].detach()
        progress = FitProgress(self.steps_done, self.total_steps, self.restarts, self.model, row, self.finish)
        is_stopped = self._flags[0]
        try:
            for callback in callbacks if self._error is None else ():
                is_stopped |= callback(progress) is True
        except Exception as error:
            if self.group.size == 1:
                raise
            self._error = error
        self._flags = [is_stopped, self._error is not None, saver is not None and saver.has_signal]

    def _obey(self, flags: Tensor, saver: Saver | None) -> None:
        """Do in all processes what one of them asks for: stop, raise, or end by a signal."""
        stop, failed, has_signal = (value > 0 for value in flags.tolist())
        if failed:
            self.group.raise_any(self._error)
        self.is_stopped |= stop
        if has_signal and saver is not None:
            saver.end()

    def step(self) -> None:
        """One optimiser step on the next batch."""
        batch = self.order.next_batch()
        noise = self.model.noise(len(batch), self.config.noise_std, generator=self.noise_rng)
        epochs_done = self.steps_done * self.batch_size / self.n_images
        factor = learning_rate_factor(self.config.schedule, self.steps_done / self.total_steps, epochs_done)
        factor *= _RESTART_RATE**self.restarts
        set_learning_rate(self.network_adam, self.config.lr * factor)
        code_lr = torch.tensor(self.config.code_lr * factor, dtype=torch.float32)
        losses = self._optimize(to_device(batch, self.device), noise, to_device(code_lr, self.device))
        self.history[self.steps_done] = losses
        self.steps_done += 1

    def _optimize_eagerly(self, indices: Tensor, noise: Tensor | None, code_lr: Tensor) -> Tensor:
        """Move networks and codes against their gradients, and bring the codes back to the sphere.

        Returns the loss and its parts, as in the history, ``(3,)``.
        """
        codes = self.model.codes.codes.detach()[indices].requires_grad_()
        parameters = list(self.networks.parameters())
        self.network_adam.zero_grad(set_to_none=True)
        losses = self._backward(codes, indices, noise)
        if self.group.size > 1:
            flags = to_device(torch.tensor(self._flags, dtype=torch.float32), self.device)
            self.group.sum_([*(_gradient(each) for each in (*parameters, codes)), losses, flags])
            self._flags_of_all = flags
        if self.config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        self.network_adam.step()
        # A small set may show an image twice in a batch: one code, which the sum of both gradients moves.
        is_same = (indices[:, None] == indices).to(codes.dtype)
        self.code_adam.step(indices, is_same @ _gradient(codes), code_lr)
        self.model.codes.project_(indices)
        return losses

    def _backward(self, codes: Tensor, indices: Tensor, noise: Tensor | None) -> Tensor:
        """Add the gradients of this process's part of a batch; returns what it adds to the loss and its parts."""
        mine = self.group.share(len(indices))
        share = (mine.stop - mine.start) / len(indices)
        if not share:
            return torch.zeros(len(LOSS_PARTS), device=self.device)
        indices = indices[mine]
        with self._autocast():
            outputs = self.model.generator(codes[mine], None if noise is None else noise[mine]).float()
            classification = torch.zeros((), device=self.device)
            if self.config.classifier_weight > 0:
                # Over all images of the batch: where few are labelled, each weighs what it does in the reconstruction.
                logits = self.model.classifier(outputs)
                classification = self._classification_loss(logits, indices) / self.batch_size
            reconstruction = share * self._reconstruction_loss(outputs, indices)
        loss = reconstruction + self.config.classifier_weight * classification
        loss.backward()
        return torch.stack([loss, reconstruction, classification]).detach()

    def _reconstruction_loss(self, outputs: Tensor, indices: Tensor) -> Tensor:
        loss = _check_scalar(self.targets.compare(outputs, indices))
        return loss + self._pixel_loss(outputs, self.targets.unit(indices), restarts=self.restarts)

    def _classification_loss(self, logits: Tensor, indices: Tensor) -> Tensor:
        """The cross-entropy of the labelled images among ``indices``, added up."""
        return F.cross_entropy(logits.float(), self._class_targets[indices], ignore_index=_NO_CLASS, reduction="sum")

    def _has_failed_trial(self) -> bool:
        """Whether the fit is at the end of its trial and still draws the mean image, or worse."""
        trial_steps = max(_TRIAL_STEPS, math.ceil(_TRIAL_SHARE * self.total_steps))
        is_short = self.total_steps < 2 * trial_steps
        if self.steps_done != trial_steps or is_short or self.restarts == MAX_RESTARTS:
            return False
        return bool(self.group.gather(self.quality(limit=_TRIAL_IMAGES).r2)[0] < _TRIAL_R2)

    def check_finite(self) -> None:
        """Raise DivergenceError if a loss since the start is NaN or infinite, naming the first such step."""
        is_finite = self.history[self._finite_steps : self.steps_done].isfinite().all(dim=1)
        if bool(is_finite.all()):
            self._finite_steps = self.steps_done
            return
        step = self._finite_steps + int(is_finite.int().argmin())
        row = dict(zip(LOSS_PARTS, self.history[step].tolist(), strict=True))
        raise self.divergence(step + 1, ", ".join(f"{name} {value:g}" for name, value in row.items()))

    def divergence(self, step: int, shown: str) -> DivergenceError:
        """The error of a step after which ``shown`` is wrong."""
        return DivergenceError(
            f"the fit diverged at step {step} of {self.total_steps} ({shown}). Lower lr (now {self.config.lr:g}) "
            f"and code_lr (now {self.config.code_lr:g}), or set precision='float32'"
        )

    def quality(self, *, limit: int | None = None) -> FitQuality:
        """How well the labelled images are rebuilt, or ``limit`` of them."""
        return measure(self.model, self._labeled_images, limit=limit)

    def _autocast(self) -> torch.autocast:
        is_half = self.config.precision == "bfloat16" or (
            self.config.precision == "auto"
            and self.device.type == "cuda"
            and torch.cuda.is_bf16_supported(including_emulation=False)
        )
        # No cache of cast weights: it outlives a step where a caller is in autocast as well, even one that is off.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_half, cache_enabled=False)


class ShuffledPasses:
    """Endless shuffled passes over a set, cut into batches, which may reach over the end of a pass.

    ``left``, ``(k,)`` int64, is what is shuffled and not in a batch yet.
    """

    def __init__(self, n_images: int, batch_size: int, rng: torch.Generator) -> None:
        self.n_images, self.batch_size, self.rng = n_images, batch_size, rng
        self.left = torch.empty(0, dtype=torch.int64)

    def next_batch(self) -> Tensor:
        """The indices of the next images, ``(batch_size,)``."""
        while len(self.left) < self.batch_size:
            self.left = torch.cat([self.left, torch.randperm(self.n_images, generator=self.rng)])
        batch, self.left = self.left[: self.batch_size], self.left[self.batch_size :].clone()
        return batch


def learning_rate_factor(schedule: str, share_done: float, epochs_done: float) -> float:
    """The factor on the learning rates: ``"cosine"`` to 0, ``"step"`` (halved every 70 epochs) or ``"constant"``.

    ``share_done`` is that of the steps, in ``[0, 1]``, and ``epochs_done`` the number of passes over the set.
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share_done))
    if schedule == "step":
        return 0.5 ** (epochs_done // _HALVING_EPOCHS)
    return 1.0


def _check_scalar(loss: Any) -> Tensor:
    """What a loss returns; TypeError unless it is one number."""
    if isinstance(loss, Tensor) and loss.numel() == 1 and loss.is_floating_point():
        return loss
    got = f"{loss.dtype} {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
    raise TypeError(f"the loss must return a scalar tensor, such as the mean over all pixels; got {got}")


def _gradient(tensor: Tensor) -> Tensor:
    """The gradient of a tensor, zeros where this process has no part in it."""
    if tensor.grad is None:
        tensor.grad = torch.zeros_like(tensor)
    return tensor.grad
