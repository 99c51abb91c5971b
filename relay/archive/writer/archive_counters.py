"""What an archive's writers have counted since the program's start."""

from dataclasses import dataclass


@dataclass(slots=True)
class ArchiveCounters:
    """One for all writers of a program: what is committed. Only the archive's thread writes; others may read."""

    messages: int = 0
    """Stored."""
    duplicates: int = 0
    """Dropped, because the same octets were stored before."""
    removed_duplicates: int = 0
    """Dropped, because retention has removed the octets that were stored before."""
    differing: int = 0
    """Stored beside another message with the same identity."""
    uncompared: int = 0
    """Stored although their identity was seen, because the octets stored before could not be compared."""
    new_parts: int = 0
    """Times that a log or ledger was not as the writer had left it."""
    forgotten: int = 0
    """Runs or intervals of numbers that a ceiling made the writer forget: their repetition would be stored twice."""
    last_forgotten: str = ""
    """The sender that these were charged to."""
    last_difference: str = ""
    """Originator, identity and sender of the last message that differs."""

    def add(self, more: "ArchiveCounters") -> None:
        """Add what a commit has made durable."""
        self.messages += more.messages
        self.duplicates += more.duplicates
        self.removed_duplicates += more.removed_duplicates
        self.differing += more.differing
        self.uncompared += more.uncompared
        self.new_parts += more.new_parts
        self.forgotten += more.forgotten
        self.last_forgotten = more.last_forgotten or self.last_forgotten
        self.last_difference = more.last_difference or self.last_difference
