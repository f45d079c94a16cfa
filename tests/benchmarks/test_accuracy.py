"""The benchmark of accuracy: honest splits, packed data, methods, batches, trainings that go on."""

import dataclasses
import json
import zipfile
from collections import Counter
from pathlib import Path

import measure_accuracy
import pytest
import torch
from conftest import LABELS
from PIL import Image
from shared import training
from shared.data import Split, load_images, load_parts, make_split, pack
from shared.fits import fitted
from shared.methods import METHODS, GLICOSwap, PixelAveraging, autoaugment, find_method
from shared.pause import Pause
from shared.settings import CPU_SETTINGS, Setting, find_setting
from shared.training import Batches, cross_entropy, shift_and_flip, train
from shared.wide_resnet import WideResNet
from torchvision.transforms import v2
from toys import TOY_FIT, called, packed, random_pictures, root

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")),
]
NAMES = ("images", "labels", "eval_images", "eval_labels")


def contains(images, others):
    return (images[:, None] == others[None]).flatten(2).all(dim=2).any(dim=1)


@pytest.fixture
def split(root):
    return make_split(root, "cifar10", None, 5, 0, "test")


def test_a_validation_part_shares_no_image_with_the_training_images_drawn(root):
    split = make_split(root, "cifar10", None, 5, 0, "validation")
    assert split.labels.bincount().tolist() == [5, 5]
    assert split.eval_labels.bincount().tolist() == [3, 3]
    assert not contains(split.images, split.eval_images).any()


def test_the_draw_depends_on_the_seed_alone(root):
    first, again, other = (make_split(root, "cifar10", None, 5, seed, "test") for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert torch.equal(first.eval_images, other.eval_images)
    with pytest.raises(ValueError, match="8 training images of class 0, fewer than 9"):
        make_split(root, "cifar10", None, 9, 0, "test")


def test_the_digits_are_split_in_halves_that_share_none():
    pytest.importorskip("sklearn")
    split = make_split(Path("nowhere"), "digits", 16, 5, 0, "test")
    assert split.images.shape == (50, 3, 16, 16)
    assert split.labels.bincount().tolist() == [5] * 10
    assert len(split.eval_images) == 898
    assert not contains(split.images, split.eval_images).any()
    assert split.eval_images.float().std() > 60  # white on black, not 0 to 16


@pytest.mark.parametrize(("data", "side"), [("cifar10", None), ("cifar10", 12), ("omniglot", 12)])
def test_the_splits_of_a_packed_folder_are_those_of_the_folder(root, tmp_path, data, side):
    pack(root / data, tmp_path / f"{data}.zip")
    for seed, part in ((0, "test"), (3, "validation"), (1, "rest")):
        splits = [make_split(place, data, side, 2, seed, part) for place in (root, tmp_path)]
        for name in NAMES:
            assert torch.equal(*(getattr(split, name) for split in splits))
    if data == "omniglot":
        assert torch.equal(*(load_images(place / data / "evaluation", side)[0] for place in (root, tmp_path)))


def test_a_packed_folder_keeps_the_bytes_of_the_files(root, packed, tmp_path):
    with zipfile.ZipFile(packed / "cifar10.zip") as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert archive.read(entry) == (root / "cifar10" / entry.filename).read_bytes()
    pack(root / "cifar10", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (packed / "cifar10.zip").read_bytes()


def test_data_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither a folder .*cifar10 nor .*cifar10\.zip"):
        load_parts(tmp_path, "cifar10", None)
    with zipfile.ZipFile(tmp_path / "cifar10.zip", "w") as archive:
        archive.writestr("test/cat/1.jpg", b"")
    with pytest.raises(ValueError, match="has no images in train/"):
        load_parts(tmp_path, "cifar10", None)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.swap is None])
