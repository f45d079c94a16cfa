"""The errors of this library that are not plain ValueError, TypeError or OSError."""


class DivergenceError(RuntimeError):
    """A fit's loss became NaN or infinite."""


class FileFormatError(ValueError):
    """A file is not a whole glico-augment file of the format version and kind expected."""
