"""``python -m glico_augment.cli``, the same as ``glico``."""

import sys

from glico_augment.cli.main import main

sys.exit(main())
