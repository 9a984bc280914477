"""Who is spoken with over TLS, where we call."""

import ssl
from pathlib import Path

from cxr.serve.tls import Tls


def test_who_is_called_must_have_a_certificate_of_our_ca_or_one_of_its_own_name(keys: Path) -> None:
    """With every authority that the machine trusts, any site of the world has a certificate: the name must fit, too."""
    machine = Tls(keys / "ours.pem", keys / "ours.key").for_calls()
    own = Tls(keys / "ours.pem", keys / "ours.key", keys / "ours.pem").for_calls()
    assert (machine.verify_mode, machine.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (own.verify_mode, own.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert len(own.get_ca_certs()) == 1
