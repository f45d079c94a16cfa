"""GLICO and LocalStyle as transforms of whole batches, on the device where the classifier trains.

    python examples/swap_batches_on_the_gpu.py FILE.safetensors FOLDER [--plain]

FILE was written by ``glico fit FOLDER/train -o FILE.safetensors --image-size 64``: a batch has the size and the
detail of the fit. FOLDER holds train/<class>/ and test/<class>/. The loader's workers only decode and shift; the swap
and everything after it run on the batch, on the GPU if there is one. ``--plain`` trains without both, to compare with.
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


def main(file: Path, folder: Path, *, plain: bool = False, epochs: int = 100, workers: int = 2) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    augment = GLICOAugment.load(file, device=device)
    _, height, width = augment.generator.image_shape
    decode = v2.Compose([v2.Resize((height, width)), v2.PILToTensor()])
    train, test = (ImageFolder(folder / part, transform=decode) for part in ("train", "test"))
    shift = v2.RandomCrop((height, width), padding=min(height, width) // 8)
    train.transform = v2.Compose([decode, shift])
    style = LocalStyle(ImageFolder(folder / "train"))
    scaled = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))])

    network = resnet18(num_classes=len(train.classes)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    loader = DataLoader(train, 32, shuffle=True, num_workers=workers, pin_memory=device.type == "cuda")
    for epoch in range(epochs):
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            if not plain:
                images, labels = style(*augment(images, labels))
            loss = F.cross_entropy(network(scaled(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}")

    network.eval()
    with torch.no_grad():
        hits = [
            network(scaled(images.to(device))).argmax(1).cpu() == labels for images, labels in DataLoader(test, 128)
        ]
    accuracy = 100 * torch.cat(hits).float().mean().item()
    print(f"test accuracy {accuracy:.1f} %")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--epochs", type=int, default=100)
    arguments = parser.parse_args()
    main(arguments.file, arguments.folder, plain=arguments.plain, epochs=arguments.epochs)
