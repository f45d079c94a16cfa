"""Every warning of the library stands at the line of the user that led to it."""

import ast
import sys
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from conftest import LABELS, quick_fit, save_photos, smooth_images
from sklearn.pipeline import make_pipeline
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision.transforms import v2

import glico_augment
from glico_augment import FitQuality
from glico_augment.sklearn import GLICOFeatures

IMAGES = smooth_images(8)
DATASET = TensorDataset(IMAGES, LABELS)
QUIET = {"steps": 1, "starts": 1, "progress": False, "device": "cpu"}


class Random(TensorDataset):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return (image + torch.randint(9, (1,), dtype=torch.uint8), label)


def loose_images(augment, folder):
    save_photos(folder)
    PIL.Image.new("RGB", (4, 4)).save(folder / "loose.png")
    quick_fit(folder, epochs=1)


def other_files(augment, folder):
    save_photos(folder)
    (folder / "cat" / "notes.txt").write_text("no image")
    quick_fit(folder, epochs=1)


def mixed_channels(augment, folder):
    quick_fit([(image[:1] if index else image, int(LABELS[index])) for index, image in enumerate(IMAGES)], epochs=1)


def skipped_images(augment, folder):
    save_photos(folder)
    (folder / "cat" / "broken.jpg").write_bytes(b"no image")
    quick_fit(folder, epochs=1, on_error="skip")


def no_bar(augment, folder):
    quick_fit(DATASET, epochs=1, progress=True)


def changed_photograph(augment, folder):
    augment.p, augment.carry = 1.0, True
    large = torch.nn.functional.interpolate(IMAGES, (24, 20))
    carried = quick_fit(TensorDataset(large, LABELS), epochs=1, image_size=(12, 10), carry=True, p=1.0)
    samples = [[image, int(label)] for image, label in zip(large, LABELS, strict=True)]
    wrapped = carried.wrap(samples)
    for sample in samples[1:]:
        sample[0] = 255 - sample[0]
    [wrapped[0] for _ in range(8)]


def a_mask(augment, folder):
    augment.wrap([(image, int(label), image[0].numpy() > 99) for image, label in zip(IMAGES, LABELS, strict=True)])


def poor_codes(augment, folder):
    augment.encode(IMAGES[:1], **QUIET)


def poor_extension(augment, folder):
    augment.record.__dict__["quality"] = FitQuality(0.9, (0.9, 0.9, 0.9), (0,))
    augment.extend(TensorDataset((torch.rand(4, 3, 12, 10) > 0.5).float(), LABELS[:4]), **QUIET)


WARNINGS = {
    "data.folders._warn_of_left_out": [(other_files, "no images that can be read")],
    "data.folders.find_classes": [(loose_images, "images in no class folder")],
    "data.image_set.finish": [(mixed_channels, "different numbers of channels")],
    "data.image_set._warn_if_random": [(lambda a, f: quick_fit(Random(IMAGES, LABELS), epochs=1), "read.* twice")],
    "data.reading.warn_of_skipped": [(skipped_images, "1 of 9 images were skipped")],
    "fit.progress.__init__": [(no_bar, "no progress bar")],
    "fit.run.fit_model": [
        (lambda a, f: quick_fit(TensorDataset(IMAGES[:1].expand(8, -1, -1, -1), LABELS), epochs=1), "all 8 images are"),
        (lambda a, f: quick_fit(DATASET, epochs=1), "has not learned its images"),
    ],
    "latent.encode.encode": [(poor_codes, "has not learned its images")],
    "latent.members.extended": [(poor_extension, "does not draw the new images")],
    "swap.dataset._warn_of_others": [(a_mask, "another array of the size of the image")],
    "swap.partners._read": [(changed_photograph, "no longer the one that was fitted")],
    "synthesis.recognition.check_overlap": [
        (
            lambda a, f: a.wrap(TensorDataset(torch.cat([IMAGES, smooth_images(1, seed=9)]), LABELS[[*range(8), 0]])),
            "of 9 images",
        ),
        (lambda a, f: a.wrap(Subset(DATASET, range(5))), "are not in this dataset"),
    ],
    "synthesis.synthesizer.find_known": [(lambda a, f: a(IMAGES[0], 99), "label 99 was not in the set")],
}
ROWS = [(act, message) for rows in WARNINGS.values() for act, message in rows]


@pytest.mark.parametrize(("act", "message"), ROWS, ids=[message for _, message in ROWS])
def test_every_warning_stands_at_the_line_of_the_user(act, message, augment, tmp_path, monkeypatch):
    if act is no_bar:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.warns(UserWarning, match=message) as caught:
        act(augment, tmp_path)
    for each in caught:
        # quick_fit of conftest.py stands for the user where it is called
        assert Path(each.filename).name in ("test_errors.py", "conftest.py"), each.filename


def test_every_warning_of_the_library_is_among_them():
    root = Path(glico_augment.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        functions = [each for each in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(each, ast.FunctionDef)]
        for function in functions:
            for call in ast.walk(function):
                if isinstance(call, ast.Call):
                    text = ast.unparse(call.func)
                    assert text != "warnings.warn", f"{path}:{call.lineno}: use glico_augment.errors.warn"
                    found += [f"{module}.{function.name}"] * (text == "warn")
    assert sorted(found) == sorted(name for name, rows in WARNINGS.items() for _ in rows)


def test_code_of_libraries_between_is_passed_over(augment):
    unknown = torch.full((8,), 99)

    def loaded():
        augment._has_warned_unknown = False
        list(DataLoader(TensorDataset(IMAGES, unknown), batch_size=4, collate_fn=lambda batch: augment(*batch[0])))

    def composed():
        augment._has_warned_unknown = False
        v2.Compose([augment, v2.RandomHorizontalFlip()])(IMAGES, unknown)

    def piped():
        model = make_pipeline(GLICOFeatures(config=augment.config.replace(steps=1), device="cpu"))
        model.fit(np.asarray(IMAGES), LABELS)

    for act in (loaded, composed, piped):
        with pytest.warns(UserWarning, match=r"label 99|not learned") as caught:
            act()
        line = act.__code__.co_firstlineno
        assert [(each.filename, line < each.lineno <= line + 2) for each in caught] == [(__file__, True)], act


def test_a_warning_is_shown_once_for_each_line(augment):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            augment.encode(IMAGES[:1], **QUIET)
    assert len(caught) == 1
