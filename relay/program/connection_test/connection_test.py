"""Runs a connection test: configuration and state directory once, then the route to each server, one after the other.

A failure ends the test of its server only; a failure in a shared step ends everything. Each step of the network may
take as long as relay.transport.ssh.handshake allows, and the proof PROOF_SECONDS, or all of them
`TestRequest.timeout` seconds. UsageError when no server has the requested name; every other error is in the report.
"""

import logging
import time
from typing import Final

from relay.config import intended_program
from relay.config.check import check
from relay.config.configuration import read_configuration
from relay.config.mistake import MistakesError, mistake_lines
from relay.delivery.sessions.session_steps import StepFinding
from relay.errors import (
    ConfigurationError,
    NoInputError,
    PermissionRefusedError,
    StorageError,
    UsageError,
)
from relay.program.connection_test.report import (
    OF_SERVER,
    SHARED,
    Report,
    StepLog,
    TestStep,
    failure_sentence,
    summary,
)
from relay.program.connection_test.server_test import ReportResult, ServerTest
from relay.program.connection_test.test_request import TestRequest
from relay.program.connection_test.this_machine import inspect_state_directory
from relay.system.disk import Disk
from relay.values.configuration.settings import RemoteLoggingServer, Settings
from relay.values.did_you_mean import did_you_mean
from relay.values.text import quoted

NOTHING_TO_TEST: Final = (
    "nothing to test: this `relay receive` hands on to no server. A [[remote-logging-server]] in its configuration "
    "could be tested; `relay test-connection` on a router tests the route to this log server, and `relay config check` "
    "its listeners"
)
_REPORTED_BY_STEPS: Final = frozenset({"state-directory", "private-key", "known-hosts", "ca", "certificate"})
"""Keys whose mistakes the step reports that needs them."""


def run_test(request: TestRequest, report: ReportResult) -> Report:
    """Test the connections, reporting each result as soon as it is known."""
    logging.getLogger("relay.delivery").addHandler(logging.NullHandler())  # the report contains what it would log
    log = StepLog((*SHARED, *OF_SERVER), lambda result: report("", result), time.monotonic)
    try:
        settings, servers = _prepare(request, log)
    except (ConfigurationError, NoInputError, PermissionRefusedError, StorageError) as error:
        failure = log.failed(error)
        log.skip_rest()
        return Report(tuple(log.results), (), failure_sentence("no server was tried", failure))
    if not servers:
        log.skip_rest()
        return Report(tuple(log.results), (), NOTHING_TO_TEST)
    shared = tuple(log.results)
    reports = tuple(ServerTest(request, settings, server, report).run() for server in servers)
    return Report(shared, reports, summary(shared, reports))


def _prepare(request: TestRequest, log: StepLog) -> tuple[Settings, list[RemoteLoggingServer]]:
    try:
        configuration = read_configuration(request.paths, request.choice)
    except MistakesError as error:
        cause = "\n".join(error.mistakes)
        raise ConfigurationError(
            "configuration", (cause,), "correct them; `relay config check` checks them again"
        ) from None
    settings = configuration.settings
    servers = settings.remote_logging_server
    is_receiver = intended_program.intended_programs(configuration) == ("receive",) and not settings.source
    if is_receiver and "receiver" in configuration.document and not servers:
        log.passed(TestStep.CONFIGURATION, StepFinding(", ".join(configuration.files)))
        return settings, []
    if not ("receiver" in configuration.document and settings.handed_on):  # relay receive hands on to these
        intended_program.require_program(configuration, "run")
    if not servers:
        cause = "there is no [[remote-logging-server]], so there is nothing to connect to"
        raise ConfigurationError("configuration", (cause,), "see deploy/relay.toml")
    chosen = [server for server in servers if request.server in {"", server.display_name}]
    if not chosen:
        names = [server.display_name for server in servers]
        remedy = did_you_mean(request.server, names) or f"the names are {', '.join(names)}"
        raise UsageError(f"--server {quoted(request.server)}", "no remote-logging-server has this name", remedy)
    mistakes, warnings = check.check(configuration)
    others = [mistake for mistake in mistakes if mistake.location.path[-1] not in _REPORTED_BY_STEPS]
    lines = mistake_lines((*others, *warnings))  # none stops this test, such as the missing file of a source
    finding = StepFinding(", ".join(configuration.files))
    if lines:
        finding = StepFinding("\n".join(lines), "`relay config check` reports them too", warning=True)
    log.passed(TestStep.CONFIGURATION, finding)
    log.passed(TestStep.STATE_DIRECTORY, inspect_state_directory(Disk(), settings.relay.state_directory))
    return settings, chosen
