"""CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may say what about requests.

Approving and signing need permission for the signer, by its name or its whole domain. Source: Kubernetes
documentation, "Certificates and Certificate Signing Requests", "Authorization".
"""

import base64
import binascii

from attrs import define

from understudy.components.apiserver.access import AccessAttributes
from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.authorization import MASTERS_GROUP, Authorizer
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.resources import CERTIFICATE_SIGNING_REQUESTS

from .plugin import AdmissionPlugin, refusal

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


@define(eq=False)
class _SignerPermission(AdmissionPlugin):
    authorizer: Authorizer | None = None

    def require(self, attributes: Attributes, registry: Registry, verb: str, signer: str) -> None:
        """Raise 403 unless the user may do that with the signer."""
        if MASTERS_GROUP in attributes.user.groups:
            return
        if self.authorizer is None:
            self.authorizer = Authorizer(registry)
        domain = signer.partition("/")[0]
        for name in (signer, f"{domain}/*"):
            asked = AccessAttributes(
                attributes.user,
                verb,
                group=CERTIFICATE_SIGNING_REQUESTS.group,
                version="v1",
                plural="signers",
                name=name,
            )
            if self.authorizer.authorize(asked).allowed:
                return
        raise refusal(attributes, f'user not permitted to {verb} requests with signerName "{signer}"')


class CertificateApproval(_SignerPermission):
    """Approving or denying a request."""

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        if attributes.resource is not CERTIFICATE_SIGNING_REQUESTS or attributes.old is None:
            return
        if attributes.subresource == "approval" and attributes.operation == "UPDATE":
            self.require(attributes, registry, "approve", attributes.old["spec"]["signerName"])


class CertificateSigning(_SignerPermission):
    """Putting the certificate, or the reason why there is none, into a request's status."""

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        new, old = attributes.obj, attributes.old
        if attributes.resource is not CERTIFICATE_SIGNING_REQUESTS or new is None or old is None:
            return
        if attributes.subresource != "status" or attributes.operation != "UPDATE":
            return
        after, before = new.get("status") or {}, old.get("status") or {}
        if after.get("certificate") == before.get("certificate") and after.get("conditions") == before.get(
            "conditions"
        ):
            return
        self.require(attributes, registry, "sign", old["spec"]["signerName"])


class CertificateSubjectRestriction(AdmissionPlugin):
    """Nobody becomes a master by a certificate that the cluster signs for clients."""

    async def validate(self, attributes: Attributes, registry: Registry) -> None:
        obj = attributes.obj
        if attributes.resource is not CERTIFICATE_SIGNING_REQUESTS or attributes.operation != "CREATE":
            return
        if attributes.subresource or obj is None or obj["spec"].get("signerName") != CLIENT_SIGNER:
            return
        from cryptography import x509

        try:
            request = x509.load_pem_x509_csr(base64.b64decode(obj["spec"]["request"], validate=True))
        except (ValueError, binascii.Error) as error:
            raise refusal(attributes, f"failed to parse request: {error}") from None
        organizations = request.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
        if any(item.value == MASTERS_GROUP for item in organizations):
            raise refusal(
                attributes,
                f"use of {CLIENT_SIGNER} signer with {MASTERS_GROUP} group is not allowed",
            )
