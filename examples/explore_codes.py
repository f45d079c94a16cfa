"""Load only the codes of a fitted file and see whether the sphere knows the classes.

    python examples/explore_codes.py FILE.safetensors

Prints the mean angle within and between classes, and for each class the one whose codes are closest. A fit starts with
codes about a prototype of their class (``FitConfig.class_cosine``) and every class at right angles to the others, so
what differs from that is learned.
"""

import argparse
from pathlib import Path

import torch

from glico_augment import SphereCodes, geodesic_distance


def main(file: Path) -> tuple[float, float]:
    sphere = SphereCodes.load(file)
    codes = sphere.codes.detach()[: sphere.n_labeled]
    angles = torch.rad2deg(geodesic_distance(codes[:, None], codes[None]))
    same_class = sphere.labels[:, None] == sphere.labels[None]
    is_itself = torch.eye(len(codes), dtype=torch.bool)
    within = angles[same_class & ~is_itself].mean().item()
    between = angles[~same_class].mean().item()
    print(f"{sphere}: {within:.1f}° within a class, {between:.1f}° between classes")
    for label in sphere.classes.tolist():
        others = [other for other in sphere.classes.tolist() if other != label]
        distances = [angles[sphere.labels == label][:, sphere.labels == other].mean().item() for other in others]
        nearest = min(range(len(others)), key=distances.__getitem__)
        print(f"label {label}: nearest is {others[nearest]} at {distances[nearest]:.1f}°")
    return within, between


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    main(parser.parse_args().file)
