import math

import pytest
import torch
from conftest import LABELS, QUICK, quick_fit, smooth_images
from torch import nn
from torch.utils.data import TensorDataset

from glico_augment import DivergenceError, GLICOAugment, LaplacianLoss
from glico_augment.data.image_set import read_image_set
from glico_augment.devices import choose_device
from glico_augment.fit import loop
from glico_augment.fit.loop import Fit, learning_rate_factor

CPU = torch.device("cpu")


def new_fit(dataset, *, unlabeled=None, **overrides):
    image_set = read_image_set(dataset, unlabeled=unlabeled)
    config = QUICK.replace(**overrides).resolved(len(image_set), image_set.image_shape)
    return Fit(image_set, config, device=CPU, seed=0)


def test_fit_lowers_the_reconstruction_and_the_classification_loss(learned):
    history = learned.history
    for part in ("reconstruction", "classification"):
        assert sum(history[part][-10:]) < 0.5 * sum(history[part][:10])


def test_codes_are_on_the_sphere_after_every_step(dataset):
    norms = []
    run = new_fit(dataset)
    run.run([lambda progress: norms.append(progress.model.codes.codes.norm(dim=1).detach().clone())])
    assert len(norms) == run.total_steps
    torch.testing.assert_close(torch.stack(norms), torch.ones(len(norms), len(LABELS)), atol=1e-6, rtol=0)


def test_every_code_learns(dataset):
    run = new_fit(dataset)
    before = run.model.codes.codes.detach().clone()
    run.run()
    assert ((run.model.codes.codes - before).norm(dim=1) > 1e-3).all()


def test_a_pass_shows_every_image_once(dataset):
    run = new_fit(dataset, batch_size=3)
    shown = torch.cat([run.order.next_batch() for _ in range(8)])
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
        quick_fit(data, classifier_weight=0.0, class_cosine=0.0).codes.codes
        for data in (TensorDataset(images, LABELS), relabeled)
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
    assert run._classification_loss(logits, unlabeled).item() == 0
    mixed = torch.tensor([0, len(LABELS)])
    alone = run._classification_loss(logits[:1], mixed[:1])
    torch.testing.assert_close(run._classification_loss(logits, mixed), alone)
    assert run.targets.compare(torch.rand(2, *run.model.generator.image_shape), unlabeled) > 0


def test_a_labelled_image_weighs_in_the_cross_entropy_what_it_does_in_the_reconstruction(dataset):
    count = len(LABELS) + 4
    unlabeled = TensorDataset(smooth_images(4, seed=9))
    run = new_fit(dataset, unlabeled=unlabeled, batch_size=count, noise_std=0.0)
    with torch.no_grad():
        codes = run.model.codes.codes[: len(LABELS)]
        logits = run.model.classifier(run.model.generator(codes))
        expected = nn.functional.cross_entropy(logits, run.model.codes.class_indices, reduction="sum") / count
    run.step()
    _, _, classification = run.history[0]
    torch.testing.assert_close(classification, expected)


@pytest.mark.parametrize("loss", ["laplacian", "random-vgg16", nn.MSELoss()])
def test_every_loss_fits(dataset, loss):
    augment = quick_fit(dataset, epochs=2, loss=loss)
    assert all(map(math.isfinite, augment.history["loss"]))


def test_a_module_as_loss_is_minimised(dataset):
    history = quick_fit(dataset, loss=nn.MSELoss(), epochs=80).history["reconstruction"]
    assert sum(history[-5:]) < 0.5 * sum(history[:5])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (9, 24), (1, 5)])
