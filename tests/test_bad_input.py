"""Bad input of many kinds: each says what was expected, what came and what to do, in words of this library.

A row is what is done, the error, and what its message must hold. None may end in a traceback of torch, numpy or PIL.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import LABELS, QUICK, smooth_images
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from glico_augment import (
    FitConfig,
    GLICOAugment,
    GLICODataset,
    LocalStyle,
    PerceptualLoss,
    SphereCodes,
    SwapConfig,
    SyntheticBank,
    SyntheticTasks,
)

IMAGES = smooth_images(8)
DATASET = TensorDataset(IMAGES, LABELS)
PAIRS = [(image, int(label)) for image, label in DATASET]
UNIT = torch.full((3, 12, 10), 0.5)


class Stream(IterableDataset):
    def __iter__(self):
        yield from PAIRS


class NotScalar(nn.Module):
    def forward(self, outputs, targets):
        return outputs - targets


class NoTensor(nn.Module):
    def forward(self, outputs, targets):
        return 3.0


def fit(*data: Any, **options: Any) -> Callable[[Any, Path], Any]:
    data = data or (DATASET,)
    return lambda augment, folder: GLICOAugment.fit(
        *data,
        **{
            "config": QUICK,
            "steps": 2,
            "epochs": None,
            "batch_size": None,
            "progress": False,
            "device": "cpu",
            **options,
        },
    )


def config(**options: Any) -> Callable[[Any, Path], Any]:
    return lambda augment, folder: FitConfig(**options)


def swap(**options: Any) -> Callable[[Any, Path], Any]:
    return lambda augment, folder: SwapConfig(**options)


def call(*sample: Any) -> Callable[[Any, Path], Any]:
    return lambda augment, folder: augment(*sample)


def wrap(*data: Any, **options: Any) -> Callable[[Any, Path], Any]:
    return lambda augment, folder: augment.wrap(*(data or (DATASET,)), **options)


def of(method: str, *arguments: Any, **options: Any) -> Callable[[Any, Path], Any]:
    return lambda augment, folder: getattr(augment, method)(*arguments, **options)


def set_(name: str, value: Any) -> Callable[[Any, Path], Any]:
    return lambda augment, folder: setattr(augment, name, value)


def write(name: str, content: bytes) -> Callable[[Any, Path], Any]:
    def load(augment: Any, folder: Path) -> Any:
        (folder / name).write_bytes(content)
        return GLICOAugment.load(folder / name)

    return load


def in_folder(*parts: str) -> Callable[[Any, Path], Any]:
    def fit_folder(augment: Any, folder: Path) -> Any:
        for part in parts:
            path = folder / part
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.new("RGB", (4, 4)).save(path)
        return fit(folder)(augment, folder)

    return fit_folder


# What is fitted.
FITTED = [
    (fit(IMAGES, LABELS[:3]), ValueError, "got 8 images but 3 labels"),
    (fit(DATASET, 50), TypeError, r"the labels of images.*got 50.*named: fit\(dataset, epochs=50\)"),
    (fit(DATASET, {"epochs": 3}), TypeError, r"the labels of images.*Settings are named"),
    (fit(DATASET, FitConfig()), TypeError, r"config=FitConfig\("),
    (fit(DATASET, LABELS), TypeError, "images must be a tensor, an array or a sequence; got TensorDataset"),
    (fit(5), TypeError, "dataset must be a map-style dataset with __len__ and __getitem__, got int"),
    (fit(None), TypeError, "dataset must be a map-style dataset"),
    (fit(Stream()), TypeError, r"map-style.*list\(dataset\) makes such a set"),
    (fit([]), ValueError, "dataset is empty"),
    (fit(IMAGES[:0]), ValueError, "empty"),
    (fit(IMAGES[:1]), ValueError, "at least two images, got one"),
    (fit(UNIT[None] * torch.nan), ValueError, "NaN or infinite pixels"),
    (fit(IMAGES, unlabeled=IMAGES), ValueError, "unlabeled= adds nothing"),
    (fit([(IMAGES[0], 0), (IMAGES[1], 0)]), ValueError, "at least two classes, got 2 images that all have label 0"),
    (fit([*PAIRS, (IMAGES[0], "cat")]), TypeError, r"image 8 could not be read: labels must be integers, got 'cat'"),
    (fit([*PAIRS, (IMAGES[0], 2**63)]), ValueError, "image 8 .*labels must fit into 64 bits"),
    (fit([*PAIRS, (IMAGES[0], 1.5)]), TypeError, r"labels must be integers, got 1\.5"),
    (fit([*PAIRS, (IMAGES[0], True)]), TypeError, "labels must be integers, got True"),
    (fit([*PAIRS, (IMAGES[0], 1j)]), TypeError, "labels must be integers, got 1j"),
    (fit([*PAIRS, (IMAGES[0], torch.tensor([0.0, 1.0]))]), TypeError, "labels must be integers"),
    (fit([*PAIRS, "photo.png"]), TypeError, r"a sample must be \(image, label\)"),
    (fit([*PAIRS, ("photo.png", 0)]), TypeError, "PIL image, a tensor or an array; got str"),
    (fit([*PAIRS, (torch.full((3, 4, 4), -2.0), 0)]), ValueError, r"must lie in \[0, 1\].*normalis"),
    (fit([*PAIRS, (torch.full((3, 4, 4), torch.nan), 0)]), ValueError, "NaN or infinite pixels"),
    (fit([*PAIRS, (torch.zeros(3, 4, 4, dtype=torch.int32), 0)]), TypeError, "uint8, uint16 or floating"),
    (fit([*PAIRS, (torch.zeros(3, 4, 4, dtype=torch.complex64), 0)]), TypeError, "uint8, uint16 or floating"),
    (fit([*PAIRS, (torch.zeros(2, 3, 4, 4), 0)]), ValueError, r"shape \(C, H, W\) or \(H, W\)"),
    (fit([*PAIRS, (torch.zeros(3, 0, 4), 0)]), ValueError, r"shape \(C, H, W\) or \(H, W\)"),
    (fit([*PAIRS, (np.zeros((4, 4, 4, 4), dtype=np.uint8), 0)]), ValueError, "must have shape"),
    (fit([*PAIRS, (torch.zeros(5, 4, 4), 0)]), ValueError, "channels"),
    (fit([(tv_tensors.Mask(IMAGES[0]), 0), *PAIRS]), ValueError, "does not support Mask"),
    (fit([{"image": IMAGES[0], "y": 0}]), ValueError, "no key with 'label' .*pass label_key="),
    (fit([{"image": IMAGES[0], "label": 0}], image_key="x"), ValueError, "image_key='x' is not in the sample"),
    (fit(Path("no/such/folder")), FileNotFoundError, "no such folder"),
    (in_folder("train/a/1.png", "test/a/1.png"), ValueError, r"parts of a data set and no classes: give .*train"),
    (in_folder("1.png", "2.png"), ValueError, "expected one folder per class"),
    (in_folder("a/1.png"), ValueError, "one folder"),
    (in_folder(), ValueError, "no folders"),
]

# How it is fitted.
SETTINGS = [
    (fit(epoch=3), TypeError, "unknown setting epoch.*; the settings are: .*epochs"),
    (fit(size=32), TypeError, r"unknown setting size \(did you mean batch_size, image_size\?\)"),
    (fit(imagesize=32), TypeError, r"unknown setting imagesize \(did you mean image_size\?\)"),
    (fit(num_worker=2), TypeError, r"unknown setting num_worker \(did you mean num_workers\?\)"),
    (fit(labelkey="y"), TypeError, r"unknown setting labelkey \(did you mean label_key\?\)"),
    (fit(config={"epochs": 3}), TypeError, "config must be a FitConfig, or None"),
    (fit(swap={"p": 1}), TypeError, "swap must be a SwapConfig, or None"),
    (fit(callback=5), TypeError, "callback must be"),
    (fit(labels_getter=5), TypeError, "labels_getter must be a function"),
    (fit(class_names="cat"), TypeError, "class_names must be a list"),
    (fit(device="tpu9"), ValueError, "device must be 'cuda', 'mps', 'cpu' or None; got 'tpu9'"),
    (fit(device="meta"), ValueError, "device must be"),
    (fit(device=3.5), ValueError, "device must be"),
    (fit(seed=-1), ValueError, "seed must be an integer of at least 0"),
    (fit(seed=1.5), TypeError, "seed must be"),
    (fit(preset="best"), ValueError, "preset must be one of"),
    (fit(preset="published"), ValueError, "give a config or preset"),
    (fit(checkpoint="no/such/folder/file"), OSError, "no/such/folder"),
    (fit(checkpoint=5), TypeError, "a file's name must be a path; got 5"),
    (fit(checkpoint_every=0), ValueError, "checkpoint_every must be"),
    (fit(num_workers=-1), ValueError, "num_workers must be"),
    (fit(on_error="ignore"), ValueError, "on_error must be one of"),
    (fit(unlabeled=5), TypeError, "unlabeled must be a map-style dataset"),
    (fit(unlabeled=[]), ValueError, "unlabeled is empty"),
    (fit(batch_size=9), ValueError, "batch_size must be at most the 8 images"),
    (fit(epochs=10**14, steps=None), ValueError, "steps"),
    (fit(latent_dim=10**7), ValueError, "latent_dim"),
    (fit(generator_width=10**6), ValueError, "generator_width"),
    (fit(image_size=100_000), ValueError, "image_size"),
    (fit(loss=NotScalar()), TypeError, "loss must return a scalar"),
    (fit(loss=NoTensor()), TypeError, "loss must return a scalar"),
    (config(epochs=0), ValueError, "epochs must be an integer of at least 1"),
    (config(epochs=3, steps=3), ValueError, "give epochs or steps, not both"),
    (config(lr=0), ValueError, "lr must be a finite number above 0"),
    (config(lr="fast"), TypeError, "lr must be"),
    (config(latent_dim=1), ValueError, "latent_dim must be an integer of at least 2"),
    (config(class_cosine=1), ValueError, r"class_cosine must be a number in \[0, 1\)"),
    (config(noise_std=float("nan")), ValueError, "noise_std must be"),
    (config(loss="vgg19"), ValueError, "loss must be one of"),
    (config(loss=nn.MSELoss), TypeError, "loss must be one of"),
    (config(loss_weights=()), ValueError, "loss_weights must be"),
    (config(image_size=(3,)), ValueError, r"image_size must be a pair \(height, width\)"),
    (config(schedule="linear"), ValueError, "schedule must be one of"),
    (config(precision="half"), ValueError, "precision must be one of"),
    (fit(vgg_weights="weights.pth"), ValueError, "vgg_weights go with loss='vgg16'; got loss='laplacian'"),
    (swap(p=1.5), ValueError, r"p must be a number in \[0, 1\]"),
    (swap(p="often"), TypeError, "p must be"),
    (swap(max_ratio=-0.1), ValueError, "max_ratio must be"),
    (swap(interpolation="cubic"), ValueError, "interpolation must be one of"),
    (lambda a, f: FitConfig().replace(epoch=3), TypeError, "unknown setting epoch"),
    (lambda a, f: SwapConfig().replace(q=3), TypeError, "unknown setting q"),
    (lambda a, f: GLICOAugment(p=0.5), TypeError, r"made by GLICOAugment\.fit\(dataset, p=0\.5\)"),
    (lambda a, f: GLICOAugment(IMAGES), TypeError, r"GLICOAugment\.load\(path"),
]

# How it is used.
USED = [
    (set_("probability", 0.3), AttributeError, "no setting 'probability'; a swap has p, max_ratio"),
    (set_("max_ration", 0.3), AttributeError, r"no setting 'max_ration' \(did you mean max_ratio\?\); a swap has p"),
    (set_("ratio", 0.3), AttributeError, r"no setting 'ratio' \(did you mean max_ratio\?\)"),
    (set_("p", 2), ValueError, r"p must be a number in \[0, 1\]"),
    (set_("noise_std", -1), ValueError, "noise_std must be"),
    (call(IMAGES[0]), ValueError, r"call augment\(image, label\)"),
    (call(IMAGES[0], "cat"), TypeError, "labels must be integers"),
    (call(IMAGES, LABELS[:3]), ValueError, "got 8 images but 3 labels"),
    (call(IMAGES, LABELS.float()), TypeError, "labels of a batch must be integers"),
    (call(IMAGES, torch.eye(8)), TypeError, "before MixUp, CutMix and one-hot encoding"),
    (call(IMAGES, LABELS > 0), TypeError, "labels of a batch must be integers"),
    (call(IMAGES.float(), LABELS), ValueError, r"float images must lie in \[0, 1\]"),
    (call(IMAGES[:, 0], LABELS), ValueError, r"one image \(8, 12, 10\) came with 8 labels.*images\[:, None\]"),
    (call(UNIT, tv_tensors.Mask(IMAGES[0]), 3), ValueError, "does not support Mask"),
    (call({"image": UNIT, "target": 3}), ValueError, "no key with 'label'"),
    (call(torch.zeros(3, 5, 4, dtype=torch.int16), 3), TypeError, "uint8, uint16 or floating"),
    (wrap(Stream()), TypeError, "map-style"),
    (wrap([]), ValueError, "dataset is empty"),
    (wrap(5), TypeError, "map-style"),
    (wrap("no/such/folder"), FileNotFoundError, "no such folder"),
    (wrap([(UNIT, "cat")]), TypeError, "labels must be integers"),
    (wrap(bank=5), TypeError, r"bank must be a SyntheticBank\(augment\)"),
    (wrap(transform=5), TypeError, "transform must be a function or transform of an image, or None; got 5"),
    (wrap(real_transform="flip"), TypeError, "real_transform must be"),
    (wrap(target_transform={0: 1}), TypeError, "target_transform must be a function or transform of a label"),
    (wrap(transform=v2.CutMix(num_classes=41)), TypeError, "transform is called with one image.*CutMix needs a batch"),
    (wrap(transform=v2.Compose([v2.RandomApply([v2.MixUp(num_classes=41)])])), TypeError, "MixUp needs a batch.*loop"),
    (wrap(transform=nn.Sequential(v2.CutMix(num_classes=41))), TypeError, "CutMix needs a batch"),
    (wrap(real_transform=v2.CutMix(num_classes=41)), TypeError, "real_transform is called .*collate_fn"),
    (lambda a, f: a.wrap(DATASET, v2.Compose([a])), TypeError, "GLICOAugment needs a batch and its labels"),
    (wrap(class_names=5), TypeError, "class_names must be a list"),
    (wrap(label_key=1.5), TypeError, "label_key must be a key"),
    (lambda a, f: GLICODataset(DATASET, a.model), TypeError, "augment must be a fitted GLICOAugment"),
    (lambda a, f: a.wrap(DATASET)["x"], TypeError, "integer|index"),
    (of("restrict", [(IMAGES[0], 77)]), ValueError, "image 0 .*has label 77 and was fitted under label 3"),
    (call(tv_tensors.Image(IMAGES[0])), ValueError, r"got Image alone.*fastai.*kornia.*augment\.wrap\(dataset\)"),
    (lambda a, f: nn.Sequential(a)(IMAGES), ValueError, r"got Tensor alone.*augment\.wrap\(dataset\)"),
    (of("fit_transform", IMAGES, LABELS), TypeError, "no transformer of scikit-learn.*GLICOFeatures of glico_augment"),
    (of("restrict", [(UNIT, 3)]), ValueError, "none of the 1 images was fitted"),
    (of("encode", torch.zeros(2, 7, 12, 10)), ValueError, "image 0 has 7 channels.*the 3 of the fit"),
    (of("extend", [(torch.zeros(7, 12, 10), 3)]), ValueError, "has 7 channels.*the 3 of the fit"),
    (of("extend", [(UNIT * torch.nan, 3)]), ValueError, "NaN or infinite pixels"),
    (of("extend", []), ValueError, "dataset is empty"),
    (of("extend", [(UNIT, 77)]), ValueError, "label 77 was not fitted; fitted: -1, 3, 40"),
    (of("extend", DATASET), ValueError, "all 8 images were fitted under their labels already"),
    (lambda a, f: SyntheticTasks(a), ValueError, "has not learned its images, R² is .*Fit longer or at a lower rate"),
    (set_("sampler", "nearest"), ValueError, "sampler must be one of"),
    (set_("sampler_std", -1), ValueError, "sampler_std must be"),
    (set_("min_angle", 4), ValueError, "min_angle must be an angle"),
    (of("interpolate", 0, 99), IndexError, r"indices must lie in \[0, 8\); got \[99\]"),
    (of("interpolate", 0, 1, steps=1), ValueError, "steps must be an integer of at least 2"),
    (of("interpolate", 0, 1, steps="a"), TypeError, "steps must be an integer of at least 2"),
    (of("interpolate", "a", 1), TypeError, "indices must be integers"),
    (of("reconstruct", [99]), IndexError, "indices must lie in"),
    (of("reconstruct", [None]), TypeError, "indices must be integers"),
    (of("reconstruct", "all"), TypeError, "indices must be integers"),
    (of("reconstruct", 1.5), TypeError, "indices must be integers"),
    (of("synthesize"), ValueError, "give either labels or n_per_class"),
    (of("synthesize", [77]), ValueError, "label 77 was not fitted; fitted: -1, 3, 40"),
    (of("synthesize", ["cat"]), TypeError, "labels must be integers"),
    (of("synthesize", n_per_class=0), ValueError, "n_per_class must be"),
    (lambda a, f: SyntheticBank(a, per_image=0), ValueError, "per_image must be"),
    (lambda a, f: SyntheticBank(5), TypeError, r"SyntheticBank\(augment\)"),
    (lambda a, f: SyntheticBank(a, device="tpu9"), ValueError, "device must be"),
    (lambda a, f: LocalStyle(5), TypeError, "map-style"),
    (lambda a, f: LocalStyle(DATASET, grid=0), ValueError, "grid must be"),
    (lambda a, f: LocalStyle(DATASET, p=2), ValueError, "p must be"),
    (lambda a, f: LocalStyle(DATASET)(torch.full((3, 4, 4), 9.0)), ValueError, r"must lie in \[0, 1\]"),
]

# Codes, weights and files.
FILES = [
    (lambda a, f: SphereCodes(torch.full((2, 3), torch.nan), torch.tensor([0, 1])), ValueError, "NaN|finite"),
    (lambda a, f: SphereCodes(torch.ones(2, 3, dtype=torch.int64), torch.tensor([0, 1])), TypeError, "floating point"),
    (lambda a, f: SphereCodes(torch.ones(2, 1), torch.tensor([0, 1])), ValueError, "latent_dim >= 2"),
    (lambda a, f: SphereCodes(torch.ones(2, 3), torch.tensor([0.0, 1.0])), TypeError, "labels must be integers"),
    (lambda a, f: SphereCodes(torch.ones(2, 3), torch.tensor([0, 1, 2])), ValueError, "labels must have shape"),
    (lambda a, f: SphereCodes([[1.0, 2.0]], torch.tensor([0])), TypeError, "codes and labels must be tensors"),
    (lambda a, f: PerceptualLoss(weights_file=f / "none.pth"), FileNotFoundError, "no VGG-16 weights at"),
    (lambda a, f: a.save(f), OSError, "folder|directory"),
    (lambda a, f: a.save(f / "no" / "a.safetensors"), OSError, "no"),
    (lambda a, f: a.save(5), TypeError, "a file's name must be a path; got 5"),
    (lambda a, f: GLICOAugment.load(f / "none.safetensors"), FileNotFoundError, "none"),
    (lambda a, f: GLICOAugment.load(f), ValueError, "is a folder; expected a file"),
    (lambda a, f: GLICOAugment.load(5), TypeError, "a file's name must be a path; got 5"),
    (write("a.pt", b"PK\x03\x04" + b"0" * 100), ValueError, "zip archive, as of torch.save.*not unpickled"),
    (write("a.pkl", b"\x80\x04" + b"0" * 100), ValueError, "pickle.*not unpickled"),
    (write("a.safetensors", b""), ValueError, "truncated|empty"),
    (write("a.txt", b"some words that are no tensors"), ValueError, "is not a safetensors file|is truncated"),
]

ROWS = [*FITTED, *SETTINGS, *USED, *FILES]


@pytest.mark.parametrize(("act", "error", "message"), ROWS, ids=[str(number) for number in range(len(ROWS))])
def test_bad_input_is_refused_in_words_of_this_library(act, error, message, augment, tmp_path):
    with pytest.raises(error, match=f"(?s){message}") as caught:
        act(augment, tmp_path)
    innermost = traceback.extract_tb(caught.value.__traceback__)[-1].filename
    assert "glico_augment" in innermost, f"raised in {innermost}"
