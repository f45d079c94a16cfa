import copy
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import LABELS, PLAIN, QUICK, TENSOR_KINDS, quick_fit, smooth_images
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from glico_augment import FitConfig, GLICOAugment, SwapConfig
from glico_augment.data.samples import SampleLayout
from glico_augment.images import convert
from glico_augment.model import model as model_module


@pytest.fixture(params=[SwapConfig(), SwapConfig(**PLAIN)], ids=["default", "plain"])
def always(augment, request):
    augment.swap = request.param.replace(p=1.0)
    return augment


def as_pil(image):
    return PIL.Image.fromarray(image.permute(1, 2, 0).numpy())


TEMPLATES = {
    "PIL RGB": as_pil,
    "PIL L": lambda image: as_pil(image).convert("L"),
    "PIL P": lambda image: as_pil(image).convert("P"),
    "PIL RGBA": lambda image: as_pil(image).convert("RGBA"),
    "PIL 16-bit": lambda image: PIL.Image.fromarray(image[0].numpy().astype(np.uint16) * 257),
    **TENSOR_KINDS,
    "grey matrix": lambda image: image[0],
    "tv_tensor": tv_tensors.Image,
    "array HWC": lambda image: image.permute(1, 2, 0).numpy(),
    "array CHW float": lambda image: image.numpy() / 255,
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_one_sample_keeps_type_dtype_size_and_channels(always, images, kind):
    image = TEMPLATES[kind](images[0])
    swapped, label = always(image, 3)
    assert type(swapped) is type(image)
    assert label == 3
    if isinstance(image, PIL.Image.Image):
        assert (swapped.mode, swapped.size) == (image.mode, image.size)
    else:
        assert (swapped.dtype, swapped.shape) == (image.dtype, image.shape)
    assert convert.to_uint8(swapped).float().sub(convert.to_uint8(image).float()).abs().mean() > 0


@pytest.mark.parametrize("kind", [name for name in TEMPLATES if "PIL" not in name and "array" not in name])
def test_a_batch_keeps_type_dtype_and_size(always, images, kind):
    batch = torch.stack([TEMPLATES[kind](image) for image in images])
    batch = batch[:, None] if kind == "grey matrix" else batch
    batch = tv_tensors.Image(batch) if kind == "tv_tensor" else batch
    swapped, labels = always(batch, LABELS)
    assert (type(swapped), swapped.dtype, swapped.shape) == (type(batch), batch.dtype, batch.shape)
    assert labels is LABELS
    assert all(not torch.equal(a.float(), b.float()) for a, b in zip(swapped, batch, strict=True))


def test_the_input_is_not_written_to(always, images):
    batch = images.clone()
    always(batch, LABELS)
    assert torch.equal(batch, images)


def test_with_p_0_nothing_changes(augment, images):
    augment.p = 0.0
    assert augment(images, LABELS)[0] is images
    image = images[0]
    assert augment(image, 3)[0] is image


def test_the_generator_makes_every_swapped_image_and_no_other(augment, images):
    batch, labels = images.repeat(25, 1, 1, 1), LABELS.repeat(25)
    counts = []
    augment.generator.register_forward_hook(lambda module, inputs, output: counts.append(len(output)))
    torch.manual_seed(0)
    n_swapped = (augment(batch, labels)[0] != batch).flatten(1).any(dim=1).sum().item()
    assert 0.4 * len(batch) < n_swapped < 0.6 * len(batch)
    assert sum(counts) == n_swapped


def test_each_image_has_its_own_partner_and_ratio(augment):
    labels = torch.tensor([3]).repeat(4000)
    torch.manual_seed(0)
    params = augment.make_params(labels)
    assert params.ratios.min() >= 0
    assert params.ratios.max() <= 0.4
    assert params.ratios.mean().item() == pytest.approx(0.2, abs=0.01)
    assert len(params.ratios.unique()) > 3900
    assert set(params.partners.tolist()) == {0, 1, 2}
    assert (params.partners != params.anchors).all()


def test_a_plain_image_is_an_interpolation_within_its_class(always, images):
    always.swap = always.swap.replace(max_ratio=0.0, noise_std=0.0, carry=False)
    swapped = always(images / 255, LABELS)[0]
    reconstructions = always.reconstruct()
    for image, label in zip(swapped, LABELS, strict=True):
        distances = (reconstructions - image).abs().amax(dim=(1, 2, 3))
        assert distances[label == LABELS].min() < 1e-5


def test_a_size_other_than_the_fitted_one_is_kept(always):
    assert always(torch.rand(3, 24, 17), 3)[0].shape == (3, 24, 17)
    assert always(torch.rand(2, 1, 24, 17), torch.tensor([3, 40]))[0].shape == (2, 1, 24, 17)


def test_channels_that_cannot_be_converted_are_refused(always):
    with pytest.raises(ValueError, match="images have 7 channels but GLICO was fitted on 3"):
        always(torch.rand(2, 7, 12, 10), torch.tensor([3, 40]))


def test_other_entries_of_a_nested_sample_pass_through(always, images):
    sample = {"image": as_pil(images[0]), "label": torch.tensor(3), "meta": {"name": "a.png", "score": 0.5}}
    swapped = always(sample)
    assert swapped["meta"] == sample["meta"]
    assert swapped["label"] is sample["label"]
    assert swapped["image"].tobytes() != sample["image"].tobytes()
    batch = {"image": images, "label": LABELS, "embedding": torch.zeros(8, 16)}
    assert always(batch)["embedding"] is batch["embedding"]
    image, target = always(as_pil(images[0]), {"labels": 3, "id": 7})
    assert target == {"labels": 3, "id": 7}
    assert image.tobytes() != as_pil(images[0]).tobytes()


def test_labels_getter_finds_labels_elsewhere(always, images):
    always.layout = SampleLayout(labels_getter=lambda sample: sample["y"])
    assert not torch.equal(always({"x": images[0], "y": 3})["x"], images[0])


def test_inside_compose_on_samples_and_batches(always, images):
    pipeline = v2.Compose([always, v2.RandomHorizontalFlip(), v2.AutoAugment(), v2.ToDtype(torch.float32, scale=True)])
    image, label = pipeline(tv_tensors.Image(images[0]), 3)
    assert (image.dtype, image.shape, label) == (torch.float32, images[0].shape, 3)
    batch, labels = v2.Compose([always, v2.CutMix(num_classes=41)])(images, LABELS.clamp(min=0) * 0 + 3)
    assert batch.shape == images.shape
    assert labels.shape == (len(images), 41)


def test_torch_compile_around_a_pipeline_leaves_the_swap_as_it_is(always, images):
    pipeline = torch.compile(v2.Compose([always, v2.ToDtype(torch.float32, scale=True)]), backend="eager")
    for _ in range(3):
        swapped, labels = pipeline(images, LABELS)
        assert swapped.shape == images.shape
        assert labels.tolist() == LABELS.tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        compiled = pipeline(images, LABELS)[0]
        torch.manual_seed(3)
        torch.testing.assert_close(compiled, always(images, LABELS)[0] / 255)


def test_in_a_collate_function(always, dataset):
    loader = DataLoader(dataset, 4, collate_fn=lambda samples: always(*default_collate(samples)))
    assert [batch.shape for batch, _ in loader] == [(4, 3, 12, 10)] * 2


def test_a_seed_repeats_the_swap(always, images):
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(always(images, LABELS)[0])
    assert torch.equal(*results)
    assert not torch.equal(results[0], always(images, LABELS)[0])


def test_a_label_never_fitted_passes_through_with_one_warning(always, images):
    labels = LABELS.clone()
    labels[2] = 99
    with pytest.warns(UserWarning, match="label 99 was not in the set") as caught:
        first, *_ = (always(images, labels)[0], always(images, labels), always(images[0], 99))
    assert len(caught) == 1
    assert torch.equal(first[2], images[2])
    assert not torch.equal(first[1], images[1])


NORMALISED = v2.functional.normalize(torch.rand(4, 3, 12, 10), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_normalised_input_is_refused_with_the_remedy(augment, p):
    augment.p = p
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\].*normalised.*put normalisation after it"):
        augment(NORMALISED, LABELS[:4])
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\].*normalised.*put normalisation after it"):
        augment(NORMALISED[0], 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(4, 3, 12, 10),), ValueError, r"needs the label: call augment\(image, label\)"),
        ((torch.zeros(4, 3, 12, 10), torch.tensor([3, 3])), ValueError, "got 4 images but 2 labels"),
        ((torch.zeros(2, 3, 12, 10), torch.eye(2)), TypeError, "put GLICOAugment before MixUp, CutMix"),
        ((torch.zeros(2, 3, 12, 10), torch.rand(2)), TypeError, "labels of a batch must be integers"),
        ((torch.zeros(3, 12, 10), "cat"), TypeError, "labels must be integers, got 'cat'"),
        ((torch.zeros(3, 12, 10), 1.0), TypeError, "labels must be integers, got 1.0"),
        ((torch.full((3, 12, 10), float("nan")), 3), ValueError, "NaN or infinite pixels"),
        ((torch.zeros(2, 3, 12, 10, dtype=torch.int64), torch.tensor([3, 3])), TypeError, "got torch.int64"),
        (("photo.png", 3), ValueError, "expected an image .* found 0"),
    ],
)
def test_bad_calls_say_what_was_expected(augment, arguments, error, message):
    with pytest.raises(error, match=message):
        augment(*arguments)


