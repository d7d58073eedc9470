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
#: A word that may stand for several, for all that the script says.
OPEN = re.compile(r"\$(\{[^}]*\}|\w+)")


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
            if found and times[found[1]] == 1:
                inner = (word for own in _raw(found[2].strip("()")) for word in own)
                told = [word for each in inner for word in _words(each, known)]
                if not re.search("[$`]", whole := " ".join(told)) and len(whole) < 2_000:
                    known[found[1]] = told  # Some doublings of a longer one fill the memory.
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


def _words(written: str, known: Mapping[str, list[str]]) -> list[str]:
    """Return the words that one comes to; a variable without quotes may hold several."""

    def value(found: re.Match[str]) -> str:
        return "\0".join(known.get(found[1] or found[2], [found[0]]))

    made = ""
    for single, double, escaped, bare in _PART.findall(written):
        made += single + re.sub(r'\\(["\\$`])', r"\1", _VARIABLE.sub(value, double))
        made += escaped + _VARIABLE.sub(lambda found: "\0".join(value(found).split()), bare)
    return made.split("\0")
