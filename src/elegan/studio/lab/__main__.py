"""`python -m elegan.studio.lab ROOT`: the process of a lab, which `elegan studio` starts."""

import sys

from elegan.studio.lab.child import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "runs"))
