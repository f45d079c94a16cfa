"""What ``glico inspect`` says of a file, as a table or as JSON."""

from __future__ import annotations

from typing import Any

import torch

from glico_augment.checks import shown
from glico_augment.swap.augment import GLICOAugment


def facts(augment: GLICOAugment) -> dict[str, Any]:
    """What a fitted file holds, as JSON values."""
    codes, record, quality = augment.codes, augment.record, augment.quality
    channels, height, width = augment.generator.image_shape
    counts = torch.bincount(codes.class_indices).tolist()
    classes = zip(augment.classes, codes.classes.tolist(), counts, quality.per_class, strict=True)
    return {
        "images": codes.n_labeled,
        "unlabeled": len(codes) - codes.n_labeled,
        "channels": channels,
        "height": height,
        "width": width,
        "latent_dim": codes.latent_dim,
        "parameters": sum(value.numel() for value in augment.generator.parameters()),
        "r2": quality.r2,
        "is_learned": not quality.is_poor,
        "worst_images": list(quality.worst),
        "swap": {**augment.swap.to_json(), "noise_std": augment.noise_std},
        "fingerprint": record.fingerprint,
        "seed": record.seed,
        "steps": len(record.losses),
        "restarts": record.restarts,
        "final_losses": {name: values[-1] for name, values in augment.history.items() if values},
        "settings": augment.config.to_json(),
        "classes": [{"name": name, "label": label, "images": count, "r2": r2} for name, label, count, r2 in classes],
    }


def table(found: dict[str, Any]) -> str:
    """:func:`facts` as lines of a name and a value; what could steer a terminal or break a line is escaped."""
    swap, worst = found["swap"], ", ".join(map(str, found["worst_images"][:5]))
    verdict = "" if found["is_learned"] else " (the images are not learned: fit again, longer or at a lower rate)"
    rows = [
        ("images", f"{found['images']} labelled, {found['unlabeled']} unlabelled"),
        ("size", f"{found['height']} × {found['width']}, {found['channels']} channels"),
        ("codes", f"{found['images'] + found['unlabeled']} on the unit sphere in R^{found['latent_dim']}"),
        ("generator", f"{found['parameters']:,} parameters"),
        ("quality", f"R² {found['r2']:.3f} of the reconstructions{verdict}, worst images {worst}"),
        (
            "swap",
            f"p {swap['p']:g}, ratio up to {swap['max_ratio']:g}, {swap['interpolation']}, {swap['sampler']}, "
            f"noise {swap['noise_std']:g}",
        ),
        *((name, found[name]) for name in ("fingerprint", "seed", "steps", "restarts")),
        *((f"final {name}", f"{value:.4f}") for name, value in found["final_losses"].items()),
        *((f"setting {name}", value) for name, value in found["settings"].items()),
        *((f"class {each['name']}", f"{each['images']} images, R² {each['r2']:.3f}") for each in found["classes"]),
    ]
    printable = [(shown(name), shown(str(value))) for name, value in rows]
    width = max(len(name) for name, _ in printable)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in printable)
