"""What moves in fine-tuning, at which depth, under each condition: real models, real text.

    python examples/depth_profiles.py causal        SmolLM2-135M, causal LM
    python examples/depth_profiles.py simcse        the MiniLM encoder, SimCSE
    python examples/depth_profiles.py barlow-twins  the same, Barlow Twins

Prints a table as Markdown; depth_profiles.md keeps what it printed.
"""

import sys
from typing import Any

import layerwise as lw
from layerwise.tuning import outcome

READOUTS = ("hf", "residual", "normed")
SIX = ("standard", "uniform", "lora", "frozen-norm", "frozen-lower", "equal-step")


RUNS = {
    "causal": ("demo", "causal-lm", ("standard", "uniform", "lora", "equal-step")),
    "simcse": ("demo-encoder", "simcse", SIX),
    "barlow-twins": ("demo-encoder", "barlow-twins", SIX),
}


def matched_tau(tuned: Any) -> float:
    """The standard run's own relative step, as equal-step would match it in a run of its own."""
    return outcome.matched_tau(tuned.log, steps=tuned.record.settings.match_steps)


def row(condition: str, tuned: Any, profile: lw.Profile) -> str:
    """A line of the table."""
    went = tuned.record.outcome
    slopes = [
        f"{r.slope:+.4f} [{r.slope_low:+.4f}, {r.slope_high:+.4f}]"
        for r in (profile.readouts[name] for name in READOUTS)
    ]
    ends = [f"{profile.depths[i].procrustes:.4f}" for i in (0, -1)]
    share = f"{profile.width[-1]:.2f}" if profile.width else "-"
    loss = f"{went.first_loss:.3f} to {went.loss:.3f}"
    noise = f"{profile.noise_floor:.4f}"
    return " | ".join(("", condition, loss, *ends, *slopes, share, noise, "")).strip()


def main(name: str) -> None:
    """Run the conditions of `name`, and print the table as it grows."""
    model, objective, conditions = RUNS[name]
    heads = [f"slope, {readout} [95 %]" for readout in READOUTS]
    titles = ("condition", "loss", "moved at 0.10", "at 1.00", *heads, "last share", "noise")
    print(" | ".join(("", *titles, "")).strip())
    print("|" + "---|" * len(titles))
    tau = None
    for condition in conditions:
        tuned = lw.tune(
            model,
            "demo",
            condition=condition,
            objective=objective,
            where=["source=rotten_tomatoes"],
            examples=1000,
            steps=64,
            batch_size=8,
            max_length=64,
            tau=tau if condition == "equal-step" else None,
        )
        tau = tau or matched_tau(tuned)
        print(row(condition, tuned, lw.profile(model, tuned)), flush=True)
    print(f"\ntau of equal-step, matched to standard: {tau:.3g}")


if __name__ == "__main__":
    main(sys.argv[1])
