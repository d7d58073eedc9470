"""A config with other values, in its own format: what is not changed stays as it was written."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from layerwise.placement.check.reading import ConfigFile
from layerwise.placement.check.request import Dialect
from layerwise.placement.check.script import adapter_call


def corrected(file: ConfigFile, dialect: Dialect, changes: Mapping[str, Any]) -> str | None:
    """Return the text of `file` with `changes` of PEFT's arguments; None for one is not rewritten.

    An argument that is None goes.
    """
    values = {dialect.key(k) if k not in dialect.defaults else k: v for k, v in changes.items()}
    if dialect.name == "llamafactory":
        texts = {k: ",".join(v) if isinstance(v, list) else v for k, v in values.items()}
        values = texts
    if file.form in {"json", "object"}:
        merged = {**file.values, **values}
        kept = {k: v for k, v in merged.items() if v is not None or k not in values}
        return json.dumps(kept, indent=2, ensure_ascii=False, default=sorted) + "\n"
    if file.form == "yaml":
        return _yaml(file.text, values)
    return _python(file.text, values) if file.form == "python" else None


def _yaml(text: str, values: Mapping[str, Any]) -> str:
    """Return YAML with other values under top-level keys, line by line; comments stay."""
    lines, kept = text.splitlines(), list[str]()
    at = 0
    while at < len(lines):
        key = re.match(r"""["']?([\w-]+)["']?\s*:""", lines[at])
        name = key[1] if key else ""
        end = at + 1
        if name in values:
            while end < len(lines) and (not lines[end].strip() or re.match(r"\s|-", lines[end])):
                end += 1
            while not lines[end - 1].strip():
                end -= 1
            if values[name] is not None:
                kept.append(f"{name}: {json.dumps(values[name], ensure_ascii=False)}")
        else:
            kept += lines[at:end]
        at = end
    there = {m[1] for line in lines if (m := re.match(r"""["']?([\w-]+)["']?\s*:""", line))}
    new = {key: v for key, v in values.items() if key not in there and v is not None}
    kept += [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in new.items()]
    return "\n".join(kept) + "\n"


def _python(text: str, values: Mapping[str, Any]) -> str:
    """Return a script whose call has other keyword arguments."""
    call, _, _ = adapter_call(ast.parse(text))
    lines = text.encode().splitlines(keepends=True)  # Positions are in bytes.
    edits = []
    for keyword in call.keywords:
        if keyword.arg is not None and keyword.arg in values:
            node = keyword.value
            span = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
            edits.append((*span, repr(values[keyword.arg])))
    there = {keyword.arg for keyword in call.keywords}
    new = {key: v for key, v in values.items() if key not in there and v is not None}
    last = max((call.keywords or call.args), key=_end)
    added = "".join(f", {key}={value!r}" for key, value in new.items())
    edits.append((_end(last), _end(last), added))
    for (line, column), (end_line, end_column), put in sorted(edits, reverse=True):
        head, tail = lines[line - 1][:column], lines[end_line - 1][end_column:]
        lines[line - 1 : end_line] = [head + put.encode() + tail]
    return b"".join(lines).decode()


def _end(node: Any) -> tuple[int, int]:
    return node.end_lineno, node.end_col_offset
