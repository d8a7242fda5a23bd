"""The recorded streams themselves: what the other tests rely on."""

import hashlib

from corpus import Case, cases, over_cases


def test_the_repository_carries_streams_of_its_own() -> None:
    assert any(case.origin == "data" for case in cases())


@over_cases()
def test_decompressed_files_have_the_recorded_digests(case: Case) -> None:
    for name, facts in case.truth["files"].items():
        content = case.path(name.removesuffix(".zst")).read_bytes()
        assert len(content) == facts["raw_size"]
        assert hashlib.sha256(content).hexdigest() == facts["sha256_raw"]


@over_cases(lambda case: "multifd" in case.capabilities and "mapped-ram" not in case.capabilities)
def test_multifd_channels_begin_with_their_magic(case: Case) -> None:
    assert case.channels
    for channel in case.channels:
        assert channel.read_bytes()[:4] == bytes.fromhex("11223344")
