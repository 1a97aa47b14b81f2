"""What fine-tuning may bring after a fit on the frozen network, and what it would cost."""

from typing import Any

from topwork.facts import Made


def fine_tuning_hint(made: Made) -> dict[str, Any] | None:
    """``hint`` of the JSON."""
    return None
