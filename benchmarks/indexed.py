"""The index that a benchmark's runs need: made if the store has none of this kind, else left as it is."""

from pathlib import Path

from postmean.pipeline import PRESETS, IndexConfig, index


def make_index(store: Path | str, preset: str, flips: bool | None = None, conditional: bool | None = None) -> None:
    """Index a store as targets of this preset need it, unless it is.

    Args:
        flips: whether flipped images are data; None: as the preset has it. The same for conditional.
    """
    recipe = PRESETS[preset].recipe
    index(
        IndexConfig(
            store=Path(store),
            flips=recipe.flips if flips is None else flips,
            conditional=recipe.conditional if conditional is None else conditional,
        )
    )
