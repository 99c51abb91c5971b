"""The yardstick lies in scripts/, which nothing installs: this makes `scripts.yardstick` importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
