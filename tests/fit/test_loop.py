import math

import pytest
import torch
from conftest import LABELS, QUICK, quick_fit, smooth_images
from torch import nn
from torch.utils.data import TensorDataset

from glico_augment import DivergenceError, GLICOAugment, LaplacianLoss
from glico_augment.data.image_set import read_image_set
from glico_augment.devices import choose_device
from glico_augment.fit.loop import Fit, learning_rate_factor

CPU = torch.device("cpu")


def new_fit(dataset, *, unlabeled=None, **overrides):
    config = QUICK.replace(**overrides)
    return Fit(read_image_set(dataset, unlabeled=unlabeled), config, device=CPU, seed=0)


def test_fit_lowers_the_reconstruction_and_the_classification_loss(dataset):
    history = quick_fit(dataset, epochs=150).history
    for part in ("reconstruction", "classification"):
        assert sum(history[part][-10:]) < 0.5 * sum(history[part][:10])


def test_codes_are_on_the_sphere_after_every_step(dataset):
    norms = []
    run = new_fit(dataset)
    run.run([lambda progress: norms.append(progress.model.codes.codes.norm(dim=1).detach().clone()) or False])
    assert len(norms) == run.total_steps
    torch.testing.assert_close(torch.stack(norms), torch.ones(len(norms), len(LABELS)), atol=1e-6, rtol=0)


def test_every_code_learns(dataset):
    run = new_fit(dataset)
    before = run.model.codes.codes.detach().clone()
    run.run()
    assert ((run.model.codes.codes - before).norm(dim=1) > 1e-3).all()


def test_a_pass_shows_every_image_once(dataset):
    run = new_fit(dataset, batch_size=3)
    shown = torch.cat([run._next_batch() for _ in range(8)])
    assert [sorted(part.tolist()) for part in shown.split(len(LABELS))] == [list(range(len(LABELS)))] * 3


def test_one_generator_pass_a_step_serves_both_losses(dataset):
    run = new_fit(dataset)
    calls = []
    run.model.generator.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(3):
        run.step()
    assert len(calls) == 3


def test_loss_is_the_weighted_sum_of_its_parts(dataset):
    history = quick_fit(dataset, classifier_weight=0.25).history
    for total, reconstruction, classification in zip(*history.values(), strict=True):
        assert total == pytest.approx(reconstruction + 0.25 * classification, rel=1e-5)


def test_without_classifier_weight_the_codes_do_not_depend_on_the_labels(images):
    relabeled = TensorDataset(images, LABELS.flip(0))
    first, second = (
        quick_fit(data, classifier_weight=0.0).codes.codes for data in (TensorDataset(images, LABELS), relabeled)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_one_seed_gives_one_result_and_another_gives_another(dataset):
    first, again, other = quick_fit(dataset, seed=5), quick_fit(dataset, seed=5), quick_fit(dataset, seed=6)
    assert torch.equal(first.codes.codes, again.codes.codes)
    assert torch.equal(first.reconstruct(), again.reconstruct())
    assert not torch.equal(first.codes.codes, other.codes.codes)


def test_a_fit_leaves_the_global_random_state_alone(dataset):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    quick_fit(dataset)
    assert torch.equal(torch.get_rng_state(), state)


def test_unlabeled_images_get_codes_and_are_never_drawn(dataset):
    extra = smooth_images(4, seed=9)
    augment = quick_fit(dataset, unlabeled=TensorDataset(extra))
    assert len(augment.codes) == len(LABELS) + 4
    assert augment.codes.n_labeled == len(LABELS)
    assert len(augment.reconstruct()) == len(LABELS) + 4
    params = augment.make_params(LABELS.repeat(100))
    assert params.anchors.max() < len(LABELS)
    assert params.partners.max() < len(LABELS)


def test_unlabeled_images_are_reconstructed_but_not_classified(dataset):
    run = new_fit(dataset, unlabeled=TensorDataset(smooth_images(4, seed=9)))
    logits = torch.rand(2, 3)
    unlabeled = torch.tensor([len(LABELS), len(LABELS) + 1])
    assert run._classification_loss(logits, unlabeled, 0).item() == 0
    mixed = torch.tensor([0, len(LABELS)])
    alone = run._classification_loss(logits[:1], mixed[:1], 1)
    torch.testing.assert_close(run._classification_loss(logits, mixed, 1), alone)
    assert run.targets.compare(torch.rand(2, *run.model.generator.image_shape), unlabeled) > 0


@pytest.mark.parametrize("loss", ["laplacian", "random-vgg16", nn.MSELoss()])
def test_every_loss_fits(dataset, loss):
    augment = quick_fit(dataset, epochs=2, loss=loss)
    assert all(map(math.isfinite, augment.history["loss"]))


def test_a_module_as_loss_is_minimised(dataset):
    history = quick_fit(dataset, loss=nn.MSELoss(), epochs=250).history["reconstruction"]
    assert sum(history[-5:]) < 0.5 * sum(history[:5])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (9, 24), (1, 5)])
