"""Several processes that train one supernet together: see `team` for how."""