def test_every_rival_takes_training_steps(split, name):
    method, made = find_method(name), []
    if method.reference is not None:
        pytest.importorskip("albumentations")
    policy = method.reference(split.images) if method.reference else method.policy and method.policy()
    batches = Batches(split, True, policy=policy, erase=method.erase and method.erase())
    for steps in (1, 2):
        setting = Setting("cifar10", 5, batch_size=4, steps=steps, weight_decay=0.0)
        made.append(train(split, setting, batches, method.objective, 0))
    assert all(network.head.weight.isfinite().all() for network in made)
    assert not torch.equal(*(network.head.weight for network in made))
    assert not torch.equal(*(network.stem.weight for network in made))


def inverting(images, labels, indices):
    """A swap of every other image for its negative, which draws random numbers."""
    torch.rand(17)
    return torch.where((indices % 2 == 0).view(-1, 1, 1, 1), 255 - images, images)


@pytest.mark.parametrize("batched", [False, True])
def test_swaps_and_policies_leave_shifts_and_flips_as_they_were_and_a_policy_spares_swapped_images(split, batched):
    assert find_method("plain+style+autoaugment:p=0.25").spare
    made = []
    for swap, policy in ((None, None), (inverting, None), (inverting, autoaugment(1.0, batched=batched))):
        batches = Batches(split, True, swap, policy=policy, spare=True, batched=batched)
        torch.manual_seed(3)
        made.append(torch.cat([batches(torch.arange(10)) for _ in range(5)]))
    plain, swapped, both = made
    assert torch.equal(plain[1::2], swapped[1::2])
    is_same = (swapped == both).flatten(1).all(dim=1)
    assert is_same[::2].all()
    assert not is_same[1::2].all()


def test_images_of_many_steps_are_made_at_once_each_once_per_pass(split, monkeypatch):
    def order(at_once):
        seen = []

        def noting(images, labels, indices):
            seen.append(indices)
            assert torch.equal(images, split.images[indices])
            return images

        monkeypatch.setattr(training, "IMAGES_AT_ONCE", at_once)
        setting = Setting("cifar10", 5, steps=7, batch_size=4, batched=True)
        train(split, setting, Batches(split, True, noting, batched=True), cross_entropy, 0)
        return seen

    each, together = order(4), order(12)
    assert [len(indices) for indices in each] == [4] * 7
    assert [len(indices) for indices in together] == [12, 12, 4]
    for made in (each, together):
        passes = torch.cat(made)[:20].view(2, 10)
        assert torch.equal(passes.sort(dim=1).values, torch.arange(10).expand(2, -1))
        assert not torch.equal(*passes)


def test_autoaugment_of_a_batch_makes_the_images_of_torchvisions_as_often():
    image = random_pictures(1, side=8)
    torch.manual_seed(0)
    one_by_one = [autoaugment(0.5)(image[0]) for _ in range(4000)]
    together = autoaugment(0.5, batched=True)(image.expand(20_000, -1, -1, -1))
    first, second = (Counter(each.numpy().tobytes() for each in made) for made in (one_by_one, together))
    assert all(made in second for made, count in first.items() if count > 8)
    for made, count in second.items():
        share = count / 20_000
        assert abs(first[made] / 4000 - share) < 5 * (share * (1 - share) / 4000) ** 0.5 + 5 / 4000


@pytest.mark.parametrize("other_class", [False, True])
def test_the_control_averages_with_images_of_the_class_or_of_another(other_class):
    values = torch.tensor([0, 100, 10, 210], dtype=torch.uint8)
    images, labels = values[:, None, None, None].expand(-1, 3, 4, 4), torch.tensor([0, 0, 1, 1])
    swap = PixelAveraging(Split(images, labels, images, labels), p=1, max_ratio=0.4, other_class=other_class)
    made = swap(images[:1].expand(2000, -1, -1, -1), labels[:1].expand(2000), torch.zeros(2000, dtype=torch.int64))
    made = made[:, 0, 0, 0].float()
    partners = [10, 210] if other_class else [100]
    assert 0.38 * max(partners) < made.max() <= 0.41 * max(partners)
    assert abs(made.mean() - 0.2 * sum(partners) / len(partners)) < 2
    with pytest.raises(ValueError, match="nothing to average with"):
        PixelAveraging(Split(images[1:3], labels[1:3], images, labels))