@pytest.mark.parametrize("name", ["p", "max_ratio"])
@pytest.mark.parametrize(("value", "error"), [(1.5, ValueError), (-0.1, ValueError), ("half", TypeError)])
def test_settings_out_of_range_are_refused_before_and_after_the_fit(augment, dataset, name, value, error):
    with pytest.raises(error, match=rf"{name} must be .* in \[0, 1\]"):
        setattr(augment, name, value)
    with pytest.raises(error, match=rf"{name} must be .* in \[0, 1\]"):
        quick_fit(dataset, **{name: value})


def test_settings_can_be_changed(augment):
    augment.interpolation = "lerp"
    augment.noise_std = 0.0
    augment.max_ratio = 1.0
    assert (augment.interpolation, augment.noise_std, augment.max_ratio) == ("lerp", 0.0, 1.0)
    with pytest.raises(ValueError, match="interpolation must be one of 'slerp', 'lerp'"):
        augment.interpolation = "spline"
    with pytest.raises(ValueError, match="noise_std must be"):
        augment.noise_std = -1.0


def test_reconstruct_resembles_the_images(dataset, images):
    augment = quick_fit(dataset, epochs=150)
    error = (augment.reconstruct() - images / 255).abs().mean()
    spread = (images / 255 - (images / 255).mean(dim=0)).abs().mean()
    assert error < 0.3 * spread
    torch.testing.assert_close(augment.reconstruct([5, 1]), augment.reconstruct()[[5, 1]])


