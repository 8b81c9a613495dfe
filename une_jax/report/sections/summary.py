"""The findings of all sections in one table: what a reader with five minutes reads."""

import html
from collections.abc import Sequence

from une_jax.report import page
from une_jax.report.chapter import Chapter
from une_jax.report.tables import Row

HEADINGS = ("Question", "Found", "Beside it", "So")


def write(chapters: Sequence[Chapter]) -> Chapter:
    """One row a finding, in the order of the sections, each linked to its own."""
    summary = Chapter(key="summary", title="Summary")
    found = [(chapter.key, f) for chapter in chapters for f in chapter.findings]
    if not found:
        summary.say("The sections that were asked for have no findings.")
        return summary
    summary.say(
        "Each number stands beside the control or bound that gives it meaning; the last "
        "column follows from the two."
    )
    lines = "".join(
        f"<tr><td>{page.link(key, f.question)}</td>"
        f"{_cell(HEADINGS[1], f.shown, f.of)}"
        f"{_cell(HEADINGS[2], f.beside_shown, f.beside_of)}"
        f'<td data-label="{HEADINGS[3]}">{_text(f.verdict)}</td></tr>'
        for key, f in found
    )
    head = "".join(f"<th>{name}</th>" for name in HEADINGS)
    summary.blocks.append(
        f'<table class="findings"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table>"
    )
    rows: list[Row] = [
        {
            "section": key,
            "question": f.question,
            "found": f.value,
            "what": f.of,
            "beside": f.beside,
            "beside what": f.beside_of,
            "verdict": f.verdict,
        }
        for key, f in found
    ]
    summary.keep("summary", rows)
    return summary


def _cell(label: str, shown: str, of: str) -> str:
    return (
        f'<td data-label="{label}"><span class="big">{_text(shown)}</span>'
        f'<span class="small">{_text(of)}</span></td>'
    )


def _text(text: str) -> str:
    """Escaped; a number and its unit stay on one line."""
    for unit in ("%", "dB", "sd"):
        text = text.replace(f" {unit}", f"\u00a0{unit}")
    return html.escape(text)
