"""The messages between a server and its client (``cdefs/abi/hello.h``), to and from bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from uring_iopf._native import ffi, lib
from uring_iopf.errors import PeerError

if TYPE_CHECKING:
    from uring_iopf._native import CData

MOST_BYTES = 512
"""The most bytes of a message. Received messages are read with room for one byte more."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A client's reply to a hello."""

    data_address: int
    """The address at which the client has mapped the data descriptor; not checked yet."""
    kicks: bool
    """Whether the client writes the wake-up eventfd when it sees NEED_WAKEUP."""


def _new(name: str, **fields: object) -> CData:
    message = ffi.new(f"struct {name} *")
    message.magic = lib.UIOPF_HELLO_MAGIC
    message.version = lib.UIOPF_HELLO_VERSION
    message.size = ffi.sizeof(message[0])
    for field, value in fields.items():
        setattr(message, field, value)
    return message


def pack_hello(params: CData, **fields: int) -> bytes:
    """Return a hello for a client that is served. *fields*: the struct's fields."""
    message = _new("uiopf_hello", **fields)
    message.params = params[0]
    return bytes(ffi.buffer(message))


def pack_refusal(errno: int) -> bytes:
    """Return a hello for a client that is refused with *errno*."""
    return bytes(ffi.buffer(_new("uiopf_hello", status=errno)))


def pack_goodbye(answered: int) -> bytes:
    """Return a goodbye: every fault of the load is answered, *answered* of them by the client."""
    return bytes(ffi.buffer(_new("uiopf_goodbye", answered=answered)))


def parse_reply_untrusted(data: bytes) -> Reply:
    """Parse a client's reply. Raises: PeerError, with the mistake in it."""
    size = ffi.sizeof("struct uiopf_hello_reply")
    if len(data) != size:
        raise PeerError(f"the client's reply must have {size} bytes, not {len(data)}")
    message = ffi.new("struct uiopf_hello_reply *")
    ffi.memmove(message, data, size)
    if message.magic != lib.UIOPF_HELLO_MAGIC:
        raise PeerError(f"the client's reply must begin with {lib.UIOPF_HELLO_MAGIC:#x}, not {message.magic:#x}")
    if message.version != lib.UIOPF_HELLO_VERSION or message.size != size:
        raise PeerError(
            f"the client's reply must have version {lib.UIOPF_HELLO_VERSION} and size {size}, not version "
            f"{message.version} and size {message.size}"
        )
    if message.flags & ~lib.UIOPF_HELLO_KICKS or message.reserved:
        raise PeerError(
            f"the client's reply must have known flags ({lib.UIOPF_HELLO_KICKS:#x}) and 0 in its reserved field, not "
            f"flags {message.flags:#x} and {message.reserved:#x}"
        )
    return Reply(int(message.data_address), bool(message.flags & lib.UIOPF_HELLO_KICKS))
