"""Section of the page of a run: some of its records as pictures."""

from postmean.contract.image_store import ImageStore, to_pixels
from postmean.contract.noisy import noisy_pixels
from postmean.pages.page import Card, Picture, Section
from postmean.pages.pictures import png_of
from postmean.pages.samples import Example


def examples_section(examples: list[Example], store: ImageStore | None) -> Section:
    """Records as cards of z, mean and x."""
    title = "Records"
    if store is None:
        return Section(title=title, text="No pictures: the image store is not here. Pass --store.")
    if not examples:
        return Section(title=title, text="No pictures yet.")
    names = store.header.class_names
    cards = []
    for e in examples:
        label = f", class {names[e.label]}" if names and e.label is not None and e.label < len(names) else ""
        kind = "dense" if e.count < 0 else f"{e.count} image{'s' if e.count > 1 else ''}"
        pictures = [
            Picture(png=png_of(noisy_pixels(e.z, e.sigma)), name="z, scaled"),
            Picture(png=png_of(to_pixels(e.mean)), name="mean"),
            Picture(png=png_of(to_pixels(e.x)), name="x"),
        ]
        note = f"ESS {_three_digits(e.ess)}, top weight {e.top_weight:.2g}, {kind}, tuple {e.tuple_id:,}{label}"
        cards.append(Card(title=f"σ = {e.sigma:.3g}", pictures=pictures, note=note))
    return Section(title=title, text="z = x + σε is shown divided by 1 + 2σ.", cards=cards)


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"