def test_a_swap_starts_from_each_images_own_code(augment, images):
    augment.p, augment.max_ratio, augment.noise_std = 1.0, 0.0, 0.0
    order = torch.tensor([3, 1, 1, 6])
    swapped = GLICOSwap(augment, images)(images[order], LABELS[order], order)
    assert (swapped / 255 - augment.reconstruct(order)).abs().max() < 0.01


def test_a_kept_fit_swaps_with_the_defaults_of_today(images, tmp_path):
    def fit(**changes):
        return fitted(images, LABELS, tmp_path, seed=0, **(TOY_FIT | changes))[0]

    augment = fit()
    defaults = augment.swap
    augment.p, augment.max_ratio = 0.25, 0.9
    (path,) = tmp_path.glob("*.safetensors")
    augment.save(path)
    again = fit()
    assert again.swap == defaults
    assert torch.equal(again.codes.codes, augment.codes.codes)  # kept, not made anew
    fit(latent_dim=4)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


TOY = ("--set", "steps=1", "batch_size=4", f"fit={json.dumps(TOY_FIT)}")


def test_every_method_of_a_grid_is_trained_and_scored_once(called, packed, capsys):
    grid = ["cifar10-4 / none pixel glico glico+style published:generator_width=4 / 1", "cifar10-3 / pixel / 0 1"]
    rows = called(measure_accuracy, *TOY, "--grid", *grid, data=packed)
    made = [(row["per_class"], row["method"].partition(":")[0], row["seed"]) for row in rows]
    methods = ("none", "pixel", "glico", "glico+style", "published")
    assert made == [*((4, name, 1) for name in methods), (3, "pixel", 0), (3, "pixel", 1)]
    assert {"accuracy", "lr", "steps", "precision", "train_seconds"} <= rows[0].keys()
    assert {"r2", "config", "swap", "restarts"} <= rows[2].keys()
    assert rows[2]["fit_seconds"] > 0
    assert rows[3]["fit_seconds"] is None  # the fit of the row before
    assert rows[4]["config"]["loss"] == "random-vgg16"
    assert called(measure_accuracy, *TOY, "--grid", *grid, data=packed) == rows
    assert "0 of 7 to measure" in capsys.readouterr().err
    with pytest.raises(ValueError, match="expected 'SETTING… / METHOD… / SEED…', got 'cifar10-4 / none'"):
        called(measure_accuracy, "--grid", "cifar10-4 / none")


def test_samplers_are_shown_for_every_setting(called, tmp_path):
    called(measure_accuracy, *TOY, "--samplers", tmp_path, "--settings", "cifar10-4")
    with Image.open(tmp_path / "samplers-cifar10-4.png") as picture:
        assert picture.size == (2 * (12 * 17 + 1), 2 * (4 * 17 + 1))


