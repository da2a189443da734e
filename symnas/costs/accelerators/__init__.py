"""Networks on accelerators that exist as a description: layers as loops, hardware, and mappings."""
