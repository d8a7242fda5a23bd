"""Messages about connections, TLS, QMP commands, and what libvirt says of them."""

from __future__ import annotations

from vmstream.tools.explain.message import Message, Role

__all__ = ["TRANSPORT"]

SOURCE_LOG = "look at the source's log: it tells why it stopped"
CREDENTIALS = "see that both ends have certificates of one authority and the names they must have"
MIGRATION = "migration/migration.c"

TRANSPORT: tuple[Message, ...] = (
    Message(
        "tls",
        "TLS handshake failed: {reason}",
        "the two ends could not agree on TLS: one has it off, or a certificate is not accepted",
        CREDENTIALS,
        source="io/channel-tls.c",
        example="TLS handshake failed: The TLS connection was non-properly terminated.",
    ),
    Message(
        "tls",
        "Certificate does not match the hostname {name:w}",
        "the other end's certificate is for another name",
        "set tls-hostname to the name in the certificate",
        source="crypto/tlssession.c",
    ),
    Message(
        "tls",
        "No TLS credentials with id '{name:n}'",
        "the tls-creds object that the parameter names does not exist",
        "make it with object_add or -object before the migration",
        source="migration/tls.c",
    ),
    Message(
        "channel",
        "Migration requires multi-channel URIs (e.g. tcp)",
        "multifd and preempt need an address that takes several connections",
        "use tcp: or unix:",
        source=MIGRATION,
    ),
    Message(
        "channel",
        "Migration requires seekable transport (e.g. file)",
        "mapped-ram needs a file",
        "use file:PATH",
        source=MIGRATION,
    ),
    Message(
        "channel",
        "unknown migration protocol: {uri:w}",
        "this QEMU does not know that kind of address",
        "use tcp:, unix:, fd:, exec: or, from 8.2 on, file:",
        source=MIGRATION,
    ),
    Message(
        "channel",
        "uri is not a valid migration protocol",
        "this QEMU does not know that kind of address",
        "use tcp:, unix:, fd:, exec: or, from 8.2 on, file:",
        source=MIGRATION,
    ),
    Message(
        "channel",
        "Failed to connect to '{address:n}'",
        "nobody listens there, or a firewall is between",
        "see that the destination runs with -incoming, and that the port is open",
        source="util/qemu-sockets.c",
    ),
    Message(
        "channel",
        "Failed to find an available port",
        "the destination's port is in use",
        "choose another port",
        source="util/qemu-sockets.c",
    ),
    Message(
        "channel",
        "Unable to write to socket: {reason}",
        "the other end closed the connection: its log has the cause",
        "look at the destination's log",
        source="io/channel-socket.c",
        example="Unable to write to socket: Broken pipe",
    ),
    Message(
        "channel",
        "Unable to read from socket: {reason}",
        "the other end closed the connection, or the network broke",
        SOURCE_LOG,
        source="io/channel-socket.c",
        example="Unable to read from socket: Connection reset by peer",
    ),
    Message(
        "channel",
        "Unable to write to command: {reason}",
        "the command of an exec: address ended before it had read everything",
        "run the command by hand: the disk may be full",
        source="io/channel-command.c",
        example="Unable to write to command: Broken pipe",
    ),
    Message(
        "channel",
        "failed to save SaveStateEntry with id(name): {section:w}",
        "the source could not write this section: the connection broke, mostly because the "
        "destination refused something",
        "look at the destination's log",
        role=Role.SYMPTOM,
        source="migration/savevm.c",
        example="failed to save SaveStateEntry with id(name): 2(ram): -5",
    ),
    Message(
        "running",
        "There's a migration process in progress",
        "another migration of this guest is under way",
        "wait for it, or migrate_cancel",
        source=MIGRATION,
    ),
    Message(
        "running",
        "Guest is waiting for an incoming migration",
        "this QEMU is a destination itself",
        "migrate the source",
        source=MIGRATION,
    ),
    Message(
        "running",
        "Can't migrate the vm that was paused due to previous migration",
        "the guest has moved away already",
        "cont it first, if the destination does not run",
        source=MIGRATION,
    ),
    Message(
        "rdma",
        "RDMA ERROR: {what}",
        "the RDMA connection failed",
        "see the limits for locked memory (ulimit -l), and that both ends have the device",
        source="migration/rdma.c",
        example="RDMA ERROR: could not rdma_getaddrinfo address 192.168.0.1",
    ),
    # libvirt
    Message(
        "libvirt",
        "qemu unexpectedly closed the monitor: {rest}",
        "the destination's QEMU ended; what it printed follows",
        "see what follows, or /var/log/libvirt/qemu/GUEST.log at the destination",
        role=Role.SYMPTOM,
        source="libvirt, src/qemu/qemu_monitor.c",
        example="internal error: qemu unexpectedly closed the monitor: 2024-01-02T03:04:05Z",
    ),
    Message(
        "libvirt",
        "QEMU unexpectedly closed the monitor (vm='{guest:n}')",
        "the destination's QEMU ended; what it printed follows",
        "see what follows, or /var/log/libvirt/qemu/GUEST.log at the destination",
        role=Role.SYMPTOM,
        source="libvirt, src/qemu/qemu_monitor.c",
    ),
    Message(
        "libvirt",
        "job '{job:n}' failed: {rest}",
        "libvirt's job failed; the rest of the line is QEMU's reason",
        "see the destination's log: the source's reason is mostly that the other end closed",
        role=Role.SYMPTOM,
        source="libvirt, src/qemu/qemu_migration.c",
        example="operation failed: job 'migration out' failed: Unable to write to socket",
    ),
    Message(
        "libvirt",
        "job: unexpectedly failed",
        "libvirt's job failed without a reason",
        "see the destination's log",
        role=Role.SYMPTOM,
        source="libvirt, src/qemu/qemu_migration.c",
        example="operation failed: migration out job: unexpectedly failed",
    ),
    Message(
        "libvirt",
        "image magic is incorrect",
        "the save image is no image of libvirt's",
        "vmstream inspect tells what it is",
        source="libvirt, src/qemu/qemu_saveimage.c",
    ),
    Message(
        "libvirt",
        "save image is incomplete",
        "libvirt did not finish writing the image",
        "vmstream verify tells how much of the guest is there",
        source="libvirt, src/qemu/qemu_saveimage.c",
    ),
    Message(
        "truncated",
        "Unable to read from {what:w}: {reason}",
        "the input ended or failed",
        SOURCE_LOG,
        source="io/channel-file.c, channel-command.c",
        example="Unable to read from command: Input/output error",
    ),
)
