import os
import shutil

import numpy as np
import PIL.Image
import pytest
from conftest import quick_fit, save_photos
from torchvision.datasets import ImageFolder

from glico_augment.data.folders import ClassFolders, ImageFiles, folder_as_fitted, read_files
from glico_augment.data.image_set import read_image_set
from glico_augment.data.reading import read_samples
from glico_augment.data.samples import PLAIN
from glico_augment.images.identity import digest
from glico_augment.images.pil import load_image
from glico_augment.synthesis.recognition import Recognizer, find_overlap


@pytest.fixture
def root(tmp_path):
    return save_photos(tmp_path / "photos")


def test_a_folder_is_read_in_the_order_of_torchvision(root):
    (root / "dog" / "more" / "deep").mkdir(parents=True)
    shutil.copy(root / "cat" / "0.jpg", root / "dog" / "more" / "deep" / "A.JPG")
    shutil.copy(root / "cat" / "0.jpg", root / "dog" / "more" / "0.jpg")
    (root / "dog" / "more.d").mkdir()  # before more/deep, as torchvision has it
    shutil.copy(root / "cat" / "0.jpg", root / "dog" / "more.d" / "0.jpg")
    read, expected = ClassFolders(root), ImageFolder(root)
    assert read.samples == expected.samples
    assert (read.classes, read.targets) == (expected.classes, expected.targets)


def test_what_is_hidden_is_left_out(root):
    expected = ImageFolder(root).samples
    for hidden in (root / ".ipynb_checkpoints", root / "cat" / ".thumbnails"):
        shutil.copytree(root / "dog", hidden)
    shutil.copy(root / "cat" / "0.jpg", root / "cat" / "._0.jpg")
    assert ClassFolders(root).samples == expected
    assert len(ImageFiles(root)) == len(expected)
    hidden = root.parent / ".data"
    root.rename(hidden)
    assert len(ClassFolders(hidden)) == len(ImageFiles(hidden)) == len(expected)


@pytest.mark.parametrize(
    ("parts", "best"),
    [
        (("train", "test"), "train"),
        (("test", "valid"), "test"),
        (("Training", "validation", "test"), "Training"),
        (("train", "val", "extra"), "train"),
        (("train",), "train"),
    ],
)
def test_parts_of_a_data_set_are_no_classes(root, parts, best, tmp_path):
    for part in parts:
        shutil.copytree(root, tmp_path / "data" / part)
    with pytest.raises(ValueError, match=rf"parts of a data set and no classes: give .*data.{best}, "):
        ClassFolders(tmp_path / "data")


def test_parts_without_classes_are_no_classes_either(root):
    (root / "cat").rename(root / "train")
    (root / "dog").rename(root / "test")
    with pytest.raises(ValueError, match=r"test/, train/, which are parts"):
        ClassFolders(root)


@pytest.mark.parametrize("has_kinds", [False, True])
def test_a_class_may_be_called_train(root, has_kinds):
    (root / "cat").rename(root / "train")
    if has_kinds:
        shutil.copytree(root / "dog", root / "train" / "steam")
    assert ClassFolders(root).classes == ["dog", "train"]


def test_class_folders_without_images_are_named(root):
    (root / "bird").mkdir()
    (root / "cow").mkdir()
    (root / "cow" / "photo.heic").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"class folders without images: bird, cow; .*1 \.heic \(photo\.heic\)"):
        ClassFolders(root)


@pytest.mark.parametrize("reader", [ClassFolders, ImageFiles])
def test_what_is_left_out_is_counted_and_named(root, reader):
    for name in ("cat/a.heic", "dog/b.HEIC", "dog/notes.txt", "dog/film.mpg", "cat/README", "cat/.hidden"):
        (root / name).write_bytes(b"no image")
    expected = r"left out: 2 \.heic, .*1 \.txt.*(README, a\.heic|a\.heic, ).*pillow_heif\.register_heif_opener"
    with pytest.warns(UserWarning, match=expected) as caught:
        assert len(reader(root)) == 8
    assert len(caught) == 1
    assert "1 without a suffix" in str(caught[0].message)
    assert "hidden" not in str(caught[0].message)


@pytest.mark.parametrize("suffix", [".jfif", ".gif", ".JPE", ".tga", ".jp2", ".ico", ".qoi"])
def test_every_format_that_pillow_reads_is_an_image(root, suffix):
    with PIL.Image.open(root / "cat" / "0.jpg") as image:
        kind = PIL.Image.registered_extensions()[suffix.lower()]
        image.save(root / "cat" / f"more{suffix}", kind)
    folder = ClassFolders(root)
    assert len(folder) == len(ImageFiles(root)) == 9
    assert all(image.mode == "RGB" or suffix == ".ico" for image, _ in folder)


def test_a_format_that_a_plugin_reads_is_an_image(root, monkeypatch):
    shutil.copy(root / "cat" / "0.jpg", root / "cat" / "0.plugin")
    monkeypatch.setitem(PIL.Image.EXTENSION, ".plugin", "JPEG")
    assert len(ClassFolders(root)) == 9


