"""The call in a Python script that makes adapters, read from its syntax; the script is not run."""

import ast
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from layerwise.errors import BadInputError
from layerwise.placement.check.adapted import KINDS

#: Members of the longest list that is worked out, and a bound of its numbers.
_LONGEST, _LARGEST = 10_000, 1e12
_MUTATORS = {"append", "extend", "insert", "remove", "pop", "update", "add", "clear", "setdefault"}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "range": range, "list": list, "tuple": list, "sorted": sorted, "dict": dict, "len": len,
    "set": lambda *of: sorted(set(*of)),
}  # fmt: skip
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}  # fmt: skip
_PLACING = {"target_modules", "layers_to_transform", "exclude_modules", "modules_to_save"}


def called(text: str) -> dict[str, Any]:
    """Return what is called, with which values: fields of a `ConfigFile`.

    That is Unsloth's ``get_peft_model``, else a configuration of PEFT. An argument whose value
    cannot be told is among the unknown ones; a further call, and a later change, is noted.

    Raises:
        BadInputError: There is no such call, or it names an argument twice.
        SyntaxError, ValueError, RecursionError, MemoryError: The text is no Python.
    """
    tree = ast.parse(text)
    (call, caller), *more = adapter_calls(tree)
    notes = [f"line {c.lineno}: a further call, of {name}, is not checked" for c, name in more]
    known, values, unknown = _constants(tree), dict[str, Any](), dict[str, str]()
    if call.args[caller not in KINDS :]:  # The first of Unsloth's is the model.
        unknown["*"] = f"line {call.lineno}: an argument without its name is not read"
    for keyword in call.keywords:
        name = keyword.arg or "**"
        try:
            value = _Arithmetic().value(keyword.value, known)
            told = dict(value) if name == "**" else {name: value}
        except (ArithmeticError, LookupError, TypeError, ValueError):
            shown = f"{name}: {ast.unparse(keyword.value)[:80]}"
            line = keyword.value.lineno
            told, unknown[name] = {}, f"line {line}: {shown} is not known before it runs"
        if twice := values.keys() & told.keys():
            msg = f"argument that is given twice in line {call.lineno}, an error in Python"
            raise BadInputError(msg, value=min(twice), expected="it once")
        values |= told
    classifier = False
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Store()) if name in _PLACING:
                notes.append(f"line {node.lineno}: {name} is set again, which is not read")
            case ast.Name(id=name) if name.endswith("ForSequenceClassification"):
                classifier = True
    if KINDS.get(caller, "LORA") != "LORA":
        values["peft_type"] = KINDS[caller]
    return {"caller": caller, "values": values, "unknown": unknown, "notes": tuple(notes),
            "classifier": classifier}  # fmt: skip


def adapter_calls(tree: ast.AST) -> list[tuple[ast.Call, str]]:
    """Return the calls that make adapters with what each calls, the one that counts first.

    Raises:
        BadInputError: There is none.
    """
    unsloth, plain = [], []
    nodes = list(ast.walk(tree))
    meant = {each.asname: each.name for each in nodes if isinstance(each, ast.alias)}
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=held, attr="get_peft_model")):
                name = ast.unparse(held).rpartition(".")[2]
                name = meant.get(name, name)
                unsloth += [(node, name)] if name.startswith("Fast") else []
            case ast.Call(func=ast.Name(id=of) | ast.Attribute(attr=of)):
                plain += [(node, meant.get(of, of))] if meant.get(of, of) in KINDS else []
    if not unsloth + plain:
        msg = "script that makes no adapters"
        raise BadInputError(msg, expected="a call of LoraConfig, or of Unsloth's get_peft_model")
    return sorted(unsloth + plain, key=lambda pair: (pair in plain, pair[0].lineno))


def _constants(tree: ast.AST) -> dict[str, ast.expr]:
    """Return the expression of each name that is bound once, and never changed after."""
    bound, values = Counter[str](), dict[str, ast.expr]()
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


class _Arithmetic:
    """The values of expressions of literals, constants, ranges and lists, within so many steps."""

    def __init__(self) -> None:
        self.steps = 0

    def value(self, node: ast.expr, known: Mapping[str, ast.expr]) -> Any:
        """Return the value of `node`, names being as `known`."""
        self.steps += 1
        if self.steps > 10 * _LONGEST:
            raise ValueError
        found = self._value(node, known)
        is_number = isinstance(found, int | float)
        if abs(found) > _LARGEST if is_number else found is not None and len(found) > _LONGEST:
            raise ValueError
        return list(found) if isinstance(found, range) else found

    def _value(self, node: ast.expr, known: Mapping[str, ast.expr]) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in known:
                return self.value(known[name], {k: v for k, v in known.items() if k != name})
            case ast.List(elts=members) | ast.Tuple(elts=members) | ast.Set(elts=members):
                return list(self._members(members, known))
            case ast.Dict(keys=keys, values=values) if None not in keys:
                pairs = zip(keys, values, strict=True)
                return {self.value(k, known): self.value(v, known) for k, v in pairs if k}
            case ast.Attribute(value=ast.Name(id="TaskType" | "PeftType"), attr=name):
                return name
        return self._worked_out(node, known)

    def _worked_out(self, node: ast.expr, known: Mapping[str, ast.expr]) -> Any:
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -self.value(inner, known)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                both = self.value(left, known), self.value(right, known)
                if any(isinstance(v, str | list) for v in both) and not isinstance(op, ast.Add):
                    raise ValueError  # Repeated, it might fill the memory.
                return _OPERATORS[type(op)](*both)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=pairs) if name in _FUNCTIONS:
                named = {str(pair.arg): self.value(pair.value, known) for pair in pairs}
                return _FUNCTIONS[name](*self._members(args, known), **named)
            case ast.ListComp(elt=made, generators=[ast.comprehension(ast.Name(id=each), of, [])]):
                members = self.value(of, known)
                return [self.value(made, {**known, each: ast.Constant(m)}) for m in members]
            case ast.JoinedStr(values=parts):
                return "".join(str(self.value(part, known)) for part in parts)
            case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
                return self.value(inner, known)
        raise ValueError

    def _members(self, nodes: list[ast.expr], known: Mapping[str, ast.expr]) -> Iterator[Any]:
        """Yield the values of `nodes`, those of a starred one singly."""
        for node in nodes:
            if isinstance(node, ast.Starred):
                yield from self.value(node.value, known)
            else:
                yield self.value(node, known)
