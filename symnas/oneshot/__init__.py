"""One-shot search: algorithms that train one supernet instead of many networks."""