def test_images_of_any_channels_and_size_fit(channels, height, width):
    data = TensorDataset(smooth_images(4, channels=channels, height=height, width=width), torch.arange(4) // 2)
    assert quick_fit(data, epochs=1).reconstruct().shape == (4, channels, height, width)


def test_a_fit_in_bfloat16_learns_as_in_float32(dataset, learned):
    with torch.autocast("cpu", torch.bfloat16):  # whose cache of cast weights must not outlive a step
        augment = quick_fit(dataset, epochs=60, precision="bfloat16")
    assert augment.codes.codes.dtype == torch.float32
    assert augment.quality.r2 > learned.quality.r2 - 0.1 > 0.5


def test_callback_sees_every_step_and_can_stop(dataset):
    seen = []

    def stop_at_seven(progress):
        seen.append((progress.step, progress.total_steps, set(progress.losses)))
        return progress.step == 7

    augment = quick_fit(dataset, callback=stop_at_seven)
    assert seen == [(step, 12, {"loss", "reconstruction", "classification"}) for step in range(1, 8)]
    assert len(augment.history["loss"]) == 7


@pytest.mark.parametrize("answer", [1, "stop", 0.5, [1], None, False], ids=repr)
def test_only_true_stops_a_fit(dataset, answer):
    assert len(quick_fit(dataset, epochs=1, callback=lambda progress: answer).history["loss"]) == 2


def test_a_callback_sees_images_it_can_use_and_keep(dataset):
    kept = []
    final = quick_fit(dataset, callback=lambda progress: kept.append(progress.augment))
    assert len(kept) == 12
    assert [len(each.history["loss"]) for each in kept] == list(range(1, 13))
    assert all(isinstance(each, GLICOAugment) for each in kept)
    assert not torch.equal(kept[0].reconstruct(), kept[-1].reconstruct())
    torch.testing.assert_close(kept[-1].reconstruct(), final.reconstruct(), rtol=0, atol=0)
    assert kept[-1].quality == final.quality


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_fit_does_not_depend_on_the_gradient_mode_around_it(dataset, context):
    with context():
        inside = quick_fit(dataset)
    assert torch.equal(inside.codes.codes, quick_fit(dataset).codes.codes)


def test_the_noise_differs_from_step_to_step_and_from_the_first_codes(dataset):
    run = new_fit(dataset, noise_dim=6, batch_size=8, latent_dim=6, class_cosine=0.0)
    first_codes = run.model.codes.codes.detach().clone()
    seen = []
    run.model.generator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    for _ in range(4):
        run.step()
    assert len({tuple(noise.flatten().tolist()) for noise in seen}) == 4
    noise = torch.cat(seen) / 0.15
    assert noise.std() == pytest.approx(1, abs=0.15)
    directions = noise / noise.norm(dim=1, keepdim=True)
    assert (directions @ first_codes.T).max() < 0.999  # one stream for both would give the codes' directions again


@pytest.mark.parametrize(
    ("schedule", "steps_done", "rate"), [("constant", 9, 1e-3), ("cosine", 0, 1e-3), ("cosine", 9, 1.5e-4)]
)
def test_a_code_moves_by_its_learning_rate_which_falls_as_the_schedule_says(dataset, schedule, steps_done, rate):
    run = new_fit(dataset, code_lr=1e-3, batch_size=8, epochs=12, schedule=schedule)
    run.steps_done = steps_done
    before = run.model.codes.codes.detach().clone()
    run.step()
    # Adam's first step moves every coordinate by the rate; projection removes what points outwards.
    moved = (run.model.codes.codes - before).norm(dim=1)
    assert moved.max() <= rate * 6**0.5 * 1.01
    assert moved.max() > rate * 0.5


@pytest.mark.parametrize("batch_size", [2, 4, 8])
def test_the_schedule_step_halves_the_rates_after_70_passes_over_the_set(dataset, batch_size):
    run = new_fit(dataset, batch_size=batch_size, epochs=100, lr=1e-3, schedule="step")
    steps_per_pass = len(LABELS) // batch_size
    for steps_done, expected in ((70 * steps_per_pass - 1, 1e-3), (70 * steps_per_pass, 5e-4)):
        run.steps_done = steps_done
        run.step()
        assert run.network_adam.param_groups[0]["lr"] == pytest.approx(expected)


def test_the_code_of_an_image_shown_twice_in_a_batch_takes_the_sum_of_both_gradients(dataset):
    moments = []
    for batch in ([5], [5, 5]):  # a loss is a mean over the batch, so that each of the two has half the gradient
        run = new_fit(dataset, batch_size=len(batch), noise_std=0.0)
        run.order.left = torch.tensor(batch)
        run.step()
        moments.append(run.code_adam.first[5])
    torch.testing.assert_close(moments[1], moments[0])
    assert moments[0].abs().max() > 1e-6


def test_a_code_moves_alike_in_sets_of_any_size(images):
    def moved(count):
        data = TensorDataset(smooth_images(count), torch.arange(count) % 2)
        run = new_fit(data, batch_size=4, epochs=1, steps=None, code_lr=1e-3, schedule="constant", lr=1e-9)
        before = run.model.codes.codes.detach().clone()
        run.run()
        return (run.model.codes.codes.detach() - before).norm(dim=1).mean().item()

    assert moved(8) == pytest.approx(moved(400), rel=0.1)


def test_beta1_is_that_of_both_optimisers(dataset):
    slow, fast = (quick_fit(dataset, adam_beta1=beta) for beta in (0.9, 0.0))
    assert not torch.equal(slow.codes.codes, fast.codes.codes)
    assert not torch.equal(slow.generator.project.weight, fast.generator.project.weight)
    run = new_fit(dataset, adam_beta1=0.3)
    assert run.code_adam.betas == run.network_adam.param_groups[0]["betas"] == (0.3, 0.999)


@pytest.mark.parametrize("name", ["pixel_weight", "squared_weight"])
def test_added_distances_are_the_mean_ones_in_their_units(dataset, images, name):
    plain, weighted = (new_fit(dataset, **{"pixel_weight": 0, "squared_weight": 0, name: w}) for w in (0.0, 3.0))
    outputs, indices = torch.rand(2, 3, 12, 10), torch.tensor([4, 1])
    real = images / 255
    distance = {
        "pixel_weight": (outputs - real[indices]).abs().mean(),
        "squared_weight": (outputs - real[indices]).square().mean() / (real - real.mean(dim=0)).square().mean(),
    }[name]
    added = weighted._reconstruction_loss(outputs, indices) - plain._reconstruction_loss(outputs, indices)
    torch.testing.assert_close(added, 3 * distance)


def test_gradients_of_the_networks_are_clipped_at_the_norm_given(dataset):
    for norm, expected in ((1e-3, 1e-3), (None, None)):
        run = new_fit(dataset, max_grad_norm=norm)
        run.step()
        total = torch.stack([value.grad.norm() for value in run.networks.parameters()]).norm().item()
        assert total == pytest.approx(expected, rel=1e-3) if expected else total > 1e-2


def test_a_fit_starts_at_the_mean_image(dataset, images):
    made = new_fit(dataset).model.reconstruct(torch.arange(8))
    mean = (images / 255).mean(dim=0).clamp(0.01, 0.99)
    assert (made - mean).abs().mean() < 0.03


@pytest.mark.parametrize("value", [0, 255])
def test_a_fit_of_black_or_white_images_starts_near_them_where_the_sigmoid_passes_a_gradient(value):
    data = TensorDataset(torch.full((4, 3, 12, 10), value, dtype=torch.uint8), torch.arange(4) % 2)
    made = new_fit(data).model.reconstruct(torch.arange(4))
    assert (made - value / 255).abs().max() < 0.03
    assert (made * (1 - made)).min() > 0.003


def stuck(monkeypatch, *, times):
    """The first starts of a fit have a generator that can draw one image alone."""
    starts = []
    original = loop.initial_model

    def initial(*args):
        model = original(*args)
        starts.append(model)
        if len(starts) <= times:
            model.generator.to_image.weight.data.zero_()
            model.generator.to_image.weight.register_hook(torch.zeros_like)
        return model

    monkeypatch.setattr(loop, "initial_model", initial)
    return starts


def test_a_fit_that_draws_one_image_starts_again_at_a_lower_rate(dataset, monkeypatch, learned):
    starts = stuck(monkeypatch, times=2)
    augment = quick_fit(dataset, epochs=100)
    assert augment.record.restarts == 2
    assert len(starts) == 3
    assert augment.quality.r2 > 0.5
    assert len(augment.history["loss"]) == 200
    weights = [model.generator.project.weight for model in starts]
    assert len({tuple(weight.flatten().tolist()) for weight in weights}) == 3
    assert learned.record.restarts == 0


def test_every_start_again_has_a_third_of_the_rates(dataset):
    run = new_fit(dataset, schedule="constant", lr=0.9)
    for restarts, expected in ((0, 0.9), (1, 0.3), (2, 0.1)):
        run.restarts = restarts
        run.step()
        assert run.network_adam.param_groups[0]["lr"] == pytest.approx(expected)


@pytest.mark.parametrize("restarts", [0, 1])
def test_the_mean_image_costs_the_distance_of_pixels_once(dataset, restarts):
    run = new_fit(dataset, squared_weight=3.0)
    run.restarts = restarts
    every = torch.arange(len(LABELS))
    real = run.targets.unit(every)
    mean = real.mean(dim=0, keepdim=True).expand_as(real)
    more = run._reconstruction_loss(mean, every) - run._reconstruction_loss(real, every)
    assert more - run.targets.compare(mean, every) == pytest.approx(3.0, rel=1e-4)


def test_after_a_start_again_a_black_image_is_still_drawn_to_a_bright_pixel(dataset):
    run = new_fit(dataset)
    gradients = []
    for run.restarts in (0, 1):
        logits = torch.full((1, *run.image_set.image_shape), -20.0, requires_grad=True)
        run._reconstruction_loss(logits.sigmoid(), torch.tensor([0])).backward()
        gradients.append(logits.grad.abs().max().item())
    assert gradients[0] < 1e-8
    assert gradients[1] > 1e-4


def test_a_fit_starts_again_twice_at_most_and_says_that_it_has_not_learned(dataset, monkeypatch):
    stuck(monkeypatch, times=9)
    monkeypatch.setattr(loop, "_TRIAL_STEPS", 1)
    with pytest.warns(UserWarning, match=r"R² is -?0\.\d+ .*after 2 starts at lower rates.*min_steps=, now 40 steps"):
        augment = quick_fit(dataset, epochs=20)
    assert augment.record.restarts == 2
    assert augment.quality.r2 < 0.01


def test_a_fit_that_started_again_resumes_to_the_same_bits(dataset, monkeypatch, tmp_path):
    monkeypatch.setattr(loop, "_TRIAL_STEPS", 1)
    stuck(monkeypatch, times=1)
    settings = {"epochs": 50, "checkpoint_every": 5}
    whole = quick_fit(dataset, **settings)
    # At the end of the trial, and of the steps after the new start, before and after its trial.
    for restarts, stop in ((0, 15), (1, 10), (1, 25)):
        stuck(monkeypatch, times=1)

        def stop_late(progress, restarts=restarts, stop=stop):
            if (progress.restarts, progress.step) == (restarts, stop):
                raise KeyboardInterrupt

        path = tmp_path / f"{restarts} {stop}"
        with pytest.raises(KeyboardInterrupt):
            quick_fit(dataset, checkpoint=path, callback=stop_late, **settings)
        monkeypatch.undo()
        monkeypatch.setattr(loop, "_TRIAL_STEPS", 1)
        resumed = quick_fit(dataset, checkpoint=path, **settings)
        assert torch.equal(resumed.codes.codes, whole.codes.codes)
        assert resumed.record.restarts == 1
        assert resumed.quality == whole.quality


def test_divergence_names_the_step_and_what_to_lower(dataset):
    class TurnsNaN(nn.Module):
        calls = 0

        def forward(self, outputs, targets):
            self.calls += 1
            return (outputs - targets).abs().mean() * (float("nan") if self.calls == 5 else 1.0)

    with pytest.raises(DivergenceError, match=r"at step 5 of 12 .*Lower lr \(now 0.01\) and code_lr"):
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
        GLICOAugment.fit(dataset, config=QUICK, device=device, progress=False)


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
