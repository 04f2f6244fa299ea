"""How fast endmark is beside the usual padded way: `run` measures, and refuses where results differ."""
