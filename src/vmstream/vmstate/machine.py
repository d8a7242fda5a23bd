"""A whole machine of declared states, as a stream and back.

The stream is what QEMU's ``savevm`` writes of a machine without RAM: header,
CONFIGURATION, early sections, the other sections, end mark, description
(QEMU ``migration/savevm.c``). RAM travels through ``vmstream.stream``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vmstream.errors import Malformed, StreamError
from vmstream.vmstate.description import (
    Description,
    DeviceDescription,
    Field,
    StreamDescription,
)
from vmstream.vmstate.dialect import NEWEST, Dialect
from vmstream.vmstate.loading import load
from vmstream.vmstate.refusals import LoadRefused
from vmstream.vmstate.registry import Registration, Registry
from vmstream.vmstate.saving import save_described
from vmstream.vmstate.vmdesc import dump
from vmstream.wire.configuration import Configuration
from vmstream.wire.sections import (
    FILE_VERSION,
    DescriptionText,
    Element,
    EndOfStream,
    FileHeader,
    SectionEnd,
    SectionStart,
)

__all__ = ["Machine", "StateSection"]


class StateSection(msgspec.Struct, frozen=True):
    """A section to load: what a decoded stream gives of each device."""

    idstr: str
    instance_id: int
    version_id: int
    data: bytes
    offset: int = 0


class Machine:
    """A machine type and the states registered for it.

    Args:
        machine_type: what CONFIGURATION says, such as ``pc-q35-10.0``.
        page_size: target page size in bytes.
        target_page_bits: log2 of the page size where the target can vary it (Arm).
        capabilities: validated capabilities that are on.
        uuid: 16 bytes, with capability validate-uuid.
    """

    def __init__(
        self,
        machine_type: str,
        *,
        page_size: int = 4096,
        target_page_bits: int | None = None,
        capabilities: Sequence[str] | None = None,
        uuid: bytes | None = None,
    ) -> None:
        if uuid is not None and len(uuid) != 16:
            raise ValueError(f"a UUID has 16 bytes, not {len(uuid)}")
        self.machine_type = machine_type
        self.page_size = page_size
        self.target_page_bits = target_page_bits
        self.capabilities = tuple(capabilities) if capabilities is not None else None
        self.uuid = uuid
        self.registry = Registry()
        self.register = self.registry.register

    # Saving

    def save(
        self,
        dialect: Dialect = NEWEST,
        *,
        configuration: bool = True,
        footers: bool = True,
        description: bool = True,
    ) -> bytes:
        """The whole stream.

        Args:
            dialect: the QEMU version whose description is written.
            configuration, footers, description: as the machine properties
                send-configuration, send-section-footer and suppress-vmdesc.

        Raises:
            Unsupported: a state is declared unmigratable.
            ValueError: a value does not fit its field.
        """
        out = [FileHeader(0, FILE_VERSION).encode()]
        if configuration:
            out.append(self._configuration().encode())
        devices = []
        for entry in self._in_order():
            body, described = save_described(entry.state, dialect)
            out += self._section(entry, body, footers)
            old_style = dialect.version < type(entry.state).described_since
            devices.append(DeviceDescription(entry.idstr, entry.instance_id, described, old_style))
        out.append(EndOfStream(0).encode())
        if description:
            out.append(self._describe(devices, dialect, configuration).encode())
        return b"".join(out)

    def _in_order(self) -> list[Registration]:
        needed = [entry for entry in self.registry if entry.state.needed()]
        early = [entry for entry in needed if type(entry.state).early_setup]
        return early + [entry for entry in needed if not type(entry.state).early_setup]

    @staticmethod
    def _section(entry: Registration, body: bytes, footers: bool) -> list[bytes]:
        version = type(entry.state).version
        head = SectionStart(
            0, Element.FULL, entry.section_id, entry.idstr, entry.instance_id, version
        )
        end = SectionEnd(0, entry.section_id, entry.section_id if footers else None)
        return [head.encode(), body, end.encode()]

    def _configuration(self) -> Configuration:
        return Configuration(
            0, self.machine_type, self.target_page_bits, self.capabilities, self.uuid
        )

    def _describe(
        self, devices: list[DeviceDescription], dialect: Dialect, configuration: bool
    ) -> DescriptionText:
        described = None
        if configuration and dialect.describes_configuration:
            described = _describe_configuration(self._configuration())
        stream = StreamDescription(
            self.page_size, tuple(devices), configuration=described, compact=dialect.compact
        )
        return DescriptionText(0, dump(stream))

    # Loading

    def load(self, sections: Sequence[StateSection], configuration: Configuration | None) -> None:
        """Load every section into the state it belongs to.

        Raises:
            LoadRefused: a section has no state here, or a state refuses it; sections
                before it are loaded.
            Malformed: the configuration is another machine's.
        """
        if configuration is not None:
            self._check_configuration(configuration)
        for section in sections:
            entry = self.registry.find(section.idstr, section.instance_id)
            if entry is None:
                raise LoadRefused(
                    f"no state is registered as {section.idstr} instance {section.instance_id}",
                    offset=section.offset,
                    device=section.idstr,
                    qemu_text=f"Unknown section or instance '{section.idstr}' "
                    f"{section.instance_id}. Make sure that your current VM setup matches "
                    "your saved VM setup, including any hotplugged devices",
                )
            load(
                entry.state,
                section.data,
                section.version_id,
                offset=section.offset,
                device=section.idstr,
            )

    def _check_configuration(self, found: Configuration) -> None:
        """Machine type (a prefix is enough for QEMU), page size, capabilities."""
        if not self.machine_type.startswith(found.machine):
            raise _mismatch(found, "machine type", self.machine_type, found.machine)
        own, theirs = self.target_page_bits, found.target_page_bits
        if theirs is not None and own is not None and own != theirs:
            raise _mismatch(found, "target page bits", own, theirs)
        if set(found.capabilities or ()) != set(self.capabilities or ()):
            raise _mismatch(
                found, "capabilities", self.capabilities or (), found.capabilities or ()
            )


def _mismatch(found: Configuration, what: str, own: object, theirs: object) -> StreamError:
    return Malformed(
        f"the stream has another {what}",
        offset=found.offset,
        section="configuration",
        expected=own,
        found=theirs,
    )


def _describe_configuration(configuration: Configuration) -> Description:
    """The ``configuration`` object that 8.2 and later put first."""
    parts = []
    if configuration.target_page_bits is not None:
        bits = Field("target_page_bits", "uint32", 4)
        parts.append(Description("configuration/target-page-bits", 1, (bits,)))
    if configuration.capabilities is not None:
        count = len(configuration.capabilities)
        fields = [Field("caps_count", "uint32", 4)]
        if count:
            length = count if count > 1 else None
            size = 1 + len(configuration.capabilities[0].encode())
            fields.append(Field("capabilities", "capability", size, array_len=length))
        parts.append(Description("configuration/capabilities", 1, tuple(fields)))
    if configuration.uuid is not None:
        uuid = Field("uuid.data", "uint8", 1, array_len=16)
        parts.append(Description("configuration/uuid", 1, (uuid,)))
    size = len(configuration.machine.encode())
    return Description(
        "configuration",
        1,
        (Field("len", "uint32", 4), Field("name", "buffer", size)),
        tuple(parts),
    )
