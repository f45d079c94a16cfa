import numpy as np
import pytest
import torch

from glico_augment.data.labels import as_integers, check_labels


@pytest.mark.parametrize("values", [[1, 2], (1, 2), np.array([1, 2]), torch.tensor([1, 2], dtype=torch.uint8)])
def test_integers_of_every_kind_become_a_tensor(values):
    integers = as_integers("labels", values)
    assert integers.dtype == torch.int64
    assert integers.tolist() == [1, 2]
    assert check_labels(values, torch.zeros(2, 3, 4, 4)).tolist() == [1, 2]


def test_no_integers_are_an_empty_tensor():
    assert as_integers("indices", []).tolist() == []


@pytest.mark.parametrize("values", [[0.5], [True], torch.rand(2)])
def test_other_numbers_are_refused(values):
    with pytest.raises(TypeError, match="indices must be integers"):
        as_integers("indices", values)
