"""Messages about the stream as a whole, its sections and their fields."""

from __future__ import annotations

from vmstream.tools.explain.message import Message, Role

__all__ = ["LAST", "STATE"]

SAVEVM = "migration/savevm.c"
VMSTATE = "migration/vmstate.c"
TYPES = "migration/vmstate-types.c"
SAME_SETUP = "start the destination with the same devices, in the same places, as the source"
COMPARE = "vmstream check STREAM --schema or --against the destination names the field"

STATE: tuple[Message, ...] = (
    # The head
    Message(
        "machine-type",
        "Machine type received is '{source:n}' and local is '{destination:n}'",
        "the guest was saved on another machine type than the destination has",
        "start the destination with -M and the name that was received",
        source=SAVEVM,
    ),
    Message(
        "configuration-missing",
        "Configuration section missing",
        "the destination expects a configuration section at the start, and the stream has none: "
        "it is of a machine type up to 2.3, of QEMU before 2.4, or was sent without",
        "start the destination with -global migration.send-configuration=off, or add the section: "
        "vmstream edit --add-configuration",
        source=SAVEVM,
    ),
    Message(
        "capability",
        "Capability {capability:w} is {destination:w}, but received capability is {source:w}",
        "a capability must be the same at both ends, and is not",
        "set the capability at the destination as it was at the source",
        source=SAVEVM,
    ),
    Message(
        "capability",
        "Received unknown capability {capability:w}",
        "the source had a capability on that this QEMU does not know",
        "turn it off at the source, or use a newer destination",
        source=SAVEVM,
    ),
    Message(
        "page-bits",
        "Received TARGET_PAGE_BITS is {source:d} but local is {destination:d}",
        "the two ends have target pages of different sizes",
        "give both ends the same machine type and processor model",
        source=SAVEVM,
    ),
    Message(
        "uuid",
        "UUID received is {source:w} and local is {destination:w}",
        "the source asked for the UUIDs to be compared, and they differ",
        "start the destination with the source's -uuid, or turn validate-uuid off",
        source=SAVEVM,
    ),
    Message(
        "not-a-stream",
        "Not a migration stream",
        "what arrived does not begin as a migration: another program connected, the file has a "
        "container around it, or one end has TLS or multifd on and the other has not",
        "look at the first bytes: vmstream inspect; give both ends the same capabilities and TLS",
        source=SAVEVM,
    ),
    Message(
        "stream-version",
        "SaveVM v2 format is obsolete and don't work anymore",
        "the file is of QEMU 0.9 or older, which no supported version loads",
        "load it with QEMU 0.10 to 1.x and save it again",
        source=SAVEVM,
    ),
    Message(
        "stream-version",
        "Unsupported migration stream version",
        "the header has a version that this QEMU does not know: the file is damaged, or no stream",
        "vmstream verify tells what is there",
        source=SAVEVM,
    ),
    # Sections
    Message(
        "section-type",
        "Unknown savevm section type {type:d}",
        "a byte that begins no section: 7 is the configuration section, which QEMU before 2.4, or "
        "a machine type that does not expect it, does not know; 126 is a footer where none is "
        "expected; anything else means that the device before read too much or too little",
        "for 7 or 126 give both ends the same send-configuration and send-section-footer; else "
        + COMPARE,
        source=SAVEVM,
    ),
    Message(
        "section-type",
        "Unknown section type {type:d}",
        "a byte that begins no section: 7 is the configuration section, 126 a footer; anything "
        "else means that the device before read too much or too little",
        "for 7 or 126 give both ends the same send-configuration and send-section-footer; else "
        + COMPARE,
        source=SAVEVM,
    ),
    Message(
        "section-unknown",
        "Unknown savevm section or instance '{device:n}' {instance:d}",
        "the stream has a device that the destination does not have, or has at another place",
        SAME_SETUP,
        source=SAVEVM,
    ),
    Message(
        "section-unknown",
        "Unknown section or instance '{device:n}' {instance:d}",
        "the stream has a device that the destination does not have, or has at another place",
        SAME_SETUP,
        source=SAVEVM,
    ),
    Message(
        "section-unknown",
        "Unknown savevm section {section:d}",
        "the stream goes on with a section that never began: it is damaged",
        "vmstream verify tells where",
        source=SAVEVM,
    ),
    Message(
        "section-version",
        "unsupported version {source:d} for '{device:n}' v{destination:d}",
        "the source's QEMU writes a newer version of the device than the destination reads",
        "use a machine type at the source that the destination knows, or a newer destination",
        source=SAVEVM,
    ),
    Message(
        "section-version",
        "{device:w}: incoming version_id {source:d} is too new for local version_id "
        "{destination:d}",
        "the source's QEMU writes a newer version of this state than the destination reads",
        "use a machine type at the source that the destination knows, or a newer destination",
        source=VMSTATE,
    ),
    Message(
        "section-version",
        "{device:w}: incoming version_id {source:d} is too old for local minimum version_id  "
        "{destination:d}",
        "the stream is of a QEMU so old that the destination no longer reads its state",
        "load it with a QEMU between the two, and save it again",
        source=VMSTATE,
    ),
    Message(
        "section-footer",
        "Missing section footer for {device:w}",
        "after this device the destination did not find the end mark where it expected it: source "
        "and destination have different layouts of this device, or of one it holds",
        COMPARE,
        source=SAVEVM,
    ),
    Message(
        "section-footer",
        "Mismatched section id in footer for {device:w} - read {found:x} expected {expected:x}",
        "the end mark after this device belongs to another section: the layouts differ, or the "
        "stream is damaged",
        COMPARE,
        source=SAVEVM,
    ),
    Message(
        "truncated",
        "{function:w}: Read section footer failed: {errno:d}",
        "the stream ends before a section does: the file is cut, or the connection broke",
        "vmstream verify tells how much is there; look at the source's log for why it stopped",
        source=SAVEVM,
    ),
    Message(
        "subsection-unknown",
        "VM subsection '{subsection:n}' in '{device:n}' does not exist",
        "the source sent a subsection that the destination does not know",
        "make the source leave it out by a property or an older machine type, or drop it: "
        "vmstream edit --drop-subsection",
        source=VMSTATE,
    ),
    Message(
        "subsection-unknown",
        "Loading VM subsection '{subsection:n}' in '{device:n}' failed: {errno:d}",
        "a subsection could not be loaded; the line before tells why",
        COMPARE,
        role=Role.SYMPTOM,
        source=VMSTATE,
    ),
    Message(
        "unmigratable",
        "State blocked by non-migratable device '{device:n}'",
        "this device can not be migrated",
        "unplug the device before the migration",
        source=SAVEVM,
    ),
    Message(
        "unmigratable",
        "Device {device:w} is not migratable, but --only-migratable was specified",
        "the destination was asked to refuse such a device",
        "leave the device out, or --only-migratable",
        source="migration/migration.c",
    ),
    # Fields
    Message(
        "field-equal",
        "Input validation failed: {device:w}/{field:w}",
        "a value in the stream is not one that the device accepts",
        COMPARE,
        source=VMSTATE,
    ),
    Message(
        "field-equal",
        "Invalid value {source:d} expecting positive value <= {destination:d}",
        "a count in the stream is larger than the destination has room for",
        "give the device as much room at the destination (queues, ports, vectors)",
        source=TYPES,
    ),
    Message(
        "field-value",
        "{device:w} inconsistent stream when loading the gtree",
        "the elements of a container do not follow each other as they must",
        COMPARE,
        source=TYPES,
    ),
    Message(
        "field-load",
        "Failed to load {device:w}:{field:w}",
        "this field could not be loaded; a line before tells why",
        COMPARE,
        role=Role.SYMPTOM,
        source=VMSTATE,
    ),
    Message(
        "field-load",
        "Failed to load element of type {type:w} for {field:w}: {errno:d}",
        "this field could not be loaded; a line before tells why",
        COMPARE,
        role=Role.SYMPTOM,
        source=f"{VMSTATE} (10.2)",
    ),
    # The end
    Message(
        "device-load",
        "error while loading state for instance {instance:x} of device '{device:n}'",
        "this device's state could not be loaded; a line before it tells why, and where there is "
        "none a subsection or a value was refused without a word",
        COMPARE,
        role=Role.SYMPTOM,
        source=SAVEVM,
    ),
    Message(
        "device-load",
        "error while loading state section id {section:d}({device:w})",
        "this live section could not be loaded; a line before it tells why",
        "see the line before",
        role=Role.SYMPTOM,
        source=SAVEVM,
    ),
    Message(
        "load-failed",
        "load of migration failed: {reason}",
        "the migration was given up; the first line before it is the cause",
        "see the first line",
        role=Role.SYMPTOM,
        source="migration/migration.c",
        example="qemu-system-x86_64: load of migration failed: Invalid argument",
    ),
    Message(
        "load-failed",
        "Error {errno:d} while loading VM state",
        "a snapshot was not loaded; the first line before it is the cause",
        "see the first line",
        role=Role.SYMPTOM,
        source=SAVEVM,
    ),
    Message(
        "description",
        "Expected vmdescription section, but got {found:d}",
        "the stream has no description at its end, or something else stands there",
        "nothing: the guest was loaded",
        role=Role.WARNING,
        source=SAVEVM,
    ),
    # Commands
    Message(
        "command",
        "CMD_PING ({value:x}) received with no return path",
        "the stream was recorded from a connection with a return path, and is now read from a file "
        "or pipe that has none",
        "write it anew without the commands: vmstream convert --to plain",
        source=SAVEVM,
    ),
    Message(
        "command",
        "{command:w} received with bad length - expecting {expected:d}, got {found:d}",
        "a command in the stream has a length that this QEMU does not expect",
        "the two versions do not understand each other, or the stream is damaged: vmstream verify",
        source=SAVEVM,
    ),
    Message(
        "command",
        "MIG_CMD {command:x} unknown (len {length:x})",
        "a command in the stream that this QEMU does not know: it is of a newer version",
        "use a machine type of the destination's release at the source",
        source=SAVEVM,
    ),
    Message(
        "postcopy",
        "RAM postcopy is disabled but have 16 byte advise",
        "the source has postcopy-ram on, the destination has it off",
        "at the destination: migrate_set_capability postcopy-ram on",
        source=SAVEVM,
    ),
    Message(
        "postcopy",
        "RAM postcopy is enabled but have 0 byte advise",
        "the destination has postcopy-ram on, the source has it off",
        "at the destination: migrate_set_capability postcopy-ram off",
        source=SAVEVM,
    ),
    Message(
        "postcopy",
        "Postcopy needs matching RAM page sizes (s={source:x} d={destination:x})",
        "post-copy needs the same (huge) pages behind the guest at both ends",
        "back the guest with pages of the same size at both ends",
        source=SAVEVM,
    ),
    Message(
        "postcopy",
        "Postcopy needs matching target page sizes (s={source:d} d={destination:d})",
        "the two ends have target pages of different sizes",
        "give both ends the same machine type",
        source=SAVEVM,
    ),
    Message(
        "postcopy",
        "CMD_POSTCOPY_{command:w} in wrong postcopy state ({state:d})",
        "post-copy commands came in an order that this destination does not accept",
        "see that both ends have the same post-copy capabilities; vmstream inspect lists commands",
        source=SAVEVM,
    ),
    Message(
        "postcopy",
        "CMD_POSTCOPY_{command:w} invalid {what:w} ({value:d})",
        "a post-copy command does not read as this QEMU expects",
        "the stream is damaged, or of another version: vmstream verify",
        source=SAVEVM,
    ),
    Message(
        "postcopy",
        "Detected IO failure for postcopy. Migration paused.",
        "the connection broke in post-copy; both ends keep what they have",
        "migrate_recover at the destination, then migrate -r at the source",
        source="migration/migration.c",
    ),
    Message(
        "colo",
        "ENABLE_COLO command come in migration stream, but x-colo capability is not set",
        "the source has x-colo on, the destination has it off",
        "at the destination: migrate_set_capability x-colo on",
        source="migration/migration.c",
    ),
)

LAST: tuple[Message, ...] = (
    Message(
        "field-equal",
        "{source:x} != {destination:x}",
        "a value that must be the same at both ends is not; the next line names the field",
        "give the device the same properties at both ends",
        source=TYPES,
        example="qemu-system-x86_64: 4 != 8",
    ),
)
"""What is so short that everything else is tried before it."""
