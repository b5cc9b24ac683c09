"""What an import did."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """Result of an import."""

    store: str
    kind: str
    images: int
    shape: tuple[int, int, int]
    """C, H, W"""
    classes: int
    converted: int
    resized: int
    skipped: int
    ignored: int
    notes: list[str]
    """What the source says about its images and the store does not keep, and what was done to them, one line each."""
    seconds: float
    bytes: int
    fingerprint: str
