"""A plain PyTorch loop on a folder of photographs: no augmentation, then GLICO, LocalStyle and AutoAugment together.

    python examples/train_with_autoaugment.py FOLDER [--flip]

FOLDER holds train/<class>/ and test/<class>/. Both networks see the same shifts, with ``--flip`` mirrored images as
well, and the same number of steps. The lines marked (1) to (3) are all that the recipe adds.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

from glico_augment import GLICOAugment, LocalStyle

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(
    folder: Path, *, side: int = 64, flip: bool = False, epochs: int = 100, fit_steps: int = 250, workers: int = 2
) -> dict[str, float]:
    to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    moved = [v2.Resize((side, side)), v2.RandomCrop(side, padding=side // 8)]
    moved += [v2.RandomHorizontalFlip()] if flip else []  # where a mirrored image keeps its label
    test = ImageFolder(folder / "test", v2.Compose([v2.Resize((side, side)), *to_tensor]))

    train = ImageFolder(folder / "train")
    augment = GLICOAugment.fit(train, min_steps=fit_steps)  # (1)
    policy = v2.RandomApply([v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)], p=0.5)  # (2)
    full = v2.Compose([LocalStyle(train), *moved, policy, *to_tensor])  # (2)
    recipes: dict[str, Dataset[Any]] = {
        "no augmentation": ImageFolder(folder / "train", v2.Compose([*moved, *to_tensor])),
        "GLICO + style + AutoAugment": augment.wrap(train, transform=full),  # (3)
    }
    scores = {}
    for name, dataset in recipes.items():
        scores[name] = accuracy_after_training(dataset, test, epochs=epochs, workers=workers)
        print(f"{name}: {scores[name]:.1f} %")
    return scores


def accuracy_after_training(train: Dataset[Any], test: ImageFolder, *, epochs: int, workers: int) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    network = resnet18(num_classes=len(test.classes)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    loader = DataLoader(train, 32, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * len(loader))
    for _ in range(epochs):
        for images, labels in loader:
            loss = F.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        hits = [
            (network(images.to(device)).argmax(1).cpu() == labels).float() for images, labels in DataLoader(test, 128)
        ]
    return 100 * torch.cat(hits).mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=100)
    arguments = parser.parse_args()
    main(arguments.folder, flip=arguments.flip, side=arguments.side, epochs=arguments.epochs)
