"""Ways of fitting and of interpolating that were tried beside the library's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import TensorDataset

from accuracy.data import Split
from accuracy.settings import Setting
from accuracy.training import SHIFT, Batches, cross_entropy, train
from accuracy.wide_resnet import WideResNet
from glico_augment import FitConfig, GLICOAugment
from glico_augment.data.image_set import ImageSet, read_image_set
from glico_augment.files.fitted import FitRecord
from glico_augment.fit.loop import Fit
from glico_augment.losses import FeatureLoss
from glico_augment.losses.laplacian import LaplacianLoss
from glico_augment.model.model import GLICOModel
from glico_augment.model.sphere import normalize, slerp

_VIEW_DIM = 3  # flip, and the shift in two directions
_CELLS = 4  # a side, in which texture is compared


@dataclass(frozen=True)
class Trial:
    """What differs from the library's fit and interpolation. Numbers are weights in the loss unless said otherwise.

    Attributes:
        interpolated: of the cross-entropy of images between two codes of a class.
        smooth: of the second difference of images along the arc between two codes of a class.
        texture: of the distance of the mean absolute detail of images between two codes, level by level of the
            Laplacian pyramid on 4 × 4 cells, from what lies between those of the two real images.
        adversary: of a network's belief that images between two codes are not real ones.
        prototypes: of the cross-entropy of a code's cosines, over 0.1, with the mean codes of the classes.
        network: of the distance in the features of a classifier trained on the set itself, shifted and flipped.
        average: decay of an average of the generator's weights, which replaces them after the fit.
        views: whether each step shows images shifted, and flipped where the data may be, with the view fed to the
            generator beside its noise; the swap asks for the plain view.
        unlabeled: how many of the images to be scored are learned without their labels (the transductive mode). The
            larger set has a longer fit and more dimensions, as it does in the library.
        partners: how many codes of the class, beside the anchor's, a spherical mean is taken of.
        choose: of how many candidates, with other partners, the one is taken that the joint classifier believes in
            most.
    """

    interpolated: float = 0.0
    smooth: float = 0.0
    texture: float = 0.0
    adversary: float = 0.0
    prototypes: float = 0.0
    network: float = 0.0
    average: float = 0.0
    views: bool = False
    unlabeled: int = 0
    partners: int = 1
    choose: int = 1

    @classmethod
    def split_fields(cls, fields: dict[str, Any]) -> tuple[Trial, dict[str, Any]]:
        """The trial of ``fields``, and the fields that are none of its own."""
        own = {name: value for name, value in fields.items() if name in cls.__dataclass_fields__}
        return cls(**own), {name: value for name, value in fields.items() if name not in own}


def fit_trial(split: Split, setting: Setting, seed: int, trial: Trial, config: FitConfig) -> GLICOAugment:
    """The library's fit, changed.

    Raises:
        ValueError: if the classifier is asked for and is not trained.
    """
    if config.classifier_weight == 0 and (trial.interpolated or trial.choose > 1):
        raise ValueError("interpolated and choose need the joint classifier: set classifier_weight above 0")
    torch.manual_seed(seed)
    labelled = TensorDataset(split.images, split.labels)
    drawn = torch.randperm(len(split.eval_images), generator=torch.Generator().manual_seed(seed))[: trial.unlabeled]
    unlabelled = TensorDataset(split.eval_images[drawn]) if trial.unlabeled else None
    image_set = read_image_set(labelled, unlabeled=unlabelled, image_size=config.image_size)
    if trial.network:
        config = config.replace(loss=_NetworkLoss(_train_network(split, setting, seed), trial.network))
    fit = _TriedFit(image_set, config, trial, flip=setting.flip, seed=seed)
    fit.run()
    model = TriedModel.of(fit.model, config, image_set, trial)
    return GLICOAugment(model, FitRecord.of(image_set, config, seed))


class TriedModel(GLICOModel):
    """The library's model with other ways between codes."""

    trial: Trial

    @classmethod
    def of(cls, model: GLICOModel, config: FitConfig, image_set: ImageSet, trial: Trial) -> TriedModel:
        tried = cls(model.codes, config, image_set.image_shape)
        tried.load_state_dict(model.state_dict())
        tried.hold_images(image_set.images[: len(image_set.labels)])
        tried.trial = trial
        return tried

    def noise(self, count: int, std: float, *, generator: torch.Generator | None = None) -> Tensor | None:
        noise = super().noise(count, std, generator=generator)
        if noise is not None and self.trial.views:
            noise[:, :_VIEW_DIM] = 0
        return noise

    @torch.no_grad()
    def interpolate(
        self, anchors: Tensor, partners: Tensor, ratios: Tensor, noise: Tensor | None, interpolation: str = "slerp"
    ) -> Tensor:
        made = self._interpolate(anchors, partners, ratios, noise, interpolation)
        if self.trial.choose == 1:
            return made
        candidates = [made]
        for _ in range(self.trial.choose - 1):
            others = self.codes.sample_partners(anchors)
            candidates.append(self._interpolate(anchors, others, ratios, noise, interpolation))
        images = torch.stack(candidates)
        logits = self.classifier(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        classes = self.codes.class_indices[anchors].expand(len(images), -1)
        belief = logits.log_softmax(2).gather(2, classes[..., None])[..., 0]
        return images[belief.argmax(0), torch.arange(len(anchors))]

    def _interpolate(
        self, anchors: Tensor, partners: Tensor, ratios: Tensor, noise: Tensor | None, interpolation: str
    ) -> Tensor:
        if self.trial.partners == 1 or not len(anchors):
            return super().interpolate(anchors, partners, ratios, noise, interpolation)
        ends = [anchors, partners, *(self.codes.sample_partners(anchors) for _ in range(self.trial.partners - 1))]
        weights = torch.distributions.Dirichlet(torch.ones(len(ends))).sample((len(anchors),))
        codes = normalize((torch.stack([self.codes(end) for end in ends], dim=1) * weights[..., None]).sum(dim=1))
        return self.generator(codes, noise)


class _TriedFit(Fit):
    def __init__(self, image_set: ImageSet, config: FitConfig, trial: Trial, *, flip: bool, seed: int) -> None:
        super().__init__(image_set, config, device=torch.device("cpu"), seed=seed)
        self.trial, self.flip = trial, flip
        self.classes = self.model.codes.class_indices
        if trial.texture:
            self.pyramid = LaplacianLoss()
            self.pyramid.calibrate([self.targets.unit(torch.arange(self.n_images))])
        if trial.views:
            self._forward = _WithViews(self.networks, flip)
        if trial.adversary:
            self.adversary = _Adversary(image_set.image_shape[0], len(image_set.class_names))
            self.adversary_adam = torch.optim.Adam(self.adversary.parameters(), lr=1e-3, betas=(0.5, 0.99))
        if trial.average:
            self.averages = [value.detach().clone() for value in self.model.generator.parameters()]

    def _reconstruction_loss(self, outputs: Tensor, indices: Tensor) -> Tensor:
        trial = self.trial
        if trial.views:
            loss = self.targets.loss(outputs, self._forward.show(self.targets.unit(indices)))
        else:
            loss = super()._reconstruction_loss(outputs, indices)
        if trial.prototypes:
            loss = loss + trial.prototypes * self._prototype_loss(indices)
        if trial.interpolated or trial.smooth or trial.texture or trial.adversary:
            loss = loss + self._between_loss(indices)
        return loss

    def _prototype_loss(self, indices: Tensor) -> Tensor:
        codes = self.model.codes.codes
        sums = torch.zeros(len(self.model.codes.classes), codes.shape[1])
        prototypes = normalize(sums.index_add(0, self.classes, codes.detach()))
        cosines = F.embedding(indices, codes, sparse=True) @ prototypes.T
        return F.cross_entropy(cosines / 0.1, self.classes[indices])

    def _between_loss(self, indices: Tensor) -> Tensor:
        """The losses of images between those of the batch and others of their classes, whose codes stay."""
        trial, model = self.trial, self.model
        partners = model.codes.sample_partners(indices)
        ends = F.embedding(indices, model.codes.codes, sparse=True), model.codes.codes[partners].detach()
        ratios = torch.rand(len(indices))
        noise = model.noise(len(indices), self.config.noise_std)
        made = model.generator(slerp(*ends, ratios), noise).float()
        loss = made.new_zeros(())
        if trial.interpolated:
            loss = loss + trial.interpolated * F.cross_entropy(model.classifier(made).float(), self.classes[indices])
        if trial.smooth:
            step = 0.1
            sides = [model.generator(slerp(*ends, ratios + sign * step), noise).float() for sign in (-1, 1)]
            loss = loss + trial.smooth * (sides[0] + sides[1] - 2 * made).abs().mean() / step**2
        if trial.texture:
            loss = loss + trial.texture * self._texture_loss(made, indices, partners, ratios)
        if trial.adversary:
            classes = self.classes[indices]
            real = self.targets.unit(self.model.codes.sample_anchors(classes))
            doubt = F.softplus(-self.adversary(_jitter(real, self.flip), classes))
            doubt = doubt + F.softplus(self.adversary(_jitter(made.detach(), self.flip), classes))
            self.adversary_adam.zero_grad()
            doubt.mean().backward()
            self.adversary_adam.step()
            self.adversary.requires_grad_(False)
            loss = loss + trial.adversary * F.softplus(-self.adversary(_jitter(made, self.flip), classes)).mean()
            self.adversary.requires_grad_(True)
        return loss

    def _texture_loss(self, made: Tensor, indices: Tensor, partners: Tensor, ratios: Tensor) -> Tensor:
        def detail(images: Tensor) -> list[Tensor]:
            return [F.adaptive_avg_pool2d(level.abs(), _CELLS) for level in self.pyramid.features(images)[:-1]]

        starts, ends = detail(self.targets.unit(indices)), detail(self.targets.unit(partners))
        shares = ratios.view(-1, 1, 1, 1)
        parts = [
            (own - torch.lerp(start, end, shares)).abs().mean() / scale
            for own, start, end, scale in zip(detail(made), starts, ends, self.pyramid.scales[:-1], strict=True)
        ]
        return torch.stack(parts).mean()

    def _update(self, loss: Tensor, indices: Tensor) -> None:
        super()._update(loss, indices)
        if self.trial.average:
            weights = [value.detach() for value in self.model.generator.parameters()]
            decay = min(self.trial.average, (1 + self.steps_done) / (10 + self.steps_done))  # forgets the start
            torch._foreach_lerp_(self.averages, weights, 1 - decay)
            if self.steps_done == self.total_steps - 1:
                torch._foreach_copy_(weights, self.averages)


class _WithViews(nn.Module):
    """The networks, with a random view in the first entries of the noise."""

    def __init__(self, networks: nn.Module, flip: bool) -> None:
        super().__init__()
        self.networks, self.flip = networks, flip

    def forward(self, codes: Tensor, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        shifts = torch.randint(-SHIFT, SHIFT + 1, (len(codes), 2))
        flips = (torch.rand(len(codes), 1) < 0.5) * self.flip
        self.view = torch.cat([shifts, flips], dim=1)
        noise = noise.clone()
        noise[:, :_VIEW_DIM] = torch.cat([shifts / SHIFT, flips], dim=1)
        return self.networks(codes, noise)

    def show(self, images: Tensor) -> Tensor:
        """Images in the views of the last pass."""
        padded = F.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT), mode="reflect")
        height, width = images.shape[-2:]
        shown = []
        for image, (down, right, is_flipped) in zip(padded, self.view.tolist(), strict=True):
            image = image[:, SHIFT + down : SHIFT + down + height, SHIFT + right : SHIFT + right + width]
            shown.append(image.flip(-1) if is_flipped else image)
        return torch.stack(shown)


