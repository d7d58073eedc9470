"""`layerwise place CARD`: a placement from a card, exported and verified."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerwise.cli.interrupt import importing
from layerwise.cli.options import output, stacked
from layerwise.cli.output import listed, say, talk
from layerwise.files import prepare_output, write_files
from layerwise.placement import ADVISED, DEFAULT_GOAL, GOALS, POLICIES, TRAINERS

if TYPE_CHECKING:
    from layerwise.card.record import LayerCard
    from layerwise.placement.exports.record import Export
    from layerwise.placement.record import Placement

__all__ = ["place"]

EXAMPLES = """\b
Examples:
  layerwise place demo-card
  layerwise place demo-card --policy uniform --layers 5 --overwrite
  layerwise place demo-card --blocks 3,7,11 --rank 16 --out by-hand
  layerwise place demo-card --for axolotl --overwrite
"""

_choosing = stacked(
    click.option(
        "--policy",
        metavar="NAME",
        help=f"{', '.join(POLICIES)}.  [default: {ADVISED}]",
    ),
    click.option(
        "-k", "--layers", type=int, metavar="N", help="How many.  [default: the policy's]"
    ),
    click.option(
        "--goal",
        metavar="NAME",
        help=f"How long a step may take: {', '.join(GOALS)}.  [default: {DEFAULT_GOAL}, or any "
        "length where a policy is named]",
    ),
    click.option(
        "--blocks",
        metavar="3,7,11",
        help="These blocks, in place of a policy; STACK:3,7 where there are several stacks.",
    ),
    click.option("--stack", metavar="NAME", help="Only blocks of this stack.  [default: any]"),
    click.option(
        "--reference",
        type=click.Path(path_type=Path),
        metavar="CARD",
        help="A like card on which `layerwise measure` compared policies: take the best.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of policy random."),
)

_exporting = stacked(
    click.option("--rank", type=int, metavar="N", help="LoRA rank.  [default: the card's]"),
    click.option("--alpha", type=int, metavar="N", help="LoRA alpha.  [default: twice the rank]"),
    click.option(
        "--ranks",
        metavar="3=4,7=16",
        help="Blocks that have another rank; STACK:3=4 where there are several stacks.",
    ),
    click.option(
        "--for",
        "trainer",
        type=click.Choice(list(TRAINERS)),
        default="peft",
        show_default=True,
        help="Whose configuration to write; freeze: lists of weights, for training blocks whole.",
    ),
    click.option(
        "--model",
        metavar="MODEL",
        help="Where the card's model lies now.  [default: as in the card]",
    ),
    click.option(
        "--trust-remote-code", is_flag=True, help="Run code that the model's repository brings."
    ),
)


@click.command("place", short_help="Place adapters by a card; export, verified.", epilog=EXAMPLES)
@click.argument("card", type=click.Path(path_type=Path))
@output
@_choosing
@_exporting
def place(card: Path, **options: Any) -> None:
    """Choose the blocks that get adapters by CARD, a card.json or the folder that holds one.

    The placement is exported for the trainer, and verified: adapters are injected into a copy of
    the model without weights, as that trainer would, and the modules that got one are compared
    with those that were meant.

    Writes placement.json and the trainer's file (lora_config.json for peft), into the card's
    folder unless --out names another; there it also draws the placement into report.html.
    """
    form, overwrite, out = (options.pop(name) for name in ("form", "overwrite", "out"))
    where = {name: options.pop(name) for name in ("model", "trust_remote_code")}
    where["trainer"] = options.pop("trainer")
    with importing():
        from layerwise import api, report
        from layerwise.card.record import LayerCard
        from layerwise.placement.exports.lora import placement_files
    with talk(form):
        read = LayerCard.load(card)
        folder = prepare_output(out or _folder(card), holds="placement.json", overwrite=overwrite)
        placed, coverage, export = api.export(api.place(read, **options), read, **where)
        beside = folder.resolve() == _folder(card).resolve()
        files = placement_files(placed, export) | _report(read, placed, beside=beside)
        paths = write_files(folder, files)
        table = report.terminal(coverage)
        human = [_summary(placed), "", table, "", listed(paths), "", _usage(export, folder)]
        say(form, human=human, json=placed.to_json())


def _folder(card: Path) -> Path:
    """The folder that holds a card, named by itself or by its file."""
    return card if card.is_dir() else card.parent


def _report(card: "LayerCard", placed: "Placement", *, beside: bool) -> dict[str, bytes]:
    """The report with the placement in it, where that is written beside the card that it is of."""
    from layerwise import report

    return report.files(card, charts=False, placement=placed) if beside else {}


def _usage(export: "Export", folder: Path) -> str:
    """How to use what was written into `folder`, a line a file."""
    notes = [f"note: {note}" for note in export.notes]
    return "\n".join([*notes, f"to use it, in {folder}:", *export.usage.values()])


def _summary(placed: "Placement") -> str:
    """A placement in a few lines."""
    cost, checked = placed.cost, placed.verified
    blocks = ", ".join(f"{b.stack}.{b.index}" for b in placed.blocks)
    adapters = f"{placed.adapter_parameters:,} parameters on {len(placed.modules)} modules"
    lines = [
        f"{len(placed.blocks)} blocks by {placed.policy}: {blocks}",
        f"rank {_ranks(placed)}, alpha {placed.alpha}, {adapters}",
    ]
    if cost:
        lines.append(
            f"a step takes {cost.step_ratio:.0%} of one with all blocks, its backward "
            f"{cost.backward_ratio:.0%}, its saved activations {cost.activation_ratio:.0%}"
        )
    if checked:
        lines.append(f"verified: {checked.matched} of {checked.expected} modules, and no other")
    return "\n".join(lines)


def _ranks(placed: "Placement") -> str:
    """The rank, and what other ranks there are."""
    others = sorted(set((placed.ranks or {}).values()))
    return f"{placed.rank} (others: {', '.join(map(str, others))})" if others else str(placed.rank)
