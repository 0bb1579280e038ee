"""The report page: one self-contained HTML file, made from audit.json, and example images where asked for."""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from unlabel.audit.document.typed import Document, document_of
from unlabel.audit.figures import GAPS, MEASURES, figure, in_group
from unlabel.core.errors import MissingFiles, ModelError, OptionError, UnlabelError
from unlabel.core.files import make_parent, write_bytes
from unlabel.core.places import check_file
from unlabel.core.reading import read_json
from unlabel.core.wording import in_shell
from unlabel.report import charts as plots
from unlabel.report import formatting as numbers
from unlabel.report import sentences, views, words
from unlabel.report import tables as rows
from unlabel.report.marks import PAGE, marked, subject, written
from unlabel.report.pictures import STRIPS, Gallery
from unlabel.report.readings import reading
from unlabel.report.sections import durability, groups, hits, provenance
from unlabel.report.sections import facts as behind
from unlabel.report.sections import full_budget as deeper
from unlabel.report.sections import memorisation as memory
from unlabel.report.sections.controls import controls, flat
from unlabel.report.sections.evasion import condemning
from unlabel.report.sections.margins import margins
from unlabel.runs.files import read_config

NEEDED = ("headline", "valid", "request", "claims", "metrics", "comparisons", "models", "data", "options")


def render(audit: Mapping[str, Any], *, command: str | None = None, gallery: Gallery | None = None) -> str:
    """The report as HTML text: no script, no outside request, the same bytes for the same input.

    Args:
        audit: Parsed content of audit.json, as `unlabel.audit.document.results.Audit.to_json` gives it.
        command: The command that makes this page, shown with those that made the models.
        gallery: Example images to show; without it, the page holds none.
    """
    return _html(document_of(audit), command, gallery)


def _html(audit: Document, command: str | None, gallery: Gallery | None) -> str:
    return (
        environment()
        .get_template("page.html")
        .render(**_content(audit, command), gallery=gallery, strips=STRIPS)
    )


def check_page(run: Path, out: Path | None = None, *, force: bool = False) -> Path:
    """Refuses, before any work, a place that the report of an audited run must not be written to.

    Args:
        run: Folder that holds audit.json.
        out: File to write; RUN/report.html where it is None.
        force: Replace a file that is no page of this run.

    Returns:
        The file to write.

    Raises:
        ModelError: There is no audit.json, or it is damaged.
        OptionError: It is a folder, a link, a part of a run, or, without `force`, no page of this run.
    """
    path = run / PAGE if out is None else out
    if path.is_dir():
        raise OptionError(f"{path} is a folder; name the HTML file to write, such as {path / 'report.html'}")
    audit = read_audit(run)
    mark = ("page", subject(audit))
    check_file(path, force=force, ours=lambda: written(path) == mark)
    return path


def write_report(
    run: Path,
    out: Path | None = None,
    *,
    gallery: Gallery | None = None,
    command: str | None = None,
    force: bool = False,
) -> Path:
    """Writes the report of an audited run, whole or not at all, and returns its path.

    Args:
        run: Folder that holds audit.json.
        out: File to write; RUN/report.html where it is None.
        gallery: Example images to show.
        command: The command that makes it; by default, what `unlabel report` would be called with.
        force: Replace a file that is no page of this run.

    Raises:
        ModelError: There is no audit.json, or it is damaged.
        OptionError: As `check_page` raises.
    """
    path, audit = check_page(run, out, force=force), read_audit(run)
    to = f" --out {in_shell(out)}" if out is not None else ""
    command = command or f"unlabel report {in_shell(run)}{to}"
    try:
        text = _html(audit, command, gallery)
    except ModelError as error:
        raise unreadable(run, str(error)) from error
    make_parent(path)
    write_bytes(path, marked(text, "page", subject(audit), run / "audit.json"))
    return path


def unreadable(run: Path, fault: str) -> ModelError:
    """The error that says so where a part of an audit is missing or of another type."""
    return ModelError(
        f"{run / 'audit.json'} is not an audit of this version ({fault});"
        f" run again: unlabel audit {in_shell(run)} --before BEFORE"
    )


def before_audit(run: Path) -> str:
    """What to do with a folder that has no audit: audit it, or, if it has forgotten no label, forget one."""
    forgot = True
    with suppress(UnlabelError):
        forgot = bool(read_config(run).forgotten)
    if forgot:
        return f"first run: unlabel audit {in_shell(run)} --before BEFORE"
    return (
        "it has forgotten no label, so there is nothing to audit; first run: unlabel forget auto"
        f" {in_shell(run)} --labels LABEL --out NEW"
    )


