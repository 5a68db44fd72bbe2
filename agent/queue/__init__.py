"""The journaled queue: state tables, recovery rules, the journal and its projections."""
