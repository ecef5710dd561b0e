"""The XML triple that every body of the SBC is: data, messages and links, empty when unused."""

from collections.abc import Iterable, Mapping

from lxml import etree

from assetwatch_sandbox.oracle_sbc.switches import OracleSbcSwitches

DECLARATION = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'


def triple(data: Mapping[str, object] | None = None, *, links: Iterable[str] = ()) -> bytes:
    """Write a good answer; members of data become elements. Raises: ValueError for what XML cannot hold."""
    root = etree.Element("response")
    _fill(etree.SubElement(root, "data"), data)
    etree.SubElement(root, "messages")
    _fill(etree.SubElement(root, "links"), {"link": list(links)})
    return DECLARATION + etree.tostring(root)


def error_triple(text: str, switches: OracleSbcSwitches, *, urls: Iterable[str] = ()) -> bytes:
    """Write an error: its text, and the URLs that would be valid, as items of messages."""
    root = etree.Element("response")
    etree.SubElement(root, "data")
    messages = etree.SubElement(root, "messages")
    _fill(messages, _messages(text, switches.messages_form))
    if switches.error_links:
        _fill(messages, {"link": list(urls)})
    etree.SubElement(root, "links")
    return DECLARATION + etree.tostring(root)


def slot_data(state: Mapping[str, object] | None, switches: OracleSbcSwitches) -> dict[str, object]:
    """Return the data of the status call: the operation, its error text beside it, and the free additionalInfo."""
    if state is None:
        return {} if switches.empty_slot == "empty_data" else {"operationState": None}
    data: dict[str, object] = {}
    if operation := {name: state[name] for name in ("operation", "status") if name in state}:
        data["operationState"] = operation
    if "message" in state:
        data[switches.error_element] = state["message"]
    if "additionalInfo" in state:
        data["additionalInfo"] = state["additionalInfo"]
    return data


def _messages(text: str, form: str) -> object:
    match form:
        case "many":
            return {"message": [text, "See the REST API guide."]}
        case "nested":
            return {"message": {"text": text}}
        case "bare":
            return text
        case "none":
            return None
        case _:
            return {"message": text}


def _fill(parent: etree._Element, value: object) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            for one in inner if isinstance(inner, list) else [inner]:
                _fill(etree.SubElement(parent, name), one)
    elif isinstance(value, bool):
        parent.text = str(value).lower()
    elif value is not None:
        parent.text = str(value)
