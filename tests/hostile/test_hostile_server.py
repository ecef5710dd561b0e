"""A server over a hostile upstream and one that is well: what is large is read elsewhere, and others are answered."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from assetwatchd import xml
from assetwatchd.reading import INLINE_BYTES_MAX
from support.hostile import SHAPES
from support.rig import SAMPLES, SOURCES, running, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.rig import Rig

BYTES = 100_000
CALLS = 2
"""How often an answer of one shape is asked for; the first has been read when there is another."""
READS = 5
EVERY = {"timeout_s": 20}


@contextmanager
def parsed() -> Iterator[list[int]]:
    """Note the length of every document that is parsed in this process."""
    lengths: list[int] = []
    loads, parse = json.loads, xml.parse

    def noted_json(text: str | bytes, **how: Any) -> Any:
        lengths.append(len(text))
        return loads(text, **how)

    def noted_xml(body: bytes) -> Any:
        lengths.append(len(body))
        return parse(body)

    with patch.object(json, "loads", noted_json), patch.object(xml, "parse", noted_xml):
        yield lengths


@pytest.mark.parametrize("source", SOURCES)
async def test_large_answers_are_read_elsewhere(source: str, caplog: pytest.LogCaptureFixture) -> None:
    """No more than INLINE_BYTES_MAX of an answer is parsed here, whatever it is; the other source's assets are told."""
    other = "usd-search" if source != "usd-search" else "omn"
    async with running((source, other), count=1, every=EVERY) as rig:
        await rig.get(sample(source))
        known = await rig.get(sample(other))
        for shape in SHAPES:
            if shape.kind == source.replace("-", "_") and shape.name != "UTF-16":  # faults are told as text
                rig[source].faults.clear()
                body = shape.make(BYTES).decode()
                told = {"status": shape.status, "body": body, "content_type": shape.content_type}
                rig[source].faults.add(path=SAMPLES[source].observe, **told)
                with parsed() as lengths:
                    for _ in range(CALLS):
                        await asked(rig, source)
                    for _ in range(READS):
                        assert (await rig.get(sample(other))).revision >= known.revision
                assert max(lengths, default=0) <= INLINE_BYTES_MAX, str(shape)
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def asked(rig: Rig, source: str) -> None:
    """Wait until the sample is asked for once more."""
    requests, observe = rig[source].requests, SAMPLES[source].observe
    before = requests.count(observe)
    if source == "pieces":
        rig.vary(source)  # it is asked for what was told to have changed
    while requests.count(observe) == before:  # noqa: ASYNC110 - the stand-in tells nobody
        await asyncio.sleep(0.01)
