"""How stored bytes are found: files, pipes, compressed files, save images, snapshots."""

from vmstream.sources.opening import Target, open_source
from vmstream.sources.source import Limits, Source

__all__ = ["Limits", "Source", "Target", "open_source"]