def test_interpolate_meets_its_ends_and_moves_smoothly(augment):
    path = augment.interpolate(0, 2, steps=9)
    torch.testing.assert_close(path[[0, -1]], augment.reconstruct([0, 2]), atol=1e-5, rtol=0)
    steps = (path[1:] - path[:-1]).abs().mean(dim=(1, 2, 3))
    assert steps.max() < 0.5 * (path[-1] - path[0]).abs().mean()


def test_synthesize_gives_the_labels_asked_for(augment):
    made, labels = augment.synthesize([40, 3, 3])
    assert made.shape == (3, 3, 12, 10)
    assert labels.tolist() == [40, 3, 3]
    assert 0 <= made.min() <= made.max() <= 1
    made, labels = augment.synthesize(n_per_class=2, generator=torch.Generator().manual_seed(0))
    assert labels.tolist() == [-1, -1, 3, 3, 40, 40]
    again, _ = augment.synthesize(n_per_class=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made, again)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: a.synthesize([7]), ValueError, "label 7 was not fitted; fitted: -1, 3, 40"),
        (lambda a: a.synthesize(), ValueError, "either labels or n_per_class"),
        (lambda a: a.reconstruct([8]), IndexError, r"indices must lie in \[0, 8\)"),
        (lambda a: a.reconstruct([0.5]), TypeError, "indices must be integers"),
        (lambda a: a.synthesize([3.9]), TypeError, "labels must be integers"),
        (lambda a: a.synthesize(n_per_class=-1), ValueError, "n_per_class must be an integer of at least 1"),
        (lambda a: a.interpolate(0, 1, steps=1), ValueError, "steps must be an integer of at least 2"),
    ],
)
def test_bad_requests_say_what_was_expected(augment, call, error, message):
    with pytest.raises(error, match=message):
        call(augment)


