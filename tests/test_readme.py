"""The README's examples are what they say."""

import re
from pathlib import Path

import PIL.Image
from conftest import smooth_images

from glico_augment import GLICOAugment

README = Path(__file__).parents[1] / "README.md"


def test_the_python_examples_run(tmp_path, monkeypatch):
    for index, image in enumerate(smooth_images(8, height=20, width=20)):
        path = tmp_path / "photos" / "train" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    monkeypatch.chdir(tmp_path)
    fit = GLICOAugment.fit
    quick = {"generator_width": 4, "epochs": 1, "progress": False, "device": "cpu"}
    monkeypatch.setattr(GLICOAugment, "fit", lambda dataset, **settings: fit(dataset, **{**settings, **quick}))
    first, recipe, keep, transforms = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    exec(first.replace("num_workers=2", "num_workers=0"), names)
    images, labels = next(iter(names["loader"]))
    assert images.shape == (8, 3, 64, 64)
    assert sorted(labels.tolist()) == [0] * 4 + [1] * 4
    exec(recipe, names)
    assert names["swapped"][0][0].shape == (3, 64, 64)
    exec(keep, names)
    assert (tmp_path / "photos.safetensors").exists()
    image, label = names["train"][0]
    names |= {"image": image, "label": label, "images": images, "labels": labels}
    exec(transforms, names)
    assert names["pipeline"](images, labels)[1].shape == (8, 10)


def test_the_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text()):
        assert (README.parent / target).exists(), target
