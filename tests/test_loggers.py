"""Callbacks that write a running fit: to the real stores of the tools, in a folder."""

import csv
import os
import sys
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import quick_fit

from glico_augment import loggers
from glico_augment.fit.distributed import ProcessGroup
from glico_augment.fit.progress import LOSS_PARTS
from glico_augment.images.values import to_unit
from glico_augment.loggers import CSVLogger, FitLogger, MLflowLogger, TensorBoardLogger, WandbLogger


class Kept(FitLogger):
    def __init__(self, **options):
        super().__init__(**options)
        self.values, self.grids = {}, {}

    def log_values(self, step, values):
        self.values[step] = values

    def log_grid(self, step, pixels):
        self.grids[step] = pixels


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_values_and_grids_come_when_they_are_due_and_at_the_end(dataset):
    logger = Kept(every=3, grid_every=4)
    augment = quick_fit(dataset, steps=10, epochs=None, callback=logger)
    assert list(logger.values) == [3, 4, 6, 8, 9, 10]
    assert list(logger.grids) == [4, 8, 10]
    for step, values in logger.values.items():
        for name, history in augment.history.items():
            assert values[name] == history[step - 1]
        assert values["restarts"] == 0
        assert ("R2" in values) is (step in logger.grids)
    assert logger.values[10]["R2"] == pytest.approx(augment.quality.r2)


def test_without_grids_no_augmentation_is_made(dataset, monkeypatch):
    monkeypatch.setattr(loggers, "progress_grid", None)
    logger = Kept(every=5, grid_every=None)
    quick_fit(dataset, steps=7, epochs=None, callback=logger)
    assert list(logger.values) == [5, 7]


def test_logging_does_not_change_a_fit(dataset):
    assert torch.equal(
        quick_fit(dataset, callback=Kept(every=1, grid_every=1)).codes.codes, quick_fit(dataset).codes.codes
    )


def test_a_grid_has_images_above_their_reconstructions(augment):
    pixels = loggers.progress_grid(augment)
    height, width = (5 * side for side in augment.images.shape[-2:])
    assert pixels.shape == (3, 2 * height + 15, 8 * width + 45)
    shown = [pixels[:, top : top + height : 5, 5 : 5 + width : 5] for top in (5, 10 + height)]
    assert torch.equal(shown[0], augment.images[0])
    assert torch.equal(shown[1], (augment.reconstruct([0])[0] * 255).round().to(torch.uint8))


def test_other_processes_than_the_first_write_nothing(dataset, monkeypatch, tmp_path):
    monkeypatch.setattr(ProcessGroup, "is_first", False)
    logger = Kept(every=1, grid_every=1)
    quick_fit(dataset, callback=lambda progress: (logger(progress), CSVLogger(tmp_path / "a.csv")(progress)))
    assert logger.values == logger.grids == {}
    assert not (tmp_path / "a.csv").exists()


def test_csv(dataset, tmp_path):
    augment = quick_fit(dataset, steps=9, epochs=None, callback=CSVLogger(tmp_path / "a.csv", every=2, grid_every=6))
    rows = rows_of(tmp_path / "a.csv")
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 9]
    for row in rows:
        for name, history in augment.history.items():
            assert float(row[name]) == history[int(row["step"]) - 1]
    assert [bool(row["R2"]) for row in rows] == [False, False, True, False, True]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["000006.png", "000009.png"]
    with PIL.Image.open(tmp_path / "a" / "000009.png") as image:
        shown = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(shown, loggers.progress_grid(augment))
    assert to_unit(shown).std() > 0.05


def test_csv_goes_on_with_the_fit_and_begins_anew_with_another(dataset, tmp_path):
    options = {"steps": 9, "epochs": None, "checkpoint": tmp_path / "checkpoint", "checkpoint_every": 4}
    path = tmp_path / "a.csv"
    first = CSVLogger(path, every=1, grid_every=None)

    def killed(progress):
        first(progress)
        if progress.step == 6:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        quick_fit(dataset, callback=killed, **options)
    assert [int(row["step"]) for row in rows_of(path)] == [1, 2, 3, 4, 5, 6]
    logger = CSVLogger(path, every=1, grid_every=None)
    augment = quick_fit(dataset, callback=logger, **options)
    assert [float(row["loss"]) for row in rows_of(path)] == augment.history["loss"]
    quick_fit(dataset, callback=logger, steps=2, epochs=None)
    assert [int(row["step"]) for row in rows_of(path)] == [1, 2]


def log_steps(path, places):
    """Log each of (restarts, step) as a fit would; the places that are in the file then."""
    logger = CSVLogger(path, every=1, grid_every=None)
    for restarts, step in places:
        logger(SimpleNamespace(step=step, total_steps=9, restarts=restarts, losses=dict.fromkeys(LOSS_PARTS, 1.0)))
    return [(int(row["restarts"]), int(row["step"])) for row in rows_of(path)]