def read_audit(run: Path) -> Document:
    """The audit of a run, which may come from anyone.

    Raises:
        MissingFiles: There is no such folder.
        ModelError: There is no audit, it is no JSON object, or a part of it is missing or of another type.
    """
    path = run / "audit.json"
    again = f"run again: unlabel audit {in_shell(run)} --before BEFORE"
    if not path.is_file():
        if not run.is_dir():
            raise MissingFiles(f"no run folder {run}; expected one that `unlabel audit` wrote into")
        raise ModelError(f"no audit.json in {run}; {before_audit(run)}")
    try:
        audit = read_json(path)
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); {again}") from error
    if not isinstance(audit, dict):
        raise ModelError(f"{path} holds a {type(audit).__name__}, not an audit; {again}")
    missing = [name for name in NEEDED if name not in audit]
    if missing:
        raise ModelError(f"{path} lacks {numbers.names(missing)}; {again}")
    try:
        return document_of(audit)
    except ModelError as error:
        raise unreadable(run, str(error)) from error


@cache
def environment(*folders: Path) -> Environment:
    """Templates of this room, and of other rooms' folders, with the filters that all pages share."""
    templates = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.filters.update(
        number=numbers.number,
        signed=lambda value: numbers.number(value, signed=True),
        beside_margin=lambda value, margin: numbers.beside_margin(value, margin, signed=True),
        count=numbers.count,
        duration=numbers.duration,
        percent=numbers.percent,
        times=numbers.times,
        unbroken=lambda text: text.replace(" ±", "\u00a0±").replace("± ", "±\u00a0"),
        reading=reading,
        steps=deeper.steps,
        zip=zip,
        plain=lambda value: numbers.NOTHING if value is None else value,
    )
    return templates


def _content(audit: Document, command: str | None) -> dict[str, Any]:
    tone, sentence = sentences.finding(audit)
    targets = rows.targets(audit)
    scale, marks, chance = plots.dumbbells(audit)
    attacked = [label for label in [*rows.audited(audit), None] if rows.attack_rows(audit, label)]
    excess = {label: plots.excesses(audit, label) for label in attacked}
    return {
        "audit": audit,
        "tone": tone,
        "sentence": sentence
        if sentence.startswith(numbers.spoken(targets) or " ")
        else sentence[:1].upper() + sentence[1:],
        "eyebrow": views.eyebrow(audit),
        "summary": sentences.summary(audit),
        "perceived": sentences.PERCEIVED,
        "untested": sentences.untested(audit),
        "banners": sentences.banners(audit),
        "cards": list(views.cards(audit)),
        "targets": targets,
        "audited": rows.audited(audit),
        "verdicts": sentences.VERDICTS,
        "claims": [views.claim(audit, id_) for id_ in sorted(audit.claims)],
        "attacks": {
            label: [(group.title, found) for group, found in rows.attack_rows(audit, label)]
            for label in attacked
        },
        "condemning": condemning(audit),
        "how": rows.how,
        "units": rows.UNITS,
        "judge": lambda found: views.judge(audit, found),
        "durability": durability.sections(audit),
        "lasting": durability.lasting(audit),
        "noted": durability.notes(audit),
        "canaries": memory.canaries(audit),
        "membership": memory.membership(audit),
        "decides": lambda id_: bool(figure(id_).claims),
        "remembered": lambda found: memory.verdict(audit, found),
        "groups": groups.groups(audit),
        "hits": hits.hits(audit),
        "gap_names": [item.name for item in in_group(GAPS)],
        "further": rows.further(audit),
        "definition": words.definition,
        "defined": words.defined(audit),
        "extra": views.described(audit),
        "excess": excess,
        "margins": list(margins(audit)),
        "excess_axis": plots.excess_axis([mark for marks in excess.values() for mark in marks]),
        "goes_on": plots.goes_on,
        "labels": marks,
        "label_axis": scale,
        "chance": chance,
        "controls": list(controls(audit)),
        "references": len(audit.models.references or ()),
        "predicted": rows.predicted(audit),
        **_origin(audit),
        "commands": views.commands(audit, command),
        "flat": flat,
        "seconds": provenance.making_seconds,
        "protection": provenance.protection,
        "place": provenance.place,
    }


def _origin(audit: Document) -> dict[str, Any]:
    """What the page shows of models, data and costs."""
    models, records = audit.models, audit.raw["models"]
    references = list(models.references or ())
    newest = models.after or models.before
    return {
        "costs": provenance.cost_rows(audit),
        "unknown": provenance.UNKNOWN,
        "splits": provenance.splits(audit),
        "split_names": provenance.NAMES,
        "data_facts": behind.of_data(audit),
        "measures": rows.measures(audit),
        "measure_names": [item.name for item in in_group(MEASURES)],
        "identities": provenance.identities(audit),
        "made": [
            (role, model, facts)
            for role, model, facts in [
                ("Before", models.before, records.get("before")),
                ("After", models.after, records.get("after")),
                *(
                    (f"Retrained {at}", model, records["references"][at - 1])
                    for at, model in enumerate(references, 1)
                ),
            ]
            if model
        ],
        "labelled": newest.labels if newest else (),
    }