def test_attributes_say_what_was_fitted(augment):
    assert augment.classes == ("-1", "3", "40")
    assert augment.generator.image_shape == (3, 12, 10)
    assert augment.config.latent_dim == augment.codes.latent_dim == 6
    assert {name: len(values) for name, values in augment.history.items()} == {
        "loss": 12,
        "reconstruction": 12,
        "classification": 12,
    }
    assert augment.classifier(augment.reconstruct()).shape == (8, 3)
    assert len(repr(augment)) < 160
    assert "images=8, classes=3" in repr(augment)


def test_moving_or_casting_the_network_it_is_part_of_leaves_it_alone(always, images):
    results = []
    for network in (torch.nn.Sequential(always), torch.nn.Sequential(always).half().to("meta").double()):
        assert network.state_dict() == {}
        torch.manual_seed(0)
        results.append(always(images, LABELS)[0])
    assert torch.equal(*results)


def test_torchs_default_dtype_does_not_matter(always, dataset, images):
    torch.manual_seed(0)
    expected = always(images, LABELS)[0]
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(0)
        assert torch.equal(always(images, LABELS)[0], expected)
        assert quick_fit(dataset, epochs=1, loss="random-vgg16").codes.codes.isfinite().all()
    finally:
        torch.set_default_dtype(torch.float32)


def test_torchs_default_device_does_not_matter(always, images):
    with torch.device("meta"):
        made = always(images, LABELS)[0]
    assert made.device.type == "cpu"


def test_autocast_around_the_swap_does_not_matter(always, images):
    torch.manual_seed(0)
    plain = always(images, LABELS)[0]
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        made = always(images, LABELS)[0]
    assert torch.equal(made, plain)


def test_gradients_and_memory_format_of_a_batch_survive(always, images):
    always.p = 0.5
    batch = (images / 255).contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.manual_seed(0)
    swapped, _ = always(batch, LABELS)
    assert swapped.is_contiguous(memory_format=torch.channels_last)
    swapped.sum().backward()
    is_kept = torch.tensor([torch.equal(a, b) for a, b in zip(swapped, batch, strict=True)])
    assert 0 < is_kept.sum() < len(LABELS)
    assert torch.equal(batch.grad.flatten(1).amax(dim=1) == 1, is_kept)