def test_images_of_any_channels_and_size_fit(channels, height, width):
    data = TensorDataset(smooth_images(4, channels=channels, height=height, width=width), torch.arange(4) // 2)
    assert quick_fit(data, epochs=1).reconstruct().shape == (4, channels, height, width)


def test_bfloat16_autocast_fits(dataset):
    augment = quick_fit(dataset, precision="bfloat16")
    assert all(map(math.isfinite, augment.history["loss"]))
    assert augment.codes.codes.dtype == torch.float32


def test_callback_sees_every_step_and_can_stop(dataset):
    seen = []

    def stop_at_seven(progress):
        seen.append((progress.step, progress.total_steps, set(progress.losses)))
        return progress.step == 7

    augment = quick_fit(dataset, callback=stop_at_seven)
    assert seen == [(step, 12, {"loss", "reconstruction", "classification"}) for step in range(1, 8)]
    assert len(augment.history["loss"]) == 7


def test_divergence_names_the_step_and_what_to_lower(dataset):
    class TurnsNaN(nn.Module):
        calls = 0

        def forward(self, outputs, targets):
            self.calls += 1
            return (outputs - targets).abs().mean() * (float("nan") if self.calls == 5 else 1.0)

    with pytest.raises(DivergenceError, match=r"at step 5 of 12 .*Lower lr \(now 0.002\) and code_lr"):
        quick_fit(dataset, loss=TurnsNaN())


@pytest.mark.parametrize("steps", [1, 20])
def test_a_huge_learning_rate_diverges_with_an_error(steps, dataset):
    with pytest.raises(DivergenceError, match=r"diverged at step \d+ of .*Lower lr"):
        quick_fit(dataset, lr=1e30, epochs=steps, batch_size=8)


def test_a_module_as_loss_is_left_as_it_was(dataset):
    loss = LaplacianLoss()
    augment = quick_fit(dataset, loss=loss, epochs=1)
    assert len(loss.scales) == 0
    assert augment.config.loss == "<LaplacianLoss>"


@pytest.mark.parametrize(
    ("schedule", "share", "epochs", "factor"),
    [
        ("cosine", 0.0, 0, 1.0),
        ("cosine", 0.5, 0, 0.5),
        ("cosine", 1.0, 0, 0.0),
        ("step", 0.9, 69.9, 1.0),
        ("step", 0.9, 70, 0.5),
        ("step", 0.1, 202, 0.25),
        ("constant", 0.9, 500, 1.0),
    ],
)
def test_learning_rates_follow_the_schedule(schedule, share, epochs, factor):
    assert learning_rate_factor(schedule, share, epochs) == pytest.approx(factor)


def test_a_batch_larger_than_the_set_is_refused(dataset):
    with pytest.raises(ValueError, match="batch_size must be at most the 8 images of the set; got 9"):
        quick_fit(dataset, batch_size=9)


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "abacus"])
def test_a_device_that_is_not_there_is_refused(dataset, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device .*{device}"):
        GLICOAugment.fit(dataset, QUICK, device=device, progress=False)


def test_no_device_picks_the_best_at_hand(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device(None).type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device(None).type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(None).type == "cuda"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda:0").index == 0
    with pytest.raises(ValueError, match="'cuda:1' was asked for but torch sees 1 CUDA GPUs"):
        choose_device("cuda:1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_fit_on_cuda_serves_the_cpu(dataset):
    augment = quick_fit(dataset, device="cuda", precision="auto")
    assert augment.model.device.type == "cpu"
    assert augment.wrap(dataset)[0][0].device.type == "cpu"
