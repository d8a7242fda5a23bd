"""Messages of single features: capabilities, post-copy, multifd, vfio, bitmaps, TLS files."""

from __future__ import annotations

from vmstream.tools.explain.message import Message, Role

__all__ = ["REST"]

OPTIONS = "migration/options.c (migration.c before 8.1)"
SAVEVM = "migration/savevm.c"
MIGRATION = "migration/migration.c"
POSTCOPY = "migration/postcopy-ram.c"
MULTIFD = "migration/multifd.c and its compressors"
VFIO = "hw/vfio/migration.c, migration-multifd.c"
DAMAGED = "the stream is damaged, or the ends differ in a capability: vmstream verify"
TOGETHER = "turn one of the two capabilities off, at both ends"
SAME_MULTIFD = "give both ends the same multifd, multifd-channels and multifd-compression"
UNPLUG = "unplug the device before the migration"
EARLY = "set it at the destination before migrate_incoming: start it with -incoming defer"
LOG = "look at the lines around it and at the other end's log"

_ROWS: tuple[tuple[str, str, str, str, str], ...] = (
    # Capabilities that do not go together, or come too late
    (
        "capability",
        "Postcopy is not compatible with ignore-shared",
        "post-copy and x-ignore-shared exclude each other",
        TOGETHER,
        OPTIONS,
    ),
    (
        "capability",
        "Postcopy is not yet compatible with multifd",
        "post-copy and multifd exclude each other before 10.1",
        TOGETHER,
        OPTIONS,
    ),
    (
        "capability",
        "Postcopy preempt requires postcopy-ram",
        "postcopy-preempt needs postcopy-ram",
        "turn postcopy-ram on, too, at both ends",
        OPTIONS,
    ),
    (
        "capability",
        "Postcopy preempt not compatible with compress",
        "postcopy-preempt and compress exclude each other",
        TOGETHER,
        OPTIONS,
    ),
    (
        "capability",
        "{capability} must be set before incoming starts",
        "the capability was set when the destination listened already",
        EARLY,
        OPTIONS,
    ),
    (
        "capability",
        "Multifd is not compatible with {capability:w}",
        "multifd excludes this capability",
        TOGETHER,
        OPTIONS,
    ),
    (
        "capability",
        "Mapped-ram migration is incompatible with {capability:w}",
        "mapped-ram excludes this capability",
        TOGETHER,
        OPTIONS,
    ),
    (
        "capability",
        "Mapped-ram only available for non-compressed non-TLS multifd migration",
        "mapped-ram with multifd takes neither compression nor TLS",
        "set multifd-compression to none, and no tls-creds",
        OPTIONS,
    ),
    (
        "capability",
        "Cannot use {what:w} with mapped-ram",
        "mapped-ram excludes this",
        "set multifd-compression to none, and no tls-creds",
        OPTIONS,
    ),
    (
        "capability",
        "Background-snapshot is not {what}",
        "a background snapshot is not possible with this guest, host kernel or capability",
        "turn the capability off; give QEMU the right to use userfaultfd; migrate normally",
        OPTIONS,
    ),
    (
        "capability",
        "Postcopy is not supported",
        "this host has no userfaultfd for the guest's memory, or QEMU may not use it",
        "sysctl vm.unprivileged_userfaultfd=1, and memory that userfaultfd can watch",
        f"{OPTIONS}, {POSTCOPY}",
    ),
    (
        "capability",
        "RDMA and {capability:w} can't be used together",
        "RDMA excludes this capability",
        TOGETHER,
        MIGRATION,
    ),
    (
        "capability",
        "Command options are incompatible with current migration capabilities",
        "migrate was given -b or -i besides capabilities that exclude them",
        "leave the options out",
        OPTIONS,
    ),
    (
        "channel",
        "Postcopy preempt is not supported as current migration stream does not support "
        "multi-channels.",
        "preempt needs an address that takes several connections",
        "use tcp: or unix:",
        POSTCOPY,
    ),
    (
        "channel",
        "Migration requires {what:w} transport",
        "the capabilities need another kind of address",
        "the message tells which",
        MIGRATION,
    ),
    (
        "channel",
        "multifd is not supported by current protocol",
        "multifd needs an address that takes several connections",
        "use tcp: or unix:",
        MULTIFD,
    ),
    (
        "channel",
        "Extra incoming migration connection; ignoring",
        "somebody else connected to the destination while it loads",
        "nothing, if the migration goes on; else keep others away from the port",
        MIGRATION,
    ),
    # State of the two ends
    (
        "running",
        "The incoming migration has already been started",
        "the destination listens already",
        "start it anew with -incoming defer to choose another address",
        MIGRATION,
    ),
    (
        "running",
        "'-incoming' was not specified on the command line",
        "this QEMU is no destination",
        "start it with -incoming defer",
        MIGRATION,
    ),
    (
        "running",
        "Migration not in expected state: {state:w}",
        "migrate_continue came at another moment than it is for",
        "wait for pre-switchover",
        MIGRATION,
    ),
    (
        "running",
        "Illegal migration incoming state: {state:w}",
        "the destination is in a state in which nothing can arrive",
        "start the destination anew",
        MIGRATION,
    ),
    (
        "running",
        "Can't migrate this vm with hardware poisoned memory",
        "a page of the guest's memory broke",
        "reboot the guest",
        "accel/kvm",
    ),
    (
        "unmigratable",
        "State blocked by non-migratable CPU device (invtsc flag)",
        "a guest with invtsc only moves between hosts that count alike",
        "set tsc-frequency at both ends, or turn invtsc off",
        "target/i386/kvm/kvm.c",
    ),
    (
        "unmigratable",
        "SEV{kind:n}: Migration is not implemented",
        "encrypted guests can not be migrated",
        "shut the guest down and start it at the destination",
        "target/i386/sev.c",
    ),
    (
        "unmigratable",
        "does not support live migration",
        "the image format of a disk does not let the guest move",
        "convert the disk to qcow2 or raw",
        "block/vdi.c, vmdk.c, vhdx.c, vpc.c, parallels.c, vvfat.c",
    ),
    (
        "unmigratable",
        "Migration is disabled when VirtFS export path '{path:n}' is mounted in the guest using "
        "mount_tag '{tag:n}'",
        "a mounted 9p file system keeps the guest where it is",
        "unmount it in the guest first",
        "hw/9pfs/9p.c",
    ),
    (
        "unmigratable",
        "Migration disabled: {reason}",
        "something of the guest can not be migrated; the message says what",
        UNPLUG,
        "several",
    ),
    # Post-copy
    (
        "postcopy",
        "Postcopy requires RAM blocks to be a page size multiple, block {block:w} is {size:x} "
        "bytes with a page size of {page:x}",
        "a block of memory is no whole number of its pages",
        "give the block another size",
        POSTCOPY,
    ),
    (
        "postcopy",
        "RAM block '{block:n}' resized during {phase:w}",
        "the guest changed the size of a block (its firmware tables) while it moved",
        "migrate again, when the guest has started",
        "migration/ram.c",
    ),
    (
        "postcopy",
        "RAMBlock '{block:n}' not found on destination",
        "post-copy recovery found a block that the other end does not have",
        "end both and begin anew from a snapshot: this can not be recovered",
        SAVEVM,
    ),
    (
        "postcopy",
        "Cannot resume if there is no paused migration",
        "there is nothing to recover",
        "migrate without -r",
        MIGRATION,
    ),
    (
        "postcopy",
        "Migrate recover can only be run when postcopy is paused.",
        "there is nothing to recover",
        "migrate_recover is for a broken post-copy only",
        MIGRATION,
    ),
    (
        "postcopy",
        "Postcopy recovery cannot work when release-ram capability is set",
        "the source has given its memory away already",
        "do not use release-ram with post-copy over networks that break",
        MIGRATION,
    ),
    (
        "postcopy",
        "ramblock '{block:n}' end mark incorrect: {found:x}",
        "a received bitmap does not end as it must",
        DAMAGED,
        "migration/ram.c",
    ),
    (
        "postcopy",
        "read bitmap failed for ramblock '{block:n}'",
        "the connection broke again during recovery",
        "migrate_recover and migrate -r again",
        "migration/ram.c",
    ),
    (
        "postcopy",
        "loadvm failed during postcopy: {errno:d}. All states are migrated except dirty bitmaps.",
        "the guest is whole; dirty bitmaps were lost",
        "make the next backup a full one",
        SAVEVM,
    ),
    (
        "return-path",
        "eceived '{message:n}' message ({type:x}) withincorrect length {found:d} expecting "
        "{expected:d}",
        "what came back is no message of this version",
        "look at what the destination is: another version, or another program",
        MIGRATION,
    ),
    (
        "return-path",
        "eceived invalid message {type:x} length {length:x}",
        "what came back is no message of this version",
        "look at what the destination is: another version, or another program",
        MIGRATION,
    ),
    (
        "return-path",
        "Sibling indicated error {value:d}",
        "the destination says that it failed",
        "look at the destination's log",
        MIGRATION,
    ),
    # Memory
    (
        "ram-page",
        "illegal host addr",
        "a page lies outside its block",
        DAMAGED,
        "migration/ram.c",
    ),
    (
        "ram-page",
        "offset {offset:x}outside of ramblock {block:w} range",
        "a page lies outside its block",
        DAMAGED,
        "migration/ram.c (mapped-ram)",
    ),
    (
        "ram-page",
        "page outside of ramblock {block:w} range",
        "a page lies outside its block",
        DAMAGED,
        "migration/ram.c (mapped-ram)",
    ),
    (
        "ram-block-unknown",
        "ram blocks mismatch (Number of blocks {source:d} vs {destination:d})",
        "the two ends have different memory (RDMA)",
        "start the destination with the source's devices and memory",
        "migration/rdma.c",
    ),
    # Multifd, whatever else it says
    (
        "multifd",
        "multifd recv ({channel:d}): {what}",
        "a channel ended inside a packet",
        LOG,
        MULTIFD,
    ),
    (
        "multifd",
        "multifd {channel:d}: {what}",
        "a packet does not decompress, or the compressor could not start",
        SAME_MULTIFD,
        MULTIFD,
    ),
    (
        "multifd",
        "multifd: {what}",
        "what arrived on a channel is not the packet that was expected",
        SAME_MULTIFD,
        MULTIFD,
    ),
    # Sections
    (
        "truncated",
        "Failed to read section ID: {errno:d}",
        "the stream ends inside a section's header",
        "vmstream verify tells how much is there; look at the source's log",
        SAVEVM,
    ),
    (
        "truncated",
        "Unable to read ID string for section {section:d}",
        "the stream ends inside a section's header",
        "vmstream verify tells how much is there; look at the source's log",
        SAVEVM,
    ),
    (
        "field-value",
        "vmstate: get_nullptr expected VMS_NULLPTR_MARKER",
        "a pointer that is NULL at the destination is not in the stream",
        "give the device the same properties at both ends",
        "migration/vmstate-types.c",
    ),
    (
        "field-value",
        "inconsistent state in serial device (tsr {what})",
        "the serial port's state contradicts itself",
        DAMAGED,
        "hw/char/serial.c",
    ),
    (
        "pci-config",
        "Cannot migrate while device properties (subsys/subsys_ven) differ",
        "the destination's device has other subsystem ids",
        "give the device the same properties at both ends",
        "hw/net/e1000e.c",
    ),
    (
        "cpu-features",
        "Received {what} nested state",
        "the destination's kernel can not take the state of nested virtualization",
        "use a kernel of the same age at both ends",
        "target/i386/machine.c",
    ),
    (
        "uuid",
        "UUID is received {source:w}, but local uuid isn't set",
        "the source sent its UUID, and the destination has none to compare",
        "start the destination with the source's -uuid",
        SAVEVM,
    ),
    # Dirty bitmaps
    (
        "dirty-bitmap",
        "Unknown flags in migrated dirty bitmap header: {flags:x}",
        "the bitmaps are of a newer QEMU",
        "turn dirty-bitmaps off at the source, or use a newer destination",
        "migration/block-dirty-bitmap.c",
    ),
    (
        "dirty-bitmap",
        "Bitmap '{bitmap:n}' in {what:w} node",
        "a bitmap belongs to a disk that has no name to find it by at the destination",
        "name the node, or give a block-bitmap-mapping",
        "migration/block-dirty-bitmap.c",
    ),
    (
        "dirty-bitmap",
        "Failed to make dirty bitmaps writable: {reason}",
        "the disk could not be written when the guest arrived",
        "see that the destination may write the disk",
        "migration/block-dirty-bitmap.c",
    ),
    # Passed-through devices and back ends
    (
        "vfio",
        "VFIO device doesn't support migration",
        "the driver of a passed-through device can not migrate it",
        UNPLUG,
        VFIO,
    ),
    (
        "vfio",
        "VFIO migration is not supported with {what}",
        "passed-through devices exclude this",
        "migrate without it, or unplug the device",
        VFIO,
    ),
    (
        "vfio",
        "doing multifd transfer",
        "the ends differ in whether passed-through devices go over multifd",
        "give both ends the same x-migration-multifd-transfer",
        VFIO,
    ),
    (
        "vfio",
        "load config state flush failed: {errno:d}",
        "a passed-through device refused its configuration",
        "use the same device and driver at both ends",
        VFIO,
    ),
    (
        "vhost",
        "Back-end did not accept migration state transfer",
        "the vhost-user back end refused to hand its state over",
        "use back ends that can, at both ends",
        "hw/virtio/vhost.c",
    ),
    (
        "vhost",
        "Back-end does not support migration state transfer",
        "the vhost-user back end can not hand its state over",
        "use back ends that can, at both ends",
        "hw/virtio/vhost.c",
    ),
    (
        "vhost",
        "oading {gap:n}back-end state of {device:w} device",
        "the vhost-user back end refused its state",
        "use the same back end at both ends",
        "hw/virtio/vhost-user-fs.c",
    ),
    (
        "vmstate-proxy",
        "Required VMState Id are missing: {ids}",
        "an external process whose state travels with the guest does not run at the destination",
        "start it there",
        "backends/dbus-vmstate.c",
    ),
    (
        "unmigratable",
        "does not support migration",
        "something of the guest can not be migrated; the message names it",
        UNPLUG,
        "several",
    ),
    # TLS files
    (
        "tls",
        "Cannot load {what:w} certificate '{path:n}'",
        "a certificate can not be read",
        "see that the file is there and readable",
        "crypto/tlscredsx509.c",
    ),
    (
        "tls",
        "Cannot load certificate '{path:n}' & key '{key:n}'",
        "a certificate or its key can not be read, or they do not belong together",
        "see that both files are there, readable and a pair",
        "crypto/tlscredsx509.c",
    ),
    (
        "disk",
        "Block inactivate failed during switchover",
        "a disk could not be handed over",
        "look at the lines before: another job may hold the disk",
        MIGRATION,
    ),
)

REST: tuple[Message, ...] = (
    *(
        Message(code, text, meaning, remedy, source=source)
        for code, text, meaning, remedy, source in _ROWS
    ),
    Message(
        "tls",
        "Failed to terminate TLS connection: {reason}",
        "the channel ended without TLS's goodbye (expected from a source before 10.0)",
        "nothing, if the guest runs",
        role=Role.WARNING,
        source="migration/multifd.c (10.0)",
    ),
    Message(
        "running",
        "Error in migration completion",
        "the last step failed; the line before tells why",
        "see the line before",
        role=Role.SYMPTOM,
        source=MIGRATION,
    ),
    Message(
        "device-load",
        "Load state of device {device:w} failed",
        "this device's state could not be loaded; a line before tells why",
        "see the line before",
        role=Role.SYMPTOM,
        source=SAVEVM,
    ),
)
