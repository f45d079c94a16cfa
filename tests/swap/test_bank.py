import copy
import pickle

import pytest
import torch
from conftest import LABELS, quick_fit, smooth_images
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms.functional import to_pil_image

from glico_augment import GLICOAugment, SphereCodes, SwapConfig, SyntheticBank
from glico_augment.fit.record import Fitted
from glico_augment.images import convert, values


@pytest.fixture
def bank(augment):
    augment.p = 1.0
    torch.manual_seed(0)
    return SyntheticBank(augment, per_image=3, device="cpu")


def key(image):
    return tuple(image.flatten().tolist())


def test_the_images_of_an_anchor_are_taken_in_turn_and_come_again_when_used_up(bank):
    taken = bank.take(torch.tensor([5, 5, 2, 5, 5])).images
    assert torch.equal(taken[[0, 1, 3]], bank.images[5])
    assert torch.equal(taken[4], bank.images[5, 0])
    assert torch.equal(taken[2], bank.images[2, 0])
    assert len({key(image) for image in bank.images.flatten(0, 1)}) == 24
    assert bank.n_taken.tolist() == [0, 0, 1, 0, 0, 4, 0, 0]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "form",
    [
        lambda image: image,
        lambda image: image.numpy().transpose(1, 2, 0).copy(),
        lambda image: to_pil_image(image) if len(image) > 1 else to_pil_image(image, mode="L"),
    ],
)
def test_a_sample_from_the_bank_has_memory_of_its_own(form, channels):
    images = smooth_images(8, channels=channels)
    augment = quick_fit(TensorDataset(images, LABELS), p=1.0)
    bank = SyntheticBank(augment, per_image=1, device="cpu")
    samples = [(form(image), int(label)) for image, label in zip(images, LABELS, strict=True)]
    held = [image for image, _ in augment.wrap(samples, bank=bank)]
    assert bank.n_taken.tolist() == [1] * 8
    for image, made in zip(held, bank.images[:, 0], strict=True):
        assert torch.equal(convert.to_uint8(image), made)
    before = [convert.to_uint8(image).clone() for image in held]
    bank.refresh()
    for image, pixels, made in zip(held, before, bank.images[:, 0], strict=True):
        assert torch.equal(convert.to_uint8(image), pixels)
        assert not torch.equal(pixels, made)


def test_carried_images_are_those_that_are_made_afresh_in_distribution(augment):
    augment.swap = SwapConfig(p=1.0, max_ratio=1.0, cells=3, carry=True)
    bank = SyntheticBank(augment, per_image=400, device="cpu")
    assert bank.is_carried
    torch.manual_seed(1)
    held = bank.images.float().flatten(2) / 255
    fresh = torch.stack([augment.transform(augment.make_params(LABELS, anchors=torch.arange(8))) for _ in range(400)])
    fresh = fresh.transpose(0, 1).flatten(2)
    error = (fresh.var(dim=1) / 400).sqrt().clamp(min=1e-3)
    assert ((held.mean(dim=1) - fresh.mean(dim=1)).abs() < 7 * error).all()
    torch.testing.assert_close(held.std(dim=1).mean(), fresh.std(dim=1).mean(), rtol=0.05, atol=0)


def test_a_bank_of_carried_images_is_not_refreshed_once_no_detail_is_carried(augment):
    augment.swap = SwapConfig(p=1.0, max_ratio=1.0, cells=3, carry=True)
    bank = SyntheticBank(augment, per_image=2, device="cpu")
    augment.carry = False
    with pytest.raises(ValueError, match="the bank was made with carry=True: make a new one"):
        bank.refresh()
    assert not SyntheticBank(augment, per_image=2, device="cpu").is_carried


def test_a_refresh_replaces_the_images_taken_and_no_others(bank):
    before = bank.images.clone()
    bank.take(torch.tensor([0, 5, 5, 7, 7, 7, 7]))
    bank.refresh()
    is_new = (bank.images != before).flatten(2).any(dim=2)
    expected = torch.zeros(8, 3, dtype=torch.bool)
    expected[0, :1] = expected[5, :2] = expected[7, :3] = True
    assert torch.equal(is_new, expected)
    assert bank.n_taken.sum() == 0


def test_images_start_from_their_anchor_and_stay_in_its_class(augment, images):
    augment.max_ratio = augment.noise_std = 0.0
    bank = SyntheticBank(augment, per_image=2, device="cpu")
    expected = (augment.reconstruct() * 255).round()
    assert (bank.images.float() - expected[:, None]).abs().max() <= 1


