"""Pack a data set of files into one file that measure_accuracy.py reads as well, for a machine without the folders.

python benchmarks/pack_data.py DATA/cifar10 OUT/data/cifar10.zip
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from accuracy.data import OMNIGLOT_PARTS, PARTS
from accuracy.packed import pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, help="with train/<class>/ and test/<class>/, or Omniglot's background/ and evaluation/"
    )
    parser.add_argument("out", type=Path, help="the file, named as the folder with .zip after it")
    args = parser.parse_args()
    parts = OMNIGLOT_PARTS if (args.folder / OMNIGLOT_PARTS[0]).is_dir() else PARTS
    if missing := [args.folder / part for part in parts if not (args.folder / part).is_dir()]:
        sys.exit(f"there is no folder {missing[0]}")
    count = pack(args.folder, parts, args.out)
    print(f"{args.out}: {count} images, {args.out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
