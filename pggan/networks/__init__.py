"""The networks. `build` makes a seeded pair; cost.py tells their size and arithmetic without torch."""
