"""A plain PyTorch loop on a folder of photographs, with GLICO and AutoAugment.

    python examples/train_with_autoaugment.py FOLDER [--with-style]

FOLDER holds train/<class>/ and test/<class>/. The lines marked (1) and (2) are all that GLICO adds; AutoAugment then
sees real and synthetic images alike. The three marked (3), for ``--with-style``, keep AutoAugment to half of the images
that were not swapped and give half of all images the light and contrast of another.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

from glico_augment import GLICOAugment, LocalStyle

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(
    folder: Path, *, with_style: bool = False, side: int = 64, epochs: int = 100, fit_steps: int = 600, workers: int = 2
) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    flips_and_crops = [v2.RandomResizedCrop(side), v2.RandomHorizontalFlip(), *to_tensor]
    test_transform = v2.Compose([v2.Resize((side, side)), *to_tensor])

    train = ImageFolder(folder / "train")
    augment = GLICOAugment.fit(train, image_size=side, min_steps=fit_steps)  # (1)
    train_set = augment.wrap(train, transform=v2.Compose([v2.AutoAugment(), *flips_and_crops]))  # (2)
    if with_style:
        policy = v2.RandomApply([v2.AutoAugment()])  # (3)
        restyled = v2.Compose([LocalStyle(train), *flips_and_crops])  # (3)
        train_set = augment.wrap(train, transform=restyled, real_transform=policy)  # (3)
    test_set = ImageFolder(folder / "test", transform=test_transform)

    network = resnet18(num_classes=len(train.classes)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    loader = DataLoader(train_set, 32, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * len(loader))
    for epoch in range(epochs):
        network.train()
        for images, labels in loader:
            loss = F.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}")

    network.eval()
    with torch.no_grad():
        hits = [
            (network(images.to(device)).argmax(1).cpu() == labels).float()
            for images, labels in DataLoader(test_set, 128)
        ]
    accuracy = 100 * torch.cat(hits).mean().item()
    print(f"test accuracy {accuracy:.1f} %")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--with-style", action="store_true")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=100)
    arguments = parser.parse_args()
    main(arguments.folder, with_style=arguments.with_style, side=arguments.side, epochs=arguments.epochs)
