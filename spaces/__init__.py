"""Search spaces, one family a file."""

from symnas.spaces.accelerators import accelerator_of, edge_accelerator, with_accelerator
from symnas.spaces.fbnet import fbnet
from symnas.spaces.mnasnet import mnasnet
from symnas.spaces.mobilenet import Stage, mobilenet, mobilenet_28, mobilenet_224
from symnas.spaces.nas_bench_graph import nas_bench_graph
from symnas.spaces.nasbench101 import nasbench101
from symnas.spaces.nasbench201 import nasbench201
from symnas.spaces.tabular import check_table, tabular
from symnas.spaces.tunas import mobilenetv3_like

__all__ = [
    "Stage",
    "accelerator_of",
    "check_table",
    "edge_accelerator",
    "fbnet",
    "mnasnet",
    "mobilenet",
    "mobilenet_28",
    "mobilenet_224",
    "mobilenetv3_like",
    "nas_bench_graph",
    "nasbench101",
    "nasbench201",
    "tabular",
    "with_accelerator",
]
