"""An audit of an adapter, alone or as a part of a profile: what a user needs first, first."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from operator import itemgetter
from statistics import median
from typing import Any

from layerwise.card.record import ModelInfo, StackInfo
from layerwise.columns import Column
from layerwise.placement.record import PlacedBlock
from layerwise.profile.audit_record import Audit, BlockAudit, CardPlacement
from layerwise.report import blocks as b
from layerwise.report.documents import parts
from layerwise.report.numbers import counted, number, percent
from layerwise.report.words import shown

#: A share of wasted parameters from which on it is worth a word (ours).
_MUCH = 0.005
#: From which correlation on two rankings are called alike (ours), and of how few blocks no ranking
#: is: four are in one order, or its reverse, by chance in one of twelve cases.
_ALIKE, _FEW_BLOCKS = 0.5, 5
#: Blocks that a terminal shows; the page has all.
_ROWS = 10
ADAPTER = (
    Column("block", "Block", form="text"),
    Column("modules", "Adapters", form="count", importance=40),
    Column("dead", "Dead", form="count", importance=95),
    Column("used", "Rank used (90 %)", short="rank used", form="text", importance=90),
    Column("relative_norm", "Of weights", unit="%", factor=100.0, importance=80,
           meaning="Frobenius norm of the updates over that of the weights that they adapt."),
    Column("output_change", "Of outputs", unit="%", factor=100.0, importance=70,
           meaning="Root mean square of what adapters add to outputs on the probes over these."),
    Column("dominance", "Of largest", importance=60,
           meaning="Largest singular value of an update over that of its weight."),
    Column("moved", "Moved", importance=50, meaning="Procrustes distance of the block's output."),
    Column("wasted_share", "Wasted", form="percent", importance=20,
           meaning="Share of the parameters that are dead or hold the last 1 % of an update."),
    Column("frobenius_norm", "Frobenius norm", importance=10),
)  # fmt: skip
_SHARES = {"relative_norm": "update over weights", "output_change": "change of outputs"}
_MODULES = (
    Column("name", "Module", form="text"),
    Column("dead", "Dead", form="flag"),
    Column("rank", "Rank", form="count"),
    Column("stable_rank", "Stable rank"),
    Column("effective_rank", "Effective rank"),
    *(Column(f"energy_rank_{n}", f"Holds {n} %", form="count") for n in (90, 95, 99)),
    Column("spectral_norm", "Spectral norm"),
    Column("frobenius_norm", "Frobenius norm"),
    Column("dominance", "Of largest"),
    Column("relative_norm", "Of weights", unit="%", factor=100.0),
    Column("whole_relative_norm", "With magnitudes", unit="%", factor=100.0),
    Column("output_change", "Of outputs", unit="%", factor=100.0),
)
_SIZE_READS = (
    "Norm of the update over that of the weights, as the files alone would tell, and root mean "
    "square of what the adapters add to outputs over those outputs."
)


Moved = Mapping[tuple[str, int], float]
"""How far the outputs of blocks moved, where that was looked at."""


def document(audit: Audit) -> b.Document:
    """Return what an adapter is, by block and by module, and how that was read.

    The audit of a profile leaves the model and how it was made to that.
    """
    made, model = audit.provenance, audit.model or _blocks_alone(audit)
    told = [
        *audit_facts(audit, model),
        *audit_figures(audit, model),
        *audit_tables(audit, model, {}),
    ]
    told += parts.glossary(*told)
    if audit.model is not None:
        told += [b.Heading("The model", detail=True), parts.model_facts(model)]
    told += parts.noted(audit.notes)
    if made is not None:
        told += parts.made("How this audit was made", made, [], files=model.files)
    base = f"on {shown(model.base, limit=160)}" if model.base else ""
    return b.Document("Audit of an adapter", parts.model_name(model), base, told)


def _blocks_alone(audit: Audit) -> ModelInfo:
    """Return a model of the blocks that `audit` tells of, where it does not tell of the model."""
    last = {block.stack: block.index for block in audit.blocks}  # They come in order.
    stacks = tuple(StackInfo(name, index + 1, "", "none") for name, index in last.items())
    return ModelInfo(source="of a profile", architecture="", parameters=0, stacks=stacks)


def audit_facts(audit: Audit, model: ModelInfo) -> Iterator[b.Block]:
    """Yield what the adapter is and where, in words."""
    told = dict(_sentences(audit))
    yield from (b.Heading("The adapter"), b.Text(_headline(audit)))
    if audit.dead:
        yield b.Verdict(told.pop("Dead"), tone="warning")
    yield b.Facts([*told.items()])  # Whole: sentences are as long as what they say.
    yield from _strips(audit, model, key="relative_norm", title="weights %",
                       about="size of the update beside the weights that it adapts")  # fmt: skip
    yield from _strips(audit, model, key="output_change", title="outputs %",
                       about="how far it changes what the adapted modules give")  # fmt: skip


def audit_figures(audit: Audit, model: ModelInfo) -> Iterator[b.Block]:
    """Yield what the adapter on `model` is, in figures and charts."""
    if audit.modules:
        yield b.Heading("The adapter in figures", detail=True)
        yield _figures(audit)
        yield from _charts(audit, model)


def _strips(
    audit: Audit, model: ModelInfo, *, key: str, title: str, about: str
) -> Iterator[b.Strip]:
    """Yield a figure over all blocks of each stack with adapters, 0 where there is none."""
    known = {(x.stack, x.index): getattr(x, key) for x in audit.blocks}
    if not known or None in known.values():
        return
    labels, most = parts.stack_labels(model, limit=20), 100.0 * max(known.values())
    for stack in model.stacks:
        if any(name == stack.name for name, _ in known):
            places = range(stack.blocks)
            values = [100.0 * known.get((stack.name, place), 0.0) for place in places]
            label = f"{title} ({labels[stack.name]})" if len(labels) > 1 else title
            yield b.Strip(label, places, values=values, most=most, about=about)


def audit_tables(audit: Audit, model: ModelInfo, moved: Moved) -> Iterator[b.Block]:
    """Yield every adapted block and module."""
    if audit.blocks:
        yield b.Heading("The adapter by block")
        rows = [_block_row(block, model, moved) for block in audit.blocks]
        carded = frozenset(n for n, block in enumerate(audit.blocks) if block.carded)
        columns = [column for column in ADAPTER if audit.dead or column.key != "dead"]
        yield b.Table("adapter", columns, rows, marked=carded, mark="where the card would place",
                    most=_ROWS)  # fmt: skip
    if audit.modules:
        yield b.Heading("The adapter by module", detail=True)
        dead = frozenset(n for n, module in enumerate(audit.modules) if module.dead)
        rows = [{**asdict(module), **asdict(module.update)} for module in audit.modules]
        yield b.Table("modules", _MODULES, rows, marked=dead, mark="dead")


def _block_row(block: BlockAudit, model: ModelInfo, moved: Moved) -> dict[str, Any]:
    labels = parts.stack_labels(model, limit=20)
    name = f"{labels[block.stack]} {block.index}" if len(labels) > 1 else str(block.index)
    row = {"block": name, "used": f"{block.energy_rank_90} of {block.rank}"}
    return {**asdict(block), **row, "moved": moved.get((block.stack, block.index))}


def _headline(audit: Audit) -> str:
    """Return what the adapter is, in one line."""
    count, outside = len(audit.modules), sum(m.index is None for m in audit.modules)
    if not count and audit.unread:
        kinds = shown(", ".join(audit.kinds) or "Adapter", limit=60)
        modules = counted(len(audit.unread), "module")
        return f"{kinds} on {modules}: no products B A, so ranks and sizes are not told."
    beyond = f" and {outside} outside blocks" if outside else ""
    inside, blocks = counted(count - outside, "module"), counted(len(audit.blocks), "block")
    return (
        f"{shown(', '.join(audit.kinds) or 'Adapter', limit=60)}: {inside} in {blocks}{beyond}, "
        f"{_ranks(audit)}, {audit.parameters:,} parameters."
    )


def _ranks(audit: Audit) -> str:
    """Return the ranks of the adapters: one, or from the least to the largest."""
    ranks = sorted({m.rank // m.experts for m in audit.modules})
    if not ranks:
        return "no rank"
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"


def _sentences(audit: Audit) -> Iterator[tuple[str, str]]:
    """Yield what to know of the adapter, by a word each, the most urgent first."""
    if audit.modules:
        yield "Where", _where(audit)
        yield "Dead", _dead(audit)
    if len(audit.dead) < len(audit.modules):
        yield "Rank", _rank(audit)
    if audit.relative_norm is not None and audit.blocks:
        yield "Size", _size(audit, audit.relative_norm)
    yield from (("On inputs", told) for told in _on_inputs(audit))
    if audit.card is not None:
        yield "Card", _card(audit.card, len(audit.blocks))
    if unread := _unread(audit):
        yield "Not read", unread


def _where(audit: Audit) -> str:
    names = dict.fromkeys(module.name.rpartition(".")[2] for module in audit.modules)
    places = [PlacedBlock(block.stack, block.index) for block in audit.blocks]
    inside = f", in {parts.block_names(places)}" if places else ""
    return f"On {shown(', '.join(names), limit=160)}{inside}."


def _part(share: float) -> str:
    return f"{number(100.0 * share)} %"


def _dead(audit: Audit) -> str:
    count, dead = len(audit.modules), len(audit.dead)
    if not dead:
        return "No adapter is dead: each changes its weight."
    if dead == count:
        return "All adapters are dead: the model is its base."
    blocks = [PlacedBlock(block.stack, block.index) for block in audit.blocks if block.dead]
    inside = f", in {parts.block_names(blocks)}" if blocks else ""
    return f"{dead} of {count} adapters are dead, they change nothing{inside}."


def _rank(audit: Audit) -> str:
    used = (
        f"Of {median(m.rank for m in audit.modules):g} directions the median adapter holds 90 % of "
        f"its update in {audit.energy_rank_90:g} (stable rank {number(audit.stable_rank)}, "
        f"effective rank {number(audit.effective_rank)}); at rank {audit.enough_rank} nine of ten "
        "adapters would keep that."
    )
    if audit.wasted_share < _MUCH:
        return used
    wasted = "are dead or in directions that hold the last 1 % of an update"
    return f"{used} {percent(audit.wasted_share)} of the parameters {wasted}."


def _size(audit: Audit, norm: float) -> str:
    told = f"The update is {_part(norm)} of the weights that it adapts"
    told += _from_to(audit, "relative_norm")
    whole = [m.whole_relative_norm for m in audit.modules if m.whole_relative_norm is not None]
    if whole:
        magnitudes = f"the median weight changed by {_part(median(whole))}"
        told += f"; with DoRA's magnitudes {magnitudes}"
    largest = [(m.dominance, m.name) for m in audit.modules if m.dominance is not None]
    if largest and max(largest)[0]:
        most, name = max(largest)
        told += f". By largest singular values it is {number(most)} of its weight at most, "
        told += f"in {shown(name, limit=80)}" + ("; it outweighs it" if most > 1.0 else "")
    return f"{told}."


def _from_to(audit: Audit, key: str) -> str:
    """Return from which block to which a share goes; nothing where there is one block."""
    known = [(v, block.index) for block in audit.blocks if (v := getattr(block, key)) is not None]
    if len(known) < 2:
        return ""
    (least, first), (most, last) = (end(known, key=itemgetter(0)) for end in (min, max))
    return f", from {_part(least)} in block {first} to {_part(most)} in block {last}"


def _on_inputs(audit: Audit) -> Iterator[str]:
    """Yield what weights alone cannot tell."""
    changes = [c for block in audit.blocks if (c := block.output_change) is not None]
    if not changes:
        return
    middle = _part(median(changes))
    told = f"On the probes the outputs of adapted modules change by {middle} in the median block"
    told += _from_to(audit, "output_change")
    pairs = ((m.output_change, m.whole_relative_norm or m.relative_norm) for m in audit.modules)
    ratios = [change / size for change, size in pairs if change and size]
    if ratios:
        told += f", {number(median(ratios))} times what the weights' norms would suggest"
    told += _ranked("Size and effect", audit.depth_agreement, len(changes))
    yield f"{told}."


def _ranked(both: str, spearman: float | None, blocks: int) -> str:
    """Return whether `both` rank the `blocks` alike; of few, none would be beyond chance."""
    if spearman is None:
        return ""
    if blocks < _FEW_BLOCKS:
        return f". {both} rank {blocks} blocks, too few to tell whether alike"
    far = "differently" if spearman > -_ALIKE else "in opposite orders"
    how = "alike" if spearman >= _ALIKE else far
    return f". {both} rank the {blocks} blocks {how} at Spearman {spearman:.2f}"


def _card(card: CardPlacement, adapted: int) -> str:
    """Return where the card would have placed as many, and what that would have cost."""
    some = f"the adapter is on {card.shared} of these, not on {parts.block_names(card.missed)}"
    have = some if card.missed else "the adapter is there"
    more = f", and on {len(card.elsewhere)} more" if card.elsewhere else ""
    told = (
        f"The card ({shown(card.policy)}) would have taken {parts.block_names(card.blocks)}; {have}"
    )
    told += f"{more}. What both have holds {percent(card.norm_share)} of the update's squared norm"
    if card.step_ratio is not None and card.adapter_step_ratio is not None:
        told += f". A step there takes {card.step_ratio:.2f} of one with all blocks, the adapter's "
        told += f"{card.adapter_step_ratio:.2f}"
    return f"{told}{_ranked('Residual norm and update', card.spearman, adapted)}."


def _unread(audit: Audit) -> str:
    """Return which adapted modules are not in the figures."""
    told = []
    if audit.unread:
        why = shown(next(iter(audit.unread.values())), limit=120)
        told.append(f"{len(audit.unread)} adapted modules are not products B A ({why}).")
    if audit.saved_modules:
        names = shown(", ".join(audit.saved_modules), limit=120)
        told.append(f"Trained and saved whole: {names}.")
    return " ".join(told)


def _figures(audit: Audit) -> b.Figures:
    size = "–" if audit.relative_norm is None else _part(audit.relative_norm)
    dead, live = f"{len(audit.dead)} of {len(audit.modules)}", "median of the live modules"
    return b.Figures([
        ("Dead adapters", dead, "change nothing"),
        ("Rank that would do", str(audit.enough_rank), f"for nine of ten, of {_ranks(audit)}"),
        ("Stable rank", number(audit.stable_rank), live),
        ("Effective rank", number(audit.effective_rank), live),
        ("Wasted", percent(audit.wasted_share), "of the parameters: dead, or the last 1 %"),
        ("Size", size, "of the weights, by Frobenius norm"),
    ])  # fmt: skip


def _charts(audit: Audit, model: ModelInfo) -> Iterator[b.Block]:
    """Yield size and effect, and the rank that is used, by block."""
    places, sizes, used = parts.spots(model), [], []
    for block in audit.blocks:
        spot = dict(places[block.stack, block.index])
        spot["head"] += " · on the card" if block.carded else ""
        sizes += [
            {**spot, "of": title, "share": value, "tip": _part(value)}
            for key, title in _SHARES.items()
            if (value := getattr(block, key)) is not None
        ]
        share = block.energy_rank_90 / block.rank if block.rank else 0.0
        where = "on the card" if block.carded else "elsewhere"
        directions = f"{block.energy_rank_90} of {block.rank}"
        used.append({**spot, "share": share, "of": where, "tip": directions})
    column = Column("share", "Share", form="percent")
    if sizes:
        yield parts.by_block(
            "audit-size", column, sizes, scale="zero", series="of", names=list(_SHARES.values()),
            title="The update by block: of the weights, and of the outputs on the probes",
            join="stack", tips=[_text("of", "What"), _text("tip", "Share")], caption=_SIZE_READS,
        )  # fmt: skip
    if used:
        yield parts.by_block(
            "audit-rank", column, used, kind="bars", scale="share", series="of",
            title="Rank that holds 90 % of the update, of the rank there is",
            names=["elsewhere", "on the card"] if audit.card else ["elsewhere"],
            tips=[_text("tip", "Directions")], caption="Low: a smaller rank would have done.",
        )  # fmt: skip


def _text(key: str, title: str) -> Column:
    return Column(key, title, form="text")