def test_a_large_request_is_made_in_several_passes(always, monkeypatch):
    wanted = torch.tensor([3, 40] * 10)
    expected, _ = always.synthesize(wanted, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(model_module, "_PIXELS_PER_PASS", 7 * 120)
    calls = []
    always.generator.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    made, _ = always.synthesize(wanted, generator=torch.Generator().manual_seed(0))
    assert calls == [7, 7, 6]
    torch.testing.assert_close(made, expected)


def test_pickles_and_deep_copies_give_the_same_images(always, images):
    always.max_ratio = 0.9
    for twin in (pickle.loads(pickle.dumps(always)), copy.deepcopy(always)):
        assert twin.max_ratio == 0.9
        torch.manual_seed(0)
        expected = always(images, LABELS)[0]
        torch.manual_seed(0)
        assert torch.equal(twin(images, LABELS)[0], expected)


def test_networks_are_frozen_and_do_not_depend_on_the_mode(always, images):
    assert list(always.parameters()) == []
    assert not any(parameter.requires_grad for parameter in always.model.parameters())
    results = []
    for mode in (True, False):
        always.train(mode)
        torch.manual_seed(0)
        results.append(always(images, LABELS)[0])
    assert torch.equal(*results)


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_of_one_image_is_its_own_partner(images, count):
    labels = torch.tensor([0] * count + [1])
    augment = quick_fit(TensorDataset(images[: count + 1], labels), p=1.0, max_ratio=1.0, batch_size=None)
    params = augment.make_params(torch.tensor([1]).repeat(20))
    assert (params.partners == count).all()
    assert augment(images[count], 1)[0].shape == images[count].shape


def test_the_published_preset_is_the_papers_fit_and_the_papers_swap(images, dataset):
    settings = {"epochs": 1, "loss": "random-vgg16", "generator_width": 4, "progress": False, "device": "cpu"}
    augment = GLICOAugment.fit(dataset, preset="published", **settings)
    published = FitConfig.published((12, 10), n_images=8, **{name: settings[name] for name in ("epochs", "loss")})
    assert augment.config == published.replace(generator_width=4).resolved(8, (3, 12, 10))
    assert augment.swap == SwapConfig.published()
    nearer = GLICOAugment.fit(dataset, preset="published", max_ratio=0.1, latent_dim=7, **settings)
    assert (nearer.max_ratio, nearer.config.latent_dim) == (0.1, 7)
    with pytest.raises(ValueError, match="give a config or preset='published', not both"):
        GLICOAugment.fit(dataset, config=QUICK, preset="published")
    with pytest.raises(ValueError, match="preset must be one of 'default', 'published'; got 'paper'"):
        quick_fit(dataset, preset="paper")
    large = TensorDataset(smooth_images(2, height=128, width=96), torch.tensor([0, 1]))
    assert GLICOAugment.fit(large, preset="published", **settings).config.image_size == (64, 48)


def test_a_swap_config_is_handed_over_whole_or_field_by_field(dataset):
    whole = quick_fit(dataset, swap=SwapConfig(p=0.2, sampler_std=0.3))
    assert whole.swap == SwapConfig(p=0.2, sampler_std=0.3)
    assert quick_fit(dataset, swap=SwapConfig(p=0.2), sampler_std=0.3).swap == whole.swap
    assert whole.noise_std == whole.config.noise_std
    noisy = quick_fit(dataset, noise_std=0.7)
    assert noisy.noise_std == noisy.config.noise_std == noisy.swap.noise_std == 0.7
    noisy.noise_std = None
    assert noisy.noise_std == 0.7
    noisy.p = 0.25
    assert noisy.swap.p == noisy.p == 0.25


def test_one_class_is_refused(images):
    with pytest.raises(ValueError, match="at least two classes, got 8 images that all have label 7"):
        quick_fit(TensorDataset(images, torch.full((8,), 7)))


@pytest.mark.parametrize("name", ["epoch", "learning_rate"])
def test_an_unknown_setting_lists_the_known_ones(dataset, name):
    with pytest.raises(TypeError, match=rf"unknown setting {name}.*; the settings are: epochs"):
        quick_fit(dataset, **{name: 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dim": 1}, "latent_dim must be an integer of at least 2"),
        ({"loss": "ssim"}, "loss must be one of 'laplacian', 'vgg16', 'random-vgg16'"),
        ({"checkpoint_every": 0, "checkpoint": "x"}, "checkpoint_every must be an integer of at least 1"),
    ],
)
def test_wrong_settings_are_refused_before_the_images_are_read(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Unread:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise AssertionError("read before the settings were checked")

    with pytest.raises(ValueError, match=message):
        quick_fit(Unread(), **settings)


def test_progress_without_tqdm_warns_and_fits(dataset, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    with pytest.warns(UserWarning, match="tqdm is not installed"):
        quick_fit(dataset, epochs=1, progress=True)


def test_progress_shows_the_loss_parts(dataset, capsys):
    pytest.importorskip("tqdm")
    quick_fit(dataset, progress=True)
    shown = capsys.readouterr().err
    assert "12/12" in shown
    assert "R²=" in shown
    quick_fit(dataset, progress=False)
    assert capsys.readouterr().err == ""


def test_make_draws_and_transforms(augment, seeded):
    labels = torch.cat([LABELS, torch.tensor([12345])])
    images, is_known = augment.make(labels)
    torch.manual_seed(0)
    params = augment.make_params(labels)
    assert torch.equal(images, augment.transform(params))
    assert is_known.tolist() == [True] * len(LABELS) + [False]
    anchors = torch.arange(len(LABELS))
    augment.max_ratio, augment.noise_std = 0.0, 0.0
    torch.testing.assert_close(augment.make(LABELS, anchors=anchors)[0], augment.reconstruct(), atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_cuda_the_swap_stays_on_the_device_and_does_not_wait(always, images):
    batch, labels = images.repeat(4, 1, 1, 1).cuda(), LABELS.repeat(4)
    for _ in range(2):  # after which it is one graph
        always(batch, labels)
    labels[0] = 12345
    labels_on_device = labels.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = [always(batch, given)[0] for given in (labels, labels_on_device)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for swapped in results:
        assert swapped.device == batch.device
        assert torch.equal(swapped[0], batch[0])
        assert (swapped[1:] != batch[1:]).flatten(1).any(dim=1).all()
    assert isinstance(pickle.loads(pickle.dumps(always)), GLICOAugment)
