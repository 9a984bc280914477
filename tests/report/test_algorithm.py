"""How reports name a detector: the card is named, and does not make another detector of it."""

from dataclasses import replace

from cxr.report.algorithm import Algorithm

ALGORITHM = Algorithm("0.3", "00112233aabbccdd", 0.3)


def test_the_card_is_named_and_is_no_part_of_the_identity() -> None:
    carded = replace(ALGORITHM, card="1fe43a25aec03459")
    assert carded.parameters() == [*ALGORITHM.parameters(), "model card 1fe43a25aec03459"]
    assert carded.identity() == ALGORITHM.identity()  # UIDs of DICOM objects follow from it
    assert replace(ALGORITHM, digest="0f").identity() != ALGORITHM.identity()
