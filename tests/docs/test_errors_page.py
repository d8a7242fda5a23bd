"""The page of messages is that of the catalogue."""

from __future__ import annotations

from make_errors_page import OUTPUT, page


def test_the_page_is_current() -> None:
    assert OUTPUT.read_text() == page()
