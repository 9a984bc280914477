"""Which DICOM nodes may call, and where results go: ``AE@address`` or ``AE@address:port``."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

_NODE = re.compile(
    r"(?P<title>[^@\\]{1,16})@(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^@:\[\]/\s]+))(?::(?P<port>\d{1,5}))?"
)
_TITLE = re.compile(r"(?! *$)[ !-\[\]-~]{1,16}")  # PS3.5 6.2: no backslash, no control character, not blank


@dataclass(frozen=True)
class Node:
    """A DICOM node. As a string it is its AE title and address.

    Args:
        title: its AE title.
        address: an IP address, or a name that leads to one.
        port: at which it takes objects; None: it only sends.
    """

    title: str
    address: str
    port: int | None = None

    def __str__(self) -> str:
        return f"{self.title}@{self.address}"

    def is_at(self, address: str) -> bool:
        """Return whether a connection from this IP address may be the node's."""
        return _parsed(address) in _addresses(self.address)

    def is_known(self) -> bool:
        """Return whether its name leads to an address now."""
        return bool(_addresses(self.address))


def read_node(text: str) -> Node:
    """Return the node in "AE@address" or "AE@address:port". Raises ``ValueError``."""
    found = _NODE.fullmatch(text)
    port = None if found is None or found["port"] is None else int(found["port"])
    wrong = found is None or not _TITLE.fullmatch(found["title"]) or not _is_host(found["six"] or found["host"])
    if found is None or wrong or (port is not None and not 0 < port < 2**16):
        raise ValueError(f"{text!r} is no DICOM node, expected AE@address or AE@address:port, as PACS@127.0.0.1:4242")
    return Node(found["title"].strip(), found["six"] or found["host"], port)


def read_address(text: str) -> tuple[str, int]:
    """Return host and port of "host:port". Raises ``ValueError``."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) >= 2**16:
        raise ValueError(f"{text!r} is no address, expected host:port, as 127.0.0.1:11112")
    return host.removeprefix("[").removesuffix("]"), int(port)


def check_title(title: str) -> str:
    """Return an AE title without the blanks around it. Raises ``ValueError`` where it is none."""
    if not _TITLE.fullmatch(title):
        raise ValueError(f"{title!r} is no AE title, expected 1 to 16 ASCII characters, no backslash")
    return title.strip()


def caller(nodes: Sequence[Node], title: str, address: str) -> Node | None:
    """Return the node that calls with this AE title from this address, None where none of them does."""
    return next((node for node in nodes if node.title == title and node.is_at(address)), None)


def _addresses(name: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the IP addresses of a host; none where its name cannot be looked up."""
    try:
        return {_parsed(name)}
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # a name that cannot be one, as "pacs..example"
        return set()
    return {_parsed(str(entry[4][0])) for entry in found}


def _is_host(name: str) -> bool:
    """Return whether a name can be one of a host, which "pacs..example" cannot; nobody is asked."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an IP address without its zone. One of IPv4 that comes to an IPv6 listener is that of IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed
