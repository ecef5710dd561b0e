"""OMN: `adapter` reads statuses and lists, `tokens` makes the bearer tokens of the several releases."""

from assetwatchd.adapters.omn.adapter import Omn

__all__ = ["Omn"]
