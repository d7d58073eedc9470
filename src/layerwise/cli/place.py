"""`layerwise place CARD`: a placement from a card, exported and verified."""

from pathlib import Path
from typing import Any

import layerwise as lw
from layerwise.api import cards
from layerwise.cli.derive import command
from layerwise.cli.output import folder_of, listed, say, talk
from layerwise.cli.produce import Results, import_for
from layerwise.files import prepare_output, write_files
from layerwise.options.commands import ExportOptions, GoalOptions, PlaceOptions
from layerwise.options.declaration import pick
from layerwise.placement import GOALS, POLICIES, TRAINERS


@command(
    *(Results, GoalOptions, PlaceOptions, ExportOptions),
    arguments={"card": "CARD"},
    names={"policy": POLICIES, "goal": GOALS, "trainer": TRAINERS},
    short_help="Place adapters by a card; export, verified.",
    examples=(
        "layerwise place demo-card",
        "layerwise place demo-card --policy uniform --layers 5 --overwrite",
        "layerwise place demo-card --blocks 3,7,11 --rank 16 --out by-hand",
        "layerwise place demo-card --for axolotl --overwrite",
    ),
)
def place(card: str, **options: Any) -> None:
    """Choose the blocks that get adapters by CARD, a card.json or the folder that holds one.

    The placement is exported for the trainer, and verified: adapters are injected into a copy of
    the model without weights, as that trainer would, and the modules that got one are compared
    with those that were meant. With --for freeze the blocks train whole, without adapters.

    Writes placement.json and the trainer's file (lora_config.json for peft), into the card's
    folder unless --out names another; there it also draws the placement into report.html.
    """
    whole = TRAINERS[options["trainer"]].whole  # No such name is told before anything is read.
    form, home = options["format"], folder_of(Path(card))
    import_for()
    from layerwise import report
    from layerwise.card.record import LayerCard

    with talk(form):
        read = LayerCard.load(Path(card))
        out, overwrite = options["out"] or home, options["overwrite"]
        folder = prepare_output(out, holds="placement.json", overwrite=overwrite)
        import_for(lw.place, cards.export)
        chosen = lw.place(read, options["goal"], whole=whole, **pick(PlaceOptions, options))
        placed, coverage, export = cards.export(chosen, read, **pick(ExportOptions, options))
        files = {**export.files, "placement.json": placed.to_json()}
        if folder.resolve() == home.resolve():  # Beside the card, its report shows the placement.
            files |= report.files(read, charts=False, placement=placed)
        paths = write_files(folder, files)
        table = [report.terminal(coverage), ""] if coverage else []
        notes = [f"note: {note}" for note in export.notes]
        usage = "\n".join([*notes, f"to use it, in {folder}:", *export.usage.values()])
        human = [report.terminal(placed), "", *table, listed(paths), "", usage]
        say(form, human=human, json=placed.to_json())
