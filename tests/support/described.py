"""Descriptors by the one class of them that is published: the library has a second, which passes for the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.descriptor import Descriptor

if TYPE_CHECKING:
    from google.protobuf.message import Message


def descriptor_of(message: Message | type[Message]) -> Descriptor:
    """Return the descriptor of a message or of its type."""
    return described(message.DESCRIPTOR)


def described(descriptor: object) -> Descriptor:
    """Return what is a descriptor as one."""
    assert isinstance(descriptor, Descriptor)
    return descriptor
