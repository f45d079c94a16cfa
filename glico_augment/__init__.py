"""Generative augmentation for small labelled image sets, by the GLICO method (Azuri & Weinshall, ICPR 2020).

augment = GLICOAugment.fit(dataset)
dataset = augment.wrap(dataset, transform=...)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glico_augment.config import FitConfig, SwapConfig
    from glico_augment.errors import DivergenceError, FileFormatError
    from glico_augment.fit.progress import FitProgress
    from glico_augment.fit.quality import FitQuality
    from glico_augment.losses import FeatureLoss, LaplacianLoss, PerceptualLoss, RandomPerceptualLoss
    from glico_augment.model.classifier import Classifier
    from glico_augment.model.codes import SphereCodes
    from glico_augment.model.generator import Generator
    from glico_augment.model.sphere import geodesic_distance, lerp, normalize, sample_uniform, slerp
    from glico_augment.style.local_style import LocalStyle
    from glico_augment.swap.augment import GLICOAugment
    from glico_augment.swap.bank import SyntheticBank
    from glico_augment.swap.dataset import GLICODataset

__version__ = "0.2.0"

# Public names by module, imported when first asked for, so that `glico --help` need not wait for torch.
_MODULES = {
    "style.local_style": ("LocalStyle",),
    "swap.augment": ("GLICOAugment",),
    "swap.bank": ("SyntheticBank",),
    "model.classifier": ("Classifier",),
    "model.codes": ("SphereCodes",),
    "config": ("FitConfig", "SwapConfig"),
    "swap.dataset": ("GLICODataset",),
    "errors": ("DivergenceError", "FileFormatError"),
    "fit.progress": ("FitProgress",),
    "fit.quality": ("FitQuality",),
    "model.generator": ("Generator",),
    "losses": ("FeatureLoss", "LaplacianLoss", "PerceptualLoss", "RandomPerceptualLoss"),
    "model.sphere": ("geodesic_distance", "lerp", "normalize", "sample_uniform", "slerp"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Classifier",
    "DivergenceError",
    "FeatureLoss",
    "FileFormatError",
    "FitConfig",
    "FitProgress",
    "FitQuality",
    "GLICOAugment",
    "GLICODataset",
    "Generator",
    "LaplacianLoss",
    "LocalStyle",
    "PerceptualLoss",
    "RandomPerceptualLoss",
    "SphereCodes",
    "SwapConfig",
    "SyntheticBank",
    "geodesic_distance",
    "lerp",
    "normalize",
    "sample_uniform",
    "slerp",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
