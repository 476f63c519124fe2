"""The controller manager and its controllers.

- `manager`: the supervisor; `options`: the flags of kube-controller-manager
- `controller`: what every controller is, an actor on shared informers and a queue of keys
- `deployment`, `replicaset`, `endpoints`, `nodes`, `garbage`, ...: the controllers, each as pure decisions
  beside an actor that carries them out
- `ownership`, `claiming`, `expectations`, `pending_writes`, `slow_start`, `pod_control`: what they share
"""

from .manager import ControllerManager as ControllerManager
from .options import ControllerManagerOptions as ControllerManagerOptions
