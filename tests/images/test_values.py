import pytest
import torch

from glico_augment.images.values import replace_rows


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_wanted_rows_are_replaced_and_the_others_stay(dtype):
    images, synthetic = (torch.arange(48).add(shift).reshape(4, 3, 2, 2) for shift in (0, 100))
    before = images.tolist()
    replaced = replace_rows(
        images.to(dtype), torch.tensor([0, 3]), synthetic[[1, 2]].to(dtype), torch.tensor([False, True])
    )
    assert replaced.dtype == dtype
    assert replaced[:3].tolist() == before[:3]
    assert replaced[3].tolist() == synthetic[2].tolist()
    assert images.tolist() == before
