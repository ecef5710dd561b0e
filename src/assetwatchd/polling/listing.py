"""What a complete list of a source says: who is there, and who is gone. A slice at a time, others between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assetwatchd.polling.presence import ABSENCES_TO_BELIEVE
from assetwatchd.runtime.slices import slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from assetwatchd.polling.plan import Plan
    from assetwatchd.polling.target import Target


async def fitting(asset_ids: frozenset[str], check: Callable[[str], str | None]) -> tuple[frozenset[str], list[str]]:
    """Split a list into ids that the source can have and those that it cannot, which nobody could ask for."""
    unfit: list[str] = []
    for part in slices(asset_ids):
        unfit += [asset_id for asset_id in part if check(asset_id) is not None]
        await asyncio.sleep(0)
    return (asset_ids.difference(unfit) if unfit else asset_ids), unfit


async def compare(plan: Plan, asset_ids: frozenset[str], gone: Callable[[Target], None] | None) -> int:
    """Take in a list; tell gone of each that is gone by it, and return for how many there was no room.

    gone is None for a list that is not complete, by which nothing is gone.

    One list at a time. What becomes of an asset meanwhile is newer than the list, as it is while the list is made.
    """
    left_out = 0
    for part in slices(asset_ids):
        left_out += take_in(plan, part)
        await asyncio.sleep(0)
    if gone is None:
        return left_out
    for targets in plan.targets.slices():
        for target in targets:
            if target.presence.listed and target.asset_id not in asset_ids and plan.targets.lacked(target):
                gone(target)
        await asyncio.sleep(0)
    return left_out


def take_in(plan: Plan, part: Iterable[str]) -> int:
    """Take in a part of a complete list; return for how many of that part there was no room."""
    unknown: list[str] = []
    for asset_id in part:
        if (target := plan.targets.get(asset_id)) is None:
            unknown.append(asset_id)
        else:
            _take_in(plan, target)
    room = plan.targets.make_room(len(unknown), some=True)
    for asset_id in unknown[:room]:
        _take_in(plan, plan.targets.add(asset_id))
    return len(unknown) - room


def _take_in(plan: Plan, target: Target) -> None:
    plan.targets.listed(target)
    plan.ensure_scheduled(target)


async def proof(plan: Plan, asset_ids: frozenset[str]) -> Target | None:
    """Return what to read before a list is believed by which all is gone; None if it says no such thing."""
    going: list[Target] = []
    for targets in plan.targets.slices():
        there = [target for target in targets if target.presence.listed and _is_there(target)]
        if any(target.asset_id in asset_ids for target in there):
            return None
        going += [target for target in there if target.presence.absences + 1 >= ABSENCES_TO_BELIEVE]
        await asyncio.sleep(0)
    return max(going, key=lambda target: target.knowledge.current_at or 0.0, default=None)


def _is_there(target: Target) -> bool:
    """Whether the store has it, and not as gone."""
    return target.knowledge.state is not None and not target.knowledge.gone
