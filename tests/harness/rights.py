"""The beginning of a command that must obey the modes of files, even when the tests run as root."""

import os
from typing import Final

_OF_ROOT: Final = "-dac_override,-dac_read_search"
WITHOUT_ROOTS_RIGHTS: Final = (
    ("setpriv", f"--bounding-set={_OF_ROOT}", f"--inh-caps={_OF_ROOT}") if os.geteuid() == 0 else ()
)
"""Empty for a user without such rights."""
