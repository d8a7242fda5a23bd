"""Messages of devices and processors that refuse their state."""

from __future__ import annotations

from vmstream.tools.explain.message import Message, Role

__all__ = ["DEVICES"]

SAME_DEVICE = "give the device the same model and properties at both ends"
SAME_CPU = "start the destination with the source's processor model (-cpu), on a host that has it"
VIRTIO = "hw/virtio/virtio.c"

DEVICES: tuple[Message, ...] = (
    Message(
        "pci-config",
        "Bad config data: i={offset:x} read: {source:x} device: {destination:x} cmask: {cmask:x} "
        "wmask: {wmask:x} w1cmask:{w1cmask:x}",
        "a byte of PCI configuration space that no guest can change differs: the destination's "
        "device is another model, or has other properties",
        SAME_DEVICE,
        source="hw/pci/pci.c",
    ),
    Message(
        "virtio-features",
        "Features {source:x} unsupported. Allowed features: {destination:x}",
        "the guest uses virtio features that the destination's device does not offer",
        "give the destination's device the same properties, machine type and back end",
        source=VIRTIO,
    ),
    Message(
        "virtio-features",
        "Features {source:x} unsupported. Allowed {destination:x}",
        "the guest uses virtio features that the destination's device does not offer",
        "give the destination's device the same properties, machine type and back end",
        source=f"{VIRTIO} (2.x, and as it is often quoted)",
    ),
    Message(
        "virtio-queues",
        "Invalid number of virtqueues: {found:x}",
        "the device has more queues than any can have",
        SAME_DEVICE,
        source=VIRTIO,
    ),
    Message(
        "virtio-queues",
        "VQ {queue:d} size {size:x} Guest index {guest:x} inconsistent with Host index {host:x}: "
        "delta {delta:x}",
        "a queue in guest memory and the device's own count do not go together: memory and device "
        "state are of different moments, or memory is missing",
        "capture anew; see that all of memory is in the stream: vmstream verify",
        source=VIRTIO,
    ),
    Message(
        "virtio-queues",
        "VQ {queue:d} size {size:x} < last_avail_idx {last:x} - used_idx {used:x}",
        "a queue has more requests on their way than it has room for",
        "capture anew; see that all of memory is in the stream: vmstream verify",
        source=VIRTIO,
    ),
    Message(
        "virtio-queues",
        "VQ {queue:d} address {address:x} inconsistent with Host index {host:x}",
        "a queue without an address was used",
        SAME_DEVICE,
        source=VIRTIO,
    ),
    Message(
        "virtio-queues",
        "virtio-net: curr_queue_pairs {source:x} > max_queue_pairs {destination:x}",
        "the guest uses more pairs of queues than the destination's card has",
        "give the destination's back end as many queues",
        source="hw/net/virtio-net.c",
    ),
    Message(
        "virtio-queues",
        "virtio-net: curr_queues {source:x} > max_queues {destination:x}",
        "the guest uses more pairs of queues than the destination's card has",
        "give the destination's back end as many queues",
        source="hw/net/virtio-net.c (before 6.2)",
    ),
    Message(
        "virtio-net",
        "virtio-net: saved image requires vnet_hdr=on",
        "the guest's card used offloads that need vnet_hdr, which the destination's back end "
        "lacks: it is no tap, or vnet_hdr is off",
        "use a tap back end with vnet_hdr=on at the destination",
        source="hw/net/virtio-net.c",
    ),
    Message(
        "virtio-net",
        "virtio-net: saved image requires TUN_F_UFO support",
        "the guest's card used UFO, which the destination's tap device lacks (its kernel is of "
        "4.14 to 6.1)",
        "turn guest_ufo and host_ufo off at the source, or use another kernel",
        source="hw/net/virtio-net.c",
    ),
    Message(
        "virtio",
        "VirtIO device status",
        "the device's status does not go together with the rest of its state",
        SAME_DEVICE,
        source=VIRTIO,
    ),
    Message(
        "virtio-config",
        "Invalid queue_sel {value:x}",
        "no device has so many queues",
        SAME_DEVICE,
        source=VIRTIO,
        example="Invalid queue_sel 0x500",
    ),
    Message(
        "field-value",
        "virtio-gpu: resource {what}",
        "the display's resources could not be made anew at the destination",
        "see that the destination has the memory for them; use the same device model",
        source="hw/display/virtio-gpu.c",
        example="virtio-gpu: resource already exists 3",
    ),
    Message(
        "unmigratable",
        "virgl is not yet migratable",
        "3D acceleration can not be migrated",
        "use virtio-vga without gl",
        source="hw/display/virtio-gpu-base.c",
    ),
    # Processors
    Message(
        "cpu-features",
        "host doesn't support requested feature: {register:w} [bit {bit:d}]",
        "the destination's host lacks a processor feature that the guest was promised",
        "use a processor model that all hosts have, or a host that has the feature",
        source="target/i386/cpu.c",
        example="warning: host doesn't support requested feature: CPUID.01H:ECX.pdcm [bit 15]",
    ),
    Message(
        "cpu-features",
        "Host doesn't support requested features",
        "the destination's host lacks processor features that the guest was promised (enforce)",
        "use a processor model that all hosts have, or a host that has the features",
        source="target/i386/cpu.c",
    ),
    Message(
        "cpu-features",
        "the CPU is incompatible with host CPU",
        "the destination's host lacks processor features that the guest was promised",
        "use a processor model that all hosts have, or a host that has the features",
        source="libvirt, src/cpu/cpu.c",
    ),
    Message(
        "cpu-features",
        "guest CPU doesn't match specification: missing features: {features:w}",
        "the destination's host lacks processor features that the guest was promised",
        "use a processor model that all hosts have, or a host that has the features",
        source="libvirt, src/qemu/qemu_process.c",
    ),
    Message(
        "cpu-features",
        "error: failed to set MSR {register:x} to {value:x}",
        "the destination's kernel refused a processor register of the guest: its host or kernel "
        "lacks the feature",
        SAME_CPU,
        source="target/i386/kvm/kvm.c",
    ),
    Message(
        "cpu-tsc",
        "Mismatch between user-specified TSC frequency and migrated TSC frequency",
        "the destination was given another tsc-frequency than the guest had",
        "give the destination the source's tsc-frequency",
        source="target/i386/machine.c",
    ),
    Message(
        "cpu-tsc",
        "warning: TSC frequency mismatch between VM ({source:d} kHz) and host ({destination:d} "
        "kHz)",
        "the destination's host counts at another rate and can not scale: time in the guest "
        "will be wrong",
        "move to a host with TSC scaling, or turn invtsc off",
        role=Role.WARNING,
        source="target/i386/kvm/kvm.c",
    ),
    Message(
        "cpu-features",
        "Nested virtualization kernel required but not supported",
        "the guest runs guests of its own, which the destination's kernel does not allow",
        "turn nested virtualization on at the destination's kernel",
        source="target/i386/machine.c",
    ),
    Message(
        "cpu-features",
        "Guest enabled nested virtualization but kernel does not support saving of nested state",
        "the source's kernel is too old to save a guest that runs guests of its own",
        "use a kernel of 4.20 or later at the source",
        source="target/i386/kvm/kvm.c",
    ),
    Message(
        "spapr-capability",
        "cap-{capability:w} {comparison:w} level ({source:d}) in incoming stream than on "
        "destination ({destination:d})",
        "the guest was promised a capability level that the destination has not",
        "give the destination's machine the source's cap-... options",
        source="hw/ppc/spapr_caps.c",
        example="cap-cfpc higher level (2) in incoming stream than on destination (1)",
    ),
    Message(
        "storage-keys",
        "Storage key data is incomplete",
        "the source could not read the guest's storage keys",
        "look at the source's log; capture anew",
        source="hw/s390x/s390-skeys.c",
    ),
    # vfio, ivshmem, tpm
    Message(
        "vfio",
        "{device:w}: Failed loading device config space, end flag incorrect {found:x}",
        "a passed-through device's state does not read as it must",
        "use the same device and driver at both ends",
        source="hw/vfio/migration.c",
    ),
    Message(
        "vfio",
        "VFIO migration is not supported in kernel",
        "the driver of a passed-through device can not migrate it",
        "unplug the device before the migration, or use a driver that can",
        source="hw/vfio/migration.c",
    ),
    Message(
        "tpm",
        "tpm-emulator: Setting the stateblob (type {type:d}) failed with a TPM error {code:x}",
        "the TPM emulator refused the guest's TPM state: other version or other key",
        "use the same swtpm, with the same state encryption key, at both ends",
        source="backends/tpm/tpm_emulator.c",
    ),
    Message(
        "ivshmem",
        "'peer' devices are not migratable",
        "ivshmem with role=peer can not be migrated",
        "unplug the device before the migration",
        source="hw/misc/ivshmem.c",
    ),
    # Disks
    Message(
        "disk",
        'Failed to get "{lock:n}" lock',
        "another process has the disk image open: mostly the source's, which still runs",
        "see that the source has stopped, and that the storage passes locks on",
        source="block/file-posix.c",
    ),
    Message(
        "disk",
        "Error unknown block device {device:w}",
        "the stream carries the content of a disk that the destination does not have",
        "give the destination a disk of the same id",
        source="migration/block.c",
    ),
    Message(
        "disk",
        "Unknown block migration flags: {flags:x}",
        "the content of disks does not read as it must",
        "vmstream verify tells what is there",
        source="migration/block.c",
    ),
    Message(
        "dirty-bitmap",
        "Bitmap with the same name ('{bitmap:n}') already exists on destination",
        "the destination's disk has a dirty bitmap of that name already",
        "remove the bitmap at the destination, or map it to another name",
        source="migration/block-dirty-bitmap.c",
    ),
    Message(
        "dirty-bitmap",
        "Migrated bitmap granularity doesn't match the destination bitmap '{bitmap:n}' granularity",
        "a dirty bitmap of that name exists with another granularity",
        "remove the bitmap at the destination",
        source="migration/block-dirty-bitmap.c",
    ),
    Message(
        "dirty-bitmap",
        "Error: unknown dirty bitmap '{bitmap:n}' for block device '{device:n}'",
        "the stream goes on with a dirty bitmap that never began",
        "vmstream verify tells what is there",
        source="migration/block-dirty-bitmap.c",
    ),
    Message(
        "network",
        "warning: nic {device:w} has no peer",
        "a network card has no back end",
        "nothing, if that is meant",
        role=Role.WARNING,
        source="net/net.c",
    ),
    Message(
        "machine-deprecated",
        "warning: Machine type '{machine:n}' is deprecated",
        "the destination's QEMU will drop this machine type",
        "plan to move the guest to a newer one",
        role=Role.WARNING,
        source="hw/core/machine.c",
    ),
)
