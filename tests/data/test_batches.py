import numpy as np
import pytest
import torch

from glico_augment.data.labels import as_integers, check_labels
from glico_augment.swap.draw import replace_images


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_wanted_rows_are_replaced_and_the_others_stay(dtype):
    images, synthetic = (torch.arange(48).add(shift).reshape(4, 3, 2, 2) for shift in (0, 100))
    before = images.tolist()
    replaced = replace_images(
        images.to(dtype), torch.tensor([0, 3]), synthetic[[1, 2]].to(dtype), torch.tensor([False, True])
    )
    assert replaced.dtype == dtype
    assert replaced[:3].tolist() == before[:3]
    assert replaced[3].tolist() == synthetic[2].tolist()
    assert images.tolist() == before


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
