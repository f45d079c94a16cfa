"""``python -m glico_augment.cli``, the same as ``glico``."""

import sys

from glico_augment.cli.parser import main

sys.exit(main())
