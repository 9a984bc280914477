"""Which nodes may call, as a user writes them."""

import pytest

from cxr.serve.nodes import Node, caller, check_title, read_address, read_node


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("PACS@127.0.0.1:4242", Node("PACS", "127.0.0.1", 4242)),
        ("CR 1@10.0.0.7", Node("CR 1", "10.0.0.7")),
        ("PACS@pacs.example:104", Node("PACS", "pacs.example", 104)),
        ("PACS@[::1]:104", Node("PACS", "::1", 104)),
    ],
)
def test_a_node_is_a_title_an_address_and_perhaps_a_port(text: str, node: Node) -> None:
    assert read_node(text) == node


@pytest.mark.parametrize(
    "text",
    [
        "PACS",
        "@127.0.0.1:104",
        "PACS@",
        "PACS@127.0.0.1:0",
        "PACS@127.0.0.1:65536",
        "A" * 17 + "@host",
        "P@::1",
        "P@pacs..example",
    ],
)
def test_what_is_no_node_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected AE@address or AE@address:port, as PACS@127\.0\.0\.1:4242"):
        read_node(text)


def test_a_caller_is_known_by_its_title_at_its_own_address() -> None:
    nodes = [Node("PACS", "127.0.0.1", 4242), Node("CR1", "10.0.0.7"), Node("PACS", "::1"), Node("CT1", "localhost")]
    assert caller(nodes, "PACS", "127.0.0.1") is nodes[0]
    assert caller(nodes, "PACS", "::1") is nodes[2]
    assert caller(nodes, "CT1", "127.0.0.1") is nodes[3]
    assert caller(nodes, "CR1", "127.0.0.1") is None
    assert caller(nodes, "pacs", "127.0.0.1") is None
    for name in ("no-such-host.invalid", "pacs..example"):
        assert caller([Node("X", name)], "X", "127.0.0.1") is None
    assert caller(nodes, "PACS", "::ffff:127.0.0.1") is nodes[0]  # as it comes to a listener of both kinds


def test_titles_and_addresses_are_checked() -> None:
    assert check_title(" CXR ") == "CXR"
    assert read_address("10.0.0.5:11112") == ("10.0.0.5", 11112)
    assert read_address("[::1]:0") == ("::1", 0)
    for wrong in ("", "A" * 17, "A\\B", "    "):
        with pytest.raises(ValueError, match="no AE title"):
            check_title(wrong)
    for wrong in ("11112", "host:", ":1", "host:70000", "host:x"):
        with pytest.raises(ValueError, match="expected host:port"):
            read_address(wrong)


def test_a_host_is_known_where_its_name_leads_to_an_address() -> None:
    assert Node("PACS", "127.0.0.1", 4242).is_known()
    assert not Node("PACS", "no-such-host.invalid", 4242).is_known()  # RFC 2606: no name ends so
