from __future__ import annotations

import pytest
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicom_node.receive.access import APPLICATION_CONTEXT
from dicom_node.receive.negotiation import Proposal, answer, encode_acceptance, is_storage
from dicom_node.receive.transfer_syntaxes import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, TRANSFER_SYNTAXES

CT = "1.2.840.10008.5.1.4.1.1.2"
JPEG_LOSSLESS, BIG_ENDIAN, JPIP = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.94"


@pytest.mark.parametrize(
    ("abstract_syntax", "proposed", "result", "accepted"),
    [
        (CT, (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN), 0, EXPLICIT_LITTLE_ENDIAN),
        (CT, (JPEG_LOSSLESS,), 0, JPEG_LOSSLESS),
        (CT, (JPEG_LOSSLESS, IMPLICIT_LITTLE_ENDIAN), 0, IMPLICIT_LITTLE_ENDIAN),
        (CT, (BIG_ENDIAN,), 4, None),
        (CT, (JPIP,), 4, None),
        ("1.2.840.10008.1.1", (IMPLICIT_LITTLE_ENDIAN,), 0, IMPLICIT_LITTLE_ENDIAN),
        ("1.2.840.10008.1.1", (JPEG_LOSSLESS,), 4, None),
        ("1.2.840.10008.5.1.4.1.2.2.1", (IMPLICIT_LITTLE_ENDIAN,), 3, None),
        ("1.3.46.670589.11.0.0.12.1", (EXPLICIT_LITTLE_ENDIAN,), 0, EXPLICIT_LITTLE_ENDIAN),
    ],
)
def test_a_context_is_accepted_in_the_preferred_syntax_or_refused_with_the_cause(
    abstract_syntax: str, proposed: tuple[str, ...], result: int, accepted: str | None
) -> None:
    given = answer(Proposal(1, abstract_syntax, proposed))
    assert given.result == result
    if accepted is not None:
        assert given.transfer_syntax == accepted


@pytest.mark.parametrize("suffix", ["1.2", "1.2.1", "13.1.3", "13.1.4", "13.1.5"])
@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
def test_mammograms_and_tomosynthesis_are_taken_in_every_syntax(suffix: str, syntax: str) -> None:
    given = answer(Proposal(1, f"1.2.840.10008.5.1.4.1.1.{suffix}", (syntax,)))
    assert (given.result, given.transfer_syntax) == (0, syntax)


def test_every_storage_class_is_taken_and_no_query_is() -> None:
    assert all(is_storage(str(context.abstract_syntax)) for context in AllStoragePresentationContexts)
    assert is_storage("1.2.840.10008.5.1.4.1.1.999")
    assert not is_storage("1.2.840.10008.1.20.1")


def test_no_syntax_is_preferred_twice() -> None:
    assert len(set(TRANSFER_SYNTAXES)) == len(TRANSFER_SYNTAXES)


def test_the_acceptance_tells_every_answer() -> None:
    request = A_ASSOCIATE()
    request.application_context_name = APPLICATION_CONTEXT
    request.calling_ae_title, request.called_ae_title = "CT1", "TRIAGE"
    answers = [answer(Proposal(1, CT, (JPEG_LOSSLESS,))), answer(Proposal(3, CT, (BIG_ENDIAN,)))]
    decoded = A_ASSOCIATE_AC()
    decoded.decode(encode_acceptance(request, answers, 131072))
    assert [(one.context_id, one.result) for one in decoded.presentation_context] == [(1, 0), (3, 4)]
    assert decoded.presentation_context[0].transfer_syntax == JPEG_LOSSLESS
    assert decoded.user_information.maximum_length == 131072
