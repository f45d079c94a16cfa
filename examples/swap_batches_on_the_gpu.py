"""GLICO as a transform of whole batches, on the device where the classifier trains.

    python examples/swap_batches_on_the_gpu.py FILE.safetensors FOLDER

FILE was written by ``glico fit FOLDER -o FILE.safetensors``. The loader's workers only decode; the swap and everything
after it run on the batch, on the GPU if there is one. CutMix comes last, since it mixes the labels as well.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

from glico_augment import GLICOAugment


def main(file: Path, folder: Path, *, epochs: int = 100, workers: int = 2) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    augment = GLICOAugment.load(file, device=device)
    _, height, width = augment.generator.image_shape
    decode = v2.Compose([v2.Resize((height, width)), v2.PILToTensor()])
    dataset = ImageFolder(folder, transform=decode)
    on_device = v2.Compose(
        [
            augment,
            v2.ToDtype({torch.Tensor: torch.float32, "others": None}, scale=True),
            v2.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            v2.CutMix(num_classes=len(dataset.classes)),
        ]
    )
    network = resnet18(num_classes=len(dataset.classes)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    loader = DataLoader(dataset, 32, shuffle=True, num_workers=workers, pin_memory=device.type == "cuda")
    for epoch in range(epochs):
        for images, labels in loader:
            batch, targets = on_device(images.to(device), labels.to(device))
            loss = F.cross_entropy(network(batch), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}")
    return loss.item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=100)
    arguments = parser.parse_args()
    main(arguments.file, arguments.folder, epochs=arguments.epochs)
