"""The networks. `factory.build` makes a seeded pair; `flops` counts parameters and arithmetic without torch."""
