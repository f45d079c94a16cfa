"""Train EasyFSL's prototypical network on tasks of synthetic images, then classify real images from a few examples.

    pip install easyfsl
    python examples/learn_from_synthetic_tasks.py FILE.safetensors photos/test

The network never sees a label of a real image but those of the few that it classifies the others by.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from easyfsl.methods import PrototypicalNetworks
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from glico_augment import GLICOAugment, SyntheticTasks, load_image


def main(file: Path, test: Path, *, n_way: int = 5, n_tasks: int = 500, n_shot: int = 1) -> float:
    augment = GLICOAugment.load(file)
    channels, height, width = augment.generator.image_shape
    to_float = v2.ToDtype(torch.float32, scale=True)
    tasks = SyntheticTasks(augment, n_way, n_shot, 5, n_tasks=n_tasks, transform=to_float)
    network = PrototypicalNetworks(backbone(channels))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step, task in enumerate(DataLoader(tasks, batch_size=None)):
        network.process_support_set(task.support_images, task.support_labels)
        loss = F.cross_entropy(network(task.query_images), task.query_labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"task {step}: loss {loss.item():.3f}")
    transform = v2.Compose([v2.ToImage(), v2.Resize((height, width)), to_float])
    real = ImageFolder(test, loader=load_image, transform=transform)
    images, labels = torch.stack([image for image, _ in real]), torch.tensor(real.targets)
    is_support = torch.cat([(labels == label).nonzero()[:n_shot, 0] for label in labels.unique()])
    is_query = torch.ones(len(labels), dtype=torch.bool).index_fill_(0, is_support, False)
    network.eval()
    with torch.no_grad():
        network.process_support_set(images[is_support], labels[is_support])
        accuracy = 100 * (network(images[is_query]).argmax(dim=1) == labels[is_query]).float().mean().item()
    print(
        f"{accuracy:.1f} % of {int(is_query.sum())} images right, from {n_shot} of each of {len(real.classes)} classes"
    )
    return accuracy


def backbone(channels: int, width: int = 32) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (channels, width, width):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("test", type=Path, help="one folder per class")
    arguments = parser.parse_args()
    main(arguments.file, arguments.test)