class _Adversary(nn.Module):
    """Tells real images of a class from others, in patches (Miyato & Koyama 2018: spectral norm and projection)."""

    def __init__(self, channels: int, n_classes: int, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.convs = nn.ModuleList(
            spectral_norm(nn.Conv2d(widths[i], widths[i + 1], 4, stride=2, padding=1)) for i in range(3)
        )
        self.score = spectral_norm(nn.Conv2d(widths[-1], 1, 1))
        self.classes = spectral_norm(nn.Embedding(n_classes, widths[-1]))

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        features = images * 2 - 1
        for conv in self.convs:
            features = F.leaky_relu(conv(features), 0.2)
        projection = (self.classes(classes) * features.mean(dim=(2, 3))).sum(dim=1)
        return self.score(features).float().mean(dim=(1, 2, 3)) + projection


def _jitter(images: Tensor, flip: bool) -> Tensor:
    """Shifts, flips, brightness and contrast, with gradients (Zhao et al., NeurIPS 2020, on real and made alike)."""
    count = len(images)
    identity = torch.eye(2, 3).repeat(count, 1, 1)
    identity[:, :, 2] = (2 * torch.rand(count, 2) - 1) * 0.25
    if flip:
        identity[:, 0, 0] = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    grid = F.affine_grid(identity, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    means = moved.mean(dim=(1, 2, 3), keepdim=True)
    contrasts, shifts = 0.5 + torch.rand(count, 1, 1, 1), torch.rand(count, 1, 1, 1) - 0.5
    return (moved - means) * contrasts + means + 0.4 * shifts


class _NetworkLoss(FeatureLoss):
    """The Laplacian pyramid with the feature maps of a classifier of the set beside it."""

    is_cheap = True

    def __init__(self, network: WideResNet, weight: float) -> None:
        super().__init__()
        self.network, self.weight, self.pyramid = network.requires_grad_(False), weight, LaplacianLoss()

    def features(self, images: Tensor) -> list[Tensor]:
        taps = self.pyramid.features(images)
        hidden = self.network.stem(images * 4 - 2)
        maps = []
        for block in self.network.blocks:
            hidden = block(hidden)
            maps.append(hidden)
        return taps + maps

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        super().calibrate(batches)
        n_maps = len(self.network.blocks)
        self.weights = (1.0,) * (len(self.scales) - n_maps) + (self.weight,) * n_maps


def _train_network(split: Split, setting: Setting, seed: int) -> WideResNet:
    batches = Batches(split, setting.flip)
    batches.mean, batches.std = torch.tensor(0.5), torch.tensor(0.25)
    setting = dataclasses.replace(setting, steps=600)
    rates = {"lr": setting.lr, "weight_decay": setting.weight_decay}
    return train(split, setting, batches, cross_entropy, seed, **rates)
