"""Who may call, and what a caller may ask for: facts in, a frozen decision out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, TypeAlias

from dicom_node.settings import Peer, Settings
from pipelines.reasons import Reason

Address: TypeAlias = "IPv4Address | IPv6Address"
Service = Literal["store", "echo"]
EVERY_SERVICE: frozenset[Service] = frozenset(("store", "echo"))

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
PROTOCOL_VERSION = 0b1


@dataclass(frozen=True, slots=True)
class Call:
    """What an association request says of itself, and from where it came."""

    calling_ae_title: str
    called_ae_title: str
    address: Address
    protocol_version: int
    application_context: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """The fields of an A-ASSOCIATE-RJ (PS3.8, table 9-21) and the reason behind them."""

    result: Literal[1, 2]
    source: Literal[1, 2, 3]
    diagnostic: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Admission:
    """The caller is let in and may ask for these services."""

    services: frozenset[Service]


def admit(call: Call, settings: Settings, associations: int) -> Admission | Rejection:
    """Decide on a call while `associations` are held already."""
    return (
        _wrong_protocol(call)
        or _wrong_node(call, settings)
        or _congested(settings, associations)
        or _peer(call, settings)
    )


def parse_address(host: str) -> Address:
    """The address of a socket's peer; an IPv4 address that IPv6 carries is given as what it is."""
    address = ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _wrong_protocol(call: Call) -> Rejection | None:
    if not call.protocol_version & PROTOCOL_VERSION:
        return Rejection(1, 2, 2, Reason("access.protocol_unsupported"))
    if call.application_context != APPLICATION_CONTEXT:
        return Rejection(1, 1, 2, Reason("access.protocol_unsupported"))
    return None


def _wrong_node(call: Call, settings: Settings) -> Rejection | None:
    if not settings.receive.check_called_ae_title or call.called_ae_title == settings.node.ae_title:
        return None
    return Rejection(1, 1, 7, Reason("access.called_ae_title_wrong", {"called_ae_title": call.called_ae_title}))


def _congested(settings: Settings, associations: int) -> Rejection | None:
    limit = settings.receive.maximum_associations
    return None if associations < limit else Rejection(2, 3, 2, Reason("access.congested", {"limit": limit}))


def _peer(call: Call, settings: Settings) -> Admission | Rejection:
    named = [peer for peer in settings.peers.values() if peer.ae_title == call.calling_ae_title]
    facts = {"calling_ae_title": call.calling_ae_title}
    if not named:
        if settings.receive.unknown_peers == "accept":
            return Admission(EVERY_SERVICE)
        return Rejection(1, 1, 3, Reason("access.calling_ae_title_unknown", facts))
    if fitting := [peer for peer in named if _is_from(call.address, peer)]:
        return Admission(frozenset(service for peer in fitting for service in peer.may))
    return Rejection(1, 1, 3, Reason("access.address_refused", facts))


def _is_from(address: Address, peer: Peer) -> bool:
    networks: Iterable[object] = peer.addresses
    return not peer.addresses or any(address in network for network in networks)  # type: ignore[operator]
