"""Callbacks that write a running fit to a CSV file, TensorBoard, MLflow or Weights & Biases.

augment = GLICOAugment.fit(dataset, callback=TensorBoardLogger("runs/photos"))
"""

from __future__ import annotations

import csv
import importlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glico_augment import checks
from glico_augment.files.atomic import check_writable, write_atomically
from glico_augment.fit.distributed import ProcessGroup
from glico_augment.fit.progress import LOSS_PARTS, FitProgress
from glico_augment.images.values import to_unit
from glico_augment.optional import import_optional
from glico_augment.pictures.grids import make_pixels, to_png

_COLUMNS = 8


class FitLogger(ABC):
    """The base: define :meth:`log_values` and :meth:`log_grid` for another tool.

    A fit that starts again at a lower rate counts its steps from 1 again; ``restarts`` says how often it did. In a
    process group the first process alone writes.

    Args:
        every: steps between losses; reading one waits for the device.
        grid_every: steps between grids of images, with R² of the reconstructions; None for none. Each takes a copy of
            the model and one pass over all images.

    Raises:
        TypeError, ValueError: unless they are positive integers.
    """

    def __init__(self, *, every: int = 10, grid_every: int | None = 200) -> None:
        self.every = checks.integer(1)("every", every)
        self.grid_every = checks.optional(checks.integer(1, ", or None"))("grid_every", grid_every)

    def __call__(self, progress: FitProgress) -> None:
        """Write what is due at this step, and everything at the last one."""
        step, is_last = progress.step, progress.step == progress.total_steps
        has_grid = self.grid_every is not None and (is_last or step % self.grid_every == 0)
        if not ProcessGroup().is_first or not (has_grid or is_last or step % self.every == 0):
            return
        values: dict[str, float] = {**progress.losses, "restarts": progress.restarts}
        augment = progress.augment if has_grid else None
        self.log_values(step, values if augment is None else {**values, "R2": augment.quality.r2})
        if augment is not None:
            self.log_grid(step, progress_grid(augment))

    @abstractmethod
    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Write ``loss``, its parts, ``restarts`` and, where there is a grid, ``R2`` of a step."""

    @abstractmethod
    def log_grid(self, step: int, pixels: Tensor) -> None:
        """Write the grid of a step, uint8 ``(3, height, width)``: training images above their reconstructions."""


def progress_grid(augment: Any) -> Tensor:
    """Up to 8 training images, the same ones every time, above what the generator makes of their codes.

    Args:
        augment: the augmentation of a :class:`FitProgress`.

    Returns:
        uint8 ``(3, height, width)``.
    """
    count = augment.codes.n_labeled
    shown = torch.arange(0, count, -(-count // _COLUMNS))
    rows = torch.cat([to_unit(augment.images[shown]), augment.reconstruct(shown)])
    return make_pixels(rows, columns=len(shown), scale=max(1, 64 // rows.shape[-2]))


class CSVLogger(FitLogger):
    """One row per logged step in a CSV file, and the grids as PNG in a folder beside it that has its name.

    Args:
        path: the file. A fit that starts writes it anew. One that continues from a checkpoint keeps the rows of earlier
            steps; a last row that was cut short is dropped.
        every, grid_every: see :class:`FitLogger`.

    Raises:
        ValueError: for a path without an ending, from which the folder could not differ, and for a file that is there
            and was not written by this class, which is left as it is.
        OSError: if the file cannot be written.
    """

    HEADER = ("step", *LOSS_PARTS, "restarts", "R2")

    def __init__(self, path: str | Path, *, every: int = 10, grid_every: int | None = 200) -> None:
        super().__init__(every=every, grid_every=grid_every)
        self.path = Path(path)
        if not self.path.suffix:
            raise ValueError(f"give a name that ends in .csv, not {self.path.name}")
        check_writable(self.path)
        self._rows()
        self._has_begun = False

    def __call__(self, progress: FitProgress) -> None:
        """See :meth:`FitLogger.__call__`."""
        now = (progress.restarts, progress.step)
        if (now == (0, 1) or not self._has_begun) and ProcessGroup().is_first:
            self._begin(row for row in self._rows() if (int(row["restarts"]), int(row["step"])) < now)
        super().__call__(progress)

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Write a row."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.HEADER).writerow({"step": step, **values})

    def log_grid(self, step: int, pixels: Tensor) -> None:
        """Write ``<name of the file>/<step>.png``."""
        folder = self.path.with_suffix("")
        folder.mkdir(exist_ok=True)
        (folder / f"{step:06d}.png").write_bytes(to_png(pixels))

    def _begin(self, rows: Iterable[Mapping[str, str]]) -> None:
        content = io.StringIO()
        csv.writer(content).writerows([self.HEADER, *([row[name] for name in self.HEADER] for row in rows)])
        write_atomically(self.path, lambda partial: partial.write_bytes(content.getvalue().encode()))
        self._has_begun = True

    def _rows(self) -> list[dict[str, str]]:
        """The rows of the file that are whole; none if there is no file.

        Raises:
            ValueError: for a file that is not of this class.
        """
        content = ""
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
                content = file.read()
        whole = content[: content.rfind("\n") + 1]
        reader = csv.DictReader(whole.splitlines())
        rows = list(reader)
        is_own = tuple(reader.fieldnames or ()) == self.HEADER if whole else not content
        if not is_own or not all(row["step"].isdecimal() and (row["restarts"] or "").isdecimal() for row in rows):
            raise ValueError(
                f"{self.path} exists and is not a log of a fit with the columns {', '.join(self.HEADER)}; it is kept. "
                "Give another name, or remove it"
            )
        return rows


class TensorBoardLogger(FitLogger):
    """Scalars and images of TensorBoard, under ``glico/``.

    Args:
        folder: of the event files; or a ``torch.utils.tensorboard.SummaryWriter``.
        every, grid_every: see :class:`FitLogger`.

    Raises:
        ModuleNotFoundError: without tensorboard.
    """

    def __init__(self, folder: Any, *, every: int = 10, grid_every: int | None = 200) -> None:
        super().__init__(every=every, grid_every=grid_every)
        if isinstance(folder, (str, Path)):
            _import("tensorboard", "tensorboard")
            self.writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder))
        else:
            self.writer = folder

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Write each value as a scalar."""
        for name, value in values.items():
            self.writer.add_scalar(f"glico/{name}", value, step)
        self.writer.flush()

    def log_grid(self, step: int, pixels: Tensor) -> None:
        """Write an image."""
        self.writer.add_image("glico/reconstructions", pixels, step)
        self.writer.flush()


