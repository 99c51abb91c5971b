"""Messages of SSH (RFC 4251 section 5) as a hostile peer writes them."""

import paramiko


def ssh_message(kind: int, *parts: bytes | str | int | bool) -> paramiko.Message:
    """A message of that kind: texts and octets with their length, numbers as uint32, truth as boolean."""
    message = paramiko.Message()
    message.add_byte(bytes([kind]))
    for part in parts:
        if isinstance(part, bool):
            message.add_boolean(part)
        elif isinstance(part, int):
            message.add_int(part)
        else:
            message.add_string(part)
    return message
