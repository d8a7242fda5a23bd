"""Why a migration failed, from what QEMU and libvirt printed."""

from vmstream.tools.explain.explain import ExplainReport, explain

__all__ = ["ExplainReport", "explain"]
