"""TLS with keys of one's own: the same three files for DICOM in both directions and for HTTP."""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Tls:
    """The files of TLS, in PEM.

    Args:
        certificate: of this service, with the chain behind it.
        key: of that certificate.
        ca: who must have signed the certificate of each peer. None: peers that call need none, and those that are
            called must have one that the machine trusts.
    """

    certificate: Path
    key: Path
    ca: Path | None = None

    def for_callers(self) -> ssl.SSLContext:
        """Return what connections from peers are wrapped with. Raises ``OSError``, also for files that do not fit."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        if self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context

    def for_calls(self) -> ssl.SSLContext:
        """Return what connections to peers are wrapped with. Raises ``OSError``, also for files that do not fit.

        A peer is who the ``ca`` says. Its host name is not asked for where a ``ca`` of one's own is given: certificates
        of modalities seldom have one.
        """
        context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.ca is None
        context.load_cert_chain(self.certificate, self.key)
        return context
