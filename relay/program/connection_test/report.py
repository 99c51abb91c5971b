"""The steps of a connection test, in order, and what came of each. Pure.

A step that fails ends the way: those after it are skipped. Every step has one exit code, so that the first failure
tells where it is to be mended; a warning fails nothing. Texts hold what
others said; who prints them escapes control characters.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from relay.errors import RelayError


class TestStep(enum.StrEnum):
    """The steps of a test, in order; `relay.transport.ssh.handshake` names those of an SSH session."""

    CONFIGURATION = "configuration"
    STATE_DIRECTORY = "state directory"
    PRIVATE_KEY = "private key"
    NAME_RESOLUTION = "name resolution"
    CONNECTION = "TCP connection"
    BANNER = "SSH banner"
    KEY_EXCHANGE = "key exchange"
    HOST_KEY = "host key"
    AUTHENTICATION = "authentication"
    LOCAL_PORT = "local port"
    FORWARD = "forward"
    TLS = "TLS handshake"
    CERTIFICATE = "certificate"
    MESSAGE = "test message"
    PROOF = "proof"
    SIZES = "message sizes"


SHARED: Final = (TestStep.CONFIGURATION, TestStep.STATE_DIRECTORY)
"""Steps that are gone once, for all servers."""
OF_TLS: Final = (TestStep.TLS, TestStep.CERTIFICATE)
"""Steps that only a server has whose transport is TLS."""
OF_SERVER: Final = tuple(step for step in TestStep if step not in (*SHARED, *OF_TLS, TestStep.SIZES))
OF_TLS_SERVER: Final = tuple(step for step in TestStep if step not in (*SHARED, TestStep.SIZES))

EXIT_CODES: Final = {
    TestStep.CONFIGURATION: 78,
    TestStep.STATE_DIRECTORY: 74,
    TestStep.PRIVATE_KEY: 77,
    TestStep.NAME_RESOLUTION: 68,
    TestStep.CONNECTION: 69,
    TestStep.BANNER: 76,
    TestStep.KEY_EXCHANGE: 76,
    TestStep.HOST_KEY: 77,
    TestStep.AUTHENTICATION: 77,
    TestStep.LOCAL_PORT: 69,  # it only warns, since relay's own delivery needs no local port
    TestStep.FORWARD: 69,
    TestStep.TLS: 76,
    TestStep.CERTIFICATE: 77,
    TestStep.MESSAGE: 76,
    TestStep.PROOF: 76,
    TestStep.SIZES: 76,
}
"""sysexits.h; what each step ends with when it fails."""


class Outcome(enum.StrEnum):
    """What came of a step."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"
    SKIPPED = "skipped"


class Result(NamedTuple):
    """One step's end."""

    step: TestStep
    outcome: Outcome
    seconds: float = 0.0
    found: str = ""
    """What was found, or what is wrong; several mistakes stand on a line each."""
    remedy: str = ""

    @property
    def exit_code(self) -> int:
        """What this step makes the command end with."""
        return EXIT_CODES[self.step] if self.outcome is Outcome.FAILED else 0


class StepFinding(NamedTuple):
    """What a look at something told: fine, or worth a warning with its remedy."""

    found: str
    remedy: str = ""
    warning: bool = False


Tell = Callable[[Result], None]
"""Called with each result as soon as it is there."""


class StepLog:
    """Steps being gone, each told as it ends; a step's time runs from the end of the one before it."""

    def __init__(self, steps: Sequence[TestStep], tell: Tell, clock: Callable[[], float]) -> None:
        self.results: list[Result] = []
        self._left = list(steps)
        self._tell = tell
        self._clock = clock
        self._since = clock()

    @property
    def under_way(self) -> TestStep:
        """The step that is being gone."""
        return self._left[0]

    def passed(self, step: TestStep, finding: StepFinding) -> None:
        """End a step well, or with a warning."""
        outcome = Outcome.WARNING if finding.warning else Outcome.OK
        self._end(step, outcome, finding.found, finding.remedy)

    def failed(self, error: RelayError, step: TestStep | None = None) -> Result:
        """End a step, if none is named the one under way, with its error."""
        step = step or self.under_way
        found = error.cause if error.what == step else f"{error.what}: {error.cause}"
        return self._end(step, Outcome.FAILED, found, error.remedy)

    def skip_to(self, step: TestStep, reason: str) -> None:
        """End the steps before this one without going them."""
        while self.under_way is not step:
            self._skip(reason)

    def skip_rest(self, reason: str = "") -> None:
        """End all steps that are left without going them."""
        while self._left:
            self._skip(reason)

    def _end(self, step: TestStep, outcome: Outcome, found: str, remedy: str) -> Result:
        self.skip_to(step, "")
        del self._left[0]
        before, self._since = self._since, self._clock()
        return self._append(Result(step, outcome, self._since - before, found, remedy))

    def _skip(self, reason: str) -> None:
        self._append(Result(self._left.pop(0), Outcome.SKIPPED, found=reason))

    def _append(self, result: Result) -> Result:
        self.results.append(result)
        self._tell(result)
        return result


class ServerReport(NamedTuple):
    """The way to one server."""

    name: str
    results: tuple[Result, ...]
    sentence: str
    proof: str = ""
    """The kind of proof that was had, as `relay status` names it; "" without one."""
    largest: int | None = None
    """Octets of the largest message that it accepts, where that was found out."""

    @property
    def exit_code(self) -> int:
        """That of the step that failed; 0 when none did."""
        return _exit_code(self.results)


class Report(NamedTuple):
    """The whole test. Without a server when already a shared step failed: then `shared` holds every step."""

    shared: tuple[Result, ...]
    servers: tuple[ServerReport, ...]
    sentence: str

    @property
    def exit_code(self) -> int:
        """That of the first step that failed; 0 when none did."""
        return _exit_code([*self.shared, *(result for server in self.servers for result in server.results)])


def _exit_code(results: Iterable[Result]) -> int:
    return next((result.exit_code for result in results if result.exit_code), 0)


def failure_sentence(subject: str, failure: Result) -> str:
    """Say in one sentence what keeps the way closed."""
    found, *more = failure.found.splitlines()
    return f"{subject}: {failure.step} failed: {found}{f' (and {len(more)} more)' if more else ''}"


def summary(shared: Sequence[Result], servers: Sequence[ServerReport]) -> str:
    """Say in one sentence what came of it all; for a single server that is its own sentence."""
    failed = [server.name for server in servers if server.exit_code]
    warnings = sum(result.outcome is Outcome.WARNING for result in _all(shared, servers))
    told = f"; {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    if len(servers) == 1:
        return servers[0].sentence + told
    if failed:
        return f"{len(failed)} of {len(servers)} servers cannot be delivered to: {', '.join(failed)}{told}"
    return f"the way to each of the {len(servers)} servers is open{told}"


def _all(shared: Sequence[Result], servers: Sequence[ServerReport]) -> list[Result]:
    return [*shared, *(result for server in servers for result in server.results)]
