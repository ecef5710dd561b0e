"""Search, filters and neighbours over the assets; pure. Ranking is [assumed], its results are sensible and stable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, Field

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from assetwatch_sandbox.pieces.piece import Piece

NEIGHBOURS_MAX = 10
TAG_WEIGHT = 3


class Hit(NamedTuple):
    """An asset that was found, where, and how well (0 to 1); an inexact one is a suggestion."""

    piece: Piece
    match: str
    score: float
    exact: bool


class Timestamp(BaseModel):
    """GroupedTimestamp as a client sends it."""

    value: AwareDatetime


class Range(BaseModel):
    """AssetFilterTimestamp: `from` alone means after, `to` alone before; both ends belong to it."""

    since: Timestamp | None = Field(default=None, alias="from")
    to: Timestamp | None = None

    def holds(self, moment: datetime) -> bool:
        """Tell whether a moment lies in the range."""
        return not (self.since and moment < self.since.value) and not (self.to and moment > self.to.value)


class Phrase(BaseModel):
    """AssetFilterPhrase: where to look for the value; nowhere named means everywhere [assumed]."""

    value: str = ""
    title: bool | None = None
    content: bool | None = None
    annotation: bool | None = None

    def holds(self, piece: Piece, *, casing: bool) -> bool:
        """Tell whether the phrase is in one of the places."""
        places = {"title": piece.name, "content": piece.content, "annotation": piece.description}
        named = {place for place in places if getattr(self, place)} or set(places)
        return any(_within(self.value, places[place] or "", casing=casing) for place in named)


class Filter(BaseModel):
    """AssetFilter: every member it has must hold; `operations` is a nested group."""

    classification: str | None = None
    created: Range | None = None
    updated: Range | None = None
    tags: list[str] | None = None
    websites: list[str] | None = None
    persons: list[str] | None = None
    phrase: Phrase | None = None
    operations: Filters | None = None

    def holds(self, piece: Piece, *, casing: bool, join: str) -> bool:
        """Tell whether the asset passes."""
        return (
            self.classification in {None, piece.ext}
            and (self.created is None or self.created.holds(piece.created))
            and (self.updated is None or self.updated.holds(piece.updated))
            and _any_of(self.tags, piece.tags)
            and _any_of(self.websites, piece.websites)
            and _any_of(self.persons, piece.persons)
            and (self.phrase is None or self.phrase.holds(piece, casing=casing))
            and (self.operations is None or self.operations.hold(piece, casing=casing, join=join))
        )


class Filters(BaseModel):
    """AssetFilters: filters joined by AND or OR."""

    iterable: list[Filter]
    type: Literal["AND", "OR", "UNKNOWN"] | None = None

    def hold(self, piece: Piece, *, casing: bool, join: str) -> bool:
        """Tell whether the asset passes; `join` counts when the type does not say."""
        join = self.type if self.type in {"AND", "OR"} else join
        verdicts = (one.holds(piece, casing=casing, join=join) for one in self.iterable)
        return any(verdicts) if join == "OR" and self.iterable else all(verdicts)


class Reference(BaseModel):
    """Anything named by its id."""

    id: str


class References(BaseModel):
    """Any collection of which only the ids are read."""

    iterable: list[Reference] = Field(default_factory=list)


class Space(BaseModel):
    """AssetSearchSpace; the member is misspelt on the wire."""

    identifers: References


class FilteredSearch(BaseModel):
    """AssetsSearchWithFiltersInput."""

    query: str | None = None
    casing: bool | None = None
    space: Space | None = None
    filters: Filters | None = None


class Interacted(BaseModel):
    """InteractedAsset."""

    asset: str | None = None


class InteractedAssets(BaseModel):
    """InteractedAssets."""

    iterable: list[Interacted]


class Recommendation(BaseModel):
    """SeededAssetsRecommendation."""

    assets: References
    interactions: InteractedAssets

    @property
    def interests(self) -> set[str]:
        """The ids it names: assets shown, and assets touched."""
        touched = {item.asset for item in self.interactions.iterable if item.asset}
        return touched | {asset.id for asset in self.assets.iterable}


def search(pieces: Iterable[Piece], query: str, *, casing: bool = False) -> list[Hit]:
    """Find the query in names, contents, tags and descriptions; assets with a word of it are suggested. Best first."""
    hits = (hit for piece in pieces if (hit := _hit(piece, query, casing=casing)))
    return sorted(hits, key=lambda hit: (not hit.exact, -hit.score))


def tagged(pieces: Iterable[Piece], tags: Collection[str]) -> list[Hit]:
    """Find the assets with any of the tags."""
    return [Hit(piece, "TAGS", 1.0, exact=True) for piece in pieces if _any_of(tags, piece.tags)]


def filtered(pieces: Iterable[Piece], wanted: FilteredSearch, *, casing: bool, join: str) -> list[Hit]:
    """Find by query and filters inside the space; without a query every asset that passes is a hit."""
    casing = casing if wanted.casing is None else wanted.casing
    if wanted.space is not None:
        space = {reference.id for reference in wanted.space.identifers.iterable}
        pieces = [piece for piece in pieces if piece.id in space]
    if wanted.filters is not None:
        pieces = [piece for piece in pieces if wanted.filters.hold(piece, casing=casing, join=join)]
    if wanted.query:
        return search(pieces, wanted.query, casing=casing)
    return [Hit(piece, "UNKNOWN", 1.0, exact=True) for piece in pieces]


def neighbours(pieces: list[Piece], of: Collection[str]) -> list[Piece]:
    """List the assets most like those named: shared tags first, then the same language; none of those named."""
    named = [piece for piece in pieces if piece.id in of]
    tags = {tag for piece in named for tag in piece.tags}
    exts = {piece.ext for piece in named}
    nearness = {p.id: TAG_WEIGHT * len(tags.intersection(p.tags)) + (p.ext in exts) for p in pieces if p.id not in of}
    near = [piece for piece in pieces if nearness.get(piece.id)]
    return sorted(near, key=lambda piece: -nearness[piece.id])[:NEIGHBOURS_MAX]


def latest(pieces: list[Piece]) -> list[Piece]:
    """List the assets changed last, newest first: what is recommended to somebody unknown."""
    return sorted(pieces, key=lambda piece: piece.updated, reverse=True)[:NEIGHBOURS_MAX]


def _hit(piece: Piece, query: str, *, casing: bool) -> Hit | None:
    places = {
        "TITLE": piece.name or "",
        "TAGS": "\n".join(piece.tags),
        "ANNOTATION": piece.description or "",
        "CONTENT": piece.content,
    }
    found = [place for place, text in places.items() if _within(query, text, casing=casing)]
    if found:
        return Hit(piece, found[0] if len(found) == 1 else "MULTIPLE", 1.0, exact=True)
    words = query.split()
    known = sum(any(_within(word, text, casing=casing) for text in places.values()) for word in words)
    return Hit(piece, "FUZZY", known / (len(words) + 1), exact=False) if known else None


def _within(needle: str, text: str, *, casing: bool) -> bool:
    return needle in text if casing else needle.lower() in text.lower()


def _any_of(wanted: Collection[str] | None, held: Iterable[str]) -> bool:
    if wanted is None:
        return True
    lower = {text.lower() for text in wanted}
    return any(text.lower() in lower for text in held)
