"""Seeds: what a client sends to create an asset, or to ask what could be made of it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, Field, StrictInt, StrictStr, model_validator

from assetwatch_sandbox.pieces.piece import generic_of


class _Raw(BaseModel):
    """One transferable; the base64 and data URL members of the model are not implemented by the server."""

    raw: StrictStr | list[StrictInt]


class _Metadata(BaseModel):
    ext: str | None = None
    name: str | None = None


class _Carrier(BaseModel):
    string: _Raw | None = None
    bytes: _Raw | None = None
    metadata: _Metadata = _Metadata()

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.string is None) == (self.bytes is None):
            raise ValueError("exactly one of string and bytes")
        if self.string is not None and not isinstance(self.string.raw, str):
            raise ValueError("string.raw is text")
        if self.bytes is not None and not isinstance(self.bytes.raw, list):
            raise ValueError("bytes.raw is a list of integers")
        return self


class _Classification(BaseModel):
    generic: str | None = None
    specific: str | None = None


class _Format(BaseModel):
    file: _Carrier | None = None
    fragment: _Carrier | None = None
    classification: _Classification = _Classification()

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.file is None) == (self.fragment is None):
            raise ValueError("exactly one of file and fragment")
        return self


class _Application(BaseModel):
    id: str
    name: str
    version: str
    platform: str
    onboarded: bool
    privacy: str


class _Text(BaseModel):
    text: str


class _Website(BaseModel):
    url: str


class _AssetMetadata(BaseModel):
    name: str | None = None
    mechanism: str = "MANUAL"
    tags: list[_Text] = Field(default_factory=list)
    websites: list[_Website] = Field(default_factory=list)
    annotations: list[_Text] = Field(default_factory=list)


class _Asset(BaseModel):
    application: _Application
    format: _Format
    metadata: _AssetMetadata = _AssetMetadata()
    pseudo: bool = False
    discovered: bool = False
    demo: bool = False


class Seed(BaseModel):
    """A seed for an asset; one without `asset` fails, whatever its type. Source: the client's notes on Seed."""

    asset: _Asset

    def native(self) -> dict[str, object]:
        """Give the native fields of the asset that grows of it. Raises: ValueError."""
        seeded, metadata = self.asset, self.asset.metadata
        return {
            **self._content(),
            **self._classification(),
            "name": metadata.name,
            "mechanism": metadata.mechanism,
            "tags": [tag.text for tag in metadata.tags],
            "websites": [website.url for website in metadata.websites],
            "description": metadata.annotations[0].text if metadata.annotations else None,
            "pseudo": seeded.pseudo,
            "discovered": seeded.discovered,
            "demo": seeded.demo,
        }

    @property
    def is_image(self) -> bool:
        """Return whether the seed says or shows that it is an image."""
        return bool(self._classification()["generic"] == "IMAGE")

    def available(self) -> dict[str, object]:
        """AvailableFormats: its own classification, and plain text beside it [assumed]."""
        own = self._classification()
        offered = [{"generic": own["generic"], "specific": own["ext"]}]
        if own["ext"] != "txt":
            offered.append({"generic": "TEXT", "specific": "txt"})
        return {"iterable": offered}

    def _carrier(self) -> tuple[str, _Carrier]:
        chosen = self.asset.format
        if chosen.file is not None:
            return "file", chosen.file
        if chosen.fragment is None:
            raise ValueError("exactly one of file and fragment")
        return "fragment", chosen.fragment

    def _content(self) -> dict[str, object]:
        form, carrier = self._carrier()
        if carrier.string is not None:
            return {"form": form, "carrier": "string", "content": carrier.string.raw}
        raw = carrier.bytes.raw if carrier.bytes is not None else []
        return {"form": form, "carrier": "bytes", "content": bytes(map(int, raw)).decode("latin-1")}

    def _classification(self) -> dict[str, str]:
        _, carrier = self._carrier()
        said = self.asset.format.classification
        ext = said.specific or carrier.metadata.ext or "txt"
        return {"ext": ext, "generic": said.generic or generic_of(ext)}


def without_content(seed: dict[str, Any]) -> dict[str, object]:
    """Copy a seed's JSON without the raw content of its format."""
    whole = seed["asset"]["format"]
    lean = {
        name: {k: v for k, v in part.items() if k not in {"string", "bytes"}} if name in {"file", "fragment"} else part
        for name, part in whole.items()
        if part is not None
    }
    return {**seed, "asset": {**seed["asset"], "format": lean}}
