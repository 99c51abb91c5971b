"""Which events pass, and which of their fields: `tagpass`, `tagdrop`, `fieldpass`, `fielddrop`, as Telegraf has them.

- tagpass: one of the tags named there must have a value that matches. tagdrop: none may. Both tables: both apply. A
  table without tags has no effect, as in Telegraf, because all its lines may be commented out.
- fieldpass, fielddrop: the fields that match are kept, or dropped. Both lists: both apply. An event without any field
  left is dropped, as in Telegraf.

Patterns are globs (`relay.values.glob_matcher`); an octet that is not UTF-8 matches as one character.
"""

from collections.abc import Callable, Mapping, Sequence

from relay.events.ssr.collected import Collected
from relay.values.glob_matcher import GlobMatcher, glob_matcher

_Tags = Mapping[str, Sequence[str]]
_Test = Callable[[Collected], bool]


class Filter:
    """The filters of one source; without any, every event passes."""

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
        """Return the event with the fields that pass; None when it is dropped."""
        if (self._passes and not self._passes(event)) or (self._drops and self._drops(event)):
            return None
        if not (self._keeps or self._loses):
            return event
        fields = event.fields
        if self._keeps:
            fields = {key: value for key, value in fields.items() if self._keeps(_text(key))}
        if self._loses:
            fields = {key: value for key, value in fields.items() if not self._loses(_text(key))}
        return event._replace(fields=fields) if fields else None


def _any_tag(patterns: _Tags | None) -> _Test | None:
    if not patterns:
        return None
    matchers: dict[bytes, GlobMatcher] = {key.encode(): glob_matcher(values) for key, values in patterns.items()}

    def test(event: Collected) -> bool:
        return any(key in event.tags and match(_text(event.tags[key])) for key, match in matchers.items())

    return test


def _text(octets: bytes) -> str:
    return octets.decode(errors="surrogateescape")
