"""The local brightness and contrast of images, and a transform that gives an image those of another."""

from glico_augment.style.local_style import LocalStyle
from glico_augment.style.transfer import GRID, match_channels, style_of, transfer_style

__all__ = ["GRID", "LocalStyle", "match_channels", "style_of", "transfer_style"]
