"""A fit in several processes is the fit in one."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import QUICK, quick_fit, smooth_images
from safetensors.torch import load_file
from torch.utils.data import TensorDataset
from torchvision.transforms.functional import to_pil_image

from glico_augment import GLICOAugment
from glico_augment.data.image_set import read_image_set
from glico_augment.fit.loop import Fit
from glico_augment.fit.ranks import Ranks

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="needs torch.distributed")

SCRIPT = """
    import sys
    import torch
    import torch.distributed as dist
    from torch.utils.data import TensorDataset
    sys.path[:0] = [{tests!r}, {tests!r} + "/fit"]
    from safetensors.torch import save_file
    from test_distributed import gradients
    from conftest import LABELS, quick_fit, smooth_images

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    images = smooth_images(len(LABELS))
    {body}
    dist.destroy_process_group()
"""


def torchrun(tmp_path, body, *, processes=2):
    """Run ``body`` in a group of processes; its return code and what it wrote to standard error."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parents[1]), body=textwrap.dedent(body)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, env=environment)
    return done.returncode, done.stderr


def fit_in_processes(tmp_path, processes, **settings):
    body = f"""
steps = []
note = lambda progress: steps.append(progress.step)
augment = quick_fit(TensorDataset(images, LABELS), callback=note, **{settings!r})
augment.save(f"{tmp_path}/{{rank}}.safetensors")
open(f"{tmp_path}/{{rank}}.steps", "w").write(str(steps))
"""
    code, error = torchrun(tmp_path, body, processes=processes)
    assert code == 0, error
    return [GLICOAugment.load(tmp_path / f"{rank}.safetensors") for rank in range(processes)]


def assert_same_fit(made, expected):
    for part, values in expected.history.items():
        torch.testing.assert_close(torch.tensor(made.history[part]), torch.tensor(values), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(made.codes.codes, expected.codes.codes, atol=2e-3, rtol=0)
    torch.testing.assert_close(made.reconstruct(), expected.reconstruct(), atol=2e-3, rtol=0)


SETTINGS = {
    "default": {},
    "small batches": {"batch_size": 2},  # some leave a process without images
    "no classifier": {"classifier_weight": 0.0, "pixel_weight": 0.5},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Several fits by two processes, each saved by each, and one fit that the second process stops."""
    folder = tmp_path_factory.mktemp("fits")
    body = f"""
dataset = TensorDataset(images, LABELS)
for name, settings in {SETTINGS!r}.items():
    quick_fit(dataset, **settings).save(f"{folder}/{{name}} {{rank}}.safetensors")
unlabeled = TensorDataset(smooth_images(3, seed=5))
quick_fit(dataset, unlabeled=unlabeled).save(f"{folder}/unlabelled {{rank}}.safetensors")
stopped = quick_fit(dataset, callback=lambda progress: rank == 1 and progress.step == 3)
stopped.save(f"{folder}/stopped {{rank}}.safetensors")
save_file(gradients(dataset), f"{folder}/gradients {{rank}}")
"""
    code, error = torchrun(folder, body)
    assert code == 0, error
    return folder


def gradients(dataset):
    """Those of the first step of a fit, by name."""
    image_set = read_image_set(dataset)
    config = QUICK.resolved(len(image_set), image_set.image_shape)
    run = Fit(image_set, config, device=torch.device("cpu"), seed=0)
    run.step()
    named = {name: value.grad for name, value in run.networks.named_parameters()}
    # The first moment of a first step is a fixed share of the gradient, in the rows of this process's images.
    return {name: value.contiguous() for name, value in named.items()} | {"codes": run.code_adam.first}


def load_both(folder, name):
    return [GLICOAugment.load(folder / f"{name} {rank}.safetensors") for rank in (0, 1)]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_loss_curve_and_the_codes_of_two_processes_are_those_of_one(folder, dataset, name):
    first, second = load_both(folder, name)
    assert_same_fit(first, quick_fit(dataset, **SETTINGS[name]))
    assert torch.equal(first.codes.codes, second.codes.codes)
    assert torch.equal(first.reconstruct(), second.reconstruct())
    assert first.history == second.history


def test_the_gradients_of_two_processes_are_those_of_one(folder, dataset):
    expected = gradients(dataset)
    first, second = (load_file(folder / f"gradients {rank}") for rank in (0, 1))
    torch.testing.assert_close(first.pop("codes") + second.pop("codes"), expected.pop("codes"), atol=1e-6, rtol=1e-3)
    for name, value in expected.items():  # reduced, so the same in both
        torch.testing.assert_close(first[name], value, atol=1e-6, rtol=1e-3)
        assert torch.equal(first[name], second[name])


def test_unlabelled_images_count_in_every_process(folder, dataset):
    expected = quick_fit(dataset, unlabeled=TensorDataset(smooth_images(3, seed=5)))
    for fitted in load_both(folder, "unlabelled"):
        assert_same_fit(fitted, expected)


def test_one_process_that_wants_to_stop_stops_all(folder):
    assert [len(fitted.history["loss"]) for fitted in load_both(folder, "stopped")] == [3, 3]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 3)])
def test_a_fit_stopped_with_some_processes_goes_on_with_others(tmp_path, dataset, before, after):
    part = """
quick_fit(TensorDataset(images, LABELS), checkpoint={path!r}, checkpoint_every=5{more})
"""
    path = str(tmp_path / "fit.checkpoint")
    # A callback that ends the fit would be kept in the file, so the process ends instead, after the write at step 5.
    leave = ", callback=lambda progress: progress.step == 6 and (dist.barrier(), __import__('os')._exit(3))"
    code, _ = torchrun(tmp_path, part.format(path=path, more=leave), processes=before)
    assert code != 0
    assert Path(path).exists()
    fitted = fit_in_processes(tmp_path, after, checkpoint=path, checkpoint_every=5)
    assert json.loads((tmp_path / "0.steps").read_text())[0] == 6  # not anew
    assert_same_fit(fitted[-1], quick_fit(dataset))


def test_processes_that_read_different_images_are_told(tmp_path):
    code, error = torchrun(tmp_path, "quick_fit(TensorDataset(images.roll(rank, 0), LABELS))")
    assert code != 0
    assert "must be the same in all processes" in error


def test_the_command_line_fits_in_processes_and_writes_one_file(tmp_path, images):
    for index, image in enumerate(images):
        folder = tmp_path / "photos" / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(folder / f"{index}.png")
    fit = ["fit", tmp_path / "photos", "--epochs", "2", "--batch-size", "4", "--device", "cpu", "-o"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    outputs = []
    for prefix, name in ((launch, "two"), ([sys.executable, "-m"], "one")):
        command = [*prefix, "glico_augment.cli", *fit, tmp_path / f"{name}.safetensors"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0].count("written to") == 1
    made, expected = (GLICOAugment.load(tmp_path / f"{name}.safetensors") for name in ("two", "one"))
    assert_same_fit(made, expected)


def test_without_a_group_there_is_one_process_which_owns_all():
    ranks = Ranks()
    assert (ranks.index, ranks.count, ranks.is_first) == (0, 1, True)
    assert ranks.own(torch.arange(5)).all()
