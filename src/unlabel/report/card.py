"""The model card of an audited run: README.md in the form of Hugging Face, made from audit.json alone.

Names of labels may come from anyone, and both Markdown and YAML give signs a meaning: every text is escaped.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unlabel.audit.document.stages import is_stage
from unlabel.audit.document.typed import Document, Figure, ModelRecord, document_of
from unlabel.audit.figures import claim_kind, name_of
from unlabel.core.errors import OptionError
from unlabel.core.files import visible, write_bytes
from unlabel.report import sentences
from unlabel.report import tables as rows
from unlabel.report.formatting import count, duration, percent, spoken
from unlabel.report.marks import CARD, marked, subject, written
from unlabel.report.page import read_audit
from unlabel.report.readings import reading
from unlabel.report.sections import provenance
from unlabel.report.views import attacker

LICENSE = "unknown"
LICENCES = r"[a-z0-9][a-z0-9.+-]{0,63}"  # identifiers of the hub and of SPDX, in small letters
TAGS = ("machine-unlearning", "multi-label", "image-classification", "unlabel")
NO_LAW = "This card gives measurements. It is no legal opinion, and no verdict in it is a proof."


def write_card(run: Path, license_: str | None = None) -> Path | None:
    """Writes the model card of an audited run, whole or not at all.

    Args:
        run: Folder that holds audit.json.
        license_: Identifier of the model's licence, such as ``apache-2.0``; when None, that of the card which
            is there, else ``unknown``.

    Returns:
        Its path; None where a README.md is there that a person wrote or changed: it is kept.

    Raises:
        ModelError: There is no audit.json, or it is damaged.
        OptionError: The licence is no identifier.
    """
    path, audit = run / CARD, read_audit(run)
    mark = ("card", subject(audit))
    foreign = path.is_symlink() or (path.exists() and written(path) != mark)
    if license_ is None:
        license_ = LICENSE if foreign else _named(path)
    if not re.fullmatch(LICENCES, license_):
        raise OptionError(
            f"--license is {visible(license_)[:40]!r}; expected an identifier: apache-2.0, mit, other"
        )
    text = _text(audit, license_)
    if foreign:
        return None
    write_bytes(path, marked(text, "card", mark[1], run / "audit.json"))
    return path


def _named(path: Path) -> str:
    """The licence that an earlier card names."""
    text = path.read_text("utf-8") if path.exists() else ""
    match = re.match(r'---\nlicense: "([^"\n]+)"\n', text)
    return match[1] if match else LICENSE


def card(audit: Mapping[str, Any], license_: str = LICENSE) -> str:
    """The card as Markdown with YAML front matter; the same text for the same audit.

    Args:
        audit: Parsed content of audit.json.
        license_: Identifier of the model's licence.
    """
    return _text(document_of(audit), license_)


def _text(audit: Document, license_: str) -> str:
    return "\n".join([*_front(audit, license_), "", *_body(audit), ""])


def _front(audit: Document, license_: str) -> Iterator[str]:
    """The YAML front matter; its texts are JSON strings, which YAML reads alike."""
    name = quoted(_name(audit))
    yield from (
        "---",
        f"license: {quoted(license_)}",
        "library_name: unlabel",
        "pipeline_tag: image-classification",
    )
    yield from ("tags:", *(f"- {tag}" for tag in TAGS))
    yield from (
        "model-index:",
        f"- name: {name}",
        "  results:",
        "  - task:",
        "      type: image-classification",
    )
    yield f"      name: {quoted(f'Labels of images, after forgetting {spoken(rows.targets(audit))}')}"
    source = str(audit.data.source or "unknown")
    kind, _, location = source.partition("?")[0].partition(":")
    yield from (
        "    dataset:",
        f"      type: {quoted(kind)}",
        f"      name: {quoted(Path(location).name or kind)}",
    )
    yield "      split: test"
    yield "    metrics:"
    for metric in _results(audit):
        of = f"{metric.label}: " if metric.label is not None else ""
        interval = metric.ci
        spread = f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        yield f"    - type: {quoted(metric.id)}"
        yield f"      value: {json.dumps(metric.value)}"
        name = name_of(metric.id)
        yield f"      name: {quoted(of + name + spread)}"
    yield "---"


def _results(audit: Document) -> list[Figure]:
    """What the audit found of the unlearned model: attacks on forgotten labels, means over retained ones."""
    gone = [*rows.audited(audit), None]
    metrics = [m for m in audit.metrics if m.model == "after" and m.label in gone]
    # of the model as it is, at its end: names here tell neither a transform nor a stage
    return [m for m in metrics if m.transform is None and not is_stage(m.layer)]


def _body(audit: Document) -> Iterator[str]:
    labels, models = rows.targets(audit), audit.models
    after, earlier = models.after or ModelRecord(), audit.request.forgotten_earlier
    _, sentence = sentences.finding(audit)
    yield from (f"# {plain(_name(audit))}", "")
    yield from (f"**{plain(audit.headline)}**: {plain(sentence)}", "")
    if not audit.valid:
        yield from ("The audit failed its own checks, and no verdict below can be relied on:", "")
        yield from (*(f"- {plain(reason)}" for reason in audit.invalid_because), "")
    yield from ("## What was forgotten", "", f"- Labels: {plain(', '.join(labels))}")
    if earlier:
        yield f"- Forgotten earlier, and audited again: {plain(', '.join(earlier))}"
    retained = [name for name in after.labels if name not in rows.audited(audit)]
    yield f"- Retained: {plain(', '.join(retained))}"
    yield from (f"- By: {plain(after.method or 'a method that is not recorded')}", "")
    yield from ("## How far", "", *_claims(audit), "", *_attacks(audit))
    yield from (plain(f"{lead} {text}") + "\n" for lead, text in sentences.summary(audit)[:3])
    yield from ("## What it cost", "", *_cost(audit), "")
    yield from ("## What was not tested", "", *(f"- {plain(text)}" for text in sentences.untested(audit)), "")
    yield from ("## About the labels", "", sentences.PERCEIVED, "")
    yield from ("## Limits", "", f"- {NO_LAW}", *(f"- {plain(text)}" for text in audit.limitations), "")
    yield from ("## How it was made", "", *_made(audit), "")
    yield from (
        "`report.html` has every figure, `audit.json` the same for machines. Where `statement.dsse.json` lies"
        " beside them, `unlabel verify` tells whether these files are as they were signed.",
    )


def _name(audit: Document) -> str:
    network = (audit.models.after or ModelRecord()).network or "model"
    return f"{network} without {spoken(rows.targets(audit))}"


def _claims(audit: Document) -> Iterator[str]:
    yield from ("| claim | verdict | why |", "| --- | --- | --- |")
    for id_, claim in sorted(audit.claims.items()):
        word = sentences.VERDICTS.get(claim.verdict, ("", claim.verdict))[1]
        if claim.verdict in ("PASS", "FAIL"):
            word += " (predicted)" if claim.notes.predicted else " (provisional)" * claim.provisional
        against = attacker(audit) if id_ == "C4" else ""
        why = " ".join(filter(None, [claim.sentence, sentences.beyond(id_, claim.verdict), against]))
        yield f"| {plain(id_)} {plain(claim_kind(id_).title)} | {plain(word)} | {plain(why)} |"


def _attacks(audit: Document) -> Iterator[str]:
    for label in rows.audited(audit):
        attacks = [row for _, group in rows.attack_rows(audit, label) for row in group]
        if not attacks:
            continue
        yield from (f"| attack on {plain(label)} | before | after | retrained |", "| --- | --- | --- | --- |")
        for row in attacks:
            cells = (reading(one) for one in (row.before, row.after, row.retrained))
            yield f"| {plain(row.name)} | {' | '.join(plain(cell) for cell in cells)} |"
        yield ""


def _cost(audit: Document) -> Iterator[str]:
    after, many = audit.models.after or ModelRecord(), audit.models.references
    changed, total = after.changed, after.total
    if changed is not None and total:
        yield f"- Weights changed: {count(changed)} of {count(total)} ({percent(changed / total)})"
    other = "retraining" if many else "training the original"
    costs = provenance.cost_rows(audit)
    for cost in costs:
        if cost.ours is not None:
            show = duration if cost.kind == "time" else count
            theirs = f"; {other}: {show(cost.theirs)}" if cost.theirs is not None else ""
            yield f"- {cost.name}: {show(cost.ours)}{theirs}"
    if all(cost.theirs is None for cost in costs):
        yield f"- Cost of {other}: {provenance.UNKNOWN}"


def _made(audit: Document) -> Iterator[str]:
    after, before = audit.models.after or ModelRecord(), audit.models.before or ModelRecord()
    yield f"- Weights, sha256: {plain(str(after.sha256))}"
    yield f"- Made from weights with sha256: {plain(str(before.sha256))}"
    many = len(audit.models.references or ())
    yield f"- Compared with {many or 'no'} model{'s' * (many > 1)} retrained without what was forgotten"
    versions = after.versions or {}
    if versions:
        yield f"- With {plain(', '.join(f'{name} {version}' for name, version in versions.items()))}"
    commands = [item.command for item in (before, after, audit.models) if item.command]
    yield from ("", *fenced(commands))


def fenced(lines: Sequence[str]) -> list[str]:
    """Lines as a code block that no line of them can end.

    >>> fenced(["a", "```", "b"])
    ['````text', 'a', '```', 'b', '````']
    """
    shown = [visible(line) for line in lines]
    longest = max((len(run) for line in shown for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", *shown, fence]


def plain(text: str) -> str:
    r"""Text that Markdown shows as it is: no markup, no HTML, no link, no line break.

    >>> print(plain("Wearing_Hat <b> | [x](http://a.b) *c*"))
    Wearing_Hat &lt;b&gt; \| \[x\](http\://a.b) \*c\*
    """
    text = re.sub(r"[\\`*\[\]{}#|~$^]|!(?=\[)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", visible(text))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r":(?=//)|(?<=www)\.|@", r"\\\g<0>", text, flags=re.IGNORECASE)


def quoted(text: str) -> str:
    r"""Text as a double-quoted scalar of YAML, which is a string of JSON.

    >>> print(quoted('a "b": \n#'))
    "a \"b\": \\n#"
    """
    shown = visible(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return re.sub(
        "[\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(shown, ensure_ascii=False)
    )
