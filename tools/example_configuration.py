"""station.toml.example, from the settings that the agent reads: every key with its description and its default."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from agent.config import Address, Settings, Table, table_in

HEAD = """\
# An example of /etc/print-agent/station.toml, which `print-agent setup` writes.
# A line that begins with "#" and no blank shows what counts without it, or what it may look like.
"""
# For keys without a default; "main" and "desk" are names that the station may choose.
SAMPLES = {
    "station.id": "sambas-01",
    "authority.id": "imigrasi-jakarta",
    "http.listen": "127.0.0.1:8631",
    "mqtt.url": "mqtts://broker.example:8883",
    "mqtt.password_file": "",
    "mqtt.ca": "",
    "mqtt.cert": "",
    "mqtt.key": "",
    "printers.main.port": "/dev/print-agent/printer-A10K7XYZ",
    "printers.main.usb": "04b8:0202",
    "printers.main.usb_serial": "A10K7XYZ",
    "readers.desk.port": "/dev/print-agent/reader-B20K8XYZ",
    "ups.name": "ups",
}
NAMES = {"printers": "main", "readers": "desk"}
NEEDED = ("station", "authority", "printers.main")
NEEDED_KEYS = ("station.id", "authority.id", "printers.main.port")


def text() -> str:
    """The whole file: it is read as it is, and with every commented key in force."""
    return HEAD + "".join(_tables(Settings, ""))


def _tables(table: type[Table], path: str) -> Iterator[str]:
    for name, field in table.model_fields.items():
        inner = table_in(field.annotation)
        if inner is None:
            continue
        where = f"{path}{name}.{NAMES[name]}" if name in NAMES else f"{path}{name}"
        mark = "" if where in NEEDED else "#"
        yield f"\n{mark}[{where}]\n"
        for key, value in inner.model_fields.items():
            if table_in(value.annotation) is None:
                yield _key(f"{where}.{key}", key, value)
        yield from _tables(inner, f"{where}.")


def _key(where: str, key: str, field: FieldInfo) -> str:
    value = SAMPLES[where] if where in SAMPLES else field.get_default(call_default_factory=True)
    mark = "" if where in NEEDED_KEYS else "#"
    if value is None:
        return f"# {key}: {field.description}\n"
    return f"# {field.description}\n{mark}{key} = {_toml(value)}\n"


def _toml(value: Any) -> str:
    match value:
        case Address(host, port):
            return json.dumps(f"{host}:{port}")
        case enum.Enum():
            return json.dumps(value.value)
        case bool() | int() | float():
            return json.dumps(value)
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case Mapping():
            return "{}"
        case _:
            return json.dumps(str(value))
