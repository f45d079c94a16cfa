"""What the benchmarks of a GPU promise, rehearsed on a CPU: packed data, batched transforms, pauses and stages."""

import os
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import measure_roofline
import pack_data
import pytest
import torch
from accuracy.batched import BatchAutoAugment, of_batches, shift_and_flip
from accuracy.data import PARTS, load_images, load_parts, make_split
from accuracy.methods import autoaugment, autoaugment_by_coin, find_method
from accuracy.packed import PackedFolder, pack
from accuracy.pause import Pause
from accuracy.rows import key, read_rows
from accuracy.settings import Setting, find_setting
from accuracy.swaps import PixelAveraging
from accuracy.training import Batches, cross_entropy, train
from accuracy.wide_resnet import WideResNet
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

ROOT = Path(__file__).parents[2]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")),
]


def random_pictures(count, side=16, seed=0):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.manual_seed(seed))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """``cifar10/`` as JPEG files: two classes of 5 training and 3 test images, whose names do not sort as numbers."""
    root = tmp_path_factory.mktemp("data")
    for part, count in (("train", 5), ("test", 3)):
        for index, pixels in enumerate(random_pictures(2 * count, seed=count)):
            folder = root / "cifar10" / part / ("dog", "cat")[index % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{7 + index}.jpg")
    return root


@pytest.fixture(scope="module")
def packed(folders, tmp_path_factory):
    """The same in one file."""
    root = tmp_path_factory.mktemp("packed")
    assert pack(folders / "cifar10", PARTS, root / "cifar10.zip") == 16
    return root


def test_a_packed_folder_has_the_images_and_labels_of_the_folder_in_its_order(folders, packed):
    for part in PARTS:
        expected = ImageFolder(folders / "cifar10" / part, transform=v2.PILToTensor())
        found = PackedFolder(packed / "cifar10.zip", part, transform=v2.PILToTensor())
        assert [label for _, label in found] == [label for _, label in expected]
        assert all(torch.equal(image, other) for (image, _), (other, _) in zip(found, expected, strict=True))


def test_the_splits_of_a_packed_folder_are_those_of_the_folder(folders, packed):
    for seed, part in ((0, "test"), (3, "validation"), (1, "rest")):
        splits = [make_split(root, "cifar10", 12, 2, seed, part) for root in (folders, packed)]
        for name in ("images", "labels", "eval_images", "eval_labels"):
            assert torch.equal(*(getattr(split, name) for split in splits))


def test_omniglot_is_packed_with_both_of_its_parts(tmp_path, monkeypatch):
    for part, seed in (("background", 0), ("evaluation", 1)):
        for index, pixels in enumerate(random_pictures(8, seed=seed)):
            folder = tmp_path / "omniglot" / part / f"character0{index % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[0].numpy()).save(folder / f"{index}.png")
    target = tmp_path / "packed" / "omniglot.zip"
    monkeypatch.setattr(sys, "argv", ["pack_data.py", str(tmp_path / "omniglot"), str(target)])
    pack_data.main()
    splits = [make_split(root, "omniglot", 12, 1, 0, "test") for root in (tmp_path, target.parent)]
    for name in ("images", "labels", "eval_images", "eval_labels"):
        assert torch.equal(*(getattr(split, name) for split in splits))
    assert splits[0].eval_labels.tolist() == [0, 0, 1, 1]
    images = [load_images(root / "omniglot" / "evaluation", 12)[0] for root in (tmp_path, target.parent)]
    assert torch.equal(*images)


def test_a_packed_folder_keeps_the_bytes_of_the_files(folders, packed, tmp_path):
    with zipfile.ZipFile(packed / "cifar10.zip") as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert archive.read(entry) == (folders / "cifar10" / entry.filename).read_bytes()
    pack(folders / "cifar10", PARTS, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (packed / "cifar10.zip").read_bytes()


def test_data_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither a folder .*cifar10 nor .*cifar10\.zip"):
        load_parts(tmp_path, "cifar10", None)
    with zipfile.ZipFile(tmp_path / "cifar10.zip", "w") as archive:
        archive.writestr("test/cat/1.jpg", b"")
    with pytest.raises(ValueError, match="has no images in train/"):
        load_parts(tmp_path, "cifar10", None)


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


def one_operation(name, level, probability=1.0):
    policy = autoaugment()
    policy._policies = [((name, probability, level), ("Invert", -1.0, None))]
    return policy


OPERATIONS = {name: level for both in autoaugment()._policies for name, _, level in both}  # one level is enough


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_on_a_batch_is_that_on_each_image(name, device):
    """Of either sign, where it has two."""
    images = random_pictures(8)
    policy = one_operation(name, OPERATIONS[name])
    torch.manual_seed(0)
    made = BatchAutoAugment(policy)(images.to(device)).cpu().flatten(1).int()
    torch.manual_seed(1)
    possible = [
        sorted({tuple(policy(image).flatten().tolist()) for _ in range(12 if device == "cpu" else 20)})
        for image in images
    ]
    # A GPU may round otherwise, and another pixel may be the nearest.
    distances = [
        [float((image - torch.tensor(view)).abs().float().mean()) for view in views]
        for image, views in zip(made, possible, strict=True)
    ]
    assert max(map(min, distances)) <= (0 if device == "cpu" else 1)
    is_signed = policy._AUGMENTATION_SPACE[name][1] and OPERATIONS[name] > 0
    assert {views.index(min(views)) for views in distances} == ({0, 1} if is_signed else {0})


def test_sub_policies_are_drawn_as_often_as_their_probabilities_say():
    """Of an inversion at 0.6 in half of the sub-policies, and with a share of images."""
    policy = one_operation("Invert", None, 0.6)
    policy._policies += [(("Invert", 0.0, None), ("Solarize", 0.0, 3))]
    image = random_pictures(1, side=4)
    inverted = 255 - image
    torch.manual_seed(0)
    for share in (1.0, 0.5):
        made = BatchAutoAugment(policy, share)(image.expand(4000, -1, -1, -1))
        is_inverted = (made == inverted).flatten(1).all(dim=1)
        assert ((made == image).flatten(1).all(dim=1) | is_inverted).all()
        assert abs(is_inverted.float().mean() - 0.3 * share) < 0.04


def test_autoaugment_alone_or_by_a_coin_is_made_for_batches_and_others_are_not():
    assert of_batches(autoaugment()).share == 1
    assert of_batches(autoaugment_by_coin()).share == 0.5
    assert of_batches(v2.RandAugment()) is None
    assert of_batches(find_method("color-jitter").policy()) is None


def new_batches(split, name, *, batched=True):
    method = find_method(name)
    swap = PixelAveraging(split) if method.swap else None
    return Batches(split, True, swap, policy=method.policy and method.policy(), spare=method.spare, batched=batched)


def test_a_batched_policy_spares_swapped_images_and_leaves_shifts_and_flips_as_they_were(packed):
    split = make_split(packed, "cifar10", None, 5, 0, "test")

    def swap(images, labels, indices):
        return torch.where((indices % 2 == 0).view(-1, 1, 1, 1), 255 - images, images)

    made = []
    for policy in (None, autoaugment()):
        batches = Batches(split, True, swap, policy=policy, spare=True, batched=True)
        torch.manual_seed(3)
        made.append(torch.cat([batches(torch.arange(10)) for _ in range(5)]))
    is_same = (made[0] == made[1]).flatten(1).all(dim=1)
    assert is_same[::2].all()
    assert not is_same[1::2].all()


@pytest.mark.parametrize("name", ["style+autoaugment", "randaugment", "none"])
def test_batches_of_a_batched_setting_are_normalised_images(packed, name):
    split = make_split(packed, "cifar10", None, 5, 0, "test")
    batches = new_batches(split, name)
    torch.manual_seed(0)
    made = batches(torch.arange(10))
    assert (made.dtype, made.shape) == (torch.float32, (10, 3, 16, 16))
    assert 0.3 < made.std() < 2
    assert not torch.equal(made, batches(torch.arange(10)))


def test_dropout_is_of_training_alone_and_none_changes_nothing():
    images = torch.randn(4, 3, 8, 8)
    networks = []
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        networks.append(WideResNet(3, width=1, side=8, dropout=dropout))
    plain, dropping = networks
    assert all(torch.equal(*pair) for pair in zip(plain.parameters(), dropping.parameters(), strict=True))
    state = torch.get_rng_state()
    assert torch.equal(plain(images), plain(images))
    assert torch.equal(torch.get_rng_state(), state)  # the rows without dropout keep their random numbers
    assert not torch.equal(dropping(images), dropping(images))
    plain.load_state_dict(dropping.state_dict())
    assert torch.equal(dropping.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_that_paused_twice_ends_with_the_bits_of_one_that_did_not(packed, tmp_path, device):
    split = make_split(packed, "cifar10", None, 5, 0, "test").to(torch.device(device))
    setting = Setting("cifar10", 5, flip=True, steps=9, batch_size=4, dropout=0.3, batched=True)
    rates = {"lr": 0.1, "weight_decay": 0.01}
    made = []

    def run(pause=None, last=None):
        """Up to ``last`` steps in all."""
        batches = new_batches(split, "pixel-then-autoaugment")

        def objective(*arguments):
            made.append(None)
            if len(made) == last:
                pause.deadline = float("-inf")
            return cross_entropy(*arguments)

        return train(split, setting, batches, objective, 7, **rates, pause=pause)

    whole = run()
    assert len(made) == 9
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
    monkeypatch.setattr("accuracy.pause.time.monotonic", lambda: now[0])
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


def test_rows_from_before_a_field_are_those_of_the_settings_of_today():
    rows = read_rows(ROOT / "benchmarks" / "results" / "accuracy.jsonl")
    old = next(row for row in rows if "dropout" not in row)
    new = old | {"dropout": 0.0, "batched": False}
    assert key(old) == key(new)
    assert key(new) != key(new | {"dropout": 0.3})


def test_the_settings_of_a_gpu_are_those_of_the_papers():
    chimera = find_setting("cifar10-50-wrn28-10", [])
    assert (chimera.depth, chimera.width, chimera.dropout, chimera.batch_size) == (28, 10, 0.3, 128)
    assert (chimera.lr, chimera.weight_decay, chimera.steps) == (0.1, 5e-4, 7800)
    assert replace(chimera, per_class=10) == find_setting("cifar10-10-wrn28-10", [])
    gem = find_setting("cifar10-50-wrn16-8", [])
    assert (gem.depth, gem.width, gem.dropout, gem.batch_size, gem.steps) == (16, 8, 0.0, 10, 25_000)
    assert (gem.lr, gem.weight_decay) == (4.55e-3, 5.29e-3)


def test_a_roofline_counts_a_matrix_product_exactly():
    left, right = torch.randn(8, 16), torch.randn(16, 32)
    work = lambda: (left @ right).view(-1)  # noqa: E731
    row = measure_roofline.roofline(work, torch.device("cpu"), 3, peak_flops=1e9, peak_bytes=1e9)
    assert row["gflop"] == 2 * 8 * 16 * 32 / 1e9
    assert row["megabytes"] == 4 * (8 * 16 + 16 * 32 + 8 * 32) / 1e6
    assert row["arithmetic"] * row["milliseconds"] / 1000 == pytest.approx(row["gflop"])
    assert row["bandwidth"] * row["milliseconds"] / 1000 == pytest.approx(row["megabytes"] / 1000)


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="gpu.sh is for Linux")


def gpu_script(out, *stages, **more):
    command = ["bash", ROOT / "benchmarks" / "gpu.sh", "--toy", out, *stages]
    environment = os.environ | {"DEVICE": "cpu", "PYTHON": sys.executable, "JOBS": "1"} | more
    return subprocess.Popen(
        list(map(str, command)),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=300)
    return process.returncode, output + errors


@pytest.fixture
def out(packed, tmp_path):
    """A folder for the results, with the data in it."""
    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / "data" / "cifar10.zip").write_bytes((packed / "cifar10.zip").read_bytes())
    return tmp_path / "out"


@needs_linux
def test_the_script_packs_and_refuses_to_train_without_data_in_words(folders, tmp_path):
    for stage, said in (("accuracy", "run the stage pack first"), ("pack", "DATA names no folder that has cifar10/")):
        code, output = finish(gpu_script(tmp_path / "out", stage, DATA=str(tmp_path / "nowhere")))
        assert code == 1
        assert said in output
    assert finish(gpu_script(tmp_path / "out", "fit"))[0] == 2
    assert finish(gpu_script(tmp_path / "out", "pack", DATA=str(folders)))[0] == 0
    assert len(PackedFolder(tmp_path / "out" / "data" / "cifar10.zip", "train", v2.PILToTensor())) == 10
    code, output = finish(gpu_script(tmp_path / "out", "pack"))
    assert code == 0
    assert "pack: done, as" in output


def end(process):
    """Kill every process of its session, which it began: without a chance to put anything in order."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[3]) == process.pid:
            os.kill(int(entry.parent.name), signal.SIGKILL)
    process.communicate()


@needs_linux
def test_trainings_go_on_after_a_kill_with_the_rows_that_are_there(out):
    killed = gpu_script(out, "accuracy")
    assert "seed 0" in killed.stdout.readline()  # a row is written
    end(killed)
    kept = read_rows(out / "results" / "accuracy.jsonl")
    assert not (out / "results" / "done.txt").exists()
    assert 1 <= len(kept) < 3
    code, output = finish(gpu_script(out, "accuracy"))
    assert code == 0, output
    rows = read_rows(out / "results" / "accuracy.jsonl")
    assert rows[: len(kept)] == kept
    assert sorted(row["method"].partition(":")[0] for row in rows) == ["autoaugment", "glico", "none"]
    assert not list((out / "fits").glob("*.training"))
    assert "accuracy: done, as" in finish(gpu_script(out, "accuracy"))[1]


@needs_linux
def test_a_stage_whose_time_is_over_says_so_and_is_not_done(out):
    code, output = finish(gpu_script(out, "accuracy", MINUTES="0"))
    assert code == 75
    assert "the same command goes on" in output
    assert not (out / "results" / "done.txt").exists()


@needs_linux
def test_tests_and_speed_leave_their_results_and_the_report_is_made_of_them(out):
    for name in ("matplotlib", "scipy"):  # of the report
        pytest.importorskip(name)
    code, output = finish(gpu_script(out, "tests", "speed", "report"))
    assert code == 0, output
    results = out / "results"
    assert "passed tests/test_cuda.py" in (results / "tests.txt").read_text().splitlines()
    assert not (results / "failures.txt").exists()
    assert {row["part"] for row in read_rows(results / "speed.jsonl")} == {"batch", "loader"}
    assert [row["what"] for row in read_rows(results / "roofline.jsonl")] == ["swap", "fit step"]
    assert "convolution" in (results / "profile.txt").read_text()
    written = (out / "copy" / "benchmarks" / "SPEED.md").read_text()
    assert "| fit step | cpu | float32 | 4 | 10 |" in written
    assert len(list(results.iterdir())) <= 8  # as many as some services hand back
