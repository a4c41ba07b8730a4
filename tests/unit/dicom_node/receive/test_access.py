from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from dicom_node.receive.access import APPLICATION_CONTEXT, Admission, Call, Rejection, admit, parse_address
from dicom_node.settings import Settings

CALL = Call("CT1", "TRIAGE", ip_address("10.1.2.3"), 1, APPLICATION_CONTEXT)
EVERYTHING = frozenset(("store", "echo"))


def settings(peers: dict[str, Any] | None = None, **receive: Any) -> Settings:
    return Settings.model_validate({"receive": receive, "peers": peers or {}})


def test_an_unknown_caller_is_let_in_by_default() -> None:
    assert admit(CALL, settings(), 0) == Admission(EVERYTHING)


REJECTIONS = [
    # what differs in the call, peers, [receive], associations held, then (result, source, diagnostic) and reason
    (({"called_ae_title": "OTHER"}, {}, {}, 0), (1, 1, 7), "access.called_ae_title_wrong"),
    (({}, {}, {"unknown_peers": "refuse"}, 0), (1, 1, 3), "access.calling_ae_title_unknown"),
    (({}, {"a": {"ae_title": "CT1", "addresses": ["10.9.0.0/16"]}}, {}, 0), (1, 1, 3), "access.address_refused"),
    (({}, {}, {"maximum_associations": 4}, 4), (2, 3, 2), "access.congested"),
    (({"protocol_version": 2}, {}, {}, 0), (1, 2, 2), "access.protocol_unsupported"),
    (({"application_context": "1.2.3"}, {}, {}, 0), (1, 1, 2), "access.protocol_unsupported"),
]


@pytest.mark.parametrize(("case", "fields", "code"), REJECTIONS)
def test_a_caller_is_rejected_with_source_and_reason_of_the_standard(
    case: tuple[dict[str, Any], dict[str, Any], dict[str, Any], int], fields: tuple[int, int, int], code: str
) -> None:
    change, peers, receive, held = case
    decision = admit(replace(CALL, **change), settings(peers, **receive), held)
    assert isinstance(decision, Rejection)
    assert (decision.result, decision.source, decision.diagnostic) == fields
    assert decision.reason.code == code


def test_the_last_free_seat_is_given() -> None:
    assert isinstance(admit(CALL, settings(maximum_associations=4), 3), Admission)


def test_the_called_ae_title_is_not_looked_at_when_the_node_is_told_so() -> None:
    decision = admit(replace(CALL, called_ae_title="OTHER"), settings(check_called_ae_title=False), 0)
    assert isinstance(decision, Admission)


def test_a_peer_may_do_what_the_tables_that_fit_its_address_allow() -> None:
    peers = {
        "echo": {"ae_title": "CT1", "addresses": ["10.1.0.0/16"], "may": ["echo"]},
        "store": {"ae_title": "CT1", "addresses": ["10.2.0.0/16"], "may": ["store"]},
    }
    assert admit(CALL, settings(peers), 0) == Admission(frozenset(("echo",)))
    from_there = replace(CALL, address=ip_address("10.2.0.1"))
    assert admit(from_there, settings(peers), 0) == Admission(frozenset(("store",)))


def test_an_address_of_the_other_family_fits_no_network() -> None:
    peers = {"ct1": {"ae_title": "CT1", "addresses": ["10.0.0.0/8"]}}
    assert isinstance(admit(replace(CALL, address=ip_address("fd00::1")), settings(peers), 0), Rejection)


@pytest.mark.parametrize(
    ("host", "address"),
    [("10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"), ("fe80::1%eth0", "fe80::1")],
)
def test_addresses_are_read_as_the_socket_gives_them(host: str, address: str) -> None:
    assert parse_address(host) == ip_address(address)
