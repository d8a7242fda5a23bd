"""The guide to declaring a device does what it says."""

from __future__ import annotations

import re

from corpus import REPOSITORY


def test_every_block_of_the_guide_runs() -> None:
    text = (REPOSITORY / "docs" / "declaring-a-device.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 6
    space: dict[str, object] = {"__name__": "guide"}
    for block in blocks:
        exec(compile(block, "declaring-a-device.md", "exec"), space)
