import numpy as np
import pytest
import torch
from conftest import LABELS, quick_fit

from glico_augment.data.labels import as_integers, check_labels, read_label


@pytest.mark.parametrize("values", [[1, 2], (1, 2), np.array([1, 2]), torch.tensor([1, 2], dtype=torch.uint8)])
def test_integers_of_every_kind_become_a_tensor(values):
    integers = as_integers("labels", values)
    assert integers.dtype == torch.int64
    assert integers.tolist() == [1, 2]
    assert check_labels(values, torch.zeros(2, 3, 4, 4)).tolist() == [1, 2]


FORMS = {
    "reversed": lambda y: y[::-1].copy()[::-1],
    "big-endian": lambda y: y.astype(">i4"),
    "bytes": lambda y: y.astype(np.int8),
    "unsigned": lambda y: (y + 1).astype(np.uint64) - 1,
    "objects": lambda y: y.astype(object),
    "integers of numpy": list,
    "tensors": lambda y: [torch.tensor(int(each)) for each in y],
    "tensors of one": lambda y: [torch.tensor([int(each)]) for each in y],
    "range": lambda y: range(len(y)),
    "column": lambda y: y[:, None],
    "series": lambda y: pandas().Series(y, index=range(100, 100 + len(y))),
    "series of objects": lambda y: pandas().Series(y, dtype=object),
    "nullable series": lambda y: pandas().Series(y, dtype="Int64"),
    "categories": lambda y: pandas().Series(y, dtype="category"),
    "frame": lambda y: pandas().DataFrame({"label": y}),
}


def pandas():
    return pytest.importorskip("pandas")


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_form_are_taken_by_fit_and_by_a_call(form, augment, images):
    plain = np.arange(8)
    labels = FORMS[form](plain)
    assert check_labels(labels, images).tolist() == plain.tolist()
    assert as_integers("labels", labels).tolist() == plain.tolist()
    fitted = quick_fit(images, labels=labels, epochs=1)
    assert fitted.codes.labels.tolist() == plain.tolist()
    assert fitted.synthesize(labels)[1].tolist() == plain.tolist()
    fitted.p = 1.0
    torch.manual_seed(0)
    swapped, _ = fitted(images, labels)
    torch.manual_seed(0)
    assert torch.equal(swapped, fitted(images, plain)[0])
    several = fitted({"image": list(images), "label": labels})["image"]
    assert not any(torch.equal(new, old) for new, old in zip(several, images, strict=True))


@pytest.mark.parametrize("label", [np.array([3]), torch.tensor([3]), np.array(3), np.int16(3)], ids=repr)
def test_a_label_of_one_item_is_that_item(label, augment, images):
    assert read_label(label) == 3
    augment.p = 1.0
    assert not torch.equal(augment(images[0], label)[0], images[0])
    pairs = [(image, torch.tensor([int(each)])) for image, each in zip(images, LABELS, strict=True)]
    assert quick_fit(pairs, epochs=1).codes.labels.tolist() == LABELS.tolist()
    assert len(augment.wrap(pairs)) == 8


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.array([*"12345678"]), TypeError, "labels must be integers, got array"),
        (
            np.full(8, np.nan),
            TypeError,
            r"labels of a batch must be integers of shape \(k,\), got torch.float64 \(8,\)",
        ),
        (1, ValueError, "got 8 images but one label, 1: give a label for each"),
        (None, TypeError, "labels must be integers, got None"),
        ([[0, 1], [2]], TypeError, "labels must be integers"),
        ([2**63] * 8, ValueError, "must fit into 64 bits"),
        (np.full(8, 2**63, dtype=np.uint64), ValueError, "must fit into 64 bits"),
        (np.eye(8), TypeError, "before MixUp, CutMix and one-hot encoding"),
        ([True] * 8, TypeError, r"got torch.bool \(8,\)"),
    ],
    ids=str,
)
def test_other_labels_of_a_call_are_refused_in_words(labels, error, message, images):
    for batch in (images, list(images)):
        with pytest.raises(error, match=message):
            check_labels(labels, batch)


def test_no_integers_are_an_empty_tensor():
    assert as_integers("indices", []).tolist() == []


@pytest.mark.parametrize("values", [[0.5], [True], torch.rand(2)])
def test_other_numbers_are_refused(values):
    with pytest.raises(TypeError, match="indices must be integers"):
        as_integers("indices", values)
