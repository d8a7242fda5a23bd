"""Why a declared state refuses to load, beside what QEMU itself would print."""

from __future__ import annotations

from typing import Any

from vmstream.errors import Malformed, Truncated

__all__ = [
    "CountTooLarge",
    "EndsEarly",
    "FeaturesUnsupported",
    "LoadRefused",
    "NotEqual",
    "NullMismatch",
    "OutOfRange",
    "Refusal",
    "SubsectionUnknown",
    "Unmigratable",
    "ValidationFailed",
    "VersionTooNew",
    "VersionTooOld",
]


class LoadRefused(Malformed):
    """Bytes that a declared state does not accept.

    Attributes:
        device: idstr of the section, or the state's name.
        path: the field, members joined with dots, elements in brackets.
        qemu_text: what QEMU prints on the same bytes (10.0; ``migration/vmstate.c``).
    """

    code = "load-refused"

    def __init__(
        self,
        message: str,
        *,
        offset: int,
        device: str,
        path: str = "",
        expected: Any = None,
        found: Any = None,
        qemu_text: str | None = None,
    ) -> None:
        super().__init__(message, offset=offset, section=device, expected=expected, found=found)
        self.device = device
        self.path = path
        self.qemu_text = qemu_text


class VersionTooNew(LoadRefused):
    """The stream's version is above the declared one."""

    code = "version-too-new"


class VersionTooOld(LoadRefused):
    """The stream's version is below the oldest that is accepted."""

    code = "version-too-old"


class SubsectionUnknown(LoadRefused):
    """A subsection that is not declared; it has no length, so nothing after it can be read."""

    code = "subsection-unknown"


class NotEqual(LoadRefused):
    """A field that must have the destination's own value."""

    code = "not-equal"


class OutOfRange(LoadRefused):
    """A less-or-equal field above the destination's own value, or negative."""

    code = "out-of-range"


class CountTooLarge(LoadRefused):
    """A count above what the field has room for, or above what is left of the section."""

    code = "count-too-large"


class NullMismatch(LoadRefused):
    """A NULL marker that is none, or a container that does not go on as it must."""

    code = "null-mismatch"


class ValidationFailed(LoadRefused):
    """A declared condition on the values loaded so far does not hold."""

    code = "validation-failed"


class Unmigratable(LoadRefused):
    """The state is declared as one that can not be migrated."""

    code = "unmigratable"


class FeaturesUnsupported(LoadRefused):
    """The guest uses virtio features that the destination's device does not offer."""

    code = "features-unsupported"


class EndsEarly(LoadRefused, Truncated):
    """The section ends inside a field."""

    code = "ends-early"


class Refusal(ValueError):
    """What a hook of a state raises to refuse with a kind of its own.

    Attributes:
        kind: the error that the load then raises.
        field: the field that is wrong, under the state of the hook.
        more: further arguments of that error.
    """

    def __init__(
        self,
        message: str,
        field: str = "",
        *,
        kind: type[LoadRefused] = LoadRefused,
        expected: Any = None,
        found: Any = None,
        qemu_text: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.field = field
        self.more = {"expected": expected, "found": found, "qemu_text": qemu_text}
