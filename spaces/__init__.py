"""Search spaces, one family a file."""

from symnas.spaces.mobilenet import Stage, mobilenet, mobilenet_28, mobilenet_224
from symnas.spaces.nasbench101 import nasbench101
from symnas.spaces.nasbench201 import nasbench201
from symnas.spaces.tunas import mobilenetv3_like

__all__ = [
    "Stage",
    "mobilenet",
    "mobilenet_28",
    "mobilenet_224",
    "mobilenetv3_like",
    "nasbench101",
    "nasbench201",
]
