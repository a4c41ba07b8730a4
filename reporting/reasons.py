"""The reports' rows of the table of reasons (`pipelines.reasons`)."""

from __future__ import annotations

from pipelines.reasons import ReasonRow, TriageError, add_rows

add_rows(
    ReasonRow(
        "report.attribute_missing",
        "The source lacks the attribute {keyword}; it is empty in the results.",
        "Mend the attribute at the source.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "report.attribute_invalid",
        "The source's attribute {keyword} is not valid DICOM and was left out of the results.",
        "Mend the attribute at the source.",
        severity="info",
        audit_outcome=0,
    ),
    ReasonRow(
        "report.not_built",
        "The {kind} could not be made ({error}).",
        "Read by eye; send the log to the maker.",
        severity="error",
        http_status=500,
        audit_outcome=8,
    ),
    ReasonRow(
        "report.not_fit_to_send",
        "The {kind} is not fit to send: {detail}.",
        "Read by eye; send the log to the maker.",
        severity="error",
        http_status=500,
        audit_outcome=8,
    ),
    ReasonRow(
        "report.not_ours",
        "An earlier result cannot be used: {detail}.",
        "Nothing need be done.",
        severity="info",
        audit_outcome=0,
    ),
)


class ReportError(TriageError):
    """A result object could not be made, or what was made must not be sent."""
