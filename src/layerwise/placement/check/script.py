"""The call in a Python script that makes adapters, read from its syntax; the script is not run."""

import ast
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from layerwise.errors import BadInputError

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
    known, values, notes = _constants(tree), dict[str, Any](), []
    if more:
        notes.append(f"{more} more such calls; the one in line {call.lineno} was read")
    for keyword in call.keywords:
        try:
            value = _Arithmetic().value(keyword.value, known)
            values |= value if keyword.arg is None else {keyword.arg: value}
        except (ArithmeticError, LookupError, TypeError, ValueError):
            shown = f"{keyword.arg or '**'}: {ast.unparse(keyword.value)[:80]}"
            notes.append(f"line {keyword.value.lineno}: {shown} is not known before it runs")
            values.setdefault("?", []).append(keyword.arg or "**")
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Store()) if name in _PLACING:
                notes.append(f"{name} is set again after the call")
            case ast.Name(id=name) if name.endswith("ForSequenceClassification"):
                values["?head"] = name
    return caller, values, tuple(notes)


def adapter_call(tree: ast.AST) -> tuple[ast.Call, str, int]:
    """Return the call that makes adapters, what it calls, and how many more there are.

    Raises:
        BadInputError: There is none.
    """
    unsloth, plain = [], []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=of), attr="get_peft_model")):
                unsloth += [(node, of)] if of.startswith("Fast") else []
            case ast.Call(func=ast.Name(id="LoraConfig") | ast.Attribute(attr="LoraConfig")):
                plain.append((node, "LoraConfig"))
    found = sorted(unsloth or plain, key=lambda pair: pair[0].lineno)
    if not found:
        msg = "script that makes no adapters"
        raise BadInputError(msg, expected="a call of LoraConfig, or of Unsloth's get_peft_model")
    return *found[0], len(found) - 1


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

    def value(self, node: ast.expr, known: Mapping[str, Any]) -> Any:
        """Return the value of `node`, names being as `known`: an expression, or a value."""
        self.steps += 1
        if self.steps > 10 * _LONGEST:
            raise ValueError
        found = self._value(node, known)
        is_number = isinstance(found, int | float)
        if abs(found) > _LARGEST if is_number else found is not None and len(found) > _LONGEST:
            raise ValueError
        return list(found) if isinstance(found, range) else found

    def _value(self, node: ast.expr, known: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in known:
                found = known[name]
                rest = {key: value for key, value in known.items() if key != name}
                return self.value(found, rest) if isinstance(found, ast.expr) else found
            case ast.List(elts=members) | ast.Tuple(elts=members) | ast.Set(elts=members):
                return list(self._members(members, known))
            case ast.Dict(keys=keys, values=values) if None not in keys:
                pairs = zip(keys, values, strict=True)
                return {self.value(k, known): self.value(v, known) for k, v in pairs if k}
            case ast.Attribute(value=ast.Name(id="TaskType" | "PeftType"), attr=name):
                return name
        return self._worked_out(node, known)

    def _worked_out(self, node: ast.expr, known: Mapping[str, Any]) -> Any:
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
                return [self.value(made, {**known, each: m}) for m in self.value(of, known)]
            case ast.JoinedStr(values=parts):
                return "".join(str(self.value(part, known)) for part in parts)
            case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
                return self.value(inner, known)
        raise ValueError

    def _members(self, nodes: list[ast.expr], known: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the values of `nodes`, those of a starred one singly."""
        for node in nodes:
            if isinstance(node, ast.Starred):
                yield from self.value(node.value, known)
            else:
                yield self.value(node, known)
