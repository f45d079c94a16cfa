"""The libraries that the documentation names, each really used with a fit of a second.

A line that is there only to bring both together ends in ``# glue``; docs/libraries.py counts them for the table.
"""

import pytest
import torch
from conftest import quick_fit
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from glico_augment import LocalStyle

pytestmark = pytest.mark.filterwarnings("ignore")  # what other libraries warn of is theirs

TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


@pytest.fixture(scope="module")
def train(photos):
    return ImageFolder(photos / "train")


@pytest.fixture(scope="module")
def plain(photos):
    """The real images as tensors."""
    return ImageFolder(photos / "train", transform=TO_TENSOR)


@pytest.fixture(scope="module")
def augment(train):
    """Swaps every image; not to be changed."""
    return quick_fit(train, epochs=1, p=1.0)


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))


def all_differ(images, others):
    """Whether each image is another than the one in its place."""
    assert images.shape == others.shape
    return bool((images != others).flatten(1).any(dim=1).all())


def whole(dataset):
    return next(iter(DataLoader(dataset, batch_size=len(dataset))))


@pytest.mark.ecosystem("timm", needs="timm", shows="`create_loader` and its transforms around `wrap`, `Mixup` after it")
def test_timm(augment, photos):
    import timm
    from timm.data import Mixup, create_loader
    from timm.loss import SoftTargetCrossEntropy

    def load(dataset):
        return next(iter(create_loader(dataset, (3, 16, 16), 8, use_prefetcher=False, num_workers=0)))

    images, labels = load(augment.wrap(ImageFolder(photos / "train")))
    real, real_labels = load(ImageFolder(photos / "train"))
    assert all_differ(images, real)
    assert torch.equal(labels, real_labels)
    images, targets = Mixup(mixup_alpha=0.2, num_classes=2)(images, labels)
    logits = timm.create_model("test_resnet", num_classes=2)(images)
    SoftTargetCrossEntropy()(logits, targets).backward()


@pytest.mark.ecosystem(
    "Hugging Face datasets", needs="datasets", shows="`fit` and `wrap` of a table, and `with_transform(augment)`"
)
def test_datasets(train):
    import datasets

    table = datasets.Dataset.from_dict(
        {"image": [image for image, _ in train], "label": train.targets, "id": list(range(8))},
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=train.classes),
                "id": datasets.Value("int64"),
            }
        ),
    )
    augment = quick_fit(table, epochs=1, p=1.0)
    assert augment.classes == tuple(train.classes)
    real = torch.stack([TO_TENSOR(image) for image in table["image"]])
    for rows in (augment.wrap(table), table.with_transform(augment)):
        read = [rows[index] for index in range(8)]
        assert all_differ(torch.stack([TO_TENSOR(row["image"]) for row in read]), real)
        assert [(row["label"], row["id"]) for row in read] == list(zip(train.targets, range(8), strict=True))


@pytest.mark.ecosystem("kornia", needs="kornia", shows="`AugmentationSequential` behind the swap, on the batch")
def test_kornia(augment, plain):
    import kornia.augmentation as K

    policy = K.AugmentationSequential(K.RandomHorizontalFlip(p=1.0), data_keys=["input"])
    images, labels = whole(plain)
    torch.manual_seed(0)
    swapped, same_labels = augment(images, labels)
    assert all_differ(swapped, images)
    torch.manual_seed(0)
    chained = nn.Sequential(v2.Lambda(lambda batch: augment(batch, labels)[0]), policy)
    assert torch.equal(chained(images), swapped.flip(-1))
    assert torch.equal(same_labels, labels)


@pytest.mark.ecosystem("albumentations", needs="albumentations", shows="`Compose` given to `wrap(transform=…)`")
def test_albumentations(augment, train, plain):
    import albumentations

    policy = albumentations.Compose([albumentations.HorizontalFlip(p=1.0), albumentations.ToTensorV2()])
    torch.manual_seed(0)
    flipped, labels = whole(augment.wrap(train, transform=policy))
    torch.manual_seed(0)
    swapped, _ = whole(augment.wrap(train, transform=v2.PILToTensor()))
    assert torch.equal(flipped, swapped.flip(-1))
    assert all_differ(swapped / 255, whole(plain)[0])
    assert labels.tolist() == train.targets


