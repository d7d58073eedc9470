"""A config with other values, in its own format: what is not changed stays as it was written."""

import ast
import json
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from layerwise.placement.check.reading import ConfigFile
from layerwise.placement.check.request import Dialect
from layerwise.placement.check.script import adapter_calls


def corrected(file: ConfigFile, dialect: Dialect, changes: Mapping[str, Any]) -> str | None:
    """Return the text of `file` with `changes` of PEFT's arguments; None for one is not rewritten.

    An argument that is None goes.
    """
    own = {*dialect.defaults, *file.values}
    own -= {k for k, named in dialect.keys.items() if named in file.values}
    values = {k if k in own else dialect.key(k): v for k, v in changes.items()}
    if dialect.name == "llamafactory":
        values = {k: ",".join(v) if isinstance(v, list) else v for k, v in values.items()}
    if file.form in {"json", "object"}:
        merged = {**file.values, **values}
        kept = {k: v for k, v in merged.items() if v is not None or k not in values}
        return json.dumps(kept, indent=2, ensure_ascii=False, default=sorted) + "\n"
    if file.form == "yaml":
        return _yaml(file.text, values)
    return _python(file.text, values) if file.form == "python" else None


def _yaml(text: str, values: Mapping[str, Any]) -> str:
    """Return YAML with other values under top-level keys; comments stay."""
    entries, left = re.split(r"(?m)^(?=[^\s\]}-])", text), dict(values)
    for n, entry in enumerate(entries):
        key = re.match(r"""["']?([\w-]+)["']?\s*:""", entry)
        if key and key[1] in left:
            value, after = left.pop(key[1]), entry[len(entry.rstrip()) :]
            told = f"{key[1]}: {json.dumps(value, ensure_ascii=False)}{after}"
            entries[n] = "" if value is None else told
    lines = ["".join(entries).rstrip("\n")]
    lines += [f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in left.items() if v is not None]
    return "\n".join(lines) + "\n"


def _python(text: str, values: Mapping[str, Any]) -> str:
    """Return a script whose call has other keyword arguments."""
    call, _ = adapter_calls(ast.parse(text))[0]
    data, edits = text.encode(), list[tuple[int, int, str]]()
    given = {keyword.arg for keyword in call.keywords}
    new = [f"{k}={v!r}" for k, v in values.items() if v is not None and k not in given]
    starts = [0, *accumulate(map(len, data.splitlines(keepends=True)))]  # Positions are in bytes.
    end = 0
    nodes: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
    for node in nodes:
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)
        name = (isinstance(node, ast.keyword) and node.arg) or ""
        if name in values:
            value = values[name]
            put = f"{name}={value!r}" if value is not None else new.pop(0) if new else ""
            comma = None if put else re.match(rb"\s*,\s*", data[end:])
            edits.append((start, end + (comma.end() if comma else 0), put))
    edits.append((end, end, "".join(f", {each}" for each in new)))
    for start, end, put in reversed(edits):
        data = data[:start] + put.encode() + data[end:]
    return data.decode()