def test_an_image_of_the_bank_has_the_law_of_a_fresh_draw(augment):
    ks_2samp = pytest.importorskip("scipy.stats").ks_2samp
    torch.manual_seed(0)
    bank = SyntheticBank(augment, per_image=400, device="cpu")
    for anchor in (0, 4):
        anchors = torch.full((400,), anchor)
        fresh = augment.transform(augment.make_params(LABELS[anchors], anchors=anchors))
        fresh = values.from_unit(fresh, torch.uint8) / 255
        for value in (lambda images: images.mean(dim=(1, 2, 3)), lambda images: images[:, 0, 3, 4]):
            made = value(bank.images[anchor] / 255)
            assert ks_2samp(made.numpy(), value(fresh).numpy()).pvalue > 0.001
            # Independent draws: neighbours in the bank are not alike.
            correlation = torch.corrcoef(torch.stack([made[:-1], made[1:]]))[0, 1]
            assert abs(correlation) < 4 / 400**0.5


def test_a_wrapped_dataset_takes_from_the_bank(augment, bank, dataset):
    samples = augment.wrap(dataset, bank=bank).__getitems__(range(8))
    for index, (image, label) in enumerate(samples):
        assert torch.equal(image, bank.images[index, 0])
        assert label == LABELS[index]
    assert bank.n_taken.tolist() == [1] * 8


def test_the_generator_does_not_run_between_refreshes(augment, bank, dataset):
    calls = []
    augment.generator.register_forward_hook(lambda *call: calls.append(call))
    augment.wrap(dataset, bank=bank).__getitems__(range(8))
    assert not calls
    bank.refresh()
    assert calls


def test_images_never_fitted_take_one_of_their_class(augment, bank):
    others = TensorDataset(smooth_images(8, seed=9), LABELS)
    wrapped = augment.wrap(others, bank=bank, unfitted="swap")
    for index, (image, label) in enumerate(wrapped.__getitems__(range(8))):
        anchors = (bank.images == image).flatten(2).all(dim=2).any(dim=1).nonzero().flatten()
        assert (LABELS[anchors] == label).all(), index
    assert bank.n_taken.sum() == 8


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_share_one_bank_through_epochs_and_refreshes(context, augment, bank, dataset):
    loader = DataLoader(
        augment.wrap(dataset, bank=bank),
        batch_size=2,
        num_workers=2,
        multiprocessing_context=context,
        persistent_workers=True,
    )
    seen = set()
    for _ in range(3):
        held = {key(image) for image in bank.images.flatten(0, 1)}
        epoch = [key(image) for images, _ in loader for image in images]
        assert set(epoch) <= held
        assert len(set(epoch)) == 8
        assert not seen & set(epoch)
        seen |= set(epoch)
        assert bank.n_taken.tolist() == [1] * 8
        bank.refresh()


def test_half_of_the_images_come_from_the_bank_at_the_default_p(augment, dataset):
    bank = SyntheticBank(augment, device="cpu")
    wrapped = augment.wrap(dataset, bank=bank)
    torch.manual_seed(0)
    unchanged = sum(torch.equal(wrapped[index][0], dataset[index][0]) for _ in range(50) for index in range(8))
    assert unchanged == pytest.approx(200, abs=40)
    assert bank.n_taken.sum() == 400 - unchanged


def test_a_bank_made_in_inference_mode_is_refreshed_outside_of_it(augment):
    with torch.inference_mode():
        bank = SyntheticBank(augment, per_image=1, device="cpu")
    before = bank.images.clone()
    bank.take(torch.arange(8))
    bank.refresh()
    assert not torch.equal(bank.images, before)
    assert bank.n_taken.sum() == 0


def test_wrong_arguments_are_refused(augment, dataset, monkeypatch):
    with pytest.raises(ValueError, match="per_image must be"):
        SyntheticBank(augment, per_image=0)
    with pytest.raises(TypeError, match="a bank is made of a fitted augmentation"):
        SyntheticBank(dataset)
    strangers = quick_fit(TensorDataset(smooth_images(8, seed=5), LABELS), epochs=1)
    model, fitted_images, record = augment.fitted
    relabeled = Fitted(copy.deepcopy(model), fitted_images, record)
    relabeled.model.codes = SphereCodes(model.codes.codes, LABELS.roll(3))
    for other in (strangers, quick_fit(dataset, seed=1), quick_fit(dataset, epochs=1), GLICOAugment(relabeled)):
        with pytest.raises(ValueError, match="the bank is of another fit"):
            augment.wrap(dataset, bank=SyntheticBank(other, device="cpu"))
    for no_bank in (5, augment):
        with pytest.raises(TypeError, match=r"bank must be a SyntheticBank\(augment\), or None"):
            augment.wrap(dataset, bank=no_bank)
    monkeypatch.setattr(torch.Tensor, "share_memory_", no_memory)
    with pytest.raises(OSError, match="does not fit into shared memory; lower per_image"):
        SyntheticBank(augment, device="cpu")


def no_memory(tensor):
    raise RuntimeError("unable to allocate shared memory")


def test_a_copy_is_apart_and_a_repr_says_its_size(bank):
    assert repr(bank) == "SyntheticBank(8 × 3 images)"
    for twin in (copy.deepcopy(bank), pickle.loads(pickle.dumps(bank))):
        twin.take(torch.tensor([0]))
        assert torch.equal(twin.images, bank.images)
    assert bank.n_taken.sum() == 0
