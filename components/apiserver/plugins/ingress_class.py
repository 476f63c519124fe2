"""DefaultIngressClass: an Ingress that names no class gets the default one.

Source: Kubernetes documentation, "Ingress", "Default IngressClass".
"""

from understudy.components.apiserver.admission import Attributes
from understudy.components.apiserver.registry import Registry
from understudy.components.machinery.resources import INGRESS_CLASSES, INGRESSES

from .plugin import AdmissionPlugin
from .volumes import newest_default

DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"


class DefaultIngressClass(AdmissionPlugin):
    """Fills in the class."""

    async def admit(self, attributes: Attributes, registry: Registry) -> None:
        if attributes.resource is not INGRESSES or attributes.operation != "CREATE" or attributes.subresource:
            return
        ingress = attributes.obj
        assert ingress is not None
        if "ingressClassName" in ingress["spec"]:
            return
        if CLASS_ANNOTATION in (ingress["metadata"].get("annotations") or {}):
            return
        chosen = newest_default(registry, INGRESS_CLASSES, (DEFAULT_CLASS,))
        if chosen is not None:
            ingress["spec"]["ingressClassName"] = chosen["metadata"]["name"]
