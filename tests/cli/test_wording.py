import pytest

from glico_augment.cli.parser import options_of
from glico_augment.cli.wording import as_options


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("lr must be a finite number above 0; got 0", "--lr must be a finite number above 0; got 0"),
        ("batch_size must be at most the 8 images", "--batch-size must be at most the 8 images"),
        ("epochs must be an integer of at least 1, or None; got 0", "--epochs must be an integer of at least 1; got 0"),
        ("pass image_size=64 or so (or image_size=(64, 96))", "pass --image-size 64 or so (or --image-size 64x96)"),
        ("torch sees no CUDA GPU; leave device=None", "torch sees no CUDA GPU; leave --device out"),
        ("longer (epochs= or min_steps=, now 5)", "longer (--epochs or --min-steps, now 5)"),
        ("or set precision='float32'", "or set --precision float32"),
        ("num_workers must be at least 0", "--workers must be at least 0"),
        ("a lower lr (now 1) or a larger latent_dim (now 2)", "a lower --lr (now 1) or a larger --latent-dim (now 2)"),
        ("the loss of p steps on a device", "the loss of p steps on a device"),
        ("no such file: /data/batch_size/lr=3", "no such file: /data/batch_size/lr=3"),
        ("class 'latent_dim' has 4", "class 'latent_dim' has 4"),
    ],
)
def test_arguments_of_python_become_options_and_other_words_stay(message, expected):
    assert as_options(message, options_of("fit")) == expected