class MLflowLogger(FitLogger):
    """Metrics and images of MLflow, under ``glico/``.

    Args:
        run_id: of the run to write to; None for the active one, or one that MLflow starts.
        every, grid_every: see :class:`FitLogger`.

    Raises:
        ModuleNotFoundError: without mlflow.
    """

    def __init__(self, run_id: str | None = None, *, every: int = 10, grid_every: int | None = 200) -> None:
        super().__init__(every=every, grid_every=grid_every)
        self._mlflow = _import("mlflow", "mlflow-skinny")
        self._run_id = run_id

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Write each value as a metric."""
        metrics = {f"glico/{name}": float(value) for name, value in values.items()}
        self._mlflow.log_metrics(metrics, step=step, run_id=self._run())

    def log_grid(self, step: int, pixels: Tensor) -> None:
        """Write an image."""
        client, array = self._mlflow.MlflowClient(), pixels.permute(1, 2, 0).numpy()
        client.log_image(self._run(), array, artifact_file=f"glico/reconstructions-{step:06d}.png")

    def _run(self) -> str:
        if self._run_id is None:
            self._run_id = (self._mlflow.active_run() or self._mlflow.start_run()).info.run_id
        return self._run_id


class WandbLogger(FitLogger):
    """Values and images of Weights & Biases, under ``glico/``, over ``glico/step``.

    Args:
        run: what ``wandb.init`` returned.
        every, grid_every: see :class:`FitLogger`.

    Raises:
        ModuleNotFoundError: without wandb.
    """

    def __init__(self, run: Any, *, every: int = 10, grid_every: int | None = 200) -> None:
        super().__init__(every=every, grid_every=grid_every)
        self._image = _import("wandb", "wandb").Image
        self.run = run
        # Steps of a run only rise, and those of a fit that starts again do not, so they are an axis of their own.
        run.define_metric("glico/*", step_metric="glico/step")

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        self.run.log({"glico/step": step, **{f"glico/{name}": value for name, value in values.items()}})

    def log_grid(self, step: int, pixels: Tensor) -> None:
        """Write an image."""
        image = self._image(pixels.permute(1, 2, 0).numpy())
        self.run.log({"glico/step": step, "glico/reconstructions": image})


def _import(module: str, package: str) -> Any:
    return import_optional(module, f"{module} is not installed: pip install {package}")