def link(path, target):
    path.symlink_to(target, target_is_directory=True)


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
@pytest.mark.parametrize("target", [".", "..", "../..", "../dog", "../dog/more", "more"])
@pytest.mark.parametrize("name", ["a", "z"])
def test_a_link_to_a_folder_that_is_read_adds_nothing(root, target, name):
    for each in ("cat/more", "dog/more"):
        (root / each).mkdir()
        shutil.copy(root / "cat" / "0.jpg", root / each / "0.jpg")
    expected, files = ClassFolders(root).samples, ImageFiles(root).samples
    link(root / "cat" / name, target)
    assert ClassFolders(root).samples == expected
    assert ImageFiles(root).samples == files


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_links_to_folders_elsewhere_are_followed_once(root, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    for index, place in enumerate((elsewhere, elsewhere / "deep")):
        shutil.copy(root / "cat" / "0.jpg", place / f"new{index}.jpg")
    link(root / "cat" / "all", elsewhere)
    link(root / "cat" / "part", elsewhere / "deep")
    link(root / "dog" / "all", elsewhere)
    link(elsewhere / "back", root)
    read = ClassFolders(root)
    assert sorted(path[-8:] for path, _ in read.samples if "new" in path) == ["new0.jpg", "new1.jpg"]
    assert len(read) == len(ImageFiles(root)) == 10


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_class_folders_may_be_links_but_not_to_one_another(root, tmp_path):
    (root / "cat").rename(tmp_path / "cats")
    link(root / "cat", tmp_path / "cats")
    assert ClassFolders(root).targets == [0] * 4 + [1] * 4
    link(root / "kitten", tmp_path / "cats")
    with pytest.raises(ValueError, match="class folder cat is a link to another, or the other to it"):
        ClassFolders(root)


def test_images_without_class_folders_are_refused_or_warned_of(root):
    with pytest.raises(
        ValueError, match=r"cat holds no folders, and images that lie in none \(0\.jpg, .*one folder per"
    ):
        ClassFolders(root / "cat")
    shutil.copy(root / "cat" / "0.jpg", root / "loose.jpg")
    with pytest.warns(UserWarning, match=r"images in no class folder are left out: loose\.jpg"):
        assert len(ClassFolders(root)) == 8
    shutil.rmtree(root / "cat")
    with pytest.raises(ValueError, match=r"holds one folder, dog.*of two classes or more"):
        ClassFolders(root)


@pytest.mark.parametrize("kind", ["zip", "gztar"])
@pytest.mark.parametrize("reader", [ClassFolders, ImageFiles])
def test_an_archive_is_to_be_unpacked(root, kind, reader):
    archive = shutil.make_archive(str(root), kind, root)
    with pytest.raises(NotADirectoryError, match="is an archive: unpack it and give the folder"):
        reader(root.parent / archive)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_of_folders_cannot_steer_a_terminal(root):
    (root / "\x1b[2J").mkdir()
    with pytest.raises(FileNotFoundError, match=r"without images: \\x1b\[2J;"):
        ClassFolders(root)


def test_files_that_cannot_be_read_are_passed_over_where_images_are_looked_for(root):
    (root / "cat" / "0.jpg").write_bytes(b"no picture")
    assert len(list(read_files(ImageFiles(root)))) == 7


def rewrite(root, change, suffix, **options):
    """Write the photographs again, changed."""
    for path in sorted(root.rglob("*.jpg")):
        with PIL.Image.open(path) as image:
            change(image).save(path.with_suffix(suffix), **options)
        path.unlink()


def test_grey_files_that_were_fitted_as_rgb_are_recognised_as_grey(root, recwarn):
    rewrite(root, lambda image: image.convert("L"), ".png")
    augment = quick_fit(ImageFolder(root), epochs=1)
    assert augment.record.image_shape[0] == 3
    overlap = find_overlap(ClassFolders(root), PLAIN, Recognizer(augment.record, augment.codes), 8, whole=True)
    assert overlap.codes.tolist() == list(range(8))
    recwarn.clear()
    augment.wrap(root)
    assert not recwarn


def test_files_of_rgba_that_were_fitted_as_rgb_are_recognised(root):
    rewrite(root, lambda image: image.convert("RGBA"), ".png")
    augment = quick_fit(ImageFolder(root), epochs=1)
    overlap = find_overlap(ClassFolders(root), PLAIN, Recognizer(augment.record, augment.codes), 8, whole=True)
    assert overlap.n_fitted == 8


def as_sixteen_bits(image):
    return PIL.Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200)


TURNED = PIL.Image.Exif()
TURNED[0x0112] = 6


@pytest.mark.parametrize("folder", [ClassFolders, ImageFiles])
@pytest.mark.parametrize("is_of_torchvision", [True, False])
@pytest.mark.parametrize(
    ("change", "options"),
    [(as_sixteen_bits, {}), (lambda image: image, {"exif": TURNED})],
    ids=["16 bits", "turned"],
)
def test_a_folder_is_read_by_the_loader_that_it_was_fitted_with(root, folder, is_of_torchvision, change, options):
    rewrite(root, change, ".png", **options)
    (root / "cat" / "0.png").write_bytes(b"no picture")  # passed over
    read = read_image_set(ImageFolder(root) if is_of_torchvision else ClassFolders(root), on_error="skip")
    known = set(zip(read.digests.tolist(), read.labels.tolist(), strict=True))

    def is_fitted(image, label):
        labels = (0, 1) if label is None else (label,)
        return any((digest(image, read.image_shape[0]), each) in known for each in labels)

    chosen = folder_as_fitted(folder(root), is_fitted)
    found = [
        sample.digests[read.image_shape[0]] for sample in read_samples(chosen, PLAIN, with_labels=False, unreadable=[])
    ]
    assert set(found) == set(read.digests.tolist())


def test_a_folder_that_was_not_fitted_is_read_as_it_is(root):
    chosen = folder_as_fitted(ClassFolders(root), lambda image, label: False)
    assert chosen.loader is load_image
