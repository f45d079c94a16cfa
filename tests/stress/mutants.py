"""Files damaged in every way a disk, a copy or an editor damages them, and what reading them comes to.

The mutants are drawn by ``random`` from a seed. A fuzzer guided by coverage cannot see through a checksum, and a shrunk
example says no more than the mutant itself, so neither atheris nor hypothesis would add to it.
"""

from __future__ import annotations

import json
import random
from collections import Counter

import torch
from conftest import sealed

_PIECES = ["0", "9" * 5000, "-1", "1e999", "NaN", "null", "true", '""', "[]", "{}", "[" * 2000, '"F16"', '"I32"', "2"]


def damage(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A mutant and its kind. It differs from ``content``."""
    kind = rng.choice(list(_DAMAGES))
    while (mutant := bytes(_DAMAGES[kind](bytearray(content), rng))) == content:
        pass
    return kind, mutant


def _place(content, rng):
    """Half of all damage is in the header, which is the smaller and more fragile part."""
    return rng.randrange(len(content) if rng.random() < 0.5 else _end_of_header(content))


def _end_of_header(content):
    return min(len(content), 8 + int.from_bytes(content[:8], "little"))


def _flip_bits(content, rng):
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        content[_place(content, rng)] ^= 1 << rng.randrange(8)
    return content


def _change_bytes(content, rng):
    for _ in range(rng.choice([1, 1, 4, 64])):
        content[_place(content, rng)] = rng.randrange(256)
    return content


def _truncate(content, rng):
    return content[: _place(content, rng)]


def _insert(content, rng):
    place = rng.choice([_place(content, rng), len(content)])
    return content[:place] + rng.randbytes(rng.choice([1, 8, 100])) + content[place:]


def _take_out(content, rng):
    place = _place(content, rng)
    return content[:place] + content[place + rng.choice([1, 4, 8, 100]) :]


def _swap_blocks(content, rng):
    size = rng.choice([1, 4, 8, 512])
    first, second = (rng.randrange(len(content) - size) for _ in range(2))
    block = content[first : first + size]
    content[first : first + size] = content[second : second + size]
    content[second : second + size] = block
    return content


def _blank_block(content, rng):
    start, size = _place(content, rng), rng.choice([16, 512, 4096])
    block = content[start : start + size]
    content[start : start + size] = rng.choice([b"\0", b"\xff"]) * len(block)
    return content


def _edit_header(content, rng):
    end = _end_of_header(content)
    header = content[8:end].decode(errors="replace")
    new = _edit(header, rng).encode(errors="replace")
    return bytearray(len(new).to_bytes(8, "little")) + new + content[end:]


def _edit(header, rng):
    """One change of the header's text: a value, a name, a number, an entry there twice, more space."""
    tokens = [place for place, character in enumerate(header) if character in '":,[]{}0123456789']
    place = rng.choice(tokens)
    choice = rng.randrange(6)
    if choice == 0:
        return header[:place] + rng.choice(_PIECES) + header[place + 1 :]
    if choice == 1:
        return header[:place] + rng.choice("0123456789") + header[place + 1 :]
    if choice == 2:
        return header + " " * rng.choice([1, 8])
    if choice == 3:
        return header[:place] + " " + header[place:]
    parsed = json.loads(header)
    name, other = rng.choice(list(parsed)), rng.choice(list(parsed))
    if choice == 4:
        parsed[name], parsed[other] = parsed[other], parsed[name]
        return json.dumps(parsed, separators=(",", ":"))
    return header[:1] + f"{json.dumps(name)}:{json.dumps(parsed[other])}," + header[1:]


_DAMAGES = {
    "bits flipped": _flip_bits,
    "bytes changed": _change_bytes,
    "truncated": _truncate,
    "bytes inserted": _insert,
    "bytes taken out": _take_out,
    "blocks swapped": _swap_blocks,
    "block blanked": _blank_block,
    "header edited": _edit_header,
}


def forge(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A mutant with a right checksum, as only somebody who means it makes one, for the reader's other checks."""
    kind, mutant = damage(content, rng)
    return f"{kind}, checksum forged", sealed(mutant)


def tally(content, path, mutate, read, expected, errors, *, count, seed):
    """Read ``count`` mutants of a file and count what happens.

    Args:
        content: the whole file.
        path: where to write the mutants.
        mutate: :func:`damage` or :func:`forge`.
        read: reads a path to a comparable value.
        expected: what it reads from the whole file.
        errors: exceptions that refuse a file.
        count: of mutants.
        seed: of the draws.

    Returns:
        Counts of ``(kind, outcome)``: "refused", "same", "different" or the name of another exception.
    """
    rng = random.Random(seed)
    counts = Counter()
    for _ in range(count):
        kind, mutant = mutate(content, rng)
        path.write_bytes(mutant)
        try:
            outcome = "same" if read(path) == expected else "different"
        except errors:
            outcome = "refused"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"[:200]
        counts[kind, outcome] += 1
    return counts


def bits(tensors):
    """A comparable value of named tensors."""
    return {
        name: (
            str(value.dtype),
            tuple(value.shape),
            value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        )
        for name, value in tensors.items()
    }