def test_csv_keeps_the_rows_of_a_fit_that_starts_again(tmp_path):
    made = [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    assert log_steps(tmp_path / "a.csv", made) == made
    again = [(1, 2), (1, 3)]  # from a checkpoint after the first step of the second start
    assert log_steps(tmp_path / "a.csv", again) == [*made[:4], *again]
    assert log_steps(tmp_path / "a.csv", made[:1]) == made[:1]


@pytest.mark.parametrize("kept_bytes", [1, 2, 6, 16, -1])
def test_csv_drops_a_last_row_that_was_cut_short(kept_bytes, tmp_path):
    path = tmp_path / "a.csv"
    log_steps(path, [(0, 1), (0, 2)])
    whole = path.read_bytes()
    row = whole.splitlines(keepends=True)[-1].replace(b"2,", b"3,", 1)
    path.write_bytes(whole + row[:kept_bytes])
    assert log_steps(path, [(0, 4)]) == [(0, 1), (0, 2), (0, 4)]


@pytest.mark.parametrize(
    "content",
    [
        "something else\n",
        "something else, without an end",
        "epoch,loss\r\n1,0.5\r\n",
        f"{','.join(CSVLogger.HEADER)},mine\r\n",
        f"{','.join(CSVLogger.HEADER)}\r\none,1,1,1,0,\r\n",
    ],
)
def test_csv_refuses_a_file_of_something_else_and_leaves_it_as_it_is(content, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode())
    with pytest.raises(ValueError, match=r"a\.csv exists and is not a log of a fit.*Give another name, or remove it"):
        CSVLogger(path)
    assert path.read_bytes() == content.encode()


def test_csv_takes_an_empty_file(tmp_path):
    (tmp_path / "a.csv").touch()
    assert log_steps(tmp_path / "a.csv", [(0, 1)]) == [(0, 1)]


@pytest.mark.ecosystem("TensorBoard", needs="tensorboard", shows="`fit(…, callback=TensorBoardLogger(folder))`")
def test_tensorboard(dataset, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, every=2, grid_every=4)
    augment = quick_fit(dataset, steps=6, epochs=None, callback=logger)
    logger.writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    losses = events.Scalars("glico/loss")
    assert [event.step for event in losses] == [2, 4, 6]
    assert [event.value for event in losses] == [augment.history["loss"][step - 1] for step in (2, 4, 6)]
    assert [event.step for event in events.Images("glico/reconstructions")] == [4, 6]
    assert events.Images("glico/reconstructions")[0].encoded_image_string.startswith(b"\x89PNG")
    assert [event.step for event in events.Scalars("glico/R2")] == [4, 6]


def test_tensorboard_takes_a_writer(dataset):
    class Writer:
        names: set = set()  # noqa: RUF012

        def add_scalar(self, name, value, step):
            self.names.add(name)

        def add_image(self, name, pixels, step):
            self.names.add(name)

        def flush(self):
            pass

    writer = Writer()
    quick_fit(dataset, steps=1, epochs=None, callback=TensorBoardLogger(writer))
    assert {"glico/loss", "glico/R2", "glico/reconstructions"} <= writer.names


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.ecosystem("MLflow", needs="mlflow", shows="`fit(…, callback=MLflowLogger())` in a run")
def test_mlflow(dataset, tmp_path, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        augment = quick_fit(dataset, steps=6, epochs=None, callback=MLflowLogger(every=2, grid_every=6))
    client = mlflow.MlflowClient()
    losses = client.get_metric_history(run.info.run_id, "glico/loss")
    assert [metric.step for metric in losses] == [2, 4, 6]
    assert [metric.value for metric in losses] == [augment.history["loss"][step - 1] for step in (2, 4, 6)]
    assert [file.path for file in client.list_artifacts(run.info.run_id, "glico")] == [
        "glico/reconstructions-000006.png"
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.ecosystem("Weights & Biases", needs="wandb", shows="`fit(…, callback=WandbLogger(run))`")
def test_wandb(dataset, tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(tmp_path)
    run = wandb.init(dir=tmp_path)
    logged = []
    monkeypatch.setattr(type(run), "log", lambda self, values, **options: logged.append(values), raising=False)
    augment = quick_fit(dataset, steps=4, epochs=None, callback=WandbLogger(run, every=2, grid_every=4))
    run.finish()
    assert [values["glico/step"] for values in logged] == [2, 4, 4]
    assert logged[0]["glico/loss"] == augment.history["loss"][1]
    assert isinstance(logged[2]["glico/reconstructions"], wandb.Image)


@pytest.mark.parametrize(
    ("module", "logger"),
    [("tensorboard", TensorBoardLogger), ("mlflow", MLflowLogger), ("wandb", WandbLogger)],
)
def test_without_its_tool_a_logger_says_what_to_install(module, logger, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"{module} is not installed: pip install"):
        logger(os.fspath(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"every": 0}, "every must be"), ({"grid_every": 0}, "grid_every must be .*, or None"), ({"every": 1.5}, "every")],
)
def test_bad_settings_are_told_before_the_fit(options, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        CSVLogger(tmp_path / "a.csv", **options)
    with pytest.raises(OSError, match="there is no folder"):
        CSVLogger(tmp_path / "nothing" / "a.csv")
    with pytest.raises(ValueError, match=r"ends in \.csv"):
        CSVLogger(tmp_path / "a")
