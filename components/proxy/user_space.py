"""The user-space dataplane of one node as an actor: rules in, verdicts about connections out."""

from understudy.actors import Actor, handles
from understudy.components.boundary.dataplane import (
    Connect,
    Dataplane,
    ReplaceRules,
    RulesApplied,
    Verdict,
)
from understudy.components.proxy.balancer import Balancer


class UserSpaceDataplane(Actor[Dataplane]):
    """Goes round the endpoints in turn; a restart forgets the rules, and kube-proxy sends them again."""

    async def on_start(self) -> None:
        self.balancer = Balancer()

    @handles(ReplaceRules)
    def replace_rules(self, message: ReplaceRules) -> RulesApplied:
        return RulesApplied(self.balancer.replace(message.rules, message.generation))

    @handles(Connect)
    def connect(self, message: Connect) -> Verdict:
        return self.balancer.connect(message, self.world.monotonic())