def test_settings_and_methods_are_found_by_name_or_refused():
    assert [find_setting(name, []).per_class for name in CPU_SETTINGS] == [10, 50, 5, 10]
    assert find_setting("my-photos-7", ["side=48"]) == Setting("my-photos", 7, side=48)
    chimera, gem = find_setting("cifar10-50-wrn28-10", []), find_setting("cifar10-50-wrn16-8", [])
    assert (chimera.dropout, chimera.batch_size, chimera.weight_decay, chimera.steps) == (0.3, 128, 5e-4, 7800)
    assert dataclasses.replace(chimera, per_class=10) == find_setting("cifar10-10-wrn28-10", [])
    assert (gem.batch_size, gem.steps, gem.lr, gem.weight_decay) == (10, 25_000, 4.55e-3, 5.29e-3)
    method = find_method("glico:p=0.25,classifier_weight=0")
    assert (method.swap_settings, method.fit) == ({"p": 0.25}, {"classifier_weight": 0})
    for wrong, message in (("none:p=1", "none takes no fields"), ("gan", "must be one of none")):
        with pytest.raises(ValueError, match=message):
            find_method(wrong)
    with pytest.raises(ValueError, match="FOLDER-COUNT"):
        find_setting("photos", [])
    with pytest.raises(ValueError, match="'sides'"):
        find_setting("photos-7", ["sides=48"])


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_is_shifted_and_flipped_as_torchvision_does_an_image(device):
    """Every image becomes one of the 2 · 5² that RandomCrop and a flip can make of it, each as often as any other."""
    image = random_pictures(1, side=6)[0]
    padded = v2.functional.pad(image, [2])
    crops = [padded[:, top : top + 6, left : left + 6] for top in range(5) for left in range(5)]
    possible = [tuple(view.flatten().tolist()) for crop in crops for view in (crop, crop.flip(2))]
    torch.manual_seed(0)
    made = shift_and_flip(image.expand(10_000, -1, -1, -1).to(device), 2, flip=True)
    assert (made.device.type, made.dtype, made.shape) == (device, torch.uint8, (10_000, 3, 6, 6))
    counts = Counter(tuple(view) for view in made.flatten(1).tolist())
    assert counts.keys() == {*possible}
    assert all(130 < count < 270 for count in counts.values())  # 200 each; five standard deviations are 70
    unflipped = shift_and_flip(image.expand(500, -1, -1, -1), 2, flip=False)
    assert {tuple(view) for view in unflipped.flatten(1).tolist()} == {*possible[::2]}


def test_dropout_is_of_training_alone_and_none_changes_nothing():
    images, networks = torch.randn(4, 3, 8, 8), []
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        networks.append(WideResNet(3, width=1, side=8, dropout=dropout))
    plain, dropping = networks
    state = torch.get_rng_state()
    assert torch.equal(plain(images), plain(images))
    assert torch.equal(torch.get_rng_state(), state)  # the rows without dropout keep their random numbers
    assert not torch.equal(dropping(images), dropping(images))
    plain.load_state_dict(dropping.state_dict())
    assert torch.equal(dropping.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_that_paused_twice_ends_with_the_bits_of_one_that_did_not(split, tmp_path, device):
    split = split.to(torch.device(device))
    setting = Setting("cifar10", 5, flip=True, steps=9, batch_size=4, dropout=0.3, weight_decay=0.01, batched=True)
    made = []

    def run(pause=None, last=None):
        """Up to ``last`` steps in all."""
        batches = Batches(split, True, PixelAveraging(split), policy=autoaugment(1.0, batched=True), batched=True)

        def objective(*arguments):
            made.append(None)
            if len(made) == last:
                pause.deadline = float("-inf")
            return cross_entropy(*arguments)

        return train(split, setting, batches, objective, 7, pause=pause)

    whole = run()
    made.clear()
    path = tmp_path / "fits" / "a.training"
    assert run(Pause(path, float("inf")), last=4) is None
    assert run(Pause(path, float("inf")), last=7) is None
    resumed = run(Pause(path, float("inf")))
    assert len(made) == 9
    exact = {"atol": 0, "rtol": 0} if device == "cpu" else {"atol": 1e-2, "rtol": 0}
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, **exact)


def test_a_pause_writes_every_so_often_and_counts_the_seconds_of_all_parts(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("shared.pause.time.monotonic", lambda: now[0])
    pause = Pause(tmp_path / "a.training", deadline=1000.0)
    cpu, order = torch.device("cpu"), torch.arange(3)
    for later, is_written in ((30, False), (31, True), (1, False)):
        pause.path.unlink(missing_ok=True)
        now[0] += later
        assert not pause.stops(5, order, {}, cpu)
        assert pause.path.exists() == is_written
    now[0] += 2000
    assert pause.stops(6, order, {}, cpu)
    now[0] += 500  # until the next part
    again = Pause(pause.path, deadline=10_000.0)
    step, kept = again.restore({}, cpu)
    assert (step, kept.tolist(), again.seconds) == (6, [0, 1, 2], 2062)
    again.forget()
    assert Pause(pause.path, deadline=0.0).restore({}, cpu) is None
