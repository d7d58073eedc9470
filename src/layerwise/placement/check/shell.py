"""A shell script as the words of its commands; nothing of it is run."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

_INNER = r"\$\((?:[^()]|\([^()]*\))*\)|`[^`]*`"  # What a command inside prints.
_WORD = (
    rf"""(?:\b\w+\+?=\([^()]*\)|'[^']*'|"(?:\\.|[^"\\])*"|{_INNER}|\\[^\r\n]|[^\s'"\\;&|<>()])+"""
)
_TOKEN = re.compile(
    rf"(?s)\\\r?\n|[ \t\r]+|\#[^\n]*|\d*(?:&>|[<>])[<>&-]*[ \t]*(?:{_WORD})?"
    rf"|(?P<word>{_WORD})|(?P<end>[\n;&|()])|(?P<odd>.)"
)
_PART = re.compile(r"""(?s)'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)|([^'"\\]+)""")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?:\[[@*]\])?\}|(\w+))")
_SET = re.compile(r"(?s)(\w+)\+?=(.*)")
#: A word that stands for any number of words, for all that the script says.
OPEN = re.compile(r"\$(\{[^}]*\}|\w+|[@*])")

#: Letters from which on a value is not read: some doublings of one fill the memory.
_LONGEST = 2_000

Known = Mapping[str, list[str]]


def commands(text: str) -> list[list[str]]:
    """Return the words of each command, with the variables that the script sets once.

    Raises:
        ValueError: A quotation is not closed.
    """
    raw = [*_raw(text)]
    times = Counter(found[1] for words in raw for word in words if (found := _SET.match(word)))
    times.update(words[1] for words in raw if words[0] in {"for", "read"} and len(words) > 1)
    known, made = dict[str, list[str]](), list[list[str]]()
    for words in raw:
        bound = [_SET.fullmatch(word) for word in words[words[0] in {"export", "local"} :]]
        for found in bound if all(bound) else ():
            if found and times[found[1]] == 1 and not re.search(r"\$\(|`", found[2]):
                value = found[2]
                inner = [w for own in _raw(value[1:-1]) for w in own] if value[:1] == "(" else None
                told = [word for each in inner or [value] for word in _words(each, known)]
                if not any("$" in word for word in told) and sum(map(len, told)) < _LONGEST:
                    known[found[1]] = told if inner else [" ".join(told)]
        made.append([word for each in words for word in _words(each, known)])
    return made


def _raw(text: str) -> Iterator[list[str]]:
    """Yield the words of each command as they are written, without redirections and comments."""
    words = list[str]()
    for token in _TOKEN.finditer(text + "\n"):
        if token["odd"]:
            message = "No closing quotation"
            raise ValueError(message)
        if token["word"]:
            words.append(token["word"])
        elif token["end"] and words:
            yield words
            words = []


def _words(written: str, known: Known) -> list[str]:
    """Return the words that one comes to; a variable without quotes may hold several."""
    made = ""
    for single, double, escaped, bare in _PART.findall(written):
        quoted = re.sub(r'\\(["\\$`])', r"\1", _filled(double, known))
        made += single + quoted + escaped + _filled(bare, known, parted=True)
    return made.split("\0")


def _filled(text: str, known: Known, *, parted: bool = False) -> str:
    """Return `text` with the values of variables, whose words NUL parts where they are `parted`."""

    def value(found: re.Match[str]) -> str:
        words = known.get(found[1] or found[2], [found[0]])
        return "\0".join(part for word in words for part in (word.split() if parted else [word]))

    return _VARIABLE.sub(value, text)
