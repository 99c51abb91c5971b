"""Keys that a later version will have.

Each entry is a key, or a key with a value. In a file it is a mistake with a sentence of its own: relay neither calls it
unknown nor ignores it silently. A version that implements a key removes it here.
"""

from typing import Final

PLANNED_KEYS: Final[frozenset[str]] = frozenset({})
