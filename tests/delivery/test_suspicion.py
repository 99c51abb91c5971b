"""Which message stops delivery: losses and proofs in, a plan for the next session out."""

import random

import pytest

from relay.delivery.suspicion import (
    EVERYTHING_AS_USUAL,
    FAILURES,
    FAILURES_AMID_OUTAGES,
    FirstUnproven,
    SendingPlan,
    SessionLoss,
    Suspicion,
)

HERE = FirstUnproven(0, 7, 3)


def loss(messages: int = 1, first: FirstUnproven = HERE, *, transient: int = 0, singly: bool = False) -> SessionLoss:
    return SessionLoss(first, (messages, transient), singly)


def alone() -> Suspicion:
    """One message is left, and has not failed alone yet."""
    return Suspicion().lost(loss()).lost(loss())


def failing(suspicion: Suspicion, times: int) -> Suspicion:
    for _ in range(times):
        suspicion = suspicion.lost(loss()).probed()
    return suspicion


class TestLosses:
    def test_after_one_loss_everything_is_sent_as_usual(self) -> None:
        assert Suspicion().lost(loss(500)).plan == EVERYTHING_AS_USUAL

    def test_losses_that_begin_at_different_messages_raise_no_suspicion(self) -> None:
        suspicion = Suspicion()
        for block in range(1, 50):
            suspicion = suspicion.lost(loss(500, FirstUnproven(0, block, 0)))
            assert suspicion.plan == EVERYTHING_AS_USUAL

    def test_after_two_losses_at_the_same_message_half_of_the_rest_is_sent(self) -> None:
        assert Suspicion().lost(loss(500)).lost(loss(500)).plan == SendingPlan(0, 250)

    def test_a_collector_that_answers_every_message_gets_one_at_a_time(self) -> None:
        suspicion = Suspicion().lost(loss(500, singly=True)).lost(loss(500, singly=True))
        assert suspicion.plan == SendingPlan(0, 1)
        assert not suspicion.alone

    def test_a_broken_transport_says_nothing_about_a_message(self) -> None:
        suspicion = Suspicion().lost(loss(500))
        assert suspicion.unreached() == suspicion
        assert suspicion.lost(loss(500)).unreached().plan == SendingPlan(0, 250)


class TestHalving:
    @pytest.mark.parametrize("bad", [0, 1, 249, 250, 498, 499])
    def test_the_one_message_that_fails_is_found(self, bad: int) -> None:
        """Among 500; a collector that closes on that message proves each interval without it and fails the others."""
        place, steps = 0, 0
        suspicion = Suspicion().lost(loss(500)).lost(loss(500))
        while not suspicion.alone:
            steps += 1
            messages = suspicion.plan.messages
            if place <= bad < place + messages:
                suspicion = suspicion.lost(loss(messages))
            else:
                place += messages
                suspicion = suspicion.proven(messages)
        assert place == bad
        assert steps <= 10

    def test_when_every_message_is_proven_nothing_is_suspected(self) -> None:
        suspicion = Suspicion().lost(loss(500)).lost(loss(500))
        while suspicion.plan.messages:
            suspicion = suspicion.proven(suspicion.plan.messages)
        assert suspicion == Suspicion()

    def test_the_transient_spool_comes_after_the_retained_one(self) -> None:
        both = loss(4, transient=6)
        suspicion = Suspicion().lost(both).lost(both)
        assert suspicion.plan == SendingPlan(0, 2)
        assert suspicion.proven(2).proven(1).proven(1).plan == SendingPlan(1, 3)

    def test_the_transient_spool_alone_is_suspected_where_the_first_unproven_message_is_there(self) -> None:
        there = loss(0, FirstUnproven(1, 2, 0), transient=6)
        assert Suspicion().lost(there).lost(there).plan == SendingPlan(1, 3)


class TestAlone:
    def test_a_failure_is_followed_by_a_probe_and_that_by_the_message_again(self) -> None:
        assert alone().plan == SendingPlan(0, 1)
        failed = alone().lost(loss())
        assert failed.plan == SendingPlan(0, probe=0)
        assert failed.probed().plan == SendingPlan(0, 1)

    def test_three_failures_each_followed_by_a_proven_probe_make_the_fault(self) -> None:
        for times in range(FAILURES):
            assert not failing(alone(), times).at_fault
            assert not failing(alone(), times).lost(loss()).at_fault
        assert failing(alone(), FAILURES).at_fault

    def test_without_a_proof_in_between_no_number_of_failures_makes_a_fault(self) -> None:
        suspicion = alone()
        for _ in range(1000):
            suspicion = suspicion.lost(loss())
            assert not suspicion.at_fault

    def test_the_loss_of_the_ssh_session_is_no_failure(self) -> None:
        suspicion = failing(alone(), FAILURES - 1)
        for _ in range(1000):
            suspicion = suspicion.unreached()
        assert not suspicion.at_fault
        assert suspicion.plan == SendingPlan(0, 1)

    def test_a_probe_that_fails_is_followed_by_another_choice(self) -> None:
        failed = alone().lost(loss())
        assert failed.lost(loss()).plan == SendingPlan(0, probe=1)
        assert failed.lost(loss()).unreached().plan == SendingPlan(0, probe=2)

    def test_among_outages_it_takes_more_failures(self) -> None:
        suspicion = failing(alone().unreached(), FAILURES)
        assert not suspicion.at_fault
        assert failing(suspicion, FAILURES_AMID_OUTAGES - FAILURES).at_fault

    def test_a_message_that_is_proven_in_the_end_is_not_at_fault(self) -> None:
        assert failing(alone(), FAILURES - 1).proven(1) == Suspicion()

    def test_after_a_message_at_fault_the_next_loss_is_enough_for_a_suspicion(self) -> None:
        assert failing(alone(), FAILURES).convicted().lost(loss(8)).plan == SendingPlan(0, 4)


def test_a_collector_that_dies_at_random_never_makes_a_fault_of_a_message() -> None:
    """It is down for a while after each crash, and the probe notices that."""
    chance = random.Random(11)
    suspicion, suspicions = Suspicion(), 0
    for _ in range(100_000):
        down = chance.random() < 0.5
        if down:
            for _ in range(chance.randrange(1, 4)):
                suspicion = suspicion.unreached()
        if suspicion.failed:
            suspicion = suspicion.lost(loss()) if chance.random() < 0.3 else suspicion.probed()
        elif chance.random() < 0.2:  # killed while something was unproven
            suspicion = suspicion.lost(loss(chance.randrange(1, 9))).unreached()
        elif suspicion.suspected:
            suspicion = suspicion.proven(suspicion.plan.messages)
        suspicions += bool(suspicion.suspected)
        assert not suspicion.at_fault
    assert suspicions
