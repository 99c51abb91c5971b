"""What a connection test reports: ordered steps, their exit codes, and the result of each. Pure.

A failed step ends the test of its server: the later steps are skipped. Every step has one exit code, so the first
failure shows where to look; a warning fails nothing. Texts may quote a collector or a file; the command escapes control
characters when it prints them.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from relay.delivery.sessions.session_steps import StepFinding
from relay.errors import RelayError


class TestStep(enum.StrEnum):
    """The steps of a test, in order; most are those of a session (relay.delivery.sessions.session_steps)."""

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
"""Steps that are taken once, for all servers."""
OF_TLS_SERVER: Final = tuple(step for step in TestStep if step not in (*SHARED, TestStep.SIZES))
OF_SERVER: Final = tuple(step for step in OF_TLS_SERVER if step not in (TestStep.TLS, TestStep.CERTIFICATE))

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
    TestStep.LOCAL_PORT: 69,  # never used: this step only warns, because relay's own delivery needs no local port
    TestStep.FORWARD: 69,
    TestStep.TLS: 76,
    TestStep.CERTIFICATE: 77,
    TestStep.MESSAGE: 76,
    TestStep.PROOF: 76,
    TestStep.SIZES: 76,
}
"""The exit code when a step fails (sysexits.h)."""


class Outcome(enum.StrEnum):
    """The outcome of a step."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"
    SKIPPED = "skipped"


class StepResult(NamedTuple):
    """One step that has ended."""

    step: TestStep
    outcome: Outcome
    seconds: float = 0.0
    found: str = ""
    """The finding or the error; several mistakes are on a line each."""
    remedy: str = ""

    @property
    def exit_code(self) -> int:
        """The exit code that this step gives the command."""
        return EXIT_CODES[self.step] if self.outcome is Outcome.FAILED else 0


class StepLog:
    """Ordered steps, each reported as it ends; a step's time runs from the end of the one before it."""

    def __init__(
        self, steps: Sequence[TestStep], report: Callable[[StepResult], None], clock: Callable[[], float]
    ) -> None:
        self.results: list[StepResult] = []
        self.left = list(steps)
        """The steps that have not ended."""
        self._report = report
        self._clock = clock
        self._since = clock()

    @property
    def under_way(self) -> TestStep:
        """The first step that has not ended."""
        return self.left[0]

    def passed(self, step: TestStep, finding: StepFinding) -> None:
        """End a step well, or with a warning."""
        outcome = Outcome.WARNING if finding.warning else Outcome.OK
        self._end(step, outcome, finding.found, finding.remedy)

    def failed(self, error: RelayError, step: TestStep | None = None) -> StepResult:
        """End a step, by default the one under way, with its error."""
        step = step or self.under_way
        found = error.cause if error.what == step else f"{error.what}: {error.cause}"
        return self._end(step, Outcome.FAILED, found, error.remedy)

    def skip_to(self, step: TestStep, reason: str) -> None:
        """Skip the steps before this one."""
        while self.under_way is not step:
            self._append(StepResult(self.left.pop(0), Outcome.SKIPPED, found=reason))

    def skip_rest(self, reason: str = "") -> None:
        """Skip all steps that are left."""
        while self.left:
            self._append(StepResult(self.left.pop(0), Outcome.SKIPPED, found=reason))

    def _end(self, step: TestStep, outcome: Outcome, found: str, remedy: str) -> StepResult:
        self.skip_to(step, "")
        del self.left[0]
        before, self._since = self._since, self._clock()
        result = StepResult(step, outcome, self._since - before, found, remedy)
        self._append(result)
        return result

    def _append(self, result: StepResult) -> None:
        self.results.append(result)
        self._report(result)


class ServerReport(NamedTuple):
    """The results of one server."""

    name: str
    results: tuple[StepResult, ...]
    sentence: str
    proof: str = ""
    """The kind of proof, as `relay status` names it; "" without a proof."""
    largest: int | None = None
    """Octets of the largest message that it accepts, where that was found out."""

    @property
    def exit_code(self) -> int:
        """That of the step that failed; 0 when none did."""
        return _exit_code(self.results)


class Report(NamedTuple):
    """The whole test. When a shared step fails, or nothing is to be tested, `shared` holds every step."""

    shared: tuple[StepResult, ...]
    servers: tuple[ServerReport, ...]
    sentence: str

    @property
    def exit_code(self) -> int:
        """That of the first step that failed; 0 when none did."""
        return _exit_code([*self.shared, *(result for server in self.servers for result in server.results)])


def _exit_code(results: Iterable[StepResult]) -> int:
    return next((result.exit_code for result in results if result.exit_code), 0)


def failure_sentence(subject: str, failure: StepResult) -> str:
    """The failure in one sentence."""
    found, *more = failure.found.splitlines()
    return f"{subject}: {failure.step} failed: {found}{f' (and {len(more)} more)' if more else ''}"


def summary(shared: Sequence[StepResult], servers: Sequence[ServerReport]) -> str:
    """The whole test in one sentence; for a single server that is its own sentence."""
    failed = [server.name for server in servers if server.exit_code]
    results = [*shared, *(result for server in servers for result in server.results)]
    warnings = sum(result.outcome is Outcome.WARNING for result in results)
    count = f"; {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    if len(servers) == 1:
        return servers[0].sentence + count
    if failed:
        return f"{len(failed)} of {len(servers)} servers cannot be delivered to: {', '.join(failed)}{count}"
    return f"the way to each of the {len(servers)} servers is open{count}"
