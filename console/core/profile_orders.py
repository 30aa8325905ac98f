"""The orders in which profiles can be listed, and the search over them."""

from __future__ import annotations

from collections.abc import Callable

from console.core.cost import list_price
from console.core.profile import CostSection, Evidence, Profile
from console.core.suitability import EVIDENCE_ORDER, MODEL_ORDER, Suitability, order_key

__all__ = ["ORDERS", "found_by", "price_shown", "sort_key"]

Key = tuple[object, ...]

ORDERS: dict[str, str] = {
    "suits": "best suited first",
    "name": "by name",
    "hardware": "by hardware",
    "model": "by model",
    "cost": "cheapest first",
    "evidence": "best evidence first",
}
"""Each with how it is announced; the first is the default."""


def price_shown(profile: Profile) -> tuple[float | None, bool]:
    """Dollars per hour of the whole machine, and whether that is only one provider's list price."""
    if profile.cost.usd_per_hour is not None:
        return profile.cost.usd_per_hour, False
    return (list_price(profile.hardware) or CostSection()).usd_per_hour, True


def sort_key(
    order: str, name: str, profile: Profile, suitability: Suitability, verdict: str, *, measured: bool = False
) -> Key:
    """Sorts profiles in one of `ORDERS`; what is alike in it stays in the order of suitability.

    Args:
        measured: this machine has measured it, which is better evidence than the profile claims.
    """
    first = _FIRST[order](name, profile, measured)
    return (first, order_key(name, profile, suitability, verdict))


def found_by(words: str, name: str, profile: Profile) -> bool:
    """Whether each of the words stands in the name, title, hardware, model, precision or evidence of a profile."""
    hardware = profile.hardware.text
    about, model = profile.profile, profile.model
    parts = (name, about.title, hardware, hardware.replace(" ", "").replace("×", "x"), model.id)
    text = " ".join((*parts, model.served_name or "", model.architecture or "", model.precision, about.evidence))
    text = text.casefold()
    return all(word in text for word in words.casefold().split())


def _by_hardware(profile: Profile) -> Key:
    return (profile.hardware.count == 0, profile.hardware.gpu.upper(), profile.hardware.count)


def _by_model(profile: Profile) -> Key:
    architecture = profile.model.architecture or ""
    known = architecture in MODEL_ORDER
    return (not known, MODEL_ORDER.index(architecture) if known else 0, profile.model.id.casefold())


def _by_cost(profile: Profile) -> Key:
    price, _ = price_shown(profile)
    return (price is None, price or 0.0)


_FIRST: dict[str, Callable[[str, Profile, bool], Key]] = {
    "suits": lambda _name, _profile, _measured: (),
    "name": lambda name, _profile, _measured: (name.casefold(), name),
    "hardware": lambda _name, profile, _measured: _by_hardware(profile),
    "model": lambda _name, profile, _measured: _by_model(profile),
    "cost": lambda _name, profile, _measured: _by_cost(profile),
    "evidence": lambda _name, profile, measured: (
        EVIDENCE_ORDER.index(Evidence.MEASURED if measured else profile.profile.evidence),
    ),
}
