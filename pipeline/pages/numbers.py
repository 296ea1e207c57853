"""Numbers as text on a page."""


def number(value: float | None) -> str:
    """A number with at most four digits that matter, such as -1024, 0.625 or 12.5."""
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"
    return text.replace(",", "\u202f").replace("-", "−")


def share(count: int, total: int) -> str:
    """A part of a whole, such as 12.5 %."""
    return f"{100 * count / total:.1f} %" if total else "–"
