"""`python -m olmrl.sft`."""

import sys

from olmrl.sft.training import main

if __name__ == "__main__":
    sys.exit(main())
