"""The service account controller: a `default` account in every namespace."""

from understudy.components.client import Change
from understudy.components.controllers.controller import Controller, is_namespace_terminating
from understudy.components.controllers.ownership import split_key
from understudy.components.machinery.errors import ApiError
from understudy.components.machinery.resources import NAMESPACES, SERVICE_ACCOUNTS

ACCOUNT = "default"


class ServiceAccountsController(Controller):
    """Works off namespaces."""

    name = "serviceaccount-controller"

    @property
    def workers(self) -> int:
        return self.options.concurrent_serviceaccount_syncs

    def register(self) -> None:
        self.namespaces = self.watch(NAMESPACES, self.enqueue)
        self.accounts = self.watch(SERVICE_ACCOUNTS, self._on_account)

    def _on_account(self, change: Change) -> None:
        namespace, name = split_key(change.key)
        if change.type == "DELETED" and name == ACCOUNT:
            self.queue.add(namespace)

    async def sync(self, key: str) -> None:
        namespace = self.namespaces.get(key)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return
        if self.accounts.get(f"{key}/{ACCOUNT}") is not None:
            return
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": key},
        }
        try:
            await self.client.create(SERVICE_ACCOUNTS, account)
        except ApiError as error:
            if error.reason != "AlreadyExists" and not is_namespace_terminating(error):
                raise
