"""What a CUDA GPU has to do as a CPU does it; beside these, some tests of the swap, the fit and the style need one."""

import copy
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import LABELS, QUICK, QUICK_OPTIONS, quick_fit
from torch.utils.data import DataLoader

from glico_augment import GLICOAugment, SyntheticBank
from glico_augment.data.image_set import read_image_set
from glico_augment.devices import to_device
from glico_augment.fit.checkpoint import state_of
from glico_augment.fit.loop import Fit
from glico_augment.synthesis import graphs

CUDA = torch.device("cuda")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture
def no_waiting():
    """A function after whose call torch raises where the CPU waits for the GPU."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def new_fit(dataset, **overrides):
    image_set = read_image_set(dataset)
    config = QUICK.replace(**overrides).resolved(len(image_set), image_set.image_shape)
    return Fit(image_set, config, device=CUDA, seed=0)


def test_the_steps_of_a_fit_do_not_wait_for_the_gpu(dataset, no_waiting):
    fit = new_fit(dataset)
    for _ in range(5):  # after which its kernels are one graph
        fit.step()
    no_waiting()
    for _ in range(3):
        fit.step()
    torch.cuda.set_sync_debug_mode("default")
    assert fit.steps_done == 8
    assert bool(fit.history[:8].isfinite().all())


@pytest.mark.parametrize("options", [{}, {"loss": "random-vgg16"}, {"noise_std": 0.0}, {"classifier_weight": 0.0}])
def test_a_step_as_one_graph_is_the_step(dataset, options):
    fits = [new_fit(dataset, precision="float32", **options) for _ in range(2)]
    fits[1]._optimize.is_wanted = False
    for _ in range(10):
        for fit in fits:
            fit.step()
    graph, eager = (state_of(fit)[0] for fit in fits)
    assert fits[0]._optimize.is_captured
    # Adam takes the sign of a gradient near 0, which rounding can turn, so that single weights go their own way.
    torch.testing.assert_close(graph["history"], eager["history"], rtol=0.02, atol=0.01)
    for name in ("model.codes.codes", "model.generator.project.weight"):
        assert torch.isclose(graph[name], eager[name], rtol=1e-2, atol=1e-3).float().mean() > 0.9, name
    assert torch.equal(graph["order"], eager["order"])


def test_a_loss_of_the_users_own_may_wait_for_the_gpu(dataset):
    class Waiting(torch.nn.Module):
        def forward(self, output, target):
            assert (output - target).abs().mean().item() >= 0
            return (output - target).abs().mean()

    assert len(quick_fit(dataset, device=CUDA, loss=Waiting()).history["loss"]) == 12


@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", torch.bfloat16), ("bfloat16", torch.bfloat16), ("float32", torch.float32)]
)
def test_a_fit_computes_in_its_precision_and_keeps_float32(dataset, precision, dtype):
    fit = new_fit(dataset, precision=precision)
    seen = set()
    for module in fit.model.classifier.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    fit.step()
    assert seen == {dtype}
    assert {parameter.dtype for parameter in fit.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_fit_learns_its_images_as_on_the_cpu(dataset, precision):
    augment = quick_fit(dataset, epochs=150, device=CUDA, precision=precision)
    assert augment.quality.r2 > quick_fit(dataset, epochs=150).quality.r2 - 0.1
    assert (augment.codes.codes.norm(dim=1) - 1).abs().max() < 1e-5


def test_a_file_of_a_fit_on_the_gpu_makes_the_same_images_on_either_device(dataset, tmp_path):
    quick_fit(dataset, device=CUDA).save(tmp_path / "a.safetensors")
    on_cpu = GLICOAugment.load(tmp_path / "a.safetensors")
    on_gpu = GLICOAugment.load(tmp_path / "a.safetensors", device=CUDA)
    params = on_cpu.make_params(LABELS)
    fields = {name: to_device(value, CUDA) for name, value in vars(params).items() if value is not None}
    made = on_gpu.transform(dataclasses.replace(params, **fields))
    assert made.device.type == "cuda"
    torch.testing.assert_close(made.cpu(), on_cpu.transform(params), atol=5e-3, rtol=0)
    assert torch.equal(on_gpu.reconstruct(), on_cpu.reconstruct())  # which is on the CPU


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_is_swapped_where_it_lies_in_its_dtype_and_on_its_own_coins(augment, images, dtype):
    batch = (images if dtype == torch.uint8 else images / 255).repeat(20, 1, 1, 1).to(CUDA)
    swapped, labels = augment(batch, LABELS.repeat(20).to(CUDA))
    assert (swapped.device, swapped.dtype, swapped.shape) == (batch.device, dtype, batch.shape)
    assert labels.device == batch.device
    is_swapped = (swapped != batch).flatten(1).any(dim=1)
    assert 0.3 < is_swapped.float().mean() < 0.7


def on_cuda(labels):
    return labels.repeat(3).to(CUDA)


def test_a_swap_as_one_graph_draws_and_makes_what_it_does_without(augment):
    made = []
    for _ in range(4):  # the first without a graph
        torch.manual_seed(1)
        made.append(augment.make(on_cuda(LABELS)))
    assert [graph.is_captured for graph in augment._graphs._graphs.values()] == [True]
    for images, is_known in made[1:]:
        assert bool(is_known.all())
        torch.testing.assert_close(images, made[0][0], atol=5e-3, rtol=0)
    torch.manual_seed(2)
    assert (augment.make(on_cuda(LABELS))[0] - made[0][0]).abs().amax() > 0.01


def test_graphs_of_other_numbers_of_images_leave_earlier_images_alone(augment):
    augment.max_ratio, augment.noise_std = 0.0, 0.0  # so that each image is a reconstruction
    labels, anchors = on_cuda(LABELS), on_cuda(torch.arange(len(LABELS)))
    expected = augment.model_on(CUDA).reconstruct(anchors)
    calls = [(count, step) for step, count in enumerate([5, 24, 9, 24, 5, 11, 9, 11, 5, 24])]
    made = []
    for count, step in calls:  # other anchors each time
        made.append(augment.make(labels.roll(step)[:count], anchors=anchors.roll(step)[:count])[0])
    for (count, step), images in zip(calls, made, strict=True):
        torch.testing.assert_close(images, expected.roll(step, dims=0)[:count], atol=5e-3, rtol=0)


def test_threads_and_streams_have_graphs_of_their_own(augment):
    augment.max_ratio, augment.noise_std = 0.0, 0.0
    labels, anchors = on_cuda(LABELS), on_cuda(torch.arange(len(LABELS)))
    expected = augment.model_on(CUDA).reconstruct(anchors)

    def make(step):
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                made, _ = augment.make(labels.roll(step), anchors=anchors.roll(step))
                torch.testing.assert_close(made, expected.roll(step, dims=0), atol=5e-3, rtol=0)
        return step

    torch.cuda.synchronize()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(make, range(4))) == [0, 1, 2, 3]


def test_graphs_are_forgotten_when_there_are_too_many_and_are_not_copied(augment, monkeypatch):
    monkeypatch.setattr(graphs, "_MAX_GRAPHS", 3)
    augment.noise_std = 0.0
    anchors = torch.arange(len(LABELS), device=CUDA)
    expected = augment.model_on(CUDA).reconstruct(anchors)
    for count in (5, 6, 7, 8, 5, 6):
        for ratio in (0.0, 0.3, 0.0):
            augment.max_ratio = ratio
            made = [augment.make(LABELS.to(CUDA)[:count], anchors=anchors[:count])[0] for _ in range(2)]
        torch.testing.assert_close(made[1], expected[:count], atol=5e-3, rtol=0)
        assert len(augment._graphs._graphs) <= 3
    assert not copy.deepcopy(augment)._graphs._graphs


def test_a_switch_turns_graphs_off(augment, dataset, monkeypatch):
    monkeypatch.setenv("GLICO_CUDA_GRAPHS", "0")
    for _ in range(3):
        augment.make(LABELS.to(CUDA))
    assert not augment._graphs._graphs
    assert not new_fit(dataset)._optimize.is_wanted


def test_a_graph_is_of_the_settings_of_its_swap(augment):
    anchors = torch.arange(len(LABELS), device=CUDA)
    for _ in range(3):
        augment.make(LABELS.to(CUDA), anchors=anchors)
    augment.max_ratio, augment.noise_std = 0.0, 0.0
    expected = augment.model_on(CUDA).reconstruct(anchors)
    for _ in range(3):
        torch.testing.assert_close(augment.make(LABELS.to(CUDA), anchors=anchors)[0], expected, atol=5e-3, rtol=0)
    for sampler in ("other-class", "noise", "random-out"):
        augment.sampler = sampler
        augment.max_ratio = 0.4
        for _ in range(3):
            torch.manual_seed(0)
            expected = augment.transform(augment.make_params(LABELS.to(CUDA)))
            torch.manual_seed(0)
            torch.testing.assert_close(augment.make(LABELS.to(CUDA))[0], expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_a_graph_made_in_a_mode_serves_outside_of_it(augment, images, context):
    augment.p = 1.0
    batch, labels = (images / 255).to(CUDA), LABELS.to(CUDA)
    with context():
        for _ in range(3):
            augment(batch, labels)
    assert all(graph.is_captured for graph in augment._graphs._graphs.values())
    weight = torch.ones((), device=CUDA, requires_grad=True)
    for _ in range(2):
        (weight * augment(batch, labels)[0]).sum().backward()
    assert weight.grad > 0


class KilledError(Exception):
    pass


def test_a_resumed_fit_goes_on_where_it_was_and_on_its_device_alone(dataset, tmp_path):
    path = tmp_path / "c"

    def die(progress):
        if progress.step == 9:
            raise KilledError

    with pytest.raises(KilledError):
        quick_fit(dataset, device=CUDA, checkpoint=path, checkpoint_every=4, callback=die)
    with pytest.raises(ValueError, match="device was 'cuda', is 'cpu'"):
        quick_fit(dataset, checkpoint=path)
    steps = []
    resumed = quick_fit(dataset, device=CUDA, checkpoint=path, callback=lambda state: steps.append(state.step))
    whole = quick_fit(dataset, device=CUDA)
    assert steps == [9, 10, 11, 12]
    # The same random numbers; sums on a GPU are not in the same order every time.
    torch.testing.assert_close(resumed.history["loss"], whole.history["loss"], rtol=0.02, atol=0)
    torch.testing.assert_close(resumed.codes.codes, whole.codes.codes, rtol=0, atol=0.02)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_take_the_images_of_a_bank_that_the_gpu_made(augment, dataset, images, context):
    augment.p = 1.0
    bank = SyntheticBank(augment, per_image=2, device=CUDA)
    made = {tuple(image.flatten().tolist()) for image in bank.images.flatten(0, 1)}
    loader = DataLoader(augment.wrap(dataset, bank=bank), batch_size=4, num_workers=1, multiprocessing_context=context)
    taken = torch.cat([batch for batch, _ in loader])
    assert {tuple(image.flatten().tolist()) for image in taken} <= made
    assert int(bank.n_taken.sum()) == len(images)
    before = bank.images.clone()
    bank.refresh()
    assert (bank.images != before).flatten(2).any(dim=2).sum() >= len(images) - 1


def test_the_command_line_fits_on_the_gpu(glico, photos, tmp_path):
    options = [*QUICK_OPTIONS[:-3], "--device", "cuda", "--quiet"]
    code, _, _ = glico("fit", photos / "train", "-o", tmp_path / "a.safetensors", *options)
    assert code == 0
    assert GLICOAugment.load(tmp_path / "a.safetensors").classes == ("cat", "dog")
