"""A page as plain data, and the Markdown that it renders to: the JSON beside a page holds its every figure.

::

    Document -> NAME.json          render(content of NAME.json) == NAME.md
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from unlabel.audit.document.results import plain
from unlabel.core.engine import Run
from unlabel.core.files import write_json, write_text
from unlabel.core.places import check_file, check_folder
from unlabel.core.reading import read_json
from unlabel.reproduce.numbers import Entry, text
from unlabel.reproduce.published import published
from unlabel.reproduce.scale import Scale
from unlabel.runs.files import versions

SCHEMA = "unlabel.reproduce/1"


@dataclass(frozen=True)
class Table:
    """One table.

    Args:
        title: Its heading.
        columns: Names of the columns.
        rows: One entry a column.
        note: What a reader must know to read it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """An SVG file beside the page, and what it shows in words."""

    file: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Content:
    """What a page module makes of its numbers.

    Args:
        title: Heading.
        about: What was done, in sentences.
        findings: What the numbers say, made by rules: the page's one paragraph.
        tables: Tables.
        pictures: Pictures.
        extra: More figures, for the JSON alone.
    """

    title: str
    about: Sequence[str]
    findings: Sequence[str]
    tables: Sequence[Table]
    pictures: Sequence[Picture] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def document(
    name: str, content: Content, scale: Scale, data: Sequence[Mapping[str, Any]], where: Run, command: str
) -> dict[str, Any]:
    """The page's JSON.

    Args:
        name: The page's name, such as ``table2``.
        content: What it says.
        scale: Sizes.
        data: Of each data set: title, source, what it stands in for, counts and digest.
        where: Device.
        command: The command that made it, without paths.
    """
    return plain(
        {
            "schema": SCHEMA,
            "page": name,
            "title": content.title,
            "scale": scale.name,
            "command": command,
            "about": list(content.about),
            "findings": list(content.findings),
            "tables": [
                {
                    "title": table.title,
                    "note": table.note,
                    "columns": list(table.columns),
                    "rows": [list(row) for row in table.rows],
                }
                for table in content.tables
            ],
            "pictures": [{"file": item.file, "alt": item.alt} for item in content.pictures],
            "published": published()[name],
            "source": published()["source"],
            "data": list(data),
            "seeds": {
                "original": scale.original_seed,
                "unlearning": list(scale.unlearning_seeds),
                "retrain": list(scale.retrain_seeds),
                "audit": where.seed,
            },
            "sizes": {
                "networks": [name for name, _ in scale.networks],
                "epochs": scale.recipe.epochs,
                "lr": scale.recipe.lr,
                "schedule": scale.recipe.schedule,
                "batch_size": scale.batch_size,
                "calibration_images": scale.images,
                "repair_steps": scale.steps,
                "audit": dict(scale.audit),
            },
            "machine": machine(where),
            "extra": dict(content.extra),
        }
    )


def machine(where: Run) -> dict[str, Any]:
    """What computed: processor, cores, threads, libraries. No name, no path."""
    return {
        "device": where.device.type,
        "processor": _processor(where),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "versions": versions(),
    }


def _processor(where: Run) -> str:
    if where.device.type == "cuda":
        return torch.cuda.get_device_name(where.device)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def render(page: Mapping[str, Any]) -> str:
    """The Markdown of a page from its JSON."""
    lines = [f"# {page['title']}", "", *_wrapped(page["about"]), ""]
    lines += ["```console", f"$ {page['command']}", "```", ""]
    lines += ["**What the numbers say.** " + " ".join(page["findings"]), ""]
    for picture in page["pictures"]:
        lines += [f"![{picture['alt']}]({picture['file']})", ""]
    for table in page["tables"]:
        lines += [f"## {table['title']}", ""]
        if table["note"]:
            lines += [table["note"], ""]
        lines += ["| " + " | ".join(table["columns"]) + " |", "| --- " * len(table["columns"]) + "|"]
        lines += ["| " + " | ".join(text(entry) for entry in row) + " |" for row in table["rows"]]
        lines.append("")
    lines += ["## Setting", "", *_setting(page), ""]
    return "\n".join(lines)


def _wrapped(sentences: Sequence[str]) -> list[str]:
    return [" ".join(sentences)]


def _setting(page: Mapping[str, Any]) -> list[str]:
    seeds, sizes, made = page["seeds"], page["sizes"], page["machine"]
    rows = []
    for item in page["data"]:
        counts = ", ".join(f"{name} {number:,}" for name, number in item["counts"].items())
        stands = (
            f", a stand-in for {item['title']}: {item['stands_for']}"
            if item["stands_for"]
            else f", {item['title']}"
        )
        rows.append(f"- Data: `{item['source']}`{stands} ({counts}); digest `{item['digest'][:12]}`.")
    audit = ", ".join(f"{key} {number}" for key, number in sizes["audit"].items()) or "as `unlabel audit`"
    rows += [
        f"- Models: {', '.join(sizes['networks'])}; {sizes['epochs']:g} epochs, {sizes['schedule']} at"
        f" {sizes['lr']:g}, batch {sizes['batch_size']}; one original (seed {seeds['original']}), Retrain"
        f" with seeds {', '.join(map(str, seeds['retrain']))}, forgetting with seeds"
        f" {', '.join(map(str, seeds['unlearning']))} on"
        f" {images_in_words(sizes['calibration_images'])} images and"
        f" {sizes['repair_steps'] or 'the default'} steps.",
        f"- Audit: seed {seeds['audit']}, {audit}.",
        f"- Machine: {made['processor']}, {made['threads']} thread{'s'[: made['threads'] != 1]},"
        f" {made['system']};"
        f" {', '.join(f'{name} {number}' for name, number in made['versions'].items())}.",
        f"- The paper's figures: {page['source']}; {page['published']['setting']}.",
        f"- Every figure is in [{page['page']}.json]({page['page']}.json).",
    ]
    return rows


def images_in_words(number: int) -> str:
    """Calibration images.

    >>> images_in_words(2048), images_in_words(0)
    ('2,048', "each method's default number of")
    """
    return f"{number:,}" if number else "each method's default number of"


def check_page(name: str, out: Path, *, force: bool) -> None:
    """Refuses, before any work, a folder in which a page would replace what is none of that name.

    Args:
        name: The page's.
        out: Its folder.
        force: Replace any plain files of its names.

    Raises:
        OptionError: It is no folder to write to, or holds other files of the page's names.
    """
    check_folder(out)

    def ours() -> bool:
        try:
            page = read_json(out / f"{name}.json")
            return (page["schema"], page["page"]) == (SCHEMA, name)
        except (OSError, ValueError, LookupError, TypeError):
            return False

    pictures = sorted(out.glob(f"{name}-*.svg"))
    for file in (*(out / f"{name}{ending}" for ending in (".json", ".md", ".svg")), *pictures):
        check_file(file, force=force, ours=ours)


def write_page(page: Mapping[str, Any], pictures: Sequence[Picture], out: Path) -> Path:
    """Writes the JSON, the pictures and the Markdown into a folder and returns the Markdown's path."""
    out.mkdir(parents=True, exist_ok=True)
    name = page["page"]
    write_json(out / f"{name}.json", page)
    for picture in pictures:
        write_text(out / picture.file, picture.svg)
    write_text(out / f"{name}.md", render(page))
    return out / f"{name}.md"
