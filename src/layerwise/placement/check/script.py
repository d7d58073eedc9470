"""The call in a Python script that makes adapters, read from its syntax; the script is not run."""

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from layerwise.errors import BadInputError

#: Members of the longest list that is worked out.
_LONGEST = 10_000
_MUTATORS = {"append", "extend", "insert", "remove", "pop", "update", "add", "clear", "setdefault"}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "range": lambda *ends: _bounded(range(*ends)), "list": list, "tuple": list, "sorted": sorted,
    "set": lambda *of: sorted(set(*of)), "dict": lambda **pairs: pairs, "len": len,
}  # fmt: skip
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: _sized(a) + _sized(b),
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: _number(a) * _number(b),
    ast.FloorDiv: lambda a, b: a // b,
}


class UnknownValueError(ValueError):
    """An expression whose value a reader of the script cannot know."""


def called(text: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Return what is called, its keyword arguments as values, and what could not be worked out.

    That is Unsloth's ``get_peft_model``, else PEFT's ``LoraConfig``. An argument whose value is
    not known is left out, and named in the notes; so is a further call, and a model class.

    Raises:
        BadInputError: There is no such call.
        SyntaxError, ValueError, RecursionError, MemoryError: The text is no Python.
    """
    tree = ast.parse(text)
    call, caller, more = adapter_call(tree)
    known = _constants(tree)
    values, notes = dict[str, Any](), []
    if more:
        notes.append(f"{more} more such calls; the one in line {call.lineno} was read")
    for keyword in call.keywords:
        try:
            value = _Arithmetic().value(keyword.value, known)
        except (UnknownValueError, ArithmeticError, LookupError, TypeError, ValueError):
            shown = f"{keyword.arg or '**'}: {ast.unparse(keyword.value)[:80]}"
            notes.append(f"line {keyword.value.lineno}: {shown} is not known before it runs")
            values.setdefault("?", []).append(keyword.arg or "**")
            continue
        values |= value if keyword.arg is None else {keyword.arg: value}
    set_later = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and _stored(n)}
    notes += [f"{name} is set again after the call" for name in sorted(set_later & _PLACING)]
    classes = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _classifies(n.id)]
    return caller, values | ({"?head": classes[0]} if classes else {}), tuple(notes)


_PLACING = {"target_modules", "layers_to_transform", "exclude_modules", "modules_to_save"}


def _stored(node: ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store)


def _classifies(name: str) -> bool:
    return name.endswith("ForSequenceClassification")


def adapter_call(tree: ast.AST) -> tuple[ast.Call, str, int]:
    """Return the call that makes adapters, what it calls, and how many more there are.

    Raises:
        BadInputError: There is none.
    """
    unsloth, plain = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func) if isinstance(node.func, ast.Attribute | ast.Name) else ""
            last = name.rpartition(".")[2]
            if last == "get_peft_model" and name.startswith("Fast"):
                unsloth.append((node, name.partition(".")[0]))
            elif last == "LoraConfig":
                plain.append((node, last))
    found = sorted(unsloth or plain, key=lambda pair: pair[0].lineno)
    if not found:
        msg = "script that makes no adapters"
        raise BadInputError(msg, expected="a call of LoraConfig, or of Unsloth's get_peft_model")
    return *found[0], len(found) - 1


def _constants(tree: ast.AST) -> dict[str, ast.expr]:
    """Return the expression of each name that is bound once, and never changed after."""
    bound: Counter[str] = Counter()
    values: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                bound[name] += 1
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)):
                bound[name] += 2 * (attr in _MUTATORS)
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                bound[name] += 2
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                values[name] = value
    return {name: value for name, value in values.items() if bound[name] == 1}


def _sized(value: Any) -> Any:
    return (
        value
        if isinstance(value, str) and len(value) < 1_000_000
        else (_bounded(value) if isinstance(value, list) else _number(value))
    )


def _bounded(members: Any) -> list[Any]:
    if len(members) > _LONGEST:
        raise UnknownValueError
    return list(members)


def _number(value: Any) -> int | float:
    """Return a number; none so large that its products would fill the memory."""
    if not isinstance(value, int | float) or abs(value) > 1e12:
        raise UnknownValueError
    return value


class _Arithmetic:
    """What expressions of literals, constants, ranges and lists come to, within so many steps."""

    def __init__(self) -> None:
        self.steps = 0

    def value(self, node: ast.expr, known: Mapping[str, Any]) -> Any:
        """Return the value of `node`, names being as `known`: an expression, or a value.

        Raises:
            UnknownValueError: It takes more than that.
        """
        self.steps += 1
        if self.steps > 10 * _LONGEST:
            raise UnknownValueError
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in known:
                found = known[name]
                rest = {key: value for key, value in known.items() if key != name}
                return self.value(found, rest) if isinstance(found, ast.expr) else found
            case ast.List(elts=members) | ast.Tuple(elts=members) | ast.Set(elts=members):
                return list(self.members(members, known))
            case ast.Dict(keys=keys, values=values) if None not in keys:
                pairs = zip(keys, values, strict=True)
                return {self.value(k, known): self.value(v, known) for k, v in pairs if k}
            case ast.Attribute(value=ast.Name(id="TaskType" | "PeftType"), attr=name):
                return name
        return self.worked_out(node, known)

    def worked_out(self, node: ast.expr, known: Mapping[str, Any]) -> Any:
        """Return the value of an expression with an operator, a call, a loop or a string's parts.

        Raises:
            UnknownValueError: It is another expression.
        """
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -_number(self.value(inner, known))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](self.value(left, known), self.value(right, known))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=pairs) if name in _FUNCTIONS:
                named = {str(pair.arg): self.value(pair.value, known) for pair in pairs}
                return _FUNCTIONS[name](*self.members(args, known), **named)
            case ast.ListComp(elt=made, generators=[ast.comprehension(ast.Name(id=each), of, [])]):
                members = _bounded(self.value(of, known))
                return [self.value(made, {**known, each: member}) for member in members]
            case ast.JoinedStr(values=parts):
                return "".join(str(self.value(part, known)) for part in parts)
            case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
                return self.value(inner, known)
        raise UnknownValueError

    def members(self, nodes: list[ast.expr], known: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the values of `nodes`, those of a starred one singly."""
        for node in nodes:
            if isinstance(node, ast.Starred):
                yield from _bounded(self.value(node.value, known))
            else:
                yield self.value(node, known)
