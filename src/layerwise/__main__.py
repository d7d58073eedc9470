"""`python -m layerwise` is the command `layerwise`."""

import sys

from layerwise.cli import main

sys.exit(main())
