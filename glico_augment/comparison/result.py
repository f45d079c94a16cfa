"""What a comparison found: accuracies, paired gains and their intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glico_augment.comparison.recipes import NONE

_NORMAL = 1.96  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Attributes:
        hits: of each recipe ``(draws, n)`` bool, whether each of ``n`` test images was classified rightly.
        runs: ``(draws, n)`` int64, the number of the run in which each image was tested.
        r2: how well the fit of each run rebuilds its photographs; none where no recipe has a fit.
        size: height and width of the images.
    """

    hits: Mapping[str, Tensor]
    runs: Tensor
    r2: Sequence[float]
    size: tuple[int, int]

    def accuracies(self, name: str) -> list[float]:
        """The accuracy of a recipe in each run, in percent."""
        sums = torch.bincount(self.runs.flatten(), 100.0 * self.hits[name].flatten())
        return (sums / torch.bincount(self.runs.flatten())).tolist()

    def accuracy(self, name: str) -> float:
        """The accuracy of a recipe over all images and draws, in percent."""
        return 100 * self.hits[name].double().mean().item()

    def gain(self, name: str, over: str = NONE) -> tuple[float, float]:
        """How many points a recipe is ahead of another, and half of the 95 % interval; infinite for one run.

        Two kinds of noise are added up: that of the runs, by Student's distribution of the paired differences, and that
        of the choice of the test images, since every draw may be tested on the same ones.
        """
        differences = 100 * (self.hits[name].double() - self.hits[over].double())
        pairs = zip(self.accuracies(name), self.accuracies(over), strict=True)
        of_runs = half_interval([after - before for after, before in pairs])
        of_images = differences.mean(dim=0).std() / math.sqrt(differences.shape[1])
        return differences.mean().item(), math.hypot(of_runs, _NORMAL * of_images.item())

    @property
    def best(self) -> str | None:
        """The most accurate of the recipes that are ahead of no augmentation beyond the noise, if there is one."""
        gains = {name: self.gain(name) for name in self.hits if name != NONE}
        ahead = [name for name, (gain, half) in gains.items() if gain > half]
        return max(ahead, key=self.accuracy, default=None)

    @property
    def level(self) -> list[str]:
        """The other recipes that are not behind the best one by more than the noise."""
        others = [name for name in self.hits if name not in (NONE, self.best)]
        gains = [(name, *self.gain(self.best, name)) for name in others] if self.best else []
        return [name for name, gain, half in gains if gain <= half]

    def table(self) -> str:
        """A line for each recipe: mean accuracy, gain on no augmentation, and the 95 % interval of the gain."""
        width = max(map(len, self.hits))
        lines = [f"{'':<{width}}  accuracy    gain  95 % interval"]
        for name in self.hits:
            gain, half = self.gain(name)
            interval = f"[{gain - half:+.1f}, {gain + half:+.1f}]" if math.isfinite(half) else "unknown: one run"
            rest = "" if name == NONE else f"   {gain:+5.1f}  {interval}"
            lines.append(f"{name:<{width}}   {self.accuracy(name):5.1f} %{rest}")
        return "\n".join(lines)

    def verdict(self) -> str:
        """What to use, in words."""
        if self.best is None:
            is_one = any(math.isinf(self.gain(name)[1]) for name in self.hits)
            advice = "one run says nothing about the noise: ask for more draws" if is_one else "use shifts alone"
            return f"None of them is better than no augmentation beyond the noise: {advice}."
        gain, half = self.gain(self.best)
        text = f"{self.best} is ahead of no augmentation beyond the noise, by {gain:.1f} ± {half:.1f} points."
        return f"{text} Level with it, within the noise: {', '.join(self.level)}." if self.level else text

    def to_json(self) -> dict[str, Any]:
        """Accuracies, gains and intervals as JSON values."""
        rows = {}
        for name in self.hits:
            gain, half = self.gain(name)
            interval = [gain - half, gain + half] if math.isfinite(half) else None
            runs = self.accuracies(name)
            rows[name] = {"accuracy": self.accuracy(name), "gain": gain, "interval": interval, "runs": runs}
        return {"recipes": rows, "best": self.best, "within_the_noise_of_the_best": self.level, "r2": list(self.r2)}


def half_interval(differences: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean, by Student's distribution; infinite for one value."""
    count = len(differences)
    return _student(count - 1) * statistics.stdev(differences) / math.sqrt(count) if count > 1 else math.inf


def _student(degrees: int) -> float:
    """The 97.5 % quantile of Student's distribution, to a hundredth; scipy is no dependency."""
    small = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
    return small[degrees - 1] if degrees <= len(small) else 1.96 + 2.37 / degrees + 2.82 / degrees**2
