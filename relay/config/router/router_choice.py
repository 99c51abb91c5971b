"""Which router and which node of a configuration text are meant. Pure."""

from typing import Final, NamedTuple


class RouterChoice(NamedTuple):
    """Names of a router and of a node; an empty name means the only one of the text."""

    router: str = ""
    node: str = ""


ANY: Final = RouterChoice()
