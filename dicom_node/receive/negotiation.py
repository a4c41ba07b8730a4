"""Which presentation contexts are accepted, and the A-ASSOCIATE-AC that says so (PS3.8, 7.1.1 and 9.3.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pynetdicom import AllStoragePresentationContexts
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext

from dicom_node.receive.transfer_syntaxes import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, TRANSFER_SYNTAXES
from reporting.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

VERIFICATION = "1.2.840.10008.1.1"
_DICOM_ROOT = "1.2.840.10008."
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_STORAGE = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)

Result = Literal[0, 3, 4]
ACCEPTED: Literal[0] = 0
ABSTRACT_SYNTAX_NOT_SUPPORTED: Literal[3] = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Literal[4] = 4


@dataclass(frozen=True, slots=True)
class Proposal:
    """A presentation context as it is proposed."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of a proposal. `result` is that of PS3.8, table 9-18."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    result: Result


def is_storage(abstract_syntax: str) -> bool:
    """Whether instances of this class are taken: each Storage SOP Class, also new and private ones."""
    return (
        abstract_syntax in _STORAGE
        or abstract_syntax.startswith(_STORAGE_ROOT)
        or not abstract_syntax.startswith(_DICOM_ROOT)
    )


def answer(proposal: Proposal) -> Answer:
    """Accept the context in the transfer syntax that this node likes best, or say why not."""
    if proposal.abstract_syntax == VERIFICATION:
        known: tuple[str, ...] = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)
    elif is_storage(proposal.abstract_syntax):
        known = TRANSFER_SYNTAXES
    else:
        return _answer(proposal, IMPLICIT_LITTLE_ENDIAN, ABSTRACT_SYNTAX_NOT_SUPPORTED)
    for transfer_syntax in known:
        if transfer_syntax in proposal.transfer_syntaxes:
            return _answer(proposal, transfer_syntax, ACCEPTED)
    return _answer(proposal, IMPLICIT_LITTLE_ENDIAN, TRANSFER_SYNTAXES_NOT_SUPPORTED)


def _answer(proposal: Proposal, transfer_syntax: str, result: Result) -> Answer:
    return Answer(proposal.context_id, proposal.abstract_syntax, transfer_syntax, result)


def proposals(request: A_ASSOCIATE) -> tuple[Proposal, ...]:
    """The presentation contexts of an association request."""
    return tuple(
        Proposal(context.context_id, str(context.abstract_syntax), tuple(str(uid) for uid in context.transfer_syntax))
        for context in request.presentation_context_definition_list
        if context.context_id is not None
    )


def encode_acceptance(request: A_ASSOCIATE, answers: Iterable[Answer], maximum_pdu_bytes: int) -> bytes:
    """The A-ASSOCIATE-AC PDU."""
    response = A_ASSOCIATE()
    response.application_context_name = request.application_context_name
    response.calling_ae_title = request.calling_ae_title
    response.called_ae_title = request.called_ae_title
    response.result = 0
    response.result_source = 1
    response.presentation_context_definition_results_list = [_context(one) for one in answers]
    longest, implementation, version = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    longest.maximum_length_received = maximum_pdu_bytes
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    response.user_information = [longest, implementation, version]
    return bytes(A_ASSOCIATE_AC(response).encode())


def _context(one: Answer) -> PresentationContext:
    context = PresentationContext()
    context.context_id = one.context_id
    context.transfer_syntax = [one.transfer_syntax]
    context.result = one.result
    return context
