"""A config with what it trains of a model: all that a finding is told from, and what one says.

A finding comes with the arguments of PEFT that would mend it, where they can be told.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from layerwise.errors import one_line
from layerwise.models.linear import widths
from layerwise.models.load import LoadedModel
from layerwise.models.stack import BlockRef, blocks_of
from layerwise.models.targets import fused_experts
from layerwise.placement.check.adapted import Adapted, keyed
from layerwise.placement.check.reading import ConfigFile
from layerwise.placement.check.record import Finding
from layerwise.placement.check.request import Dialect, Recipe, listed
from layerwise.placement.check.trainers import last_parts

Fix = dict[str, Any]
Found = tuple[Finding, Fix]

OUT, TARGETS, LAYERS = "leave it out", "target_modules", "layers_to_transform"
SAVED = "modules_to_save"
_NOTHING = "it matches nothing of the model, and PEFT does not say so"
#: By code: PEFT's argument, and what happens.
SAID = {
    "key-ignored": ("", "no effect: {why}"),
    "key-unknown": ("", "{why} does not read it"),
    "refused": (TARGETS, "PEFT refuses it: {why}"),
    "text-with-layers": (TARGETS, "PEFT refuses text beside {layers}"),
    "text-is-a-pattern": (TARGETS, "PEFT takes text for a pattern of full names, and none matches"),
    "target-unmatched": (TARGETS, _NOTHING),
    "target-idle": (TARGETS, "it matches modules, and none of them is adapted"),
    "parameter-unmatched": ("target_parameters", _NOTHING),
    "exclude-unmatched": ("exclude_modules", _NOTHING),
    "saved-unmatched": (SAVED, _NOTHING),
    "pattern-unmatched": ("", "it ends the name of no adapted module, or an earlier key decides"),
    "layers-empty": (LAYERS, "an empty list adapts every block"),
    "layers-out-of-range": (LAYERS, "the blocks are 0 to {last}; {taken}"),
    "layers-bare": (LAYERS, "blocks {blocks} have none of the targets: no adapter"),
    "layers-other-number": (
        LAYERS, "PEFT takes another number in the name for the block's: {blocks} are hit",
    ),
    "full-name": (TARGETS, "a full name is adapted whatever {layers} says: blocks {blocks}"),
    "parameters-ignore-layers": (
        "target_parameters", "fused experts are adapted whatever {layers} says: blocks {blocks}",
    ),
    "second-stack": ("", "it means every stack: {told} are adapted"),
    "pattern-too-much": (TARGETS, "as a pattern it also hits blocks {blocks}"),
    "saved-too-much": (SAVED, "PEFT compares ends of names as text: {more} trains too"),
    "head-frozen": (SAVED, "the head for classes ({head}) is frozen: a new one stays random"),
    "tied-embeddings": (SAVED, "it trains, and the weight tied to it does not follow"),
    "experts-left-out": (TARGETS, "the fused experts are no linear modules, and stay frozen"),
    "bias-in-vain": ("bias", "no module that it means has a bias: no effect"),
    "bypassed": (
        TARGETS, "the model uses these {count} weights without calling their modules: no effect",
    ),
    "freeze-unmatched": ("", "{why}"),
    "nothing-trains": (TARGETS, "no weight trains"),
}  # fmt: skip
#: Keys under which text is a name, or names between commas.
_NAMED = {"ms-swift": {"target_modules"}}
EVERY = {"all-linear", "all", "all-embedding", "all-norm"}


@dataclass(frozen=True)
class Case:
    """All that a finding is told from."""

    dialect: Dialect
    file: ConfigFile
    recipe: Recipe
    loaded: LoadedModel
    adapted: Adapted
    lora: Mapping[str, Any]
    notes: tuple[str, ...]

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """The modules of the model by their full names."""
        return dict(self.loaded.model.named_modules())

    @cached_property
    def tails(self) -> dict[str, list[str]]:
        """The names of modules, and of weights, by each end that they have."""
        found: dict[str, list[str]] = {}
        model = self.loaded.model
        for name, _ in (*model.named_modules(), *model.named_parameters()):
            parts = name.split(".")
            for start in range(len(parts)):
                found.setdefault(".".join(parts[start:]), []).append(name)
        return found

    @cached_property
    def places(self) -> dict[str, BlockRef]:
        """The block of each trained module that lies in one."""
        return self.blocks(site.name for site in self.adapted.sites)

    @cached_property
    def linear(self) -> list[str]:
        """The full names of the linear modules in blocks."""
        return list(self.blocks(name for name, module in self.modules.items() if widths(module)))

    @cached_property
    def adapters(self) -> list[str]:
        """The names of modules with adapters."""
        return [site.name for site in self.adapted.sites if site.how == "adapter"]

    @cached_property
    def targets(self) -> list[str]:
        """The modules that the user named; none where a pattern or a word stands for them."""
        value, name = self.said(TARGETS), self.dialect.name
        is_pattern = self.dialect.key(TARGETS) not in {"lora_target", *_NAMED.get(name, ())}
        if isinstance(value, str) and is_pattern:
            return []
        names = listed(value, commas=name == "llamafactory")
        means_all = name in {"llamafactory", "ms-swift"} or (name == "trl" and len(names) == 1)
        return [each for each in names if not (means_all and each in EVERY)]

    @property
    def by_parts(self) -> bool:
        """Return whether the trainer takes names of targets as parts of names, anywhere."""
        return self.dialect.name == "llamafactory" and self.lora[TARGETS] != self.targets

    @cached_property
    def experts(self) -> list[str]:
        """The full names of the fused weights of experts."""
        return list(fused_experts(self.loaded.model, self.loaded.stacks))

    @property
    def depth(self) -> int:
        """The number of blocks of the longest stack."""
        return max(len(stack.blocks) for stack in self.loaded.stacks)

    @property
    def layers(self) -> list[int]:
        """The blocks that the config asks for, by index; empty where it asks for none."""
        asked = self.lora.get(LAYERS)
        return [asked] if isinstance(asked, int) else list(asked or ())

    @property
    def list_of_blocks(self) -> str:
        """The last part of the name of the list of blocks that reads text."""
        return self.loaded.stacks[-1].name.rpartition(".")[2]

    def blocks(self, names: Iterable[str]) -> dict[str, BlockRef]:
        """Return the block of each of `names` that lies in one."""
        return blocks_of(names, self.loaded.stacks)

    def near(self, target: str, names: Iterable[str] = ()) -> list[str]:
        """Return the ends of `names`, of linear modules as a rule, nearest to `target`, if near."""
        ends = last_parts(names or self.linear)
        ratio = {end: difflib.SequenceMatcher(None, target, end).ratio() for end in ends}
        return [end for end in ends if ratio[end] == max(ratio.values()) >= 0.8]

    def said(self, argument: str) -> Any:
        """Return what the config itself says of PEFT's `argument`."""
        return self.file.values.get(self.dialect.key(argument))

    def replaced(
        self, argument: str, entry: str, others: Sequence[str], *, every: bool = False
    ) -> Fix:
        """Return a list or pattern with another `entry`: the one of `others`, or all, or none."""
        asked = self.targets if argument == TARGETS else self.lora[argument]
        put = others if every or len(others) == 1 else ()
        if isinstance(asked, str):
            return {argument: [*put]} if put else {}
        if isinstance(asked, dict):
            left = {k: v for k, v in asked.items() if k != entry}
            return {argument: {**left, **dict.fromkeys(put, asked[entry])} or None}
        names = [n for n in asked if n != entry]
        names += [name for name in put if name not in names]
        return {argument: names or None} if names or argument != TARGETS else {}

    def hits(self, argument: str) -> dict[str, list[str]]:
        """Return the modules or weights that each entry of PEFT's `argument` means."""
        asked, config = self.lora.get(argument) or (), self.adapted.config
        if argument.endswith("_pattern"):
            decided = keyed(getattr(config, argument, None) or (), self.adapters)
            return {key: decided.get(key, []) for key in asked}
        if argument == SAVED:
            whole = [site.name for site in self.adapted.sites if site.how == "whole"]
            if isinstance(asked, str):  # PEFT takes its letters for names.
                return {asked: whole}
            own = [name for name in asked if name != "v_head"]  # Put on later, by ms-swift.
            return {name: [each for each in whole if each.endswith(name)] for name in own}
        if isinstance(asked, str):
            return {asked: [name for name in self.modules if re.fullmatch(asked, name)]}
        return {name: self.tails.get(name, []) for name in asked}

    def found(self, code: str, value: object, fix: Fix | None = None, **parts: Any) -> Found:
        """Return a finding under the part ``key``, or the key of its argument, and what mends it.

        What to write is the part ``write``, or else what mends it; the others stand in its text.
        """
        key, write = parts.pop("key", ""), parts.pop("write", None)
        (argument, text), fix = SAID[code], fix or {}
        told = {name: _shown(part, limit=400) for name, part in parts.items()}
        told |= {"layers": self.dialect.key(LAYERS), "last": str(self.depth - 1)}
        key = key or self.dialect.key(argument)
        if write is None:
            ends = {self.dialect.key(a): _shown(v, limit=10_000) for a, v in fix.items() if v}
            write = "; ".join(v if k == key else f"{k}: {v}" for k, v in ends.items()) or OUT
        remedy = _shown(write, limit=10_000)
        return Finding(code, key, _shown(value), text.format(**told), remedy), fix

    def out_of_range(self) -> Found:
        """Return the indices that no block has; what is counted from the end is not guessed."""
        depth, asked = self.depth, self.layers
        there = sorted(i for i in {*asked} if 0 <= i < depth)
        back = [f"{i + depth} if {i} counts from the end" for i in asked if -depth <= i < 0]
        write = "; ".join([_shown(there)] * bool(there) + back) or f"blocks of 0 to {depth - 1}"
        fix: Fix = {LAYERS: there} if there else {}
        taken = "PEFT drops the others without a word" if there else "PEFT finds nothing in others"
        wrong = [i for i in asked if i not in there]
        return self.found("layers-out-of-range", wrong, fix, taken=taken, write=write)


def _shown(value: object, *, limit: int = 120) -> str:
    """Return a value of a config on one line; the members of a set in order."""
    members = sorted(value) if isinstance(value, set) else value
    told = ", ".join(map(str, members)) if isinstance(members, list | tuple) else str(value)
    return one_line(told.lower() if isinstance(value, bool) else told, limit=limit)
