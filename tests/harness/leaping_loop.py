"""An event loop whose clock a test moves: a wait of minutes ends at once, and a slow machine ends none early."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

_STEPS = 10  # of the loop, in which due callbacks run, and those that they schedule


class LeapingLoop(asyncio.SelectorEventLoop):
    """Its time is the machine's, plus the leaps."""

    def __init__(self) -> None:
        self._leapt = 0.0
        super().__init__()

    def time(self) -> float:
        return super().time() + self._leapt

    def leap(self, seconds: float) -> None:
        """Let that many seconds pass: what is due then runs in the loop's next step, after its sockets' callbacks."""
        self._leapt += seconds


def run_leaping(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it on such a loop."""
    with asyncio.Runner(debug=False, loop_factory=LeapingLoop) as runner:
        runner.run(scenario())


async def leap(seconds: float) -> None:
    """Let that many seconds pass in the running loop, and return when what is due by then has run."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop)
    loop.leap(seconds)
    for _ in range(_STEPS):
        await asyncio.sleep(0)
