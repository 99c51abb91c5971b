"""What begins a command that is to meet the modes of files as others do, also where the tests run as root."""

import os
from typing import Final

_OF_ROOT: Final = "-dac_override,-dac_read_search"
WITHOUT_ROOTS_RIGHTS: Final = (
    ("setpriv", f"--bounding-set={_OF_ROOT}", f"--inh-caps={_OF_ROOT}") if os.geteuid() == 0 else ()
)
"""Empty for whoever has no such rights."""
