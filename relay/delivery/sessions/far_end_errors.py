"""How the far end of an acknowledged stream fails, beside a broken protocol (ProtocolError) and a broken transport."""

from relay.delivery.sessions.speaker import FarEndStop
from relay.errors import TemporaryError, UnavailableError
from relay.values.text import quoted


class NoAnswerError(TemporaryError):
    """The far end has owed an answer for too long."""


class ClosedByFarEndError(UnavailableError):
    """The far end has closed the connection, or announced the end of the session."""


class StoppedByFarEndError(UnavailableError):
    """The far end cannot go on, and says why."""

    def __init__(self, far_end: str, stop: FarEndStop, unanswered: str) -> None:
        super().__init__(far_end, f"{stop.name}: {stop.cause}; {unanswered}", stop.remedy)
        self.stop = stop


class EverythingRefusedError(UnavailableError):
    """The far end accepts no message; its last answer was `answer`."""

    def __init__(self, far_end: str, answer: str) -> None:
        cause = f"it refuses every message, the last one with {quoted(answer)}"
        super().__init__(far_end, cause, "its own log names the reason; they are kept and sent again")
        self.answer = answer
