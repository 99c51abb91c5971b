"""Numbers within bounds, as click has them; but what is none is "no valid number", not "no valid float range"."""

import click


class Number(click.FloatRange):
    """A number, with or without a fraction."""

    name = "number"


class WholeNumber(click.IntRange):
    """A number without a fraction."""

    name = "whole number"
