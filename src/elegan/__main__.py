"""`python -m elegan`."""

import sys

from elegan.cli import main

sys.exit(main())
