"""The tests of `AcceleratorConformance`, by the topics of the contract."""
