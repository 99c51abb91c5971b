"""Whether a message reports a failure: of an audit record, an administrator's action, or traffic. Pure.

The name of an SD-PARAM decides, compared without its part before the last dot, case, `-` and `_`:

- `res`, `result`, `outcome`, `status`: failed, failure, fail, no, denied, rejected, refused, error, 0, false
  (`res=failed` of the audit's user records)
- `success`, `succeeded`, `permitted`, `allowed`, `authorized`: no, 0, false (`SYSCALL.success`, an administration
  event's `permitted`)
- `failed`, `failure`, `denied`: yes, 1, true

Denials of SELinux and AppArmor are failures too: `avc:  denied` in MSG, `apparmor="DENIED"`.
"""

from typing import Final

from relay.syslog.rfc5424 import Message

RESULTS: Final = frozenset({"res", "result", "outcome", "status"})
GRANTS: Final = frozenset({"success", "succeeded", "permitted", "allowed", "authorized"})
FAILURES: Final = frozenset({"failed", "failure", "denied"})
NO: Final = frozenset({"no", "0", "false"})
YES: Final = frozenset({"yes", "1", "true"})
_BAD: Final = NO | frozenset({"failed", "failure", "fail", "denied", "rejected", "refused", "error"})
_DENIED: Final = b"avc:  denied"


def plain_name(name: str) -> str:
    """A parameter's name as it is compared: `SYSCALL.success` and `success` are one, `sourceIp` and `source_ip` too."""
    return name.rpartition(".")[2].casefold().replace("_", "").replace("-", "")


def is_failure(name: str, value: str) -> bool:
    """Whether a parameter reports a failure."""
    plain, word = plain_name(name), value.casefold()
    if plain in RESULTS:
        return word in _BAD
    if plain in GRANTS:
        return word in NO
    return (plain in FAILURES and word in YES) or (plain == "apparmor" and word == "denied")


def failed(message: Message) -> bool:
    """Whether the message reports a failure."""
    if message.msg is not None and _DENIED in message.msg:
        return True
    return any(
        is_failure(name.decode("ascii"), value.decode())
        for element in message.structured_data
        for name, value in element.params
    )
