"""Messages of the library in the words of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping


def as_options(message: str, options: Mapping[str, str]) -> str:
    """A message with arguments of Python as options: ``batch_size=4`` as ``--batch-size 4``.

    Args:
        message: of the library.
        options: the option of each argument, ``{"batch_size": "--batch-size"}``.
    """
    for name, option in sorted(options.items(), key=lambda item: -len(item[0])):
        word = rf"(?<![\w/\\.'\"-]){name}"
        message = re.sub(rf"leave {word}=None", f"leave {option} out", message)
        message = re.sub(rf"{word}=\((\d+), (\d+)\)", rf"{option} \1x\2", message)
        message = re.sub(rf"{word}='([^']*)'", rf"{option} \1", message)
        message = re.sub(rf"{word}=(?=\w)", f"{option} ", message)
        message = re.sub(rf"{word}=", option, message)
        message = re.sub(rf"{word}(?= must be |: | \(now )", option, message)
        if "_" in name:  # no word of English
            message = re.sub(rf"{word}(?![\w/\\'\"-])", option, message)
    return message.replace(", or None; got", "; got").replace("leave it at None", "leave it out")
