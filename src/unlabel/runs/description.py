"""What a run is, as plain data and as text: its labels, how it was made, its ancestors."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from unlabel.core.framing import framing_facts, plain_size, size_text
from unlabel.core.reading import file_sha256, read_json
from unlabel.runs.files import MODEL, read_config, read_record
from unlabel.runs.lineage import MADE, history


def describe(run: Path) -> dict[str, Any]:
    """A run's labels, origin, bill and sizes; reads no weight.

    Raises:
        MissingFiles: The folder is no run.
    """
    config, record = read_config(run), read_record(run)
    file = run / MODEL
    return {
        "run": str(run),
        "network": config.network,
        "labels": list(config.labels),
        "forgotten": list(config.forgotten),
        "image_size": plain_size(config.image_size),
        **framing_facts(config.framing),
        "method": record.method,
        "options": record.options,
        "rows": record.raw.get("rows"),
        "seed": record.seed,
        "parent": record.raw.get("parent"),
        "adopted_from": record.adopted and record.adopted.weights,
        "data": record.data and record.data.source,
        "weights": record.total,
        "changed": record.changed,
        "images_used": record.images_used,
        "images_processed": record.images_processed,
        "steps": record.steps,
        "seconds": record.seconds,
        "bytes": file.stat().st_size if file.is_file() else None,
        "sha256": file_sha256(file) if file.is_file() else None,
        "versions": record.versions,
        "command": record.command,
        "date": record.date,
        "audited": _audited(run / "audit.json"),
    }


def _audited(file: Path) -> bool:
    """Whether a file holds an audit, as far as can be told without its schema: an object with a headline."""
    try:
        content = read_json(file) if file.is_file() else None
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and isinstance(content.get("headline"), str)


def chain(run: Path) -> dict[str, Any]:
    """The runs that a run came from, itself first: how each was made, and whether it is still as it was.

    Raises:
        MissingFiles: The folder is no run.
    """
    return {"run": str(run), "history": [asdict(step) | {"what": step.what} for step in history(run)]}


def chain_table(facts: dict[str, Any]) -> str:
    """A chain as lines, one a run, the run itself first."""
    rows, lines = facts["history"], []
    for row in rows:
        recorded, now = ((row[name] or "missing")[:12] for name in ("recorded", "found"))
        weights = {"here": now, "changed": f"{recorded}, CHANGED since: {now}"}
        state = weights.get(row["state"], f"{recorded} {row['state']}")
        lines.append(f"{row['run']}: {row['what']}; {row['date'] or 'date not recorded'}; weights {state}")
    return "\n".join(lines if rows[-1]["method"] in MADE else [*lines, "what came before is not recorded"])


def table(facts: dict[str, Any]) -> str:
    """The facts as aligned lines; forgotten labels are marked."""
    gone = set(facts["forgotten"])
    shown = dict(facts)
    shown["labels"] = ", ".join(f"{name} (forgotten)" if name in gone else name for name in facts["labels"])
    shown["image_size"] = size_text(facts["image_size"])
    lines = []
    for key, value in shown.items():
        if value is None or value == [] or key == "forgotten":
            continue
        if isinstance(value, dict):
            value = "  ".join(f"{name} {_short(item)}" for name, item in value.items())
        lines.append(f"{key.replace('_', ' '):18s}{_short(value)}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
