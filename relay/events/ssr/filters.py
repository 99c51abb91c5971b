"""Which events pass, and which of their fields: `tagpass`, `tagdrop`, `fieldpass`, `fielddrop`, as Telegraf has them.

- tagpass: one of the tags named there has a value that matches. tagdrop: none has. Both given: both must hold. A table
  that names no tag says nothing, as in Telegraf: all its lines may be commented out.
- fieldpass, fielddrop: the fields that match stay, or go. Both given: both must hold. An event of which no field is
  left is dropped, as in Telegraf.

Patterns are globs (`relay.values.glob`); octets that are no UTF-8 match as one character each.
"""

from collections.abc import Callable, Mapping, Sequence

from relay.events.ssr.collected import Collected
from relay.values.glob_matcher import GlobMatcher, glob_matcher

_Tags = Mapping[str, Sequence[str]]
_Test = Callable[[Collected], bool]


class Filter:
    """The filters of one source; None lets everything pass."""

    def __init__(
        self,
        *,
        tagpass: _Tags | None = None,
        tagdrop: _Tags | None = None,
        fieldpass: Sequence[str] | None = None,
        fielddrop: Sequence[str] | None = None,
    ) -> None:
        self._passes = _any_tag(tagpass)
        self._drops = _any_tag(tagdrop)
        self._keeps = fieldpass and glob_matcher(fieldpass)
        self._loses = fielddrop and glob_matcher(fielddrop)

    def apply(self, event: Collected) -> Collected | None:
        """Give what passes of an event; None when nothing does."""
        if (self._passes and not self._passes(event)) or (self._drops and self._drops(event)):
            return None
        if not (self._keeps or self._loses):
            return event
        fields = {key: value for key, value in event.fields.items() if self._stays(_text(key))}
        return event._replace(fields=fields) if fields else None

    def _stays(self, key: str) -> bool:
        return not ((self._keeps and not self._keeps(key)) or (self._loses and self._loses(key)))


def _any_tag(patterns: _Tags | None) -> _Test | None:
    if not patterns:
        return None
    matchers: dict[bytes, GlobMatcher] = {key.encode(): glob_matcher(values) for key, values in patterns.items()}

    def test(event: Collected) -> bool:
        return any(key in event.tags and match(_text(event.tags[key])) for key, match in matchers.items())

    return test


def _text(octets: bytes) -> str:
    return octets.decode(errors="surrogateescape")
