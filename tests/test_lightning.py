"""Lightning's checkpoints beside a fit: what they hold, and what they refuse."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import quick_fit
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from glico_augment import GLICOAugment

pytestmark = [
    pytest.mark.ecosystem(
        "Lightning",
        needs="lightning",
        shows="the swap on the batch in a module's hook; `wrap` in a data module, which needs none",
    ),
    pytest.mark.filterwarnings("ignore"),  # what Lightning warns of is its own
]

RECIPES = Path(__file__).parents[1] / "docs" / "recipes.md"
TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


@pytest.fixture(scope="module")
def augment(photos):
    return quick_fit(ImageFolder(photos / "train"), epochs=1, p=1.0)


@pytest.fixture(scope="module")
def classifier():
    """A module that remembers the batches it was trained on."""
    import lightning

    class Classifier(lightning.LightningModule):
        def __init__(self, width=4, augment=None, ignore=("augment",)):
            super().__init__()
            self.save_hyperparameters(ignore=[*ignore, "ignore"])
            self.augment = augment
            self.network = nn.Sequential(nn.Conv2d(3, width, 3, stride=5), nn.Flatten(), nn.Linear(9 * width, 2))
            self.seen = []

        def on_after_batch_transfer(self, batch, dataloader_idx):  # glue
            return self.augment(*batch) if self.augment and self.trainer.training else batch  # glue

        def training_step(self, batch, batch_idx):
            self.seen.append(batch)
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def validation_step(self, batch, batch_idx):
            self.seen.append(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Classifier


def trainer(**options):
    import lightning

    options = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, **options}
    return lightning.Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **options
    )


def test_a_module_swaps_while_it_trains_and_its_checkpoint_holds_neither_fit_nor_images(
    augment, classifier, photos, tmp_path
):
    plain = ImageFolder(photos / "train", transform=TO_TENSOR)
    loader = DataLoader(plain, batch_size=8)
    module = classifier(width=2, augment=augment)
    runner = trainer()
    runner.fit(module, loader, loader)
    (swapped, labels), (real, _) = module.seen
    assert torch.equal(real, next(iter(loader))[0])
    assert (swapped != real).flatten(1).any(dim=1).all()
    assert labels.tolist() == plain.targets

    runner.save_checkpoint(tmp_path / "a.ckpt")
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)  # nothing of this library is in it
    assert stored["hyper_parameters"] == {"width": 2}
    assert set(stored["state_dict"]) == {f"network.{name}" for name in module.network.state_dict()}
    again = classifier.load_from_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(again.network(real), module.network(real))
    assert classifier.load_from_checkpoint(tmp_path / "a.ckpt", augment=augment).augment is augment


def test_lightning_asks_to_leave_an_augmentation_out_of_the_hyperparameters(augment, classifier):
    with pytest.warns(UserWarning, match=r"save_hyperparameters\(ignore=\['augment'\]\)"):
        classifier(augment=augment, ignore=())


@pytest.fixture(scope="module")
def data_module():
    """The class of the recipe."""
    section = RECIPES.read_text(encoding="utf-8").partition("## A data module of Lightning")[2]
    code = re.search(r"```python\n(.*?)\n```", section, re.DOTALL)[1].partition("\n\n\naugment.save")[0]
    names = {"GLICOAugment": GLICOAugment, "ImageFolder": ImageFolder, "DataLoader": DataLoader, "moved": TO_TENSOR}
    exec(code, names)
    return names["SwappedPhotos"]


def test_a_data_module_goes_on_with_the_fit_it_began_with_and_with_no_other(
    augment, classifier, data_module, photos, tmp_path
):
    file, moved, other = (tmp_path / f"{name}.safetensors" for name in ("fit", "moved", "other"))
    augment.save(file)
    shutil.copy(file, moved)
    quick_fit(ImageFolder(photos / "train"), epochs=1, p=1.0, seed=1).save(other)
    folder, checkpoint = str(photos / "train"), tmp_path / "a.ckpt"

    module, runner = classifier(), trainer()
    runner.fit(module, datamodule=data_module(folder, str(file), batch_size=8))
    real = torch.stack([TO_TENSOR(image) for image, _ in ImageFolder(folder)])
    swapped = module.seen[0][0]
    assert not any((image == swapped).flatten(1).all(dim=1).any() for image in real)
    runner.save_checkpoint(checkpoint)
    stored = torch.load(checkpoint, weights_only=True)
    digest = "([0-9a-f]{64})"
    assert re.fullmatch(digest, stored["SwappedPhotos"]["sha256"])
    assert stored["SwappedPhotos"]["file"] == str(file)
    assert stored["datamodule_hyper_parameters"] == {"folder": folder, "file": str(file), "batch_size": 8}
    assert data_module.load_from_checkpoint(checkpoint).fit == stored["SwappedPhotos"]

    runner = trainer(max_epochs=2)
    runner.fit(classifier(), datamodule=data_module(folder, str(moved), batch_size=8), ckpt_path=checkpoint)
    assert runner.current_epoch == 2
    with pytest.raises(ValueError, match=rf"another fit: it has .*fit\.safetensors.*{digest}.*other\.safetensors"):
        trainer(max_epochs=2).fit(classifier(), datamodule=data_module(folder, str(other)), ckpt_path=checkpoint)
