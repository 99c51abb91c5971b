"""An event loop whose clock a test moves: patience of minutes ends at once, and a machine that stalls ends none."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

_STEPS = 10  # of the loop: what is due is done, and what that wakes


class LeapingLoop(asyncio.SelectorEventLoop):
    """Its time is the machine's, and what it has leapt on top of that."""

    def __init__(self) -> None:
        self._leapt = 0.0
        super().__init__()

    def time(self) -> float:
        return super().time() + self._leapt

    def leap(self, seconds: float) -> None:
        """Let so much time pass: what is due by then is done in the loop's next step, after what its sockets bring."""
        self._leapt += seconds


def run_leaping(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it on such a loop."""
    with asyncio.Runner(debug=False, loop_factory=LeapingLoop) as runner:
        runner.run(scenario())


async def leap(seconds: float) -> None:
    """Let so much time pass in the running loop, and return when what is due by then is done."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop)
    loop.leap(seconds)
    for _ in range(_STEPS):
        await asyncio.sleep(0)
