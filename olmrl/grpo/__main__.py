"""`python -m olmrl.grpo`."""

import sys

from olmrl.grpo.training import main

if __name__ == "__main__":
    sys.exit(main())
