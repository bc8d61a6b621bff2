# SPDX-License-Identifier: Apache-2.0
"""A verification's report as a person reads it.

Called by the verb `verify`; programs take `Report.as_json`.
"""

from collections.abc import Iterator, Sequence

from headwater_auditor.verification import Report, Verdict
from headwater_prov.display import printable

_GAPS_MAX = 20
_LISTED_MAX = 50
_WORDS = {
    Verdict.INTACT: "intact",
    Verdict.NOT_PROVEN: "nothing wrong was found, but not everything could be confirmed",
    Verdict.TAMPERED: "NOT INTACT",
}


def render_report(report: Report) -> str:
    """Return the text, with a line feed at the end."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"tenant {report.tenant}: {_WORDS[report.verdict]}"
    yield (
        f"{report.messages:,} messages ({report.first_sequence}-{report.last_sequence} of the "
        f"stream), {len(report.chains)} chains: {report.delivered:,} records delivered, "
        f"{report.declared:,} declared lost"
    )
    if report.findings:
        yield ""
        yield from _listed(
            "FOUND",
            [
                f"{each.kind.value:<11}"
                + (f"node {each.node}, " if each.node else "")
                + (f"load {each.load}: " if each.load else "")
                + printable(each.text)
                for each in report.findings
            ],
        )
    if report.doubts:
        yield ""
        yield from _listed("NOT CONFIRMED", report.doubts)
    if report.chains:
        yield ""
        yield from _chains(report)
    gaps = [(chain, gap) for chain in report.chains for gap in chain.gaps]
    if gaps:
        yield ""
        yield from _listed(
            "GAPS THAT THE NODES DECLARE",
            [
                f"node {chain.node}, load {chain.load}: {gap.first}-{gap.last}, "
                f"{gap.count:,} records: {gap.reason}"
                for chain, gap in gaps
            ],
            _GAPS_MAX,
        )
    if report.notes:
        yield ""
        yield from _listed("NOTES", report.notes)


def _listed(title: str, lines: Sequence[str], most: int = _LISTED_MAX) -> Iterator[str]:
    yield title
    for line in lines[:most]:
        yield f"  {line}"
    if len(lines) > most:
        yield f"  and {len(lines) - most:,} more: --output json lists them"


def _chains(report: Report) -> Iterator[str]:
    rows = [("NODE", "LOAD", "MESSAGES", "DELIVERED", "DECLARED", "END", "INTACT")]
    for chain in report.chains:
        intact = ", ".join(map(str, chain.intact[:3])) + (" ..." if len(chain.intact) > 3 else "")
        rows.append(
            (
                chain.node,
                chain.load,
                f"{chain.messages:,}",
                f"{chain.delivered:,}",
                f"{chain.declared:,}",
                chain.end.value if chain.operator else "key unknown",
                intact or "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            text.rjust(width) if column in (2, 3, 4) else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