@pytest.mark.ecosystem("fastai", needs="fastai", shows="`DataLoaders.from_dsets` of the wrapped set, a `Learner`")
def test_fastai(augment, train, plain):
    from fastai.basics import DataLoaders, Learner, accuracy
    from fastai.callback.progress import ProgressCallback

    swapped = augment.wrap(train, transform=TO_TENSOR)
    loaders = DataLoaders.from_dsets(swapped, plain, bs=4, device="cpu", num_workers=0)
    model, loss = network(), nn.functional.cross_entropy
    learner = Learner(loaders, model, loss_func=loss, metrics=accuracy, cbs=[]).remove_cb(ProgressCallback)
    before = model[1].weight.clone()
    with learner.no_logging():
        learner.fit(1, lr=0.1)
    assert not torch.equal(model[1].weight, before)
    assert 0 <= learner.validate()[1] <= 1
    images, labels = loaders.train.new(shuffle=False, bs=8).one_batch()
    assert all_differ(images, whole(plain)[0])
    assert labels.tolist() == train.targets


@pytest.mark.ecosystem(
    "pytorch-metric-learning",
    needs="pytorch_metric_learning",
    shows="`MPerClassSampler` of the wrapped set's `targets`, a miner and a loss",
)
def test_pytorch_metric_learning(augment, train):
    from pytorch_metric_learning import losses, miners, samplers

    swapped = augment.wrap(train, transform=TO_TENSOR)
    sampler = samplers.MPerClassSampler(swapped.targets, m=2, batch_size=4, length_before_new_iter=8)
    model = network()
    for images, labels in DataLoader(swapped, batch_size=4, sampler=sampler):
        assert labels.bincount().tolist() == [2, 2]
        codes = model(images)
        losses.TripletMarginLoss()(codes, labels, miners.MultiSimilarityMiner()(codes, labels)).backward()


@pytest.mark.ecosystem(
    "webdataset", needs="webdataset", shows="`fit` of shards read into a list, then `shards.map(augment)`"
)
def test_webdataset(train, plain, tmp_path):
    import webdataset

    with webdataset.TarWriter(str(tmp_path / "shard.tar")) as shard:
        for index, (image, label) in enumerate(train):
            shard.write({"__key__": str(index), "png": image, "cls": label})
    shards = webdataset.WebDataset(str(tmp_path / "shard.tar"), shardshuffle=False)
    shards = shards.decode("pil").to_tuple("png", "cls")
    samples = list(shards)  # glue
    augment = quick_fit(samples, epochs=1, p=1.0)
    loader = webdataset.WebLoader(shards.map(augment).map_tuple(TO_TENSOR, int), batch_size=8)
    images, labels = next(iter(loader))
    assert all_differ(images, whole(plain)[0])
    assert labels.tolist() == train.targets


@pytest.mark.ecosystem("Jupyter", needs="IPython", shows="a fit at the end of a cell is a grid and its quality")
def test_jupyter(augment):
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(augment)
    assert "data:image/png;base64," in shown["text/html"]
    assert f"{augment.quality.r2:.3f}" in shown["text/html"]
    assert shown["text/plain"] == repr(augment)


def test_in_the_batch_transforms_of_others_the_augmentation_says_what_to_use(augment, train):
    sequence = pytest.importorskip("kornia.augmentation").AugmentationSequential
    batch = torch.stack([TO_TENSOR(image) for image, _ in train])
    with pytest.raises(ValueError, match=r"got Tensor alone\. Where .*augment\.wrap\(dataset\)"):
        sequence(augment)(batch)


def test_in_the_batch_transforms_of_fastai_the_augmentation_says_what_to_use(augment, train):
    fastai = pytest.importorskip("fastai.vision.all")
    batch = fastai.TensorImage(torch.stack([TO_TENSOR(image) for image, _ in train]))
    with pytest.raises(ValueError, match=r"got TensorImage alone\. Where .*batch_tfms of fastai.*augment\.wrap\("):
        fastai.Pipeline([augment])((batch, fastai.TensorCategory(train.targets)))


def test_in_compose_of_albumentations_both_transforms_say_what_to_do(augment, train):
    compose = pytest.importorskip("albumentations").Compose
    with pytest.raises(
        AttributeError, match=r"GLICOAugment is no transform of albumentations: .*wrap\(dataset, transf"
    ):
        compose([augment])
    with pytest.raises(AttributeError, match="LocalStyle is no transform of albumentations: call it before"):
        compose([LocalStyle(train)])
    assert not hasattr(augment, "available_keys")
