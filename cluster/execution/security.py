"""Who may take part in a cluster: whoever has a certificate of its authority.

Dask executes what it is sent. A cluster that a command starts on its own machine has one-time
certificates, which exist only in memory: other users of the machine reach its ports and are
refused. A shared cluster has certificates in files, the same kind for schedulers, workers and runs.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder.errors import BadInput


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM format by which the members of a shared cluster know one another."""

    ca: Path | str
    """Certificate of the authority, which signs nothing but the members of this cluster."""
    cert: Path | str
    """Certificate of this member."""
    key: Path | str
    """Private key of this member."""

    @classmethod
    def of(cls, ca: Path | None, cert: Path | None, key: Path | None) -> Certificates | None:
        """Return certificates if any of their files is named.

        Raises:
            BadInput: some are missing, or they cannot be used.
        """
        if ca is None and cert is None and key is None:
            return None
        if ca is None or cert is None or key is None:
            raise BadInput("--tls-ca, --tls-cert and --tls-key belong together; give all three")
        made = cls(ca, cert, key)
        made.check()
        return made

    def check(self) -> None:
        """Check that the files can be used.

        Raises:
            BadInput: one cannot be read, or certificate and key do not belong together.
        """
        for path in (self.ca, self.cert, self.key):
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise BadInput(
                    f"{path} cannot be read ({error.strerror}); docs/operations.md says how to "
                    "make certificates"
                ) from error
        try:
            ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError as error:
            raise BadInput(f"{self.ca} is not a certificate in PEM format ({error})") from error
        try:
            ssl.create_default_context().load_cert_chain(self.cert, self.key)
        except ssl.SSLError as error:
            raise BadInput(
                f"{self.cert} and {self.key} are not a certificate and its key in PEM format "
                f"({error})"
            ) from error

    def security(self) -> Any:
        """Return Dask's form of the certificates, which lets no connection be without them."""
        from distributed.security import Security

        kind: Any = Security
        pair = {
            f"tls_{role}_{part}": str(path)
            for role in ("client", "scheduler", "worker")
            for part, path in (("cert", self.cert), ("key", self.key))
        }
        return kind(require_encryption=True, tls_ca_file=str(self.ca), **pair)


@dataclass(frozen=True, slots=True)
class SharedScheduler:
    """The scheduler of a shared cluster, and the certificates that it asks for."""

    address: str
    """``tls://host:port``, or ``tcp://host:port`` without certificates."""
    certificates: Certificates | None = None

    def __str__(self) -> str:
        return self.address

    def check(self) -> None:
        """Check that the certificates can be used, and that the address fits.

        Raises:
            BadInput: they cannot, or it does not or is malformed.
        """
        if not self.address.startswith(("tcp://", "tls://")):
            raise BadInput(
                f"a scheduler's address looks like tcp://host:8786 or tls://host:8786, got "
                f"{self.address}"
            )
        if self.certificates is None:
            return
        self.certificates.check()
        if not self.address.startswith("tls://"):
            raise BadInput(
                f"{self.address} is an address without TLS; with --tls-ca, --tls-cert and "
                f"--tls-key it is tls://{self.address.removeprefix('tcp://')}"
            )

    @property
    def hint(self) -> str:
        """Further reason for which no scheduler may answer, for an error."""
        if self.address.startswith("tls://"):
            return ", or it does not accept the certificates (--tls-ca, --tls-cert, --tls-key)"
        return ""

    def security(self) -> Any:
        """Return what Dask needs to connect; None for its own configuration."""
        return None if self.certificates is None else self.certificates.security()


def one_time_security() -> Any:
    """Return certificates for one cluster on this machine, which nobody else has."""
    from distributed.security import Security

    kind: Any = Security
    return kind.temporary()
